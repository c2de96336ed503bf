import { cpSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster } from '../system/cluster-fixture.ts'
import { ZooKeeperEnsemble } from '../system/zookeeper-ensemble.ts'
import type { Need } from './faults/fault.ts'
import { brokerHost, type HostNetwork, zooKeeperHost } from './hosts/host-network.ts'
import { removeLeftovers, runDirectory, runPrefix } from './hosts/leftovers.ts'
import { Loopback } from './hosts/loopback.ts'
import { Namespaces, whyNoNamespaces } from './hosts/namespaces.ts'
import { Volume, whyNoVolumes } from './hosts/volume.ts'

export interface LabOptions {
  readonly elector: 'raft' | 'zookeeper'
  readonly brokers: number
  /** Brokers that are no members at first. */
  readonly spares: number
  /** `undefined`: namespaces if this machine can. */
  readonly hosts: 'ns' | 'loopback' | undefined
}

/** Small, so that a run fills many segments. */
const segmentBytes = 2 * 2 ** 20
/** Everything that a run is made of, and that goes with it. */
export interface Lab {
  readonly cluster: Cluster
  readonly network: HostNetwork
  readonly volumes: ReadonlyMap<number, Volume>
  readonly ensemble: ZooKeeperEnsemble | undefined
  readonly directory: string
  /** Holds what administers the brokers. */
  readonly adminTokenFile: string
  readonly abilities: ReadonlySet<Need>
  /** What this machine cannot do, for the first lines of a run. */
  readonly remarks: readonly string[]
  storeDirectory(n: number): string
  /** Copies stores, logs and history to where no run removes them; returns where. */
  keep(seed: number): string
  close(): Promise<void>
}

export async function buildLab(options: LabOptions): Promise<Lab> {
  removeLeftovers('dead')
  process.once('exit', () => removeLeftovers('own'))
  const remarks: string[] = []
  const directory = mkdtempSync(runDirectory())

  const adminToken = `chaos-${process.pid}-${Date.now()}`
  const adminTokenFile = join(directory, 'admin-token')
  writeFileSync(adminTokenFile, adminToken)

  const lacking = whyNoNamespaces()
  if (options.hosts === 'ns' && lacking !== undefined) throw new Error(`no network namespaces: ${lacking}`)
  const separate = options.hosts !== 'loopback' && lacking === undefined
  if (!separate && options.hosts === undefined)
    remarks.push(`no network namespaces (${lacking}): all on one host`)
  const numbers = Array.from({ length: options.brokers + options.spares }, (_, i) => i + 1)

  let cluster: Cluster | undefined
  const built = (): Cluster => {
    if (cluster === undefined) throw new TypeError('not built yet')
    return cluster
  }
  const servers = options.elector === 'zookeeper' ? [1, 2, 3] : []
  const namespaces = separate
    ? new Namespaces(runPrefix(), [...numbers.map(brokerHost), ...servers.map(zooKeeperHost)], (n) =>
        built().stompPort(n),
      )
    : undefined
  const loopback = new Loopback(
    () =>
      new Map(
        built()
          .running()
          .map((n) => [built().process(n).pid, n]),
      ),
    (n) => built().stompPort(n),
  )
  const network = namespaces ?? loopback

  const volumes = new Map<number, Volume>()
  const noVolumes = whyNoVolumes()
  if (noVolumes !== undefined) remarks.push(`no disks of their own (${noVolumes}): no faults of disks`)
  else for (const n of numbers) volumes.set(n, new Volume(join(directory, `disk-${n}`)))
  const storeDirectory = (n: number): string => join(directory, `disk-${n}`, 'store')

  let ensemble: ZooKeeperEnsemble | undefined
  if (options.elector === 'zookeeper') {
    const place = join(directory, 'zookeeper')
    mkdirSync(place)
    ensemble = await ZooKeeperEnsemble.start(
      namespaces === undefined
        ? { directory: place }
        : {
            directory: place,
            hosts: servers.map((i) => namespaces.address(zooKeeperHost(i))),
            wrap: namespaces.wrap('z{}').join(' '),
          },
    )
  }
  const zkAddress =
    ensemble === undefined ? '' : separate ? ensemble.address : Loopback.zooKeeperAddress(ensemble)

  cluster = await Cluster.start({
    size: options.brokers,
    spares: options.spares,
    elector: options.elector,
    ...(options.elector === 'zookeeper' ? { zkAddress } : {}),
    store: { logSize: segmentBytes },
    place: (n) => network.place(n),
    directory,
    start: [],
    configure: (configuration, n) => {
      configuration.persistenceAdapter.replicatedLevelDB.directory = storeDirectory(n)
      configuration.managementContext.adminToken = adminToken
      if (!separate) Loopback.configure(configuration)
    },
  })
  if (!separate) {
    await loopback.relayBrokers(cluster)
    if (ensemble !== undefined) await loopback.relayZooKeeper(ensemble)
  }
  for (const n of cluster.numbers()) cluster.start(n)

  const abilities = new Set<Need>([...network.abilities, options.elector])
  if (options.brokers >= 5) abilities.add('five brokers')
  if (options.spares > 0) abilities.add('spare brokers')
  if (noVolumes === undefined) abilities.add('volumes')
  const made = cluster
  return {
    cluster: made,
    network,
    volumes,
    ensemble,
    directory,
    adminTokenFile,
    abilities,
    remarks,
    storeDirectory,
    keep(seed) {
      const kept = mkdtempSync(join(tmpdir(), `levelmq-chaos-kept-seed${seed}-`))
      for (const entry of readdirSync(directory).filter((file) => !file.endsWith('.img')))
        try {
          cpSync(join(directory, entry), join(kept, entry), { recursive: true })
        } catch (error) {
          console.error(`not kept: ${entry}: ${error}`) // A disk that failed; the rest is of more use than nothing.
        }
      return kept
    },
    async close() {
      await made.stop()
      await network.close()
      removeLeftovers('own')
    },
  }
}

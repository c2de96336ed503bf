import { hostname } from 'node:os'
import { type SyncPolicy, syncPolicy } from './consensus/sync-policy.ts'
import { StoreError } from './errors.ts'
import type { Address } from './io/network.ts'
import { formatAddress, type LevelDbOptions, type ReplicatedLevelDbOptions } from './options.ts'

/** Options with every default filled in and every value checked: what the store works with. */
export interface StoreSettings extends Required<LevelDbOptions> {
  readonly brokerName: string
  readonly memberName: string
  readonly nodeId: string | undefined
  readonly replicas: number
  readonly sync: SyncPolicy
  readonly weight: number
  readonly electionTimeoutMs: number
  /** `undefined` for a store that is not replicated. */
  readonly replication: ReplicationSettings | undefined
}

export interface ReplicationSettings {
  readonly securityToken: string
  readonly bind: Address
  /** Own replication address as the peers know it, `host:port`. */
  readonly address: string
  readonly container: string | undefined
  readonly elector:
    | { readonly kind: 'raft'; readonly peers: readonly string[] }
    | {
        readonly kind: 'zookeeper'
        readonly address: string
        readonly path: string
        readonly password: string | undefined
        readonly sessionTimeoutMs: number
      }
}

const levelDbDefaults: Required<LevelDbOptions> = {
  directory: 'LevelDB',
  logSize: 64 * 1024 * 1024,
  flushDelay: 1000,
  autoCompactionRatio: 200,
  scrubInterval: 86_400_000,
  asyncBufferSize: 32 * 1024 * 1024,
  maxRecordBytes: 104857600 + 65536,
  indexMaxOpenFiles: 1000,
  indexBlockRestartInterval: 16,
  indexWriteBufferSize: 6291456,
  indexBlockSize: 4096,
  indexCacheSize: 16 * 1024 * 1024,
  indexCompression: 'snappy',
  maxFailoverProducersToTrack: 100_000,
  failoverProducersAuditDepth: 2048,
}

/** Lowest and highest value of each whole-number option. */
const ranges: Record<string, readonly [number, number]> = {
  logSize: [2 ** 20, 2 ** 30],
  flushDelay: [10, 60_000],
  autoCompactionRatio: [0, 10_000],
  scrubInterval: [0, 2_592_000_000],
  asyncBufferSize: [65536, 2 ** 30],
  maxRecordBytes: [1024, 128 * 2 ** 20 - 1024],
  indexMaxOpenFiles: [16, 100_000],
  indexBlockRestartInterval: [1, 1024],
  indexWriteBufferSize: [65536, 2 ** 30],
  indexBlockSize: [512, 2 ** 22],
  indexCacheSize: [0, 2 ** 32],
  maxFailoverProducersToTrack: [1, 10_000_000],
  failoverProducersAuditDepth: [1, 1_000_000],
  replicas: [1, 9],
  weight: [0, 1_000_000],
  zkSessionTimeoutMs: [500, 60_000],
  electionTimeoutMs: [200, 60_000],
}

/** Most characters of each text. */
const texts: Record<string, number> = {
  directory: 4096,
  brokerName: 128,
  memberName: 128,
  nodeId: 128,
  sync: 128,
  securityToken: 1024,
  bind: 512,
  hostname: 253,
  connectUrl: 512,
  container: 1024,
  elector: 16,
  zkAddress: 4096,
  zkPassword: 1024,
  zkPath: 1024,
}
const mayBeEmpty: readonly string[] = ['securityToken', 'zkPassword', 'container']
/** Also misspelt ones: their value is never shown. */
const secretName = /tok|pass?w|secr/i

const replicationOptions: readonly (keyof ReplicatedLevelDbOptions)[] = [
  'brokerName',
  'memberName',
  'nodeId',
  'replicas',
  'sync',
  'securityToken',
  'bind',
  'hostname',
  'connectUrl',
  'weight',
  'container',
  'elector',
  'peers',
  'zkAddress',
  'zkPassword',
  'zkPath',
  'zkSessionTimeoutMs',
  'electionTimeoutMs',
]

/** @throws StoreError `STORE_INVALID_OPTION` for an unknown option or a value out of its range. */
export function levelDbSettings(options: LevelDbOptions): StoreSettings {
  checkOptions(options, Object.keys(levelDbDefaults))
  return {
    ...levelDbDefaults,
    ...given(options),
    brokerName: 'localhost',
    memberName: 'localhost',
    nodeId: undefined,
    replicas: 1,
    sync: syncPolicy('quorum_disk'),
    weight: 1,
    electionTimeoutMs: 1000,
    replication: undefined,
  }
}

/** @throws StoreError `STORE_INVALID_OPTION` for an unknown option, a value out of its range, or two that contradict. */
export function replicatedSettings(options: ReplicatedLevelDbOptions): StoreSettings {
  checkOptions(options, [...Object.keys(levelDbDefaults), ...replicationOptions])
  const replicas = options.replicas ?? 3
  const memberName = options.memberName ?? options.brokerName
  return {
    ...levelDbDefaults,
    ...given(options),
    brokerName: bounded('brokerName', options.brokerName, 128),
    memberName: bounded('memberName', memberName, 128),
    nodeId: options.nodeId === undefined ? undefined : bounded('nodeId', options.nodeId, 128),
    replicas,
    sync: syncPolicy(options.sync ?? 'quorum_disk'),
    weight: options.weight ?? 1,
    electionTimeoutMs: options.electionTimeoutMs ?? 1000,
    replication: replicationSettings(options, replicas),
  }
}

function replicationSettings(options: ReplicatedLevelDbOptions, replicas: number): ReplicationSettings {
  const bind = tcpAddress('bind', options.bind ?? 'tcp://0.0.0.0:61619')
  const wildcard = bind.host === '0.0.0.0' || bind.host === '::'
  const host = options.hostname ?? (wildcard ? hostname() : bind.host)
  const address =
    options.connectUrl === undefined
      ? formatAddress(tcpAddress('hostname', `tcp://${formatAddress({ host, port: bind.port })}`))
      : formatAddress(tcpAddress('connectUrl', options.connectUrl))
  const elector = options.elector ?? (options.zkAddress === undefined ? 'raft' : 'zookeeper')
  if (elector !== 'raft' && elector !== 'zookeeper')
    throw invalid('elector', elector, 'is neither raft nor zookeeper')
  return {
    securityToken: options.securityToken ?? '',
    bind,
    address,
    container: options.container,
    elector:
      elector === 'raft'
        ? { kind: 'raft', peers: raftPeers(options, replicas, address) }
        : {
            kind: 'zookeeper',
            address: options.zkAddress ?? '127.0.0.1:2181',
            path: zkPath(options.zkPath ?? '/default'),
            password: options.zkPassword,
            sessionTimeoutMs: options.zkSessionTimeoutMs ?? 2000,
          },
  }
}

function raftPeers(options: ReplicatedLevelDbOptions, replicas: number, address: string): readonly string[] {
  for (const option of ['zkAddress', 'zkPath', 'zkPassword', 'zkSessionTimeoutMs'] as const) {
    if (options[option] !== undefined)
      throw invalid(option, options[option], 'is not used by the raft elector')
  }
  const peers = (options.peers ?? (replicas === 1 ? [address] : [])).map((peer) => {
    const text = peer.startsWith('tcp://') ? peer : `tcp://${peer}`
    return formatAddress(tcpAddress('peers', text))
  })
  if (new Set(peers).size !== replicas) {
    throw invalid('peers', options.peers, `has to name the replication addresses of all ${replicas} replicas`)
  }
  if (!peers.includes(address)) {
    throw invalid(
      'peers',
      options.peers,
      `does not contain this broker's own address, ${address} (bind, hostname, connectUrl)`,
    )
  }
  return peers
}

/** The options of the journal and its index, without those that are `undefined`: they have their default. */
function given(options: LevelDbOptions): LevelDbOptions {
  const entries = Object.entries(options)
  return Object.fromEntries(
    entries.filter(([key, value]) => value !== undefined && Object.hasOwn(levelDbDefaults, key)),
  )
}

function checkOptions(options: object, known: readonly string[]): void {
  for (const [option, value] of Object.entries(options)) {
    if (!known.includes(option)) throw invalid(option, value, `is no option; known are ${known.join(', ')}`)
    if (value === undefined) continue
    const longest = texts[option]
    if (longest !== undefined) bounded(option, value, longest)
    const range = ranges[option]
    if (range === undefined) continue
    if (!Number.isSafeInteger(value) || value < range[0] || value > range[1]) {
      throw invalid(option, value, `is not a whole number from ${range[0]} to ${range[1]}`)
    }
  }
  const { indexCompression } = options as LevelDbOptions
  if (indexCompression !== undefined && indexCompression !== 'snappy' && indexCompression !== 'none') {
    throw invalid('indexCompression', indexCompression, 'is neither snappy nor none')
  }
  const { peers } = options as ReplicatedLevelDbOptions
  if (peers !== undefined && !(Array.isArray(peers) && peers.every((peer) => typeof peer === 'string'))) {
    throw invalid('peers', peers, 'is not a list of addresses')
  }
}

function tcpAddress(option: string, url: string): Address {
  const match = /^tcp:\/\/(?<host>\[[0-9a-fA-F:.]+\]|[^:/?#[\]\s]+):(?<port>\d{1,5})$/.exec(url)
  const port = Number(match?.groups?.port)
  const host = match?.groups?.host?.replace(/^\[(.*)\]$/, '$1')
  if (host === undefined || !(port >= 1 && port <= 65535)) {
    throw invalid(option, url, 'is not of the form tcp://host:port')
  }
  return { host, port }
}

function zkPath(path: string): string {
  if (!/^(\/[^/]+)+$/.test(path)) throw invalid('zkPath', path, 'is not a path like /default')
  return path
}

function bounded(option: string, value: unknown, limit: number): string {
  const least = mayBeEmpty.includes(option) ? 0 : 1
  if (typeof value !== 'string' || value.length < least || value.length > limit) {
    throw invalid(option, value, `is not a text of ${least} to ${limit} characters`)
  }
  return value
}

function invalid(option: string, value: unknown, problem: string): StoreError {
  const shown = secretName.test(option) ? '***' : value
  return new StoreError(
    { code: 'STORE_INVALID_OPTION', option, value: shown },
    `${option}: ${textOf(shown)} ${problem}`,
  )
}

function textOf(value: unknown): string {
  if (value === '***') return value
  // NaN, Infinity and `undefined` are no JSON, and a bigint even throws.
  return typeof value === 'string' || (typeof value === 'object' && value !== null)
    ? JSON.stringify(value)
    : String(value)
}

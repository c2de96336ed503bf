import type { Elector } from './election/elector.ts'
import { RaftElector } from './election/raft/elector.ts'
import { ZooKeeperElector } from './election/zookeeper/elector.ts'
import type { Clock } from './io/clock.ts'
import { SystemClock } from './io/node/clock.ts'
import { NodeDisk } from './io/node/disk.ts'
import { nodeNetwork } from './io/node/network.ts'
import { SystemRandom } from './io/node/random.ts'
import { ZooKeeperSession } from './io/node/zookeeper-session.ts'
import type { Random } from './io/random.ts'
import type { MessageStore } from './message-store.ts'
import type { LevelDbOptions, ReplicatedLevelDbOptions } from './options.ts'
import { ReplicatedStore, type StoreEnvironment } from './replicated-store.ts'
import { levelDbSettings, replicatedSettings, type StoreSettings } from './settings.ts'

/** Which store to open. With `replicas: 1` the same directory opens either way. */
export type StoreConfiguration =
  | { readonly kind: 'levelDB'; readonly options: LevelDbOptions }
  | { readonly kind: 'replicatedLevelDB'; readonly options: ReplicatedLevelDbOptions }

/** What the store gets from the program it runs in. */
export interface StoreHost {
  /** Shown by every member's status while this one is master (`masterInfo`): JSON data, at most 4 KiB. */
  readonly memberInfo: Readonly<Record<string, unknown>>
  log(
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    facts?: Readonly<Record<string, unknown>>,
  ): void
}

/**
 * Makes the store that a configuration describes; nothing is opened before `open`.
 *
 * @param release - As if of another release, for tests.
 * @throws StoreError `STORE_INVALID_OPTION` for an unknown or wrong setting.
 */
export function createStore(
  configuration: StoreConfiguration,
  host: StoreHost,
  release: Pick<StoreEnvironment, 'levels' | 'protocols'> = {},
): MessageStore {
  const clock = new SystemClock()
  const random = new SystemRandom()
  const world = { disk: new NodeDisk(), network: nodeNetwork, clock, random, ...release }
  if (configuration.kind === 'levelDB') {
    return new ReplicatedStore(levelDbSettings(configuration.options), host, { ...world, elector: undefined })
  }
  const settings = replicatedSettings(configuration.options)
  return new ReplicatedStore(settings, host, {
    ...world,
    elector: () => electorFor(settings, host, clock, random),
  })
}

function electorFor(settings: StoreSettings, host: StoreHost, clock: Clock, random: Random): Elector {
  const { replication, electionTimeoutMs } = settings
  if (replication === undefined) throw new TypeError('a store that is not replicated needs no elector')
  const { elector, address } = replication
  if (elector.kind === 'raft') {
    return new RaftElector({ peers: elector.peers, address, electionTimeoutMs, clock, random })
  }
  const { path, password, sessionTimeoutMs } = elector
  const { brokerName, memberName, weight, replicas } = settings
  const { log } = host
  return new ZooKeeperElector({
    session: new ZooKeeperSession({ address: elector.address, password, sessionTimeoutMs, log }),
    address: elector.address,
    path,
    profile: {
      group: brokerName,
      name: memberName,
      container: replication.container,
      weight,
      connect: address,
    },
    replicas,
    electionTimeoutMs,
    clock,
    random,
  })
}

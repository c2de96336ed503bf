import type { Consensus } from './consensus/consensus.ts'
import type { Damage } from './journal/damage.ts'
import type { MemberInfo } from './members.ts'
import type { Role } from './message-store.ts'
import type { StoreSettings } from './settings.ts'
import type { LevelRange } from './store-administration.ts'
import type { StoreDirectory } from './store-directory.ts'
import type { MemberStatus, StorageStatus, StoreStatus, ZooKeeperStatus } from './store-status.ts'

/** What a status is made from. */
export interface StoreFacts {
  readonly settings: StoreSettings
  readonly directory: StoreDirectory
  readonly clusterUuid: string | undefined
  readonly role: Role
  /** `undefined` until this store belongs to a cluster. */
  readonly core: Consensus | undefined
  /** What the master that this node knows of said of itself; of this node itself if that is the master. */
  readonly master: MemberInfo | undefined
  readonly masterInfo: Readonly<Record<string, unknown>> | undefined
  readonly others: readonly MemberStatus[]
  /** Peers connected now, this node not included. */
  readonly connected: number
  /** Why the cluster is not founded with those that are here, if they are not just too few. */
  readonly foundingObstacle: string | undefined
  readonly bootId: string
  readonly levels: LevelRange
  readonly zookeeper: ZooKeeperStatus | undefined
  readonly scrub:
    | { readonly atIndex: number; readonly found: Omit<NonNullable<StorageStatus['scrub']>, 'progress'> }
    | undefined
}

/** While the directory is still being opened, which takes long after a crash with a long journal. */
export function openingStatus(settings: StoreSettings, damage: Damage | undefined): StoreStatus {
  const { nodeId, memberName, directory } = settings
  return {
    ...configured(settings),
    nodeId: nodeId ?? memberName,
    storeUuid: '',
    clusterUuid: undefined,
    role: 'electing',
    epoch: 0,
    position: { epoch: 0, index: 0 },
    commitIndex: 0,
    durableIndex: 0,
    quorum: { needed: neededOf(settings), present: 0 },
    waitingFor:
      damage === undefined
        ? `the recovery of the store in ${directory}`
        : `a member that has records ${damage.fromIndex} to ${damage.toIndex}: they are damaged in ${damage.file}`,
    masterNodeId: undefined,
    masterInfo: undefined,
    electionReason: undefined,
    members: [],
    zookeeper: undefined,
  }
}

export function storeStatus(facts: StoreFacts): StoreStatus {
  const { settings, directory, core } = facts
  const { identity, journal } = directory
  return {
    ...configured(settings),
    nodeId: identity.nodeId,
    storeUuid: identity.storeUuid,
    clusterUuid: facts.clusterUuid,
    role: facts.role,
    epoch: core?.epoch ?? 0,
    position: { epoch: journal.lastEpoch, index: journal.lastIndex },
    commitIndex: core?.commitIndex ?? 0,
    durableIndex: journal.durableIndex,
    quorum: { needed: core?.quorum ?? neededOf(settings), present: core?.reachableVoters ?? 0 },
    waitingFor: waitingFor(facts),
    masterNodeId: core?.leader,
    masterInfo: facts.masterInfo,
    electionReason: core?.electedBy ?? facts.master?.electionReason,
    members: [ownStatus(facts), ...facts.others],
    zookeeper: facts.zookeeper,
    storage: storageStatus(facts),
  }
}

function storageStatus({ directory, scrub }: StoreFacts): StorageStatus {
  const { journal, index } = directory
  const { firstIndex, lastIndex } = journal
  return {
    journalBytes: journal.segments().reduce((sum, segment) => sum + segment.bytes, 0),
    firstIndex,
    neededFrom: index.retained.neededFrom,
    space: journal.space,
    scrub: scrub && {
      ...scrub.found,
      progress: Math.min(1, Math.max(0, scrub.atIndex - firstIndex) / Math.max(1, lastIndex - firstIndex)),
    },
  }
}

function configured({ replication, sync, replicas }: StoreSettings) {
  return {
    elector: replication?.elector.kind ?? ('none' as const),
    sync: sync.words,
    syncWarning: sync.warning,
    replicas,
  }
}

function neededOf({ replicas }: StoreSettings): number {
  return Math.floor(replicas / 2) + 1
}

function ownStatus({ settings, directory, core, role, master, bootId, levels }: StoreFacts): MemberStatus {
  const { identity, journal } = directory
  const seen = master?.slaves.find((slave) => slave.nodeId === identity.nodeId)
  return {
    name: settings.memberName,
    nodeId: identity.nodeId,
    storeUuid: identity.storeUuid,
    address: settings.replication?.address ?? 'local',
    role,
    voter: core?.voter ?? false,
    position: { epoch: journal.lastEpoch, index: journal.lastIndex },
    lag: role === 'master' ? 0 : seen?.lag,
    state: seen?.state ?? 'self',
    reason: undefined,
    lastHeardMs: 0,
    bootId,
    levels,
  }
}

function waitingFor(facts: StoreFacts): string | undefined {
  const { settings, core, role, others, zookeeper } = facts
  if (facts.foundingObstacle !== undefined) return facts.foundingObstacle
  const missing = missingText(others)
  if (core === undefined) {
    const shown = zookeeper?.members ?? 0
    if (shown > settings.replicas) {
      return `no more members than ${settings.replicas} replicas for the founding of the cluster: ZooKeeper shows ${shown}`
    }
    const present = 1 + facts.connected
    return `all ${settings.replicas} replicas for the founding of the cluster, ${present} are here${missing}`
  }
  if (role === 'master') return undefined
  if (core.role === 'leader')
    return `the first record of epoch ${core.epoch} on the disks of a majority${missing}`
  if (!core.voter) return 'a place among the voters: this store is blank or was replaced, and only learns'
  if (core.leader !== undefined) return undefined
  if (core.reachableVoters < core.quorum) {
    return `a quorum: ${core.quorum} voters are needed and ${core.reachableVoters} reachable${missing}`
  }
  if (zookeeper !== undefined && zookeeper.state !== 'connected') {
    const reason = zookeeper.reason === undefined ? '' : `: ${zookeeper.reason}`
    return `ZooKeeper at ${zookeeper.address} (${zookeeper.state}${reason})`
  }
  return 'the election of a master'
}

function missingText(others: readonly MemberStatus[]): string {
  const missing = others
    .filter(({ state }) => state === 'unreachable' || state === 'refused')
    .map(({ name, reason }) => (reason === undefined ? name : `${name} (${reason})`))
  return missing.length === 0 ? '' : `; missing: ${missing.join(', ')}`
}

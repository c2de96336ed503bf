import type { MemberStatus, Position, Role, StorageStatus, StoreStatus } from '@levelmq/store'

/** A member of the cluster, as `/status` shows it. */
export interface BrokerMemberStatus {
  readonly name: string
  readonly nodeId: string | null
  readonly role: Role | 'unknown'
  readonly voter: boolean
  /** Index of its last record. */
  readonly position: number | null
  readonly lag: number | null
  readonly state: MemberStatus['state']
  readonly reason: string | null
  readonly lastHeardMs: number | null
  readonly address: string
}

/** As `StorageStatus` of the store, with `null` for what is not known. */
export type BrokerStorageStatus = Omit<StorageStatus, 'scrub'> & {
  readonly scrub:
    | (Omit<NonNullable<StorageStatus['scrub']>, 'lastPassMs'> & { readonly lastPassMs: number | null })
    | null
}

/** What `/status` and `levelmq status` show of a broker: plain JSON, with `null` for what is not known. */
export interface BrokerStatus {
  readonly brokerName: string
  readonly nodeId: string
  readonly pid: number
  /** `master` only while clients can connect; an elected master that does not listen yet is `electing`. */
  readonly role: Role
  readonly epoch: number
  /** Index of the last record in the own log. */
  readonly position: number
  readonly positionEpoch: number
  readonly commitIndex: number
  readonly durableIndex: number
  readonly elector: StoreStatus['elector']
  readonly sync: string
  readonly syncWarning: string | null
  readonly replicas: number
  readonly quorum: { readonly needed: number; readonly present: number }
  readonly waitingFor: string | null
  readonly masterNodeId: string | null
  readonly master: { readonly brokerName: string; readonly connectors: readonly string[] } | null
  readonly electionReason: string | null
  readonly members: readonly BrokerMemberStatus[]
  readonly zookeeper: Readonly<Record<string, string | number | null>> | null
  /** What the journal of this broker takes of the disk, and what the scrubber found. */
  readonly storage: BrokerStorageStatus | null
  /** Number of queues. */
  readonly queues: number
  /** Number of connected clients. */
  readonly clients: number
  readonly connectors: readonly { readonly name: string; readonly uri: string; readonly listening: boolean }[]
  readonly uptimeSeconds: number
  readonly version: string
}

/** What the status of the store does not know. */
export type BrokerFacts = Pick<
  BrokerStatus,
  'brokerName' | 'pid' | 'role' | 'queues' | 'clients' | 'connectors' | 'uptimeSeconds' | 'version'
>

/** Puts the store's status and the broker's own facts together. */
export function brokerStatus(store: StoreStatus, facts: BrokerFacts): BrokerStatus {
  return {
    brokerName: facts.brokerName,
    nodeId: store.nodeId,
    pid: facts.pid,
    role: facts.role,
    epoch: store.epoch,
    position: store.position.index,
    positionEpoch: store.position.epoch,
    commitIndex: store.commitIndex,
    durableIndex: store.durableIndex,
    elector: store.elector,
    sync: store.sync,
    syncWarning: store.syncWarning ?? null,
    replicas: store.replicas,
    quorum: store.quorum,
    waitingFor: store.waitingFor ?? null,
    masterNodeId: store.masterNodeId ?? null,
    master: masterOf(store.masterInfo),
    electionReason: store.electionReason ?? null,
    members: store.members.map(memberStatus),
    zookeeper: zooKeeperStatus(store.zookeeper),
    storage: storageStatus(store.storage),
    queues: facts.queues,
    clients: facts.clients,
    connectors: facts.connectors,
    uptimeSeconds: facts.uptimeSeconds,
    version: facts.version,
  }
}

function memberStatus(member: MemberStatus): BrokerMemberStatus {
  return {
    name: member.name,
    nodeId: member.nodeId ?? null,
    role: member.role,
    voter: member.voter,
    position: indexOf(member.position),
    lag: member.lag ?? null,
    state: member.state,
    reason: member.reason ?? null,
    lastHeardMs: member.lastHeardMs ?? null,
    address: member.address,
  }
}

function indexOf(position: Position | undefined): number | null {
  return position === undefined ? null : position.index
}

function storageStatus(storage: StorageStatus | undefined): BrokerStorageStatus | null {
  if (storage === undefined) return null
  const { scrub } = storage
  return {
    ...storage,
    scrub: scrub === undefined ? null : { ...scrub, lastPassMs: scrub.lastPassMs ?? null },
  }
}

function zooKeeperStatus(zookeeper: StoreStatus['zookeeper']): BrokerStatus['zookeeper'] {
  if (zookeeper === undefined) return null
  return Object.fromEntries(Object.entries(zookeeper).map(([key, value]) => [key, value ?? null]))
}

/** Another broker said this about itself, perhaps one of another version: taken only in the shape that is known. */
function masterOf(info: StoreStatus['masterInfo']): BrokerStatus['master'] {
  const brokerName = info?.brokerName
  if (typeof brokerName !== 'string') return null
  const connectors: unknown[] = Array.isArray(info?.connectors) ? info.connectors : []
  return { brokerName, connectors: connectors.filter((uri) => typeof uri === 'string') }
}

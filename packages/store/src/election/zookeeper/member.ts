import type { CoordinationMember } from '../../io/coordination.ts'
import type { ElectionFacts } from '../elector.ts'

/** Largest znode data that is looked at; a member writes less than 1 KiB. */
const maxDataLength = 65_536
/** As ActiveMQ names its members: a 0, then the ten digits that ZooKeeper appends, the "eid". */
const memberName = /^0\d{10}$/
const replicationUrl = /^tcp:\/\/(?:\[[0-9a-fA-F:.]+\]|[^\s:/[\]]+):(\d{1,5})$/

/** What does not change while this node runs, as it is published. */
export interface MemberProfile {
  /** ActiveMQ's `brokerName`: members with the same one form a group. */
  readonly group: string
  /** For people. */
  readonly name: string
  readonly container: string | undefined
  readonly weight: number
  /** Own replication address, `host:port`. */
  readonly connect: string
}

/** A member of the group, as its znode describes it. */
export interface Member {
  /** The znode's name, without the path. Names sort by age. */
  readonly znode: string
  readonly own: boolean
  readonly name: string
  readonly nodeId: string
  readonly storeUuid: string
  readonly clusterUuid: string | undefined
  /** `host:port`. */
  readonly connect: string
  readonly voter: boolean
  readonly weight: number
  /** Of the last record in its log. */
  readonly epoch: number
  /** Last index in its log; -1 while it knows a master. */
  readonly position: number
  /** True while it serves as master. */
  readonly serving: boolean
}

export type MemberReading =
  | { readonly kind: 'member'; readonly member: Member }
  | { readonly kind: 'other group' }
  | { readonly kind: 'unreadable'; readonly problem: string }

export function isMemberName(znode: string): boolean {
  return memberName.test(znode)
}

/** ActiveMQ's name for a member: the ten digits. */
export function eidOf(znode: string): string {
  return znode.slice(1)
}

/** The data of the own znode: ActiveMQ's six fields, then ours. `elected` is the znode of the master, if it is ours to tell. */
export function formatMember(
  profile: MemberProfile,
  facts: ElectionFacts,
  elected: string | undefined,
): string {
  const url = `tcp://${profile.connect}`
  return JSON.stringify({
    id: profile.group,
    container: profile.container ?? null,
    address: facts.serving ? url : null,
    position: facts.masterNodeId === undefined ? facts.lastIndex : -1,
    weight: profile.weight,
    elected: elected === undefined ? null : eidOf(elected),
    epoch: facts.lastEpoch,
    storeUuid: facts.storeUuid,
    nodeId: facts.nodeId,
    clusterUuid: facts.clusterUuid ?? null,
    voter: facts.voter,
    connect: url,
    name: profile.name,
  })
}

/** This node as a member, from what it knows itself: fresher than its znode. */
export function ownMember(znode: string, profile: MemberProfile, facts: ElectionFacts): Member {
  return {
    znode,
    own: true,
    name: profile.name,
    nodeId: facts.nodeId,
    storeUuid: facts.storeUuid,
    clusterUuid: facts.clusterUuid,
    connect: profile.connect,
    voter: facts.voter,
    weight: profile.weight,
    epoch: facts.lastEpoch,
    position: facts.masterNodeId === undefined ? facts.lastIndex : -1,
    serving: facts.serving,
  }
}

/** Reads another's znode. Whoever may write to ZooKeeper may write anything, so each field is checked. */
export function readMember(child: CoordinationMember, group: string): MemberReading {
  if (child.denied === true)
    return unreadable('its ACL does not admit this node; is zkPassword the same on all?')
  if (child.data.length > maxDataLength) return unreadable(`its data exceeds ${maxDataLength} bytes`)
  let fields: unknown
  try {
    fields = JSON.parse(child.data)
  } catch {
    return unreadable('its data is not JSON')
  }
  if (typeof fields !== 'object' || fields === null) return unreadable('its data is not a JSON object')
  const data = fields as Record<string, unknown>
  if (typeof data.id === 'string' && data.id !== group) return { kind: 'other group' }

  const { id, nodeId, storeUuid, clusterUuid, name, weight, epoch, position } = data
  const connect = hostAndPort(data.connect)
  if (typeof id !== 'string') return unreadable('its field "id" is missing')
  if (!isText(nodeId)) return unreadable('its field "nodeId" is missing')
  if (!isText(storeUuid)) return unreadable('its field "storeUuid" is missing')
  if (connect === undefined) return unreadable('its field "connect" is not tcp://host:port')
  if (!isNumber(epoch, 0) || !isNumber(position, -1)) return unreadable('its position is not a number')
  return {
    kind: 'member',
    member: {
      znode: child.name,
      own: child.own,
      name: isText(name) ? name : nodeId,
      nodeId,
      storeUuid,
      clusterUuid: isText(clusterUuid) ? clusterUuid : undefined,
      connect,
      voter: data.voter !== false,
      weight: typeof weight === 'number' && Number.isFinite(weight) ? weight : 1,
      epoch,
      position,
      serving: typeof data.address === 'string',
    },
  }
}

function unreadable(problem: string): MemberReading {
  return { kind: 'unreadable', problem }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length >= 1 && value.length <= 256
}

function isNumber(value: unknown, least: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least
}

function hostAndPort(url: unknown): string | undefined {
  if (!isText(url)) return undefined
  const port = Number(replicationUrl.exec(url)?.[1])
  return port >= 1 && port <= 65_535 ? url.slice('tcp://'.length) : undefined
}

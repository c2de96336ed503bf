import type { CoordinationMember } from '../../io/coordination.ts'
import type { ElectionFacts } from '../elector.ts'
import { eidOf, isMemberName, type Member, type MemberProfile, ownMember, readMember } from './member.ts'

export interface BallotInput {
  /** All children of `zkPath`, in any order. */
  readonly children: readonly CoordinationMember[]
  readonly profile: MemberProfile
  readonly facts: ElectionFacts
  readonly replicas: number
}

/**
 * One look at the members under `zkPath`: who counts, who leads, and how this node ranks among them.
 *
 * Pure and immutable. Invariants: a store counts once, whatever znodes its former sessions left behind; a member of
 * another cluster or group never counts and is never a peer.
 * Source: ActiveMQ's `MasterElector`, with its tie-breaks: position, weight, age.
 */
export class Ballot {
  /** Members of the group, this node included if it has its znode; the oldest first. */
  readonly members: readonly Member[]
  readonly own: Member | undefined
  /** What the own znode holds. */
  readonly ownData: string | undefined
  /** Own znodes besides the first: a create whose reply was lost, and its repetition. To be removed. */
  readonly extras: readonly string[]
  /** Members under the same id that belong to another cluster, in words. */
  readonly refusals: readonly string[]
  /** What an operator should know, in words; the refusals among them. */
  readonly warnings: readonly string[]
  /** Members that must be present before anyone stands: of the voters, once there are some. */
  readonly needed: number
  /** Members that count towards that. */
  readonly counted: number

  constructor({ children, profile, facts, replicas }: BallotInput) {
    const named = children.filter((child) => isMemberName(child.name)).sort(byName)
    const [own, ...extras] = named.filter((child) => child.own)
    this.own = own && ownMember(own.name, profile, facts)
    this.ownData = own?.data
    this.extras = extras.map((extra) => extra.name)

    const warnings: string[] = []
    const others: Member[] = []
    for (const child of named) {
      if (child.own) continue
      const reading = readMember(child, profile.group)
      if (reading.kind === 'unreadable') warnings.push(`znode ${child.name} is ignored: ${reading.problem}`)
      if (reading.kind === 'member' && !isFormerSelf(reading.member, facts, warnings))
        others.push(reading.member)
    }

    const cluster = facts.clusterUuid ?? others.find((other) => other.clusterUuid !== undefined)?.clusterUuid
    const isForeign = (other: Member) => other.clusterUuid !== undefined && other.clusterUuid !== cluster
    this.refusals = others.filter(isForeign).map((other) => refusal(other, profile, cluster))
    const known = newestOfEach(others.filter((other) => !isForeign(other)))
    this.members = (this.own === undefined ? known : [...known, this.own]).sort(byZnode)

    const founded = facts.clusterUuid !== undefined
    this.needed = facts.quorum
    const isVoter = (member: Member) =>
      member.voter ||
      facts.voters?.some(
        ({ nodeId, storeUuid }) => nodeId === member.nodeId && storeUuid === member.storeUuid,
      )
    this.counted = founded ? this.members.filter(isVoter).length : this.members.length
    // Besides the voters of a cluster, any number of stores may learn.
    if (!founded && this.members.length > replicas) {
      warnings.push(`${this.members.length} members of "${profile.group}" for replicas: ${replicas}`)
    }
    this.warnings = [...this.refusals, ...warnings]
  }

  get hasQuorum(): boolean {
    return this.counted >= this.needed
  }

  has(nodeId: string): boolean {
    return this.members.some((member) => member.nodeId === nodeId)
  }

  /** True if a member other than this node and `except` says that it serves as master. */
  showsMaster(except: string | undefined): boolean {
    return this.members.some((member) => member.serving && !member.own && member.nodeId !== except)
  }

  /**
   * Place of this node in the line of those who may stand, from 0; `undefined` if it may not. The most complete log is
   * first, then the highest weight, then the oldest znode; a member that still believes in a master is last.
   */
  rank(): number | undefined {
    return this.#placeAmong(this.members.filter((member) => member.voter).sort(byCompleteness))
  }

  /**
   * The same after the loss of `lost`. Those who followed it may not have published their positions yet: then they
   * are taken as equal, and the core's pre-vote turns down who lacks something.
   */
  rankWithout(lost: string | undefined): number | undefined {
    const left = this.members.filter((member) => member.voter && member.nodeId !== lost)
    const comparable = left.every((member) => member.position >= 0)
    return this.#placeAmong(left.sort(comparable ? byCompleteness : byWeight))
  }

  /** The znode to name as `elected`, where that is this node's to tell: the oldest member tells. */
  elected(masterNodeId: string | undefined): string | undefined {
    if (masterNodeId === undefined || this.own === undefined || this.members[0] !== this.own) return undefined
    return this.members.find((member) => member.nodeId === masterNodeId)?.znode
  }

  #placeAmong(line: readonly Member[]): number | undefined {
    const place = line.findIndex((member) => member.own)
    return place < 0 ? undefined : place
  }
}

/** A znode of this store or node that another session owns: what its last run left, until that session times out. */
function isFormerSelf(member: Member, facts: ElectionFacts, warnings: string[]): boolean {
  if (member.storeUuid === facts.storeUuid) return true
  if (member.nodeId !== facts.nodeId) return false
  warnings.push(
    `znode ${member.znode} is ignored: store ${member.storeUuid} uses this node's id "${facts.nodeId}", whose store is ${facts.storeUuid}`,
  )
  return true
}

function refusal(member: Member, profile: MemberProfile, cluster: string | undefined): string {
  return (
    `member "${member.name}" (${member.connect}, eid ${eidOf(member.znode)}) is refused: it has the same id ` +
    `"${profile.group}" but belongs to cluster ${member.clusterUuid}, and this one is cluster ${cluster}`
  )
}

/** Of the znodes of one store or one node id, the last one created is its present session. */
function newestOfEach(members: readonly Member[]): Member[] {
  return members.filter(
    (member, at) =>
      !members
        .slice(at + 1)
        .some((later) => later.nodeId === member.nodeId || later.storeUuid === member.storeUuid),
  )
}

function byName(a: CoordinationMember, b: CoordinationMember): number {
  return a.name < b.name ? -1 : 1
}

function byZnode(a: Member, b: Member): number {
  return a.znode < b.znode ? -1 : 1
}

function byWeight(a: Member, b: Member): number {
  return b.weight - a.weight || byZnode(a, b)
}

function byCompleteness(a: Member, b: Member): number {
  const unknown = Number(a.position < 0) - Number(b.position < 0)
  return unknown || b.epoch - a.epoch || b.position - a.position || byWeight(a, b)
}

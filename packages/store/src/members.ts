import type { Consensus } from './consensus/consensus.ts'
import type { Progress } from './consensus/progress.ts'
import type { Role } from './message-store.ts'
import type { NodeIdentity } from './replication/handshake.ts'
import { type KnownPeer, parseKnownPeers } from './replication/known-peer.ts'
import type { PeerState } from './replication/mesh.ts'
import type { Voter } from './store-identity.ts'
import type { MemberStatus, Position } from './store-status.ts'

/** What a member says of itself twice a second, and at each change: for displays, and so that all come to know all. */
export interface MemberInfo {
  readonly role: Role
  readonly epoch: number
  readonly lastEpoch: number
  readonly lastIndex: number
  readonly commitIndex: number
  /** What its broker says of itself. */
  readonly info: Readonly<Record<string, unknown>>
  readonly electionReason: string | undefined
  /** From the master: how it sees the others. */
  readonly slaves: readonly {
    readonly nodeId: string
    readonly state: MemberStatus['state']
    readonly lag: number
  }[]
  /** The peers that it has a link to. */
  readonly links: readonly KnownPeer[]
}

/** What a member said of itself is shown for so long after it was last heard: a paused master is no master any more. */
const freshMs = 1500

/** Without acknowledgement for so long, although something is outstanding, a connected slave counts as stalled. */
const stalledAfterMs = 2000
/** What a slave in sync may have under way, unacknowledged: more than a master under load has. */
const inSyncBytes: number = 4 * 1024 * 1024

/** The other members as this node sees them: who they are, and what they last said. */
export class Members {
  readonly #infos = new Map<string, MemberInfo>()
  readonly #identities = new Map<string, NodeIdentity>()

  up(identity: NodeIdentity): void {
    this.#identities.set(identity.nodeId, identity)
  }

  down(nodeId: string): void {
    this.#infos.delete(nodeId)
    this.#identities.delete(nodeId)
  }

  /** Those connected now. */
  connected(): NodeIdentity[] {
    return [...this.#identities.values()]
  }

  heard(nodeId: string, info: MemberInfo): void {
    this.#infos.set(nodeId, info)
  }

  infoOf(nodeId: string | undefined): MemberInfo | undefined {
    return nodeId === undefined ? undefined : this.#infos.get(nodeId)
  }

  /** The others, one entry for each address. `masterNodeId` is the master this node knows of. */
  statuses(
    peers: readonly PeerState[],
    voters: readonly Voter[],
    core: Consensus | undefined,
    masterNodeId: string | undefined,
    nowMs: number,
  ): MemberStatus[] {
    const told = this.infoOf(masterNodeId)?.slaves ?? []
    const progress = new Map([...(core?.progress ?? [])].map((each) => [each.nodeId, each]))
    const masterIndex = this.infoOf(masterNodeId)?.lastIndex
    const known = peers.filter((peer) => peer.connected || peer.refused || !connectedElsewhere(peer, peers))
    return known.map((peer) => {
      const { identity } = peer
      const fresh = peer.connected && peer.heardMs !== undefined && nowMs - peer.heardMs < freshMs
      const info = fresh ? this.infoOf(identity?.nodeId) : undefined
      const position: Position | undefined = info && { epoch: info.lastEpoch, index: info.lastIndex }
      const voter = identity !== undefined && isVoter(voters, identity)
      const own = identity && progress.get(identity.nodeId)
      const seen = told.find((slave) => slave.nodeId === identity?.nodeId)
      const lag =
        own && core
          ? core.lastIndex - own.durableIndex
          : (seen?.lag ?? lagBehind(masterIndex, info?.lastIndex))
      return {
        name: identity?.name ?? peer.address,
        nodeId: identity?.nodeId,
        storeUuid: identity?.storeUuid,
        address: peer.address,
        role: info?.role ?? 'unknown',
        voter,
        position,
        lag: peer.connected ? lag : undefined,
        state: stateOf(peer, voter, voters.length > 0, own, seen?.state, core, nowMs),
        reason: reasonOf(peer, voter, voters),
        lastHeardMs: peer.heardMs === undefined ? undefined : Math.max(0, Math.round(nowMs - peer.heardMs)),
        bootId: identity?.bootId,
        levels: identity?.levels,
      }
    })
  }

  /** How a master sees its slaves, for the others to show. */
  slaves(core: Consensus, voters: readonly Voter[], nowMs: number): MemberInfo['slaves'] {
    return [...core.progress]
      .filter((progress) => progress.connected)
      .map((progress) => {
        const identity = this.#identities.get(progress.nodeId)
        const voter = identity !== undefined && isVoter(voters, identity)
        const state = voter ? progressState(progress, core, nowMs) : 'learner'
        return { nodeId: progress.nodeId, state, lag: core.lastIndex - progress.durableIndex }
      })
  }
}

/** An address from the configuration behind which a node lives that is connected under another one. */
function connectedElsewhere(peer: PeerState, peers: readonly PeerState[]): boolean {
  const { identity } = peer
  return (
    identity !== undefined &&
    peers.some((other) => other !== peer && other.connected && other.identity?.nodeId === identity.nodeId)
  )
}

export function isVoter(voters: readonly Voter[], identity: Voter): boolean {
  return voters.some((voter) => voter.nodeId === identity.nodeId && voter.storeUuid === identity.storeUuid)
}

/** @returns `undefined` unless it is what a member says of itself. */
export function parseMemberInfo(value: Record<string, unknown>): MemberInfo | undefined {
  const { role, epoch, lastEpoch, lastIndex, commitIndex, info, electionReason, slaves, links } = value
  if (role !== 'master' && role !== 'slave' && role !== 'electing') return undefined
  for (const number of [epoch, lastEpoch, lastIndex, commitIndex]) {
    if (!Number.isSafeInteger(number)) return undefined
  }
  if (typeof info !== 'object' || info === null || !Array.isArray(slaves)) return undefined
  return {
    role,
    epoch: epoch as number,
    lastEpoch: lastEpoch as number,
    lastIndex: lastIndex as number,
    commitIndex: commitIndex as number,
    info: info as Record<string, unknown>,
    electionReason: typeof electionReason === 'string' ? electionReason : undefined,
    slaves: slaves.slice(0, 16).filter(isSlaveInfo),
    links: parseKnownPeers(links),
  }
}

function isSlaveInfo(value: unknown): value is MemberInfo['slaves'][number] {
  if (typeof value !== 'object' || value === null) return false
  const { nodeId, state, lag } = value as Record<string, unknown>
  return typeof nodeId === 'string' && typeof state === 'string' && Number.isSafeInteger(lag)
}

function lagBehind(masterIndex: number | undefined, index: number | undefined): number | undefined {
  return masterIndex === undefined || index === undefined ? undefined : Math.max(0, masterIndex - index)
}

function stateOf(
  peer: PeerState,
  voter: boolean,
  founded: boolean,
  progress: Progress | undefined,
  told: MemberStatus['state'] | undefined,
  core: Consensus | undefined,
  nowMs: number,
): MemberStatus['state'] {
  if (!peer.connected) return peer.refused ? 'refused' : 'unreachable'
  if (founded && !voter) return 'learner'
  if (progress !== undefined && core !== undefined) return progressState(progress, core, nowMs)
  return told ?? 'connected'
}

function progressState(progress: Progress, core: Consensus, nowMs: number): MemberStatus['state'] {
  if (progress.mode === 'gone') return 'cannot catch up'
  const lag = core.lastIndex - progress.durableIndex
  if (lag > 0 && nowMs - progress.movedMs > stalledAfterMs) return 'stalled'
  const sent = progress.mode === 'stream' && progress.nextIndex > core.lastIndex
  return sent && progress.durableIndex > 0 && progress.flyingBytes <= inSyncBytes ? 'in sync' : 'catching up'
}

function reasonOf(peer: PeerState, voter: boolean, voters: readonly Voter[]): string | undefined {
  if (!peer.connected) return peer.reason
  if (voter || voters.length === 0) return undefined
  const replaced = voters.find((each) => each.nodeId === peer.identity?.nodeId)
  return replaced === undefined
    ? 'it is not one of the voters of this cluster, and gets a copy of everything'
    : `its store is blank or was replaced: the voter of this name has store ${replaced.storeUuid}`
}

import type { Consensus } from './consensus/consensus.ts'
import { StoreError } from './errors.ts'
import type { NodeIdentity } from './replication/handshake.ts'
import type { StoreHost } from './store-factory.ts'
import type { Cluster, Voter } from './store-identity.ts'

export interface MembershipParts {
  readonly core: Consensus
  /** The configuration in force. */
  readonly cluster: () => Cluster
  readonly nodeId: string
  /** Voters that the cluster is to have. */
  readonly replicas: number
  readonly connected: () => readonly NodeIdentity[]
  /** Changes the voters, or says why that cannot be now. */
  readonly change: (voters: readonly Voter[]) => string | undefined
  /** Writes the configuration again, with what `configuration` now says; false if that cannot be now. */
  readonly restate: () => boolean
  readonly log: StoreHost['log']
}

/** A change that somebody waits for. */
interface Wish {
  /** What is to be done now, if anything; `done` once it is committed, or why it cannot be. */
  readonly step: () => 'done' | 'wait' | { readonly refused: string }
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  readonly deadlineMs: number
  /** For people. */
  readonly what: string
}

const stepEveryMs = 50
/** A learner may have to copy the store first; then somebody has to ask again. */
const wishMs = 60_000

/**
 * Who is to be a voter, as a master decides it: on request, and by itself where a store was replaced or the cluster is to grow
 * (rules S23, S35).
 *
 * A store that comes under the node id or the address of a voter, with another UUID, is that voter's replacement: it was emptied or got a
 * new disk. Once
 * it has the log, the old store loses its place and the new one gets it, in two steps, since one voter is added or removed at a time. In
 * between the configuration says `growing`, so that whoever is master then goes on.
 *
 * Invariants: what may not be done is for the consensus core to say, and this only asks; nothing is asked for by a node that does not
 * serve.
 */
export class Membership {
  readonly #parts: MembershipParts
  #growing: boolean | undefined
  #level: number | undefined
  readonly #wishes: Wish[] = []
  #steppedMs = Number.NEGATIVE_INFINITY

  constructor(parts: MembershipParts) {
    this.#parts = parts
  }

  /** Text of a configuration record with these voters. */
  configuration(voters: readonly Voter[]): string {
    const { cluster, replicas } = this.#parts
    const { uuid, growing, level } = cluster()
    const next: Cluster = {
      uuid,
      voters,
      growing: (this.#growing ?? growing) && voters.length < replicas,
      level: this.#level ?? level,
    }
    return JSON.stringify(next)
  }

  /** Whether a change is under way or waits for something. */
  get changing(): boolean {
    return this.#parts.core.changing || this.#wishes.length > 0
  }

  /** Time passed. */
  tick(nowMs: number): void {
    if (nowMs - this.#steppedMs < stepEveryMs) return
    this.#steppedMs = nowMs
    if (!this.#parts.core.serving) return
    this.#workOff(nowMs)
    if (this.#parts.core.changing) return
    this.#growing = undefined
    this.#level = undefined
    if (this.#wishes.length === 0) this.#tend()
  }

  /** Mastership is over. */
  deposed(): void {
    this.#growing = undefined
    this.#level = undefined
    const over = new StoreError(
      { code: 'STORE_NOT_MASTER' },
      'mastership ended before the change was committed',
    )
    // It ends with a master's own removal, once that is committed: then nothing is left that might take it back.
    const dismissed = !this.#parts.core.eligible
    for (const wish of this.#wishes.splice(0)) {
      if (dismissed && wish.step() === 'done') wish.resolve()
      else wish.reject(over)
    }
  }

  /** A member that is level becomes a voter; resolves when that is committed. */
  add(nodeId: string, nowMs: number): Promise<void> {
    return this.#wish(`adding ${nodeId} to the voters`, nowMs, () => {
      const { core, connected, change } = this.#parts
      if (core.voters.some((voter) => voter.nodeId === nodeId)) return core.changing ? 'wait' : 'done'
      const peer = connected().find((each) => each.nodeId === nodeId)
      if (peer === undefined) return { refused: `${nodeId} is not connected` }
      if (!core.changing && core.isLevel(peer.nodeId, peer.storeUuid)) change([...core.voters, voterOf(peer)])
      return 'wait'
    })
  }

  /** A voter loses its place; resolves when that is committed. */
  remove(nodeId: string, nowMs: number): Promise<void> {
    return this.#wish(`removing ${nodeId} from the voters`, nowMs, () => {
      const { core, change } = this.#parts
      const voters = core.voters.filter((voter) => voter.nodeId !== nodeId)
      if (voters.length === core.voters.length) return core.changing ? 'wait' : 'done'
      if (voters.length === 0) return { refused: 'the last voter cannot be removed' }
      if (!core.changing) change(voters)
      return 'wait'
    })
  }

  /** Raises the level of the log's format; resolves when that is committed. */
  finalise(level: number, nowMs: number): Promise<void> {
    return this.#wish(`raising the level to ${level}`, nowMs, () => {
      const { core, cluster, restate } = this.#parts
      if (core.changing) return 'wait'
      if (cluster().level >= level) return 'done'
      this.#level = level
      restate()
      return 'wait'
    })
  }

  #wish(what: string, nowMs: number, step: Wish['step']): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#wishes.push({ what, step, resolve, reject, deadlineMs: nowMs + wishMs })
      this.#steppedMs = Number.NEGATIVE_INFINITY
    })
  }

  /** One after the other: the next one begins when the one before is committed. */
  #workOff(nowMs: number): void {
    for (let wish = this.#wishes[0]; wish !== undefined; wish = this.#wishes[0]) {
      const state = wish.step()
      if (state === 'wait' && nowMs < wish.deadlineMs) return
      this.#wishes.shift()
      if (state === 'done') wish.resolve()
      else {
        const reason = state === 'wait' ? 'it did not come about in time; it may still do' : state.refused
        wish.reject(
          new StoreError({ code: 'STORE_CHANGE_REFUSED', change: wish.what }, `${wish.what}: ${reason}`),
        )
      }
    }
  }

  /** Replaces stores, and lets the cluster grow. */
  #tend(): void {
    const { core, cluster, connected, change, replicas, log } = this.#parts
    const { voters } = core
    const level = connected().filter(({ nodeId, storeUuid }) => core.isLevel(nodeId, storeUuid))
    const replaced = voters.find((voter) => level.some((peer) => replaces(peer, voter, connected())))
    if (replaced !== undefined) {
      const { nodeId, storeUuid, name } = replaced
      log('warn', `the store of ${name ?? nodeId} was replaced: the old one loses its vote`, {
        nodeId,
        storeUuid,
      })
      this.#growing = true
      const refusal = change(voters.filter((voter) => voter !== replaced))
      if (refusal !== undefined) this.#growing = undefined
      return
    }
    if (!cluster().growing || voters.length >= replicas) return
    const newcomer = level.find(({ nodeId }) => !voters.some((voter) => voter.nodeId === nodeId))
    if (newcomer === undefined) return
    const refusal = change([...voters, voterOf(newcomer)])
    if (refusal === undefined)
      log('info', `${newcomer.name} becomes a voter`, { nodeId: newcomer.nodeId, voters: voters.length + 1 })
  }
}

/** Whether a store is there in the place of a voter's, which can then not be there any more. */
export function replaces(peer: NodeIdentity, voter: Voter, connected: readonly NodeIdentity[]): boolean {
  if (peer.storeUuid === voter.storeUuid) return false
  if (peer.nodeId === voter.nodeId) return true
  return peer.address === voter.address && !connected.some(({ storeUuid }) => storeUuid === voter.storeUuid)
}

export function voterOf({ nodeId, storeUuid, name, address }: NodeIdentity): Voter {
  return { nodeId, storeUuid, name, address }
}

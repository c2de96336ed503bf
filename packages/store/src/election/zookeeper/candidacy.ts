import type { ElectionFacts, StandReason } from '../elector.ts'
import type { Ballot } from './ballot.ts'

export type ZooKeeperCandidacyEvent =
  | { readonly type: 'facts'; readonly facts: ElectionFacts }
  /** What ZooKeeper shows; `undefined` while there is no session, or no own znode. */
  | { readonly type: 'ballot'; readonly ballot: Ballot | undefined }
  | { readonly type: 'masterLost'; readonly reason: 'link lost' | 'timeout' | 'resigned' }
  | { readonly type: 'defeated' }
  | { readonly type: 'timer' }

/** `wait` replaces the timer that is set, `idle` cancels it. */
export type ZooKeeperCandidacyEffect =
  | { readonly type: 'stand'; readonly reason: StandReason }
  | { readonly type: 'wait'; readonly delayMs: number }
  | { readonly type: 'idle' }

/** How much longer each next in line waits when a cluster starts: long enough for a healthy best member to win. */
const startupStepMs = 300
/** The same after a loss, where each millisecond is an outage and a wrong first is turned down within a round trip. */
const lossStepMs = 50
const retryDelayMs = { least: 30, most: 150 }

/**
 * When a node stands for election, with ZooKeeper: those who are present line up, and each next one stands a little
 * later if nobody has won, so that a hung first delays an election and cannot prevent it.
 *
 * Pure: no clock and no timer. `nowMs` is monotonic, `fraction` a fresh random number in [0, 1) for each step.
 * Invariants: never stands without a session, an own znode and a quorum of members, nor as a learner; while a master is
 * known, at most once, when that master's znode goes.
 */
export class ZooKeeperCandidacy {
  readonly #electionTimeoutMs: number
  #facts: ElectionFacts
  #ballot: Ballot | undefined
  /** Why a master is missing; `undefined` while there is nothing to do. Kept through all retries. */
  #reason: StandReason | undefined = 'startup'
  /** A loss that was announced while the facts still named the master. */
  #announced: StandReason | undefined
  /** The master that was lost: it is not in line, though its znode may outlive it by the session timeout. */
  #lost: string | undefined
  /** Stood while the facts still name the master. */
  #stoodEarly = false
  /** The master whose znode the last ballot showed. */
  #seen: string | undefined
  /** Since when standing is possible; ranks count from here. */
  #sinceMs: number | undefined
  /** Not before this; set by patience and by having stood. */
  #notBeforeMs: number | undefined
  /** Rounds lost in a row. */
  #defeats = 0

  constructor(facts: ElectionFacts, electionTimeoutMs: number) {
    this.#facts = facts
    this.#electionTimeoutMs = electionTimeoutMs
    if (facts.masterNodeId !== undefined) this.#reason = undefined
  }

  step(event: ZooKeeperCandidacyEvent, nowMs: number, fraction: number): ZooKeeperCandidacyEffect[] {
    switch (event.type) {
      case 'facts':
        this.#learn(event.facts, nowMs, fraction)
        break
      case 'ballot':
        this.#ballot = event.ballot
        this.#watchMaster()
        break
      case 'masterLost':
        // The facts that no longer name the master follow at once.
        if (this.#facts.masterNodeId !== undefined) this.#announced = event.reason
        else this.#need(event.reason)
        break
      case 'defeated':
        this.#notBeforeMs = nowMs + this.#retryDelay(fraction)
        break
      case 'timer':
        break
      default:
        event satisfies never
    }
    return this.#decide(nowMs, fraction)
  }

  #learn(facts: ElectionFacts, nowMs: number, fraction: number): void {
    const before = this.#facts
    this.#facts = facts
    if (facts.masterNodeId === before.masterNodeId) return
    if (facts.masterNodeId !== undefined) {
      this.#need(undefined)
      this.#announced = undefined
      this.#stoodEarly = false
      this.#lost = undefined
      this.#seen = undefined
      this.#watchMaster()
      return
    }
    this.#lost = before.masterNodeId === facts.nodeId ? undefined : before.masterNodeId
    const reason = this.#announced ?? this.#reason
    const stood = this.#stoodEarly
    this.#announced = undefined
    this.#stoodEarly = false
    this.#need(reason ?? (stood ? 'session expiry' : 'timeout'))
    // Without a word of a loss, mostly this node itself was demoted, and others know better; or its round has begun.
    if (reason === undefined) this.#notBeforeMs = nowMs + this.#patience(fraction)
  }

  #watchMaster(): void {
    const { masterNodeId, nodeId } = this.#facts
    if (this.#ballot === undefined || masterNodeId === undefined || masterNodeId === nodeId) {
      this.#seen = undefined
      return
    }
    if (this.#ballot.has(masterNodeId)) {
      this.#seen = masterNodeId
      if (this.#reason === 'session expiry') this.#need(undefined)
    } else if (this.#seen === masterNodeId) {
      this.#seen = undefined
      this.#lost = masterNodeId
      this.#need('session expiry')
    }
  }

  /** A new reason starts a new line. */
  #need(reason: StandReason | undefined): void {
    this.#reason = reason
    this.#sinceMs = undefined
    this.#notBeforeMs = undefined
    this.#defeats = 0
  }

  #decide(nowMs: number, fraction: number): ZooKeeperCandidacyEffect[] {
    const reason = this.#reason
    const lineMs = this.#waitInLineMs()
    if (reason === undefined || lineMs === undefined) {
      this.#sinceMs = undefined
      return [{ type: 'idle' }]
    }
    this.#sinceMs ??= nowMs
    const dueMs = Math.max(this.#sinceMs + lineMs, this.#notBeforeMs ?? 0)
    if (nowMs < dueMs) return [{ type: 'wait', delayMs: dueMs - nowMs }]

    if (this.#facts.masterNodeId !== undefined) {
      // The master may live on without ZooKeeper; if the others still hear it, asking again changes nothing.
      this.#reason = undefined
      this.#stoodEarly = true
      return [{ type: 'idle' }, { type: 'stand', reason }]
    }
    const patienceMs = this.#patience(fraction)
    this.#notBeforeMs = nowMs + patienceMs
    // The timer first: standing may be answered at once, and that answer sets a better one.
    return [
      { type: 'wait', delayMs: patienceMs },
      { type: 'stand', reason },
    ]
  }

  /** How long after the first in line this node's turn comes; `undefined` if it must not stand. */
  #waitInLineMs(): number | undefined {
    const ballot = this.#ballot
    if (ballot === undefined || !ballot.hasQuorum || !this.#facts.voter) return undefined
    if (this.#reason === 'startup') {
      const rank = ballot.rank()
      // This node has just come to a cluster that has a master; it only has not met it yet.
      const courtesyMs = ballot.showsMaster(this.#lost) ? this.#electionTimeoutMs : 0
      return rank === undefined ? undefined : rank * startupStepMs + courtesyMs
    }
    const rank = ballot.rankWithout(this.#lost)
    return rank === undefined ? undefined : rank * lossStepMs
  }

  /** Without an answer to having stood, stand again; random, so that two do not meet for ever. */
  #patience(fraction: number): number {
    return this.#electionTimeoutMs * (1 + fraction)
  }

  /** Soon after the first defeat, since a split vote is likely; ever later, since then the node may be hopeless. */
  #retryDelay(fraction: number): number {
    const growth = 2 ** Math.min(this.#defeats, 16)
    this.#defeats += 1
    const least = Math.min(retryDelayMs.least * growth, this.#electionTimeoutMs / 2)
    const most = Math.min(retryDelayMs.most * growth, this.#electionTimeoutMs)
    return least + fraction * (most - least)
  }
}

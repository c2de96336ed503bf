import type { ElectionFacts, StandReason } from '../elector.ts'

export type RaftCandidacyEvent =
  | { readonly type: 'facts'; readonly facts: ElectionFacts }
  | { readonly type: 'masterLost'; readonly reason: 'link lost' | 'timeout' | 'resigned' }
  | { readonly type: 'defeated' }
  | { readonly type: 'timer' }

/** `wait` replaces the timer that is set, `idle` cancels it. */
export type RaftCandidacyEffect =
  | { readonly type: 'stand'; readonly reason: StandReason }
  | { readonly type: 'wait'; readonly delayMs: number }
  | { readonly type: 'idle' }

/** Nodes that start together come to the same conclusion together: this spreads them. */
const startupDelayMs = { least: 20, most: 100 }
const retryDelayMs = { least: 30, most: 150 }

/**
 * When a node stands for election, with static peers and no coordinator: Raft's randomised timeout, made quicker where
 * something better than silence is known.
 *
 * Pure: no clock and no timer. `fraction` is a fresh random number in [0, 1) for each step.
 * Invariants: never stands while a master is known, nor as a learner; while neither holds, a timer is always set, so
 * that a lost answer delays an election but cannot prevent it.
 * Source: Ongaro, "Consensus" (2014), sections 3.4 and 9.3.
 */
export class RaftCandidacy {
  readonly #electionTimeoutMs: number
  #facts: ElectionFacts | undefined
  /** Why a master is missing; `undefined` until something is known but silence. Kept through all retries. */
  #reason: StandReason | undefined
  /** A loss that was announced while the facts still named the master. */
  #announced: StandReason | undefined
  #hadMaster = false
  /** Rounds lost in a row. */
  #defeats = 0

  constructor(electionTimeoutMs: number) {
    this.#electionTimeoutMs = electionTimeoutMs
  }

  step(event: RaftCandidacyEvent, fraction: number): RaftCandidacyEffect[] {
    switch (event.type) {
      case 'facts':
        return this.#learn(event.facts, fraction)
      case 'masterLost':
        return this.#lose(event.reason, fraction)
      case 'defeated':
        return this.#retry(fraction)
      case 'timer':
        return this.#stand(fraction)
    }
  }

  #learn(facts: ElectionFacts, fraction: number): RaftCandidacyEffect[] {
    const before = this.#facts
    this.#facts = facts
    if (facts.masterNodeId !== undefined) {
      this.#hadMaster = true
      this.#reason = undefined
      this.#defeats = 0
      if (before?.masterNodeId === facts.masterNodeId) return []
      this.#announced = undefined
      return [{ type: 'idle' }]
    }
    if (!facts.voter) return [{ type: 'idle' }]

    const announced = this.#announced
    this.#announced = undefined
    if (announced !== undefined) return this.#lose(announced, fraction)
    if (hasQuorum(facts) && !(before !== undefined && waitsForMaster(before) && hasQuorum(before))) {
      // A master that vanished without a word may still be there: only silence of full length ends it.
      if (before?.masterNodeId !== undefined) return [this.#patience(fraction)]
      this.#reason ??= this.#hadMaster ? 'timeout' : 'startup'
      return [wait(startupDelayMs, fraction)]
    }
    return before !== undefined && waitsForMaster(before) ? [] : [this.#patience(fraction)]
  }

  #lose(reason: StandReason, fraction: number): RaftCandidacyEffect[] {
    // The facts that no longer name the master follow at once.
    if (this.#facts?.masterNodeId !== undefined) this.#announced = reason
    if (!this.#mayStand()) return []
    this.#reason = reason
    this.#defeats = 0
    return this.#stand(fraction)
  }

  #stand(fraction: number): RaftCandidacyEffect[] {
    if (!this.#mayStand()) return []
    // The timer first: standing may be answered at once, and that answer sets a better one.
    return [this.#patience(fraction), { type: 'stand', reason: this.#reason ?? 'timeout' }]
  }

  /** Soon after the first defeat, since a split vote is likely; ever later, since then the node may be hopeless. */
  #retry(fraction: number): RaftCandidacyEffect[] {
    if (!this.#mayStand()) return []
    const growth = 2 ** Math.min(this.#defeats, 16)
    this.#defeats += 1
    return [
      wait(
        {
          least: Math.min(retryDelayMs.least * growth, this.#electionTimeoutMs / 2),
          most: Math.min(retryDelayMs.most * growth, this.#electionTimeoutMs),
        },
        fraction,
      ),
    ]
  }

  #mayStand(): boolean {
    return this.#facts !== undefined && waitsForMaster(this.#facts)
  }

  #patience(fraction: number): RaftCandidacyEffect {
    return wait({ least: this.#electionTimeoutMs, most: 2 * this.#electionTimeoutMs }, fraction)
  }
}

function waitsForMaster(facts: ElectionFacts): boolean {
  return facts.voter && facts.masterNodeId === undefined
}

function hasQuorum(facts: ElectionFacts): boolean {
  return facts.reachableVoters >= facts.quorum
}

function wait(
  range: { readonly least: number; readonly most: number },
  fraction: number,
): RaftCandidacyEffect {
  return { type: 'wait', delayMs: range.least + fraction * (range.most - range.least) }
}

import type { StandReason } from '../election/elector.ts'
import type { Electorate } from './electorate.ts'

/**
 * One attempt to become leader of `epoch`.
 *
 * `ask`: would a majority vote for this node? Nothing is promised yet. `promise`: its own promise is on the way to its
 * disk. `vote`: the votes are being collected.
 *
 * Invariants:
 * - Answers of one stage do not count in another: a promise to vote is no vote (S2).
 * - Each voter counts once, this node included if it is one.
 * - `leaseEndMs` is not before the end of any lease that this node or a voter of it has acknowledged to an earlier
 *   leader (S9).
 */
export class Campaign {
  readonly epoch: number
  readonly reason: StandReason
  readonly #electorate: Electorate
  #stage: 'ask' | 'promise' | 'vote' = 'ask'
  #granted: Set<string>
  /** Voters that were asked in this stage and have not answered. */
  #asked: Set<string>
  #deadlineMs: number
  #leaseEndMs: number

  constructor(
    epoch: number,
    reason: StandReason,
    electorate: Electorate,
    deadlineMs: number,
    leaseEndMs: number,
  ) {
    this.epoch = epoch
    this.reason = reason
    this.#electorate = electorate
    this.#granted = ownVote(electorate)
    this.#asked = electorate.otherVoters()
    this.#deadlineMs = deadlineMs
    this.#leaseEndMs = leaseEndMs
  }

  get stage(): 'ask' | 'promise' | 'vote' {
    return this.#stage
  }
  /** When the last lease that an elector acknowledged to an earlier leader has run out. */
  get leaseEndMs(): number {
    return this.#leaseEndMs
  }
  /** Whether a majority granted what this stage is about. */
  get granted(): boolean {
    return this.#granted.size >= this.#electorate.quorum
  }
  /** Whether too few are left that may still grant it: no use in waiting for the deadline. */
  get hopeless(): boolean {
    return this.#granted.size + this.#asked.size < this.#electorate.quorum
  }

  expired(nowMs: number): boolean {
    // The own disk takes the time it takes; to start over would only queue another promise behind this one.
    return this.#stage !== 'promise' && nowMs >= this.#deadlineMs
  }

  /** A majority would vote for this node: it promises the epoch to itself. */
  awaitPromise(): void {
    this.#stage = 'promise'
    this.#granted = ownVote(this.#electorate)
    this.#asked = this.#electorate.otherVoters()
  }

  /** The own promise is durable. */
  awaitVotes(deadlineMs: number): void {
    this.#stage = 'vote'
    this.#deadlineMs = deadlineMs
  }

  /** @param leaseEndMs - When the leases that the voter acknowledged have run out. */
  grantedBy(nodeId: string, leaseEndMs: number = Number.NEGATIVE_INFINITY): void {
    this.#asked.delete(nodeId)
    this.#granted.add(nodeId)
    this.#leaseEndMs = Math.max(this.#leaseEndMs, leaseEndMs)
  }

  /** @returns Whether its answer was still awaited. */
  refusedBy(nodeId: string): boolean {
    return this.#asked.delete(nodeId)
  }
}

function ownVote({ nodeId, voter }: Electorate): Set<string> {
  return new Set(voter ? [nodeId] : [])
}

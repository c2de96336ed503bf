import type { StandReason } from '../election/elector.ts'
import type { Electorate } from './electorate.ts'

/**
 * One attempt to become leader of `epoch`.
 *
 * `ask`: would a majority vote for this node? Nothing is promised yet. `promise`: its own promise is on the way to its
 * disk. `vote`: the votes are being collected.
 *
 * Where a majority refuses for no other reason than that records are missing which they know of, the attempt goes on if
 * all voters have answered so, this node included: then nobody has a better log, and what is missing is lost (S24).
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
  /** Whether this node itself knows of records that its log lacks: a majority is not enough then. */
  readonly inDebt: boolean
  readonly #electorate: Electorate
  #stage: 'ask' | 'promise' | 'vote' = 'ask'
  #all = false
  /** The leader that gave up in favour of this node was that of this epoch; 0 if none did. */
  readonly handedOver: number
  #granted: Set<string>
  /** Voters that would grant it but for records that they know of and the log of this node lacks. */
  readonly #owing: Set<string>
  /** Voters that were asked in this stage and have not answered. */
  #asked: Set<string>
  #deadlineMs: number
  #leaseEndMs: number

  constructor(
    epoch: number,
    reason: StandReason,
    electorate: Electorate,
    inDebt: boolean,
    deadlineMs: number,
    leaseEndMs: number,
    handedOver = 0,
  ) {
    this.epoch = epoch
    this.reason = reason
    this.inDebt = inDebt
    this.handedOver = handedOver
    this.#electorate = electorate
    this.#granted = inDebt ? new Set() : ownVote(electorate)
    this.#owing = inDebt ? ownVote(electorate) : new Set()
    this.#asked = electorate.otherVoters()
    this.#deadlineMs = deadlineMs
    this.#leaseEndMs = leaseEndMs
  }

  get stage(): 'ask' | 'promise' | 'vote' {
    return this.#stage
  }
  /** Whether it goes on because all voters have answered, and not by a majority. */
  get all(): boolean {
    return this.#all
  }
  /** When the last lease that an elector acknowledged to an earlier leader has run out. */
  get leaseEndMs(): number {
    return this.#leaseEndMs
  }
  /** Whether what this stage is about is granted. */
  get granted(): boolean {
    return this.#majority(0) || (this.#stage === 'ask' && this.#unanimous(0))
  }
  /** Whether too few are left that may still grant it: no use in waiting for the deadline. */
  get hopeless(): boolean {
    const asked = this.#asked.size
    return !(this.#majority(asked) || (this.#stage === 'ask' && this.#unanimous(asked)))
  }

  expired(nowMs: number): boolean {
    // The own disk takes the time it takes; to start over would only queue another promise behind this one.
    return this.#stage !== 'promise' && nowMs >= this.#deadlineMs
  }

  /** It is granted that this node stands: it promises the epoch to itself. */
  awaitPromise(): void {
    // Neither is asked for where a leader has handed over.
    this.#all = !this.#majority(0) && this.#unanimous(0)
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

  /** A voter refuses only for the records that it knows of. */
  owedBy(nodeId: string): void {
    this.#asked.delete(nodeId)
    this.#owing.add(nodeId)
  }

  /** @returns Whether its answer was still awaited. */
  refusedBy(nodeId: string): boolean {
    return this.#asked.delete(nodeId)
  }

  /** Whether a majority grants it, with so many more. */
  #majority(more: number): boolean {
    if (this.#stage === 'ask' && this.inDebt) return false
    return this.#granted.size + more >= this.#electorate.quorum
  }

  /** Whether every voter has answered, and none refuses for another reason, with so many more. */
  #unanimous(more: number): boolean {
    const { voters } = this.#electorate.configuration
    return this.#granted.size + this.#owing.size + more >= voters.length
  }
}

function ownVote({ nodeId, voter }: Electorate): Set<string> {
  return new Set(voter ? [nodeId] : [])
}

import type { EpochPromise } from './promise-file.ts'

/**
 * The epoch that this member has promised, for whom it votes in it, and whether the promise is on disk.
 *
 * Invariants:
 * - An epoch is promised at most once to one candidate (S2): who calls `give` goes above `epoch`.
 * - Nothing may rest on the promise, no vote, acknowledgement or leadership, while it is not `durable`.
 */
export class OwnPromise {
  #epoch: number
  #votedFor: string | undefined
  #durableEpoch: number
  #heardEpoch: number

  /**
   * @param found - As found on disk.
   * @param lastEpoch - That of the own log: it may be above the promise that is on disk.
   */
  constructor(found: EpochPromise, lastEpoch: number) {
    this.#epoch = Math.max(found.epoch, lastEpoch)
    this.#votedFor = found.epoch === this.#epoch ? found.votedFor : undefined
    // An epoch seen in the own log was promised by whoever appended it: voting in it again could elect a second leader.
    if (this.#epoch > found.epoch) this.#votedFor = 'nobody'
    this.#durableEpoch = this.#epoch
    this.#heardEpoch = this.#epoch
  }

  get epoch(): number {
    return this.#epoch
  }
  get votedFor(): string | undefined {
    return this.#votedFor
  }
  get durable(): boolean {
    return this.#durableEpoch === this.#epoch
  }
  /** For an attempt of the own: above every epoch that was heard of. */
  get nextEpoch(): number {
    return this.#heardEpoch + 1
  }

  /** Others are at `epoch`. */
  heardOf(epoch: number): void {
    if (epoch > this.#heardEpoch) this.#heardEpoch = epoch
  }

  /** The promise of `epoch`, which is not durable yet. */
  give(epoch: number, votedFor: string | undefined): void {
    this.#epoch = epoch
    this.#votedFor = votedFor
    this.heardOf(epoch)
  }

  /** The promise of `epoch` is on disk; maybe not the last one. */
  stored(epoch: number): void {
    if (epoch > this.#durableEpoch) this.#durableEpoch = epoch
  }
}

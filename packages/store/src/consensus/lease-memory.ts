/**
 * What this member answered to leaders, and so until when each of them may dispatch on the strength of it.
 *
 * A leader dispatches as long as a majority has answered it within its lease. Whoever takes over waits until that is
 * over for every earlier leader; it learns from its electors how long that is.
 *
 * Invariants:
 * - Every answer to a leader counts, a refusal too: all of them renew its lease (S9).
 * - A leader that resigns gives up its own lease and no other: that of the leader before it may still run.
 *
 * Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 6.4.1.
 */
export class LeaseMemory {
  readonly #leaseMs: number
  /** Epoch of the leader that was answered last; 0 if that was before the start. */
  #answeredEpoch = 0
  #answeredMs: number
  /** When any leader before that one was last answered. */
  #answeredEarlierMs: number = Number.NEGATIVE_INFINITY

  /** @param answeredMs - When a leader may have been answered last before the start; minus infinity if never. */
  constructor(leaseMs: number, answeredMs: number) {
    this.#leaseMs = leaseMs
    this.#answeredMs = answeredMs
  }

  /** The leader of `epoch` is about to be answered, and that renews its lease, whatever the answer is. */
  renew(epoch: number, nowMs: number): void {
    if (this.#answeredEpoch !== epoch) {
      this.#answeredEarlierMs = this.#answeredMs
      this.#answeredEpoch = epoch
    }
    this.#answeredMs = nowMs
  }

  /** The leader of `epoch` has resigned. */
  giveUp(epoch: number): void {
    if (this.#answeredEpoch === epoch) this.#answeredMs = this.#answeredEarlierMs
  }

  /** Until when a leader may rely on this member's answers; a tenth more, for clocks that run differently. */
  endMs(nowMs: number): number {
    return Math.max(nowMs, this.#answeredMs + this.#leaseMs * 1.1)
  }
}

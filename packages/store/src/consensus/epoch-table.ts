import type { EpochStart } from '../journal/log.ts'

/**
 * Which epoch each record of a log belongs to, as the starts of the epochs: what two logs compare to find where they
 * part (after Kafka's KIP-101 and KIP-279: by epoch, never by a lagging commit index).
 *
 * Invariant: epochs and indices both rise strictly.
 */
export class EpochTable {
  readonly #starts: EpochStart[]

  constructor(starts: readonly EpochStart[]) {
    this.#starts = [...starts]
  }

  /** Epoch of the last record; 0 for an empty log. */
  get lastEpoch(): number {
    return this.#starts.at(-1)?.epoch ?? 0
  }

  /** Notes that a batch of `epoch` begins at `index`, at the end of the log. */
  append(epoch: number, index: number): void {
    if (epoch === this.lastEpoch) return
    if (epoch < this.lastEpoch) throw new Error(`epoch ${epoch} at ${index} behind epoch ${this.lastEpoch}`)
    this.#starts.push({ epoch, index })
  }

  /** Drops what is above `index`. */
  truncate(index: number): void {
    while ((this.#starts.at(-1)?.index ?? 0) > index) this.#starts.pop()
  }

  /** Drops the starts of epochs that end below `index`. */
  discardBelow(index: number): void {
    while ((this.#starts[1]?.index ?? Number.POSITIVE_INFINITY) <= index) this.#starts.shift()
  }

  /** Epoch of record `index`, which must be in the log, or be the one before its first; 0 for index 0. */
  epochAt(index: number): number {
    for (let at = this.#starts.length - 1; at >= 0; at--) {
      const start = this.#starts[at]
      if (start !== undefined && start.index <= index) return start.epoch
    }
    return 0
  }

  /**
   * The highest epoch in the log that is not above `epoch`, with its last record.
   *
   * @param lastIndex - Last record of the log.
   * @returns Epoch 0 and index 0 if there is none, or it is not known any more.
   */
  endOfEpochUpTo(epoch: number, lastIndex: number): EpochStart {
    let end = lastIndex
    for (let at = this.#starts.length - 1; at >= 0; at--) {
      const start = this.#starts[at]
      if (start === undefined) break
      if (start.epoch <= epoch) return { epoch: start.epoch, index: end }
      end = start.index - 1
    }
    return { epoch: 0, index: 0 }
  }
}

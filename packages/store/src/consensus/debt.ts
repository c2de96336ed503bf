/** A place in the log: that of a record, or where a log ends. */
export interface Position {
  readonly epoch: number
  readonly index: number
}

/** Whether a log that ends at `end` is at least as complete as one that ends at `other` (S4). */
export function covers(end: Position, other: Position): boolean {
  return end.epoch > other.epoch || (end.epoch === other.epoch && end.index >= other.index)
}

/**
 * What this member knows to have been in a log, and may not find in its own (S24, S27).
 *
 * `owed` is the end of what this store may have acknowledged and does not hold any more: its disk was damaged in an
 * ambiguous place, or a leader remembers more than the store does. It is kept on disk with the promise. What leaders said
 * to be committed is kept in memory.
 *
 * Invariant: neither falls, but for a debt that is paid: the own disk holds a committed record at or above it, and with
 * that everything of what was owed that was ever committed.
 */
export class Debt {
  #owed: Position | undefined
  #heard: Position = { epoch: 0, index: 0 }

  /** @param owed - As found on disk. */
  constructor(owed: Position | undefined) {
    this.#owed = owed
  }

  get owed(): Position | undefined {
    return this.#owed
  }

  /** Whether a log that ends so may be elected, as far as this member knows. */
  allows(end: Position): boolean {
    return covers(end, this.#heard) && (this.#owed === undefined || covers(end, this.#owed))
  }

  /** A leader says that `position` is committed: the member may not have got it yet. */
  heardOf(position: Position): void {
    if (!covers(this.#heard, position)) this.#heard = position
  }

  /** @returns Whether that is more than was owed before. */
  incur(position: Position): boolean {
    if (this.#owed !== undefined && covers(this.#owed, position)) return false
    this.#owed = position
    return true
  }

  /**
   * The record at `position` is committed, and on the own disk.
   *
   * @returns Whether the debt is paid by that.
   */
  settle(position: Position): boolean {
    if (this.#owed === undefined || !covers(position, this.#owed)) return false
    this.#owed = undefined
    return true
  }
}

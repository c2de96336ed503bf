import type { EpochStart } from '../journal/log.ts'
import { covers, type Position } from './debt.ts'
import { EpochTable } from './epoch-table.ts'

/**
 * Where the own log begins and ends, which epochs it is made of, and how much of it is written, durable and committed.
 *
 * Invariants:
 * - The written and the durable index are never above the last one: a truncation takes them along, and what the disk
 *   reports late of records that were cut does not count.
 * - The commit index never moves back (S6), and nothing at or below it is truncated (S7): who calls `commit` and
 *   `truncate` compares first.
 * - What is below the first record is committed. Of the one before it the epoch is still known, of others it is not.
 */
export class LogTail {
  readonly #epochs: EpochTable
  #firstIndex: number
  #lastIndex: number
  #durableIndex: number
  #writtenIndex: number
  #commitIndex: number

  /** @param log - As recovered; all of it is durable. */
  constructor(log: RecoveredLog) {
    this.#epochs = new EpochTable(log.epochStarts)
    this.#firstIndex = log.firstIndex
    this.#epochs.discardBelow(log.firstIndex - 1)
    this.#lastIndex = log.lastIndex
    this.#durableIndex = log.lastIndex
    this.#writtenIndex = log.lastIndex
    this.#commitIndex = Math.max(log.commitIndex, log.firstIndex - 1)
  }

  /** First record that is in the log, or will be. */
  get firstIndex(): number {
    return this.#firstIndex
  }
  get lastIndex(): number {
    return this.#lastIndex
  }
  /** Epoch of the last record; 0 for an empty log. */
  get lastEpoch(): number {
    return this.#epochs.lastEpoch
  }
  /** Where the log ends. */
  get end(): Position {
    return { epoch: this.lastEpoch, index: this.#lastIndex }
  }
  /** Last record on the own disk. */
  get durableIndex(): number {
    return this.#durableIndex
  }
  /** Last record that the own disk was handed. */
  get writtenIndex(): number {
    return this.#writtenIndex
  }
  get commitIndex(): number {
    return this.#commitIndex
  }

  /** Epoch of record `index`, which must be in the log, or be the one before its first; 0 for index 0. */
  epochAt(index: number): number {
    return this.#epochs.epochAt(index)
  }

  /**
   * Whether record `index` is, or was, there and of `epoch`: then the log up to it is that of any other which has it
   * (S8). What was there once is committed, and so it is the same in the log of every leader that asks.
   */
  holds(epoch: number, index: number): boolean {
    if (index < this.#firstIndex - 1) return true
    return index <= this.#lastIndex && this.#epochs.epochAt(index) === epoch
  }

  /** The highest epoch in the log that is not above `epoch`, with its last record; zeros if none is known. */
  endOfEpochUpTo(epoch: number): EpochStart {
    return this.#epochs.endOfEpochUpTo(epoch, this.#lastIndex)
  }

  /** Whether a log that ends so is at least as complete as this one (S4). */
  coveredBy(lastEpoch: number, lastIndex: number): boolean {
    return covers({ epoch: lastEpoch, index: lastIndex }, this.end)
  }

  append(epoch: number, firstIndex: number, lastIndex: number): void {
    this.#epochs.append(epoch, firstIndex)
    this.#lastIndex = lastIndex
  }

  /** Drops what is above `index`. */
  truncate(index: number): void {
    this.#epochs.truncate(index)
    this.#lastIndex = index
    if (this.#durableIndex > index) this.#durableIndex = index
    if (this.#writtenIndex > index) this.#writtenIndex = index
  }

  /** The log begins with `firstIndex` now: what was below is committed. */
  discardBelow(firstIndex: number): void {
    this.#firstIndex = firstIndex
    this.#epochs.discardBelow(firstIndex - 1)
  }

  written(index: number): void {
    this.#writtenIndex = Math.min(index, this.#lastIndex)
  }

  durable(index: number): void {
    this.#durableIndex = Math.min(index, this.#lastIndex)
    if (this.#writtenIndex < this.#durableIndex) this.#writtenIndex = this.#durableIndex
  }

  commit(index: number): void {
    this.#commitIndex = index
  }
}

export interface RecoveredLog {
  /** First record that is there, or will be: 1 unless the log begins later. */
  readonly firstIndex: number
  readonly lastIndex: number
  readonly commitIndex: number
  /** From the one that covers the record before the first on, or from an earlier one. */
  readonly epochStarts: readonly EpochStart[]
}

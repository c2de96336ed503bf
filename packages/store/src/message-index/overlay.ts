import type { MessageEntry } from '../message-store.ts'
import { MessageRun } from './message-run.ts'

/**
 * How far the generations reach, for all queues alike: messages up to `storedTo` are in LevelDB or nowhere, those above
 * it up to `frozenTo` in the flushing generation, those above `frozenTo` in the active one.
 */
export interface Reach {
  storedTo: number
  /** Equal to `storedTo` while no checkpoint runs. */
  frozenTo: number
}

/** A redelivery count set by record `at`, and what it was before within the same generation. */
interface RedeliveryCount {
  readonly count: number
  readonly at: number
  readonly before: RedeliveryCount | undefined
}

/**
 * What one generation changes in one queue. `removed` and `redelivered` concern messages of older generations only;
 * they grow and never shrink, and each entry carries the index of its record: so a page that is still being read can go
 * on using them as of the record at which it began.
 */
export class Generation {
  readonly added: MessageRun = new MessageRun()
  /** Message to the record that removed it. */
  readonly removed: Map<number, number> = new Map()
  readonly redelivered: Map<number, RedeliveryCount> = new Map()
}

/** The part of a page that is in LevelDB, and how to filter it; then the part that is in memory. */
export interface PagePlan {
  /** Range of indices to read from LevelDB, both ends included; nothing if `from` is above `to`. */
  readonly from: number
  readonly to: number
  /** Whether an entry of LevelDB is still there as of the call. */
  survives(index: number): boolean
  /** Redelivery count as of the call, if it differs from LevelDB's. */
  redeliveries(index: number): number | undefined
  /** Messages that are not in LevelDB: all above `to`, at most `limit`. */
  readonly inMemory: readonly MessageEntry[]
}

/** What a removal came to. */
export type Removal = 'none' | 'recorded' | 'cancelled'

/**
 * Changes of one queue that are not in LevelDB, in two generations: the active one takes changes, the flushing one is
 * being written by a checkpoint and stays visible until it is.
 *
 * Pure. Invariants:
 * - A message is in one place: LevelDB, the flushing generation or the active one, by its index ({@link Reach}). So a
 *   page is LevelDB's part followed by those of memory, and it makes no difference whether the batch of a running
 *   checkpoint has landed already.
 * - A message added and removed within one generation leaves no trace.
 */
export class QueueOverlay {
  readonly #reach: Reach
  #active: Generation | undefined
  #flushing: Generation | undefined
  /** Index of the first message in LevelDB; 0 if LevelDB holds none of this queue. */
  #lowMark: number

  constructor(reach: Reach, lowMark: number) {
    this.#reach = reach
    this.#lowMark = lowMark
  }

  get lowMark(): number {
    return this.#lowMark
  }

  add(index: number, bytes: number): void {
    this.#active ??= new Generation()
    this.#active.added.add(index, bytes)
  }

  /** @param at - Index of the record that removes it. */
  remove(index: number, at: number): Removal {
    if (index > this.#reach.frozenTo) return this.#active?.added.remove(index) ? 'cancelled' : 'none'
    if (!this.#mayHoldBelow(index)) return 'none'
    this.#active ??= new Generation()
    this.#active.removed.set(index, at)
    return 'recorded'
  }

  /** @returns Whether an entry of LevelDB, present or coming, has to be written anew for it. */
  countRedelivery(index: number, count: number, at: number): boolean {
    if (index > this.#reach.frozenTo) {
      this.#active?.added.setRedeliveries(index, count)
      return false
    }
    if (!this.#mayHoldBelow(index)) return false
    this.#active ??= new Generation()
    const before = this.#active.redelivered.get(index)
    this.#active.redelivered.set(index, { count, at, before })
    return before === undefined
  }

  /**
   * Hands the active generation to a checkpoint.
   *
   * @returns It, or undefined if nothing changed.
   */
  freeze(): Generation | undefined {
    this.#flushing = this.#active
    this.#active = undefined
    return this.#flushing
  }

  /** The flushing generation is in LevelDB. */
  retire(lowMark: number): void {
    this.#flushing = undefined
    this.#lowMark = lowMark
  }

  /** @param asOf - Last record applied. */
  page(after: number, limit: number, asOf: number): PagePlan {
    const flushing = this.#flushing
    const active = this.#active
    return {
      from: this.#lowMark === 0 ? Number.POSITIVE_INFINITY : Math.max(after + 1, this.#lowMark),
      to: this.#reach.storedTo,
      survives: (index) => !flushing?.removed.has(index) && !isRemoved(active, index, asOf),
      redeliveries: (index) => countAsOf(active, index, asOf) ?? countAsOf(flushing, index, asOf),
      inMemory: this.#inMemory(after, limit),
    }
  }

  #inMemory(after: number, limit: number): MessageEntry[] {
    const entries: MessageEntry[] = []
    const active = this.#active
    this.#flushing?.added.each(after, (index, bytes, redeliveries) => {
      if (active?.removed.has(index)) return true
      const redeliveryCount = active?.redelivered.get(index)?.count ?? redeliveries
      return entries.push({ index, bytes, redeliveryCount }) < limit
    })
    if (entries.length === limit) return entries
    active?.added.each(after, (index, bytes, redeliveryCount) => {
      return entries.push({ index, bytes, redeliveryCount }) < limit
    })
    return entries
  }

  /** Whether a message that is not in the active generation may be live, as far as memory can tell. */
  #mayHoldBelow(index: number): boolean {
    if (this.#active?.removed.has(index)) return false
    if (index > this.#reach.storedTo) return this.#flushing?.added.has(index) === true
    if (this.#lowMark === 0 || index < this.#lowMark) return false
    return !this.#flushing?.removed.has(index)
  }
}

function isRemoved(generation: Generation | undefined, index: number, asOf: number): boolean {
  const at = generation?.removed.get(index)
  return at !== undefined && at <= asOf
}

function countAsOf(generation: Generation | undefined, index: number, asOf: number): number | undefined {
  let count = generation?.redelivered.get(index)
  while (count !== undefined && count.at > asOf) count = count.before
  return count?.count
}

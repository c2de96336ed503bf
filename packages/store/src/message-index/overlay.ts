import type { MessageEntry } from '../message-store.ts'
import type { Located } from './message-index.ts'
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
 * on using them as of the record at which it began. No page asks for `relocated`.
 */
export class Generation {
  readonly added: MessageRun = new MessageRun()
  /** Message to the record that removed it. */
  readonly removed: Map<number, number> = new Map()
  readonly redelivered: Map<number, RedeliveryCount> = new Map()
  /** Message, of this or an older generation, to the record that keeps it now. */
  readonly relocated: Map<number, number> = new Map()
  /** Messages from below the beginning of the log: there are some only while the index is rebuilt. */
  readonly carried: Map<number, Located> = new Map()

  /** Location of a message in `added`. */
  locationOf(index: number): number {
    return this.relocated.get(index) ?? index
  }
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

/** Where a message is: in memory, with all that is known of it; or, if it is there at all, in LevelDB. */
export type Place =
  | { readonly inMemory: Located }
  | {
      readonly inMemory: undefined
      /** What differs from LevelDB's entry. */
      readonly location: number | undefined
      readonly redeliveryCount: number | undefined
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
 *
 * While the index is rebuilt, messages from below the beginning of the log are carried in: those are not where their
 * index says, so the caller, who knows which of them live, says so (`live`), and pages and low marks are right only
 * when a checkpoint has taken them over.
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

  /** @param message - Not known yet, from below the beginning of the log. */
  carry(index: number, message: Located): void {
    this.#active ??= new Generation()
    this.#active.carried.set(index, message)
  }

  /** @param at - Index of the record that removes it. */
  remove(index: number, at: number, live = false): Removal {
    if (index > this.#reach.frozenTo) {
      if (!this.#active?.added.remove(index)) return 'none'
      if (this.#active.relocated.size > 0) this.#active.relocated.delete(index)
      return 'cancelled'
    }
    if (live && this.#active?.carried.delete(index)) return 'cancelled'
    if (!live && !this.#mayHoldBelow(index)) return 'none'
    this.#active ??= new Generation()
    this.#active.removed.set(index, at)
    return 'recorded'
  }

  /** @returns Whether an entry of LevelDB, present or coming, has to be written anew for it. */
  countRedelivery(index: number, count: number, at: number, live = false): boolean {
    if (index > this.#reach.frozenTo) {
      this.#active?.added.setRedeliveries(index, count)
      return false
    }
    const carried = live ? this.#active?.carried.get(index) : undefined
    if (carried !== undefined) {
      this.#active?.carried.set(index, { ...carried, redeliveryCount: count })
      return false
    }
    if (!live && !this.#mayHoldBelow(index)) return false
    this.#active ??= new Generation()
    const before = this.#active.redelivered.get(index)
    this.#active.redelivered.set(index, { count, at, before })
    return before === undefined
  }

  /**
   * A message lives on at another place of the log.
   *
   * @returns `none` if there is no such message, `recorded` if an entry of LevelDB, present or coming, has to be written
   *   anew for it.
   */
  relocate(index: number, location: number, live = false): 'none' | 'recorded' | 'inMemory' {
    const carried = live ? this.#active?.carried.get(index) : undefined
    if (carried !== undefined) {
      this.#active?.carried.set(index, { ...carried, location })
      return 'inMemory'
    }
    const isActive = index > this.#reach.frozenTo
    if (isActive && this.#active?.added.has(index) !== true) return 'none'
    if (!isActive && !live && !this.#mayHoldBelow(index)) return 'none'
    this.#active ??= new Generation()
    const isNew = !isActive && !this.#active.relocated.has(index)
    this.#active.relocated.set(index, location)
    return isNew ? 'recorded' : 'inMemory'
  }

  /** @returns Where the message is; undefined if it does not live, as far as memory can tell. */
  locate(index: number): Place | undefined {
    const active = this.#active
    const flushing = this.#flushing
    if (index > this.#reach.frozenTo) {
      const entry = active?.added.get(index)
      return active && entry && inMemory(entry, active.locationOf(index), entry.redeliveryCount)
    }
    const carriedNow = active?.carried.get(index)
    if (carriedNow !== undefined) return { inMemory: carriedNow }
    if (active?.removed.has(index)) return undefined
    const location = active?.relocated.get(index)
    const redeliveryCount = active?.redelivered.get(index)?.count
    const carried = flushing?.carried.get(index)
    if (carried !== undefined) {
      return inMemory(carried, location ?? carried.location, redeliveryCount ?? carried.redeliveryCount)
    }
    if (index > this.#reach.storedTo) {
      const entry = flushing?.added.get(index)
      if (flushing === undefined || entry === undefined) return undefined
      return inMemory(entry, location ?? flushing.locationOf(index), redeliveryCount ?? entry.redeliveryCount)
    }
    if (!this.#mayHoldBelow(index)) return undefined
    return {
      inMemory: undefined,
      location: location ?? flushing?.relocated.get(index),
      redeliveryCount: redeliveryCount ?? flushing?.redelivered.get(index)?.count,
    }
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

function inMemory({ bytes }: { bytes: number }, location: number, redeliveryCount: number): Place {
  return { inMemory: { location, bytes, redeliveryCount } }
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

import { join } from 'node:path'
import { costsNothing, type Hole } from './damage.ts'

/** Least distance in bytes between two entries of a segment's table: what a lookup reads on top of what it wants. */
const entryDistanceBytes = 16 * 1024

const namePattern = /^(\d{20})\.log$/

/** First index of the segment with this file name, or `undefined` if it is no segment's name. */
export function firstIndexOfName(name: string): number | undefined {
  const digits = namePattern.exec(name)?.[1]
  if (digits === undefined) return undefined
  const index = Number(digits)
  return Number.isSafeInteger(index) && index > 0 ? index : undefined
}

/** Path of the segment that begins with `firstIndex`. */
export function segmentPath(directory: string, firstIndex: number): string {
  return join(directory, `${String(firstIndex).padStart(20, '0')}.log`)
}

/**
 * One file of the journal as it is known in memory: its extent, and a sparse table of where batches stand.
 *
 * Invariants: entries rise in index and offset; every entry is the offset of a batch's header; what lies at or behind
 * `dirtyEndOffset` is zero.
 */
export class Segment {
  readonly path: string
  readonly firstIndex: number
  /** Size of the file, which is allocated before the first batch goes in; 0 if it is missing. */
  capacity: number
  /** Last record in it; `firstIndex - 1` while it is empty. */
  lastIndex: number
  /** Where the next item goes. */
  endOffset = 0
  /** Up to here the file may hold something other than zeroes. More than `endOffset` only below the last segment. */
  dirtyEndOffset = 0
  /** False for a segment below the checkpoint that nobody has read yet: the table is empty and the extent unknown. */
  scanned = true
  /** Its file is being removed, or gone: nobody may open it any more. */
  removed = false
  /** What is damaged in it, in order. */
  holes: Hole[] = []
  #indices: number[] = []
  #offsets: number[] = []

  constructor(path: string, firstIndex: number, capacity: number) {
    this.path = path
    this.firstIndex = firstIndex
    this.capacity = capacity
    this.lastIndex = firstIndex - 1
  }

  /** Takes note of a batch; it gets an entry if the last one is far enough away. */
  note(firstIndex: number, offset: number): void {
    const last = this.#offsets.at(-1)
    if (last !== undefined && offset - last < entryDistanceBytes) return
    this.#indices.push(firstIndex)
    this.#offsets.push(offset)
  }

  /** Where to start looking for the batch that holds record `index`. */
  offsetFor(index: number): number {
    let low = 0
    let high = this.#indices.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#indices[middle] ?? 0) <= index) low = middle + 1
      else high = middle
    }
    let offset = low === 0 ? 0 : (this.#offsets[low - 1] ?? 0)
    for (const hole of this.holes) if (hole.toIndex < index) offset = Math.max(offset, hole.endOffset)
    return offset
  }

  /** The hole that record `index` is in. */
  holeWith(index: number): Hole | undefined {
    return this.holes.find((hole) => hole.fromIndex <= index && index <= hole.toIndex)
  }

  /** The hole that begins at `offset`, and whose end is `undefined` if records are in it. */
  holeAt(offset: number): { readonly marksEnd: number | undefined } | undefined {
    const hole = this.holes.find((each) => each.offset === offset)
    return hole && { marksEnd: costsNothing(hole) ? hole.endOffset : undefined }
  }

  /** What stands between these offsets is written anew: batches move. */
  forget(fromOffset: number, toOffset: number): void {
    const kept = this.#offsets.map((offset) => offset < fromOffset || offset >= toOffset)
    this.#indices = this.#indices.filter((_, place) => kept[place])
    this.#offsets = this.#offsets.filter((_, place) => kept[place])
  }

  /** Items now reach to `endOffset`, the last record being `lastIndex`. */
  extend(lastIndex: number, endOffset: number): void {
    this.lastIndex = lastIndex
    this.endOffset = endOffset
    this.dirtyEndOffset = Math.max(this.dirtyEndOffset, endOffset)
  }

  /** Everything from `endOffset` on has been zeroed. */
  cut(lastIndex: number, endOffset: number): void {
    this.lastIndex = lastIndex
    this.endOffset = endOffset
    this.dirtyEndOffset = endOffset
    this.holes = this.holes.filter((hole) => hole.offset < endOffset)
    while ((this.#offsets.at(-1) ?? -1) >= endOffset) {
      this.#offsets.pop()
      this.#indices.pop()
    }
  }
}

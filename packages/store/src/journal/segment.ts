import { join } from 'node:path'

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
  /** Size of the file, which is allocated before the first batch goes in. */
  readonly capacity: number
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
    return low === 0 ? 0 : (this.#offsets[low - 1] ?? 0)
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
    while ((this.#offsets.at(-1) ?? -1) >= endOffset) {
      this.#offsets.pop()
      this.#indices.pop()
    }
  }
}

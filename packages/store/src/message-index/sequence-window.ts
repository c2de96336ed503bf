import { readUint53, writeUint53 } from '../journal/integer.ts'
import type { SequenceWindow } from './message-index.ts'

/** Bytes of an encoded window without gaps: the highest number (8) and the count of gaps (4). */
const windowHeaderBytes = 12
const gapBytes = 16

/**
 * Sequences seen of one producer: all up to the highest, except the gaps.
 *
 * Invariants: gaps are ranges in rising order, apart from each other, all below the highest number; there are never
 * more than `maxGaps`. New gaps arise at the top only, so the oldest is always the lowest.
 */
export class GapWindow implements SequenceWindow {
  readonly #maxGaps: number
  #highest = 0
  /** First and last number of each gap, one after the other. */
  #gaps: number[] = []

  /** @param maxGaps - Gaps remembered, from 0 up. */
  constructor(maxGaps: number) {
    this.#maxGaps = maxGaps
  }

  has(sequence: number): boolean {
    return sequence <= this.#highest && this.#gapWith(sequence) < 0
  }

  add(sequence: number): void {
    if (sequence === this.#highest + 1 || this.#highest === 0) {
      this.#highest = sequence
    } else if (sequence > this.#highest) {
      this.#gaps.push(this.#highest + 1, sequence - 1)
      this.#highest = sequence
      this.#forget()
    } else {
      this.#fill(sequence)
    }
  }

  clone(): GapWindow {
    const copy = new GapWindow(this.#maxGaps)
    copy.#highest = this.#highest
    copy.#gaps = this.#gaps.slice()
    return copy
  }

  get encodedBytes(): number {
    return windowHeaderBytes + (this.#gaps.length / 2) * gapBytes
  }

  /** @returns Offset behind the window. */
  encode(into: Buffer, at: number): number {
    writeUint53(into, this.#highest, at)
    into.writeUInt32LE(this.#gaps.length / 2, at + 8)
    let offset = at + windowHeaderBytes
    for (const bound of this.#gaps) {
      writeUint53(into, bound, offset)
      offset += 8
    }
    return offset
  }

  /** @throws RangeError if the window does not fit into `from`. */
  static decode(from: Buffer, at: number, maxGaps: number): GapWindow {
    const window = new GapWindow(maxGaps)
    window.#highest = readUint53(from, at)
    const bounds = from.readUInt32LE(at + 8) * 2
    for (let place = 0; place < bounds; place++) {
      window.#gaps.push(readUint53(from, at + windowHeaderBytes + place * 8))
    }
    window.#forget() // The bound may be lower than when this was written.
    return window
  }

  /** Numbers in a forgotten gap count as seen. */
  #forget(): void {
    const excess = this.#gaps.length - this.#maxGaps * 2
    if (excess > 0) this.#gaps.splice(0, excess)
  }

  #fill(sequence: number): void {
    const place = this.#gapWith(sequence)
    if (place < 0) return
    const gaps = this.#gaps
    const first = gaps[place] as number
    const last = gaps[place + 1] as number
    if (first === last) gaps.splice(place, 2)
    else if (sequence === first) gaps[place] = first + 1
    else if (sequence === last) gaps[place + 1] = last - 1
    else {
      gaps.splice(place + 1, 0, sequence - 1, sequence + 1)
      this.#forget()
    }
  }

  /** Place in `#gaps` of the gap that holds `sequence`, or -1. */
  #gapWith(sequence: number): number {
    const gaps = this.#gaps
    let low = 0
    let high = gaps.length / 2
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((gaps[middle * 2 + 1] as number) < sequence) low = middle + 1
      else high = middle
    }
    const place = low * 2
    return place < gaps.length && (gaps[place] as number) <= sequence ? place : -1
  }
}

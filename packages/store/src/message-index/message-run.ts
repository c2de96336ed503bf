import type { MessageEntry } from '../message-store.ts'

/** Numbers per message: index, bytes, redeliveries (or `dead`). */
const stride = 3
const dead = -1
const initialMessages = 16

/**
 * Messages in the order of their indices, in one flat array of numbers: nothing to allocate or collect per message.
 *
 * Invariant: indices rise. Messages are added at the end; removed ones leave a hole, which goes when the array is next
 * reorganised. Space is proportional to the most messages held at one time, not to how many came and went.
 */
export class MessageRun {
  #cells = new Float64Array(initialMessages * stride)
  #begin = 0
  #end = 0
  #size = 0
  /** Where the last lookup ended: messages are mostly removed in their order, which then needs no search. */
  #hint = 0

  get size(): number {
    return this.#size
  }

  /** Index of the first message. */
  get first(): number | undefined {
    const cell = this.#nextLive(this.#begin)
    return cell < this.#end ? this.#cells[cell] : undefined
  }

  /** @param index - Higher than all before. */
  add(index: number, bytes: number): void {
    if (this.#end === this.#cells.length) this.#reorganise()
    const cells = this.#cells
    const cell = this.#end
    cells[cell] = index
    cells[cell + 1] = bytes
    cells[cell + 2] = 0
    this.#end = cell + stride
    this.#size++
  }

  has(index: number): boolean {
    return this.#find(index) >= 0
  }

  get(index: number): MessageEntry | undefined {
    const cell = this.#find(index)
    if (cell < 0) return undefined
    return {
      index,
      bytes: this.#cells[cell + 1] as number,
      redeliveryCount: this.#cells[cell + 2] as number,
    }
  }

  /** @returns Whether it was there. */
  remove(index: number): boolean {
    const cell = this.#find(index)
    if (cell < 0) return false
    this.#size--
    if (this.#size === 0) {
      this.#begin = this.#end = this.#hint = 0
      return true
    }
    this.#cells[cell + 2] = dead
    if (cell === this.#begin) this.#begin = cell + stride
    return true
  }

  /** @returns Whether it was there. */
  setRedeliveries(index: number, count: number): boolean {
    const cell = this.#find(index)
    if (cell < 0) return false
    this.#cells[cell + 2] = count
    return true
  }

  /** Calls `visit` for each message with an index above `after`, in order, until it returns false. */
  each(after: number, visit: (index: number, bytes: number, redeliveries: number) => boolean): void {
    const cells = this.#cells
    for (let cell = this.#lowerBound(after + 1); cell < this.#end; cell += stride) {
      const redeliveries = cells[cell + 2] as number
      if (redeliveries === dead) continue
      if (!visit(cells[cell] as number, cells[cell + 1] as number, redeliveries)) return
    }
  }

  /** All messages; for tests and small runs. */
  entries(): MessageEntry[] {
    const entries: MessageEntry[] = []
    this.each(0, (index, bytes, redeliveryCount) => entries.push({ index, bytes, redeliveryCount }) > 0)
    return entries
  }

  /** Cell of a live message, or -1. */
  #find(index: number): number {
    const cells = this.#cells
    let cell = this.#hint
    if (cell >= this.#end || cells[cell] !== index) {
      cell = this.#lowerBound(index)
      if (cell >= this.#end || cells[cell] !== index) return -1
    }
    if (cells[cell + 2] === dead) return -1
    this.#hint = cell + stride
    return cell
  }

  /** First cell whose index is `index` or higher. */
  #lowerBound(index: number): number {
    const cells = this.#cells
    let low = this.#begin / stride
    let high = this.#end / stride
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((cells[middle * stride] as number) < index) low = middle + 1
      else high = middle
    }
    return low * stride
  }

  #nextLive(from: number): number {
    let cell = from
    while (cell < this.#end && this.#cells[cell + 2] === dead) cell += stride
    return cell
  }

  /** Makes room for more: by closing the holes if at least half is holes, else in an array twice as large. */
  #reorganise(): void {
    const from = this.#cells
    const into = this.#size * stride * 2 <= from.length ? from : new Float64Array(from.length * 2)
    let end = 0
    for (let cell = this.#nextLive(this.#begin); cell < this.#end; cell = this.#nextLive(cell + stride)) {
      into[end] = from[cell] as number
      into[end + 1] = from[cell + 1] as number
      into[end + 2] = from[cell + 2] as number
      end += stride
    }
    this.#cells = into
    this.#begin = 0
    this.#end = end
    this.#hint = 0
  }
}

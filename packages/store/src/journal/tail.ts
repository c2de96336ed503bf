import { type BatchHeader, lastIndexOf } from './batch.ts'

const initialCapacity = 1024

/**
 * Index, epoch, checksum and time of the last batches: what the log's end looks like, now and after any truncation
 * that can still happen.
 *
 * A truncation never reaches below the commit index, and each batch names a commit index, so what lies below the
 * highest one seen is dropped. Nobody has to tell the log what is committed.
 * Invariants: there is always at least one entry; the batch that holds the commit index is never dropped.
 */
export class Tail {
  #lastIndices = new Float64Array(initialCapacity)
  #epochs = new Float64Array(initialCapacity)
  #times = new Float64Array(initialCapacity)
  #checksums = new Uint32Array(initialCapacity)
  /** Entries are `#head` to `#end - 1`; the one at `#head` may stand for the empty log. */
  #head = 0
  #end = 0
  #commitIndex = 0

  /** A tail that ends in record `lastIndex` of a batch with these properties; all 0 for the empty log. */
  constructor(lastIndex: number, epoch: number, checksum: number, timeMs: number) {
    this.#add(lastIndex, epoch, checksum, timeMs)
  }

  get lastIndex(): number {
    return this.#lastIndices[this.#end - 1] ?? 0
  }

  get epoch(): number {
    return this.#epochs[this.#end - 1] ?? 0
  }

  get checksum(): number {
    return this.#checksums[this.#end - 1] ?? 0
  }

  get timeMs(): number {
    return this.#times[this.#end - 1] ?? 0
  }

  push(header: BatchHeader): void {
    this.#add(lastIndexOf(header), header.epoch, header.checksum, header.logTimeMs)
    this.commit(header.commitIndex)
  }

  /** Records up to `index` will never be truncated. */
  commit(index: number): void {
    this.#commitIndex = Math.max(this.#commitIndex, index)
    while (this.#head < this.#end - 1 && (this.#lastIndices[this.#head] ?? 0) < this.#commitIndex)
      this.#head++
  }

  /** @throws RangeError if `index` does not end a batch, or is committed and gone from here: a bug of the caller. */
  truncate(index: number): void {
    let end = this.#end
    while (end > this.#head && (this.#lastIndices[end - 1] ?? 0) > index) end--
    if (end === this.#head || this.#lastIndices[end - 1] !== index)
      throw new RangeError(
        `record ${index} is committed or does not end a batch: the log cannot be cut there`,
      )
    this.#end = end
  }

  #add(lastIndex: number, epoch: number, checksum: number, timeMs: number): void {
    if (this.#end === this.#lastIndices.length) this.#makeRoom()
    this.#lastIndices[this.#end] = lastIndex
    this.#epochs[this.#end] = epoch
    this.#times[this.#end] = timeMs
    this.#checksums[this.#end] = checksum
    this.#end++
  }

  /** Moves the entries to the front, of larger arrays if they fill more than half of these. */
  #makeRoom(): void {
    const count = this.#end - this.#head
    const capacity =
      count * 2 > this.#lastIndices.length ? this.#lastIndices.length * 2 : this.#lastIndices.length
    const moved = <T extends Float64Array | Uint32Array>(from: T, to: T): T => {
      to.set(from.subarray(this.#head, this.#end))
      return to
    }
    this.#lastIndices = moved(this.#lastIndices, new Float64Array(capacity))
    this.#epochs = moved(this.#epochs, new Float64Array(capacity))
    this.#times = moved(this.#times, new Float64Array(capacity))
    this.#checksums = moved(this.#checksums, new Uint32Array(capacity))
    this.#head = 0
    this.#end = count
  }
}

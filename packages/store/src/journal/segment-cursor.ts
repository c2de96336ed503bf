import type { DiskFile } from '../io/disk.ts'
import type { BatchHeader } from './batch.ts'
import { decodeItem, type SegmentItem } from './segment-item.ts'

/**
 * Walks the items of a segment file from a place where one begins, through a view that it moves along the file.
 * The file must not be written at the places that are read.
 */
export class SegmentCursor {
  readonly #file: DiskFile
  readonly #fileBytes: number
  readonly #viewBytes: number
  #view: Buffer = Buffer.alloc(0)
  #viewOffset: number
  /** Of the next item. */
  #offset: number

  /** @param viewBytes - How much is read at a time, unless an item is longer. */
  constructor(file: DiskFile, fileBytes: number, offset: number, viewBytes: number) {
    this.#file = file
    this.#fileBytes = fileBytes
    this.#viewBytes = viewBytes
    this.#viewOffset = offset
    this.#offset = offset
  }

  /** Where the next item begins. */
  get offset(): number {
    return this.#offset
  }

  /**
   * The item at {@link SegmentCursor.offset}. Does not step over it.
   *
   * @param skipPayload - As for {@link decodeItem}.
   */
  async item(
    skipPayload?: (header: BatchHeader) => boolean,
  ): Promise<Exclude<SegmentItem, { kind: 'more' }>> {
    for (;;) {
      const at = Math.min(this.#offset - this.#viewOffset, this.#view.length)
      const item = decodeItem(this.#view, at, this.#offset, this.#fileBytes, skipPayload)
      if (item.kind !== 'more') return item
      await this.#fill(item.bytes)
    }
  }

  /** The next `bytes` bytes, which belong to the item just seen whole. A view: valid until the cursor is dropped. */
  bytes(bytes: number): Buffer {
    const at = this.#offset - this.#viewOffset
    return this.#view.subarray(at, at + bytes)
  }

  /** Steps over an item. */
  skip(bytes: number): void {
    this.#offset += bytes
  }

  /** Reads anew from the next item on: views handed out before keep their buffer. */
  async #fill(needed: number): Promise<void> {
    const length = Math.min(Math.max(needed, this.#viewBytes), this.#fileBytes - this.#offset)
    const view = Buffer.allocUnsafe(length)
    const read = await this.#file.read(view, 0, length, this.#offset)
    if (read < Math.min(needed, length)) throw new Error(`only ${read} of ${length} bytes at ${this.#offset}`)
    this.#view = view.subarray(0, read)
    this.#viewOffset = this.#offset
  }
}

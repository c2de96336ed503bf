import { batchBytesAt, lastIndexAt } from './batch.ts'

/** Whole sealed batches, end to end, as they were appended. */
export interface Chunk {
  readonly bytes: Buffer
  readonly firstIndex: number
  readonly lastIndex: number
}

/** The batches of `chunk` up to record `index`, which ends one; `undefined` if there are none. */
export function chunkUpTo(chunk: Chunk, index: number): Chunk | undefined {
  if (chunk.lastIndex <= index) return chunk
  if (chunk.firstIndex > index) return undefined
  let at = 0
  while (at < chunk.bytes.length && lastIndexAt(chunk.bytes, at) <= index) at += batchBytesAt(chunk.bytes, at)
  return { bytes: chunk.bytes.subarray(0, at), firstIndex: chunk.firstIndex, lastIndex: index }
}

/** The batches of `chunk` from record `index` on, which begins one; `undefined` if there are none. */
export function chunkFrom(chunk: Chunk, index: number): Chunk | undefined {
  if (chunk.firstIndex >= index) return chunk
  if (chunk.lastIndex < index) return undefined
  let at = 0
  while (lastIndexAt(chunk.bytes, at) < index) at += batchBytesAt(chunk.bytes, at)
  return { bytes: chunk.bytes.subarray(at), firstIndex: index, lastIndex: chunk.lastIndex }
}

/**
 * The end of the log in memory, so that replication and dispatch seldom read from disk.
 *
 * Invariants: chunks are contiguous and end with the log's last record; what has not been written is never dropped,
 * so whatever is missing here can be read from a file.
 */
export class Window {
  readonly #limitBytes: number
  #chunks: (Chunk | undefined)[] = []
  /** Chunks before this place are dropped, and undefined; the array is moved up now and then. */
  #head = 0
  #bytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** First record in memory; Infinity if there is none. */
  get firstIndex(): number {
    return this.#chunks[this.#head]?.firstIndex ?? Number.POSITIVE_INFINITY
  }

  push(chunk: Chunk): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.bytes.length
  }

  /** Drops the oldest chunks above the limit, as far as they are written. */
  drop(writtenIndex: number): void {
    for (;;) {
      const oldest = this.#chunks[this.#head]
      if (oldest === undefined || this.#bytes <= this.#limitBytes || oldest.lastIndex > writtenIndex) break
      this.#bytes -= oldest.bytes.length
      // Its place stays for a while, its bytes must not.
      this.#chunks[this.#head] = undefined
      this.#head++
    }
    if (this.#head < 1024 || this.#head * 2 < this.#chunks.length) return
    this.#chunks = this.#chunks.slice(this.#head)
    this.#head = 0
  }

  truncate(index: number): void {
    while (this.#chunks.length > this.#head) {
      const last = this.#chunks.pop()
      if (last === undefined) break
      const kept = chunkUpTo(last, index)
      this.#bytes -= last.bytes.length - (kept?.bytes.length ?? 0)
      if (kept === undefined) continue
      this.#chunks.push(kept)
      break
    }
    if (this.#chunks.length > this.#head) return
    this.#chunks = []
    this.#head = 0
  }

  /**
   * Adds to `into` views of whole batches from the one that holds `index` on, while they fit into `maxBytes`.
   *
   * @param atLeastOne - Takes the first batch however large it is.
   */
  collect(index: number, maxBytes: number, atLeastOne: boolean, into: Buffer[]): void {
    let room = maxBytes
    let needed = atLeastOne
    for (let place = this.#placeOf(index); place < this.#chunks.length; place++) {
      const chunk = this.#chunks[place]
      if (chunk === undefined) return
      let start = 0
      if (chunk.firstIndex < index)
        while (lastIndexAt(chunk.bytes, start) < index) start += batchBytesAt(chunk.bytes, start)
      let end = start
      while (end < chunk.bytes.length) {
        const bytes = batchBytesAt(chunk.bytes, end)
        if (bytes > room && !needed) break
        needed = false
        room -= bytes
        end += bytes
      }
      if (end > start) into.push(chunk.bytes.subarray(start, end))
      if (end < chunk.bytes.length) return
    }
  }

  /** Place of the last chunk that begins at or before `index`. */
  #placeOf(index: number): number {
    let low = this.#head
    let high = this.#chunks.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#chunks[middle]?.firstIndex ?? 0) <= index) low = middle + 1
      else high = middle
    }
    return Math.max(this.#head, low - 1)
  }
}

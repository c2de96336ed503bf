import { messageHeaderBytes, recordHeaderBytes } from '../journal/record.ts'
import { recordsPerBucket } from './message-index.ts'

const bucketsPerPage = 1024

/** Bytes that a live message occupies in the log, about: its envelope and what is around it. */
function bytesInLog(envelopeBytes: number): number {
  return envelopeBytes + recordHeaderBytes + messageHeaderBytes
}

interface Page {
  readonly bytes: Float64Array
  /** Buckets that are not 0. */
  used: number
}

/**
 * How many bytes of live messages are where in the log, by buckets of 64 records.
 *
 * Space is proportional to the part of the log that holds something live: 8 bytes per bucket.
 */
export class LiveBytes {
  readonly #pages = new Map<number, Page>()

  /** Index of the first record in the first bucket that holds something live. */
  get first(): number | undefined {
    let first: number | undefined
    for (const number of this.#pages.keys()) if (first === undefined || number < first) first = number
    if (first === undefined) return undefined
    const { bytes } = this.#pages.get(first) as Page
    const bucket = first * bucketsPerPage + bytes.findIndex((each) => each !== 0)
    return Math.max(1, bucket * recordsPerBucket)
  }

  /** Bytes in a bucket, by the bucket's number. */
  inBucket(bucket: number): number {
    return this.#pages.get(Math.floor(bucket / bucketsPerPage))?.bytes[bucket % bucketsPerPage] ?? 0
  }

  setBucket(bucket: number, bytes: number): void {
    const number = Math.floor(bucket / bucketsPerPage)
    let page = this.#pages.get(number)
    if (page === undefined) {
      if (bytes === 0) return
      page = { bytes: new Float64Array(bucketsPerPage), used: 0 }
      this.#pages.set(number, page)
    }
    const before = page.bytes[bucket % bucketsPerPage]
    page.bytes[bucket % bucketsPerPage] = bytes
    if (before === 0 && bytes !== 0) page.used++
    else if (before !== 0 && bytes === 0 && --page.used === 0) this.#pages.delete(number)
  }

  /** Bytes in the buckets that have a record in [`from`, `to`]. */
  between(from: number, to: number): number {
    const firstBucket = Math.floor(from / recordsPerBucket)
    const lastBucket = Math.floor(to / recordsPerBucket)
    let sum = 0
    for (const [number, { bytes }] of this.#pages) {
      const first = number * bucketsPerPage
      const begin = Math.max(firstBucket - first, 0)
      const end = Math.min(lastBucket - first, bucketsPerPage - 1)
      for (let place = begin; place <= end; place++) sum += bytes[place] as number
    }
    return sum
  }
}

/** What one checkpoint changes in {@link LiveBytes}. */
export class LiveChanges {
  readonly #differences = new Map<number, number>()
  /** Messages come mostly in their order, so the bucket last changed is kept apart. */
  #bucket = -1
  #difference = 0

  /** A message came to be at `location`. */
  add(location: number, envelopeBytes: number): void {
    this.#change(location, bytesInLog(envelopeBytes))
  }

  /** A message is no longer at `location`. */
  remove(location: number, envelopeBytes: number): void {
    this.#change(location, -bytesInLog(envelopeBytes))
  }

  /** Buckets that change, with what will be in them. */
  *totals(live: LiveBytes): Generator<[bucket: number, bytes: number], void, undefined> {
    this.#settle()
    for (const [bucket, difference] of this.#differences) {
      if (difference !== 0) yield [bucket, live.inBucket(bucket) + difference]
    }
  }

  applyTo(live: LiveBytes): void {
    for (const [bucket, bytes] of this.totals(live)) live.setBucket(bucket, bytes)
  }

  #change(location: number, difference: number): void {
    const bucket = Math.floor(location / recordsPerBucket)
    if (bucket !== this.#bucket) {
      this.#settle()
      this.#bucket = bucket
    }
    this.#difference += difference
  }

  #settle(): void {
    if (this.#difference === 0) return
    this.#differences.set(this.#bucket, (this.#differences.get(this.#bucket) ?? 0) + this.#difference)
    this.#difference = 0
  }
}

import type { Clock, Timer } from './io/clock.ts'
import { type BatchHeader, batchHeaderBytes, decodeBatchHeader, lastIndexOf } from './journal/batch.ts'
import type { Log } from './journal/log.ts'
import type { MessageIndex } from './message-index/message-index.ts'

/** Appended and not yet applied bytes kept in memory; beyond, the log is read back. */
const maxKeptBytes: number = 32 * 1024 * 1024
/** Changes in the overlay that bring a checkpoint before its time. */
const maxPendingChanges = 200_000
const readBytes: number = 4 * 1024 * 1024

interface KeptBatches {
  readonly bytes: Buffer
  readonly firstIndex: number
  readonly lastIndex: number
}

/**
 * Brings committed records from the log into the index, and the index to LevelDB.
 *
 * Invariants:
 * - Only committed records are applied, in order.
 * - A checkpoint never holds more than the own log has on disk: it waits until what is applied is durable.
 */
export class Applier {
  readonly #log: Log
  readonly #index: MessageIndex
  readonly #clock: Clock
  readonly #flushDelayMs: number
  readonly #applied: (index: number) => void
  readonly #report: (error: Error) => void
  #kept: KeptBatches[] = []
  #keptBytes = 0
  #commitIndex: number
  #reading = false
  #timer: Timer | undefined
  #checkpointDue = false
  #checkpointing: Promise<void> | undefined
  #closed = false

  constructor(parts: {
    readonly log: Log
    readonly index: MessageIndex
    readonly clock: Clock
    readonly flushDelayMs: number
    /** Everything up to `index` is in the index now. */
    readonly applied: (index: number) => void
    /** Called once at most: nothing is applied or written behind a failure. */
    readonly failed: (error: Error) => void
  }) {
    this.#log = parts.log
    this.#index = parts.index
    this.#clock = parts.clock
    this.#flushDelayMs = parts.flushDelayMs
    this.#applied = parts.applied
    this.#report = parts.failed
    this.#commitIndex = parts.index.appliedIndex
  }

  /** Whether everything committed is applied. */
  get level(): boolean {
    return this.#index.appliedIndex >= this.#commitIndex
  }

  /** Batches that were appended to the log: kept, so that they need not be read back when they are committed. */
  keep(bytes: Buffer, firstIndex: number, lastIndex: number): void {
    if (this.#closed) return
    this.#kept.push({ bytes, firstIndex, lastIndex })
    this.#keptBytes += bytes.length
    if (this.#keptBytes > maxKeptBytes) this.#forget(() => false)
  }

  /** The log was cut behind `index`, which is not below the commit index. */
  truncated(index: number): void {
    this.#forget((batches) => batches.lastIndex <= index)
  }

  committed(index: number): void {
    if (index <= this.#commitIndex) return
    this.#commitIndex = index
    this.#apply()
  }

  /** The log's durable index moved. */
  durable(): void {
    if (this.#checkpointDue) this.#checkpoint()
  }

  /** Writes a last checkpoint, as far as the log is durable, and stops. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.cancel()
    await this.#checkpointing
    if (this.#index.pendingChanges > 0 && this.#log.durableIndex >= this.#index.appliedIndex) {
      await this.#index.checkpoint()
    }
  }

  #failed(error: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.cancel()
    this.#kept = []
    this.#report(error)
  }

  #apply(): void {
    if (this.#reading || this.#closed) return
    const before = this.#index.appliedIndex
    try {
      for (const batches of this.#takeKept()) this.#index.apply(batches.bytes)
    } catch (error) {
      this.#failed(error instanceof Error ? error : new Error(String(error)))
      return
    }
    const after = this.#index.appliedIndex
    if (after > before) {
      this.#planCheckpoint()
      this.#applied(after)
    }
    if (after < this.#commitIndex && this.#kept[0]?.firstIndex !== after + 1) this.#readBack()
  }

  /** The kept batches that are wholly committed and follow on from what is applied. */
  #takeKept(): KeptBatches[] {
    let next = this.#index.appliedIndex + 1
    let count = 0
    const ready: KeptBatches[] = []
    for (const batches of this.#kept) {
      if (batches.lastIndex >= next) {
        if (batches.firstIndex > next || batches.lastIndex > this.#commitIndex) break
        ready.push(batches)
        next = batches.lastIndex + 1
      }
      this.#keptBytes -= batches.bytes.length
      count++
    }
    if (count > 0) this.#kept.splice(0, count)
    return ready
  }

  /** What is committed and not kept comes from the log; what is beyond the commit index is cut off by its headers. */
  #readBack(): void {
    this.#reading = true
    const from = this.#index.appliedIndex + 1
    this.#log.read(from, readBytes).then(
      (bytes) => {
        this.#reading = false
        if (this.#closed) return
        const whole = committedPart(bytes, this.#commitIndex)
        if (whole.length > 0) {
          this.#kept.unshift({ bytes: whole, firstIndex: from, lastIndex: lastIndexIn(whole) })
          this.#keptBytes += whole.length
        }
        this.#apply()
      },
      (error: Error) => {
        this.#reading = false
        this.#failed(error)
      },
    )
  }

  #forget(keep: (batches: KeptBatches) => boolean): void {
    this.#kept = this.#kept.filter(keep)
    this.#keptBytes = this.#kept.reduce((sum, batches) => sum + batches.bytes.length, 0)
  }

  #planCheckpoint(): void {
    if (this.#closed) return
    if (this.#index.pendingChanges >= maxPendingChanges) this.#checkpoint()
    else this.#timer ??= this.#clock.setTimer(this.#flushDelayMs, () => this.#checkpoint())
  }

  #checkpoint(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    if (this.#closed || this.#checkpointing !== undefined) return
    this.#checkpointDue = this.#log.durableIndex < this.#index.appliedIndex
    if (this.#checkpointDue) return
    this.#checkpointing = this.#index.checkpoint().then(
      () => {
        this.#checkpointing = undefined
        if (this.#index.pendingChanges > 0) this.#planCheckpoint()
      },
      (error: Error) => {
        this.#checkpointing = undefined
        this.#failed(error)
      },
    )
  }
}

/** The leading batches whose records are all at or below `commitIndex`. */
function committedPart(bytes: Buffer, commitIndex: number): Buffer {
  let offset = 0
  while (offset < bytes.length) {
    const header = headerAt(bytes, offset)
    if (lastIndexOf(header) > commitIndex) break
    offset += batchHeaderBytes + header.payloadBytes
  }
  return bytes.subarray(0, offset)
}

function lastIndexIn(bytes: Buffer): number {
  let last = 0
  for (let offset = 0; offset < bytes.length; ) {
    const header = headerAt(bytes, offset)
    last = lastIndexOf(header)
    offset += batchHeaderBytes + header.payloadBytes
  }
  return last
}

/** A header that the log has verified when it was read. */
function headerAt(bytes: Buffer, offset: number): BatchHeader {
  const header = decodeBatchHeader(bytes, offset)
  if (typeof header === 'string') throw new Error(`a verified batch has a wrong ${header}`)
  return header
}

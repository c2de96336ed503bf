import { StoreError } from './errors.ts'
import type { Clock, Timer } from './io/clock.ts'
import { batchesUpTo, lastIndexIn } from './journal/batch-run.ts'
import type { Log } from './journal/log.ts'
import type { MessageIndex } from './message-index/message-index.ts'

/** Appended and not yet applied bytes kept in memory; beyond, the log is read back. */
const maxKeptBytes: number = 32 * 1024 * 1024
/** Changes in the overlay that bring a checkpoint before its time. */
const maxPendingChanges = 100_000
/** Changes above which producers wait for the checkpoint under way. */
const crowdedChanges = 150_000
const readBytes: number = 4 * 1024 * 1024
/** How long a wish for a checkpoint waits for others. */
const hastenedMs = 25
/** Until a checkpoint that the disk had no space for is tried again. */
const retryMs = 1000

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
  readonly #checkpointed: () => void
  readonly #report: (error: Error) => void
  #kept: KeptBatches[] = []
  #keptBytes = 0
  #commitIndex: number
  #reading = false
  #timer: Timer | undefined
  #checkpointDue = false
  #checkpointing: Promise<void> | undefined
  #hastened = false
  /** Nothing begins any more. */
  #stopped = false
  /** Nothing is written any more. */
  #closed = false

  constructor(parts: {
    readonly log: Log
    readonly index: MessageIndex
    readonly clock: Clock
    readonly flushDelayMs: number
    /** Everything up to `index` is in the index now. */
    readonly applied: (index: number) => void
    /** A checkpoint has become durable. */
    readonly checkpointed: () => void
    /** Called once at most: nothing is applied or written behind a failure. */
    readonly failed: (error: Error) => void
  }) {
    this.#log = parts.log
    this.#index = parts.index
    this.#clock = parts.clock
    this.#flushDelayMs = parts.flushDelayMs
    this.#applied = parts.applied
    this.#checkpointed = parts.checkpointed
    this.#report = parts.failed
    this.#commitIndex = parts.index.appliedIndex
  }

  /**
   * More changes come in than a checkpoint takes to LevelDB: the memory they take would only grow, the batch of the next
   * checkpoint with it. Only while one is being written, so that a full disk, which keeps it from that, stops nobody.
   */
  get crowded(): boolean {
    return this.#checkpointing !== undefined && this.#index.pendingChanges >= crowdedChanges
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

  /** A checkpoint is wanted although little has changed: soon, but not at once, so that a few such wishes become one. */
  hasten(): void {
    if (this.#closed || this.#checkpointing !== undefined || this.#hastened) return
    this.#hastened = true
    this.#timer?.cancel()
    this.#timer = this.#clock.setTimer(hastenedMs, () => this.#checkpoint())
  }

  /** Applies and writes nothing any more. */
  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  /** Writes a last checkpoint, as far as the log is durable, and stops. */
  async close(): Promise<void> {
    this.stop()
    if (this.#closed) return
    this.#closed = true
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
    if (this.#reading || this.#closed || this.#stopped) return
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
        const whole = batchesUpTo(bytes, this.#commitIndex)
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
    if (this.#closed || this.#stopped) return
    if (this.#index.pendingChanges >= maxPendingChanges) this.#checkpoint()
    else this.#timer ??= this.#clock.setTimer(this.#flushDelayMs, () => this.#checkpoint())
  }

  #checkpoint(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#hastened = false
    if (this.#stopped || this.#closed || this.#checkpointing !== undefined) return
    this.#checkpointDue = this.#log.durableIndex < this.#index.appliedIndex
    if (this.#checkpointDue) return
    this.#checkpointing = this.#index.checkpoint().then(
      () => {
        this.#checkpointing = undefined
        if (this.#index.pendingChanges > 0) this.#planCheckpoint()
        if (!this.#stopped) this.#checkpointed()
      },
      (error: Error) => {
        this.#checkpointing = undefined
        // Nothing is lost: the changes wait in memory, and the log holds them anyway.
        if (error instanceof StoreError && error.code === 'STORE_DISK_FULL') {
          if (!this.#stopped) this.#timer = this.#clock.setTimer(retryMs, () => this.#checkpoint())
        } else this.#failed(error)
      },
    )
  }
}

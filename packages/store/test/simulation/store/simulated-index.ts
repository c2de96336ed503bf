import { MemoryIndex } from '../../../../testkit/src/memory-index.ts'
import {
  type BatchHeader,
  batchHeaderBytes,
  decodeBatchHeader,
  lastIndexOf,
} from '../../../src/journal/batch.ts'
import type { LevelIndexOptions } from '../../../src/message-index/level-index.ts'
import type { OpenedIndex } from '../../../src/store-directory.ts'
import type { ProcessDisk } from './process-disk.ts'

/** What a machine's disk keeps of the message index: everything applied up to the last checkpoint. */
export interface SavedIndex {
  batches: readonly Buffer[]
  /** Record up to which it had to be rebuilt, if its first batch is not that of record 1; it was, if this is there. */
  rebuiltAt?: number
  /** The database is damaged: it has to be begun anew. */
  damaged: boolean
}

/** Told of each batch that an index takes: it is committed, as far as that node knows. */
export type AppliedBatch = (header: BatchHeader, bytes: Buffer) => void

/** The message index in memory, with checkpoints that outlive a crash if they were completed. */
export class SimulatedIndex extends MemoryIndex implements OpenedIndex {
  readonly begunAnew: string | undefined
  readonly #disk: ProcessDisk
  readonly #saved: SavedIndex
  readonly #batches: Buffer[] = []
  #applied: AppliedBatch | undefined
  #running: Promise<void> | undefined
  #rebuiltAt: number | undefined

  constructor(options: LevelIndexOptions, disk: ProcessDisk, saved: SavedIndex, applied: AppliedBatch) {
    super(options)
    this.#disk = disk
    this.#saved = saved
    this.begunAnew = reasonToBeginAnew(saved)
    if (this.begunAnew !== undefined) {
      saved.damaged = false
      saved.batches = []
      delete saved.rebuiltAt
    }
    this.#restore(saved)
    this.beginCheckpoint()()
    this.#applied = applied
  }

  override apply(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const header = decodeBatchHeader(bytes, at)
      if (typeof header === 'string') throw new TypeError(`no batch at offset ${at}: ${header}`)
      const end = at + batchHeaderBytes + header.payloadBytes
      if (lastIndexOf(header) > this.appliedIndex) {
        const batch = Buffer.from(bytes.subarray(at, end))
        super.apply(batch)
        this.#batches.push(batch)
        this.#applied?.(header, batch)
      }
      at = end
    }
  }

  override checkpoint(): Promise<void> {
    // One that runs has frozen its content already.
    if (this.#running !== undefined) return this.#running.then(() => this.checkpoint())
    const frozen = this.#batches.slice()
    const rebuiltAt = this.#rebuiltAt
    const done = this.beginCheckpoint()
    const save = async (): Promise<void> => {
      this.#saved.batches = frozen
      if (rebuiltAt !== undefined) this.#saved.rebuiltAt = rebuiltAt
      done()
    }
    const running = this.#disk.perform('sync', save, undefined, false).finally(() => {
      this.#running = undefined
    })
    this.#running = running
    return running
  }

  protected override endRebuild(): void {
    super.endRebuild()
    this.#rebuiltAt = this.appliedIndex
  }

  #restore(saved: SavedIndex): void {
    const [first] = saved.batches
    const header = first && decodeBatchHeader(first, 0)
    if (header === undefined || typeof header === 'string') return
    if (header.firstIndex > 1) this.rebuildFrom(header.firstIndex)
    for (const batch of saved.batches) {
      this.apply(batch)
      if (this.appliedIndex === saved.rebuiltAt) this.endRebuild()
    }
  }

  override async close(): Promise<void> {
    await this.#running
  }
}

function reasonToBeginAnew(saved: SavedIndex): string | undefined {
  if (saved.damaged) return 'it was damaged'
  const [first] = saved.batches
  const header = first && decodeBatchHeader(first, 0)
  const isPart = typeof header === 'object' && header.firstIndex > 1 && saved.rebuiltAt === undefined
  return isPart ? 'it was left before it was rebuilt' : undefined
}

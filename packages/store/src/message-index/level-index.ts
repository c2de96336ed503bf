import { ClassicLevel } from 'classic-level'
import { StoreError } from '../errors.ts'
import type { EpochStart } from '../journal/log.ts'
import type { MessageEntry, QueueInfo } from '../message-store.ts'
import type { LevelDbOptions } from '../options.ts'
import { CheckpointWriter } from './checkpoint.ts'
import { endsLog } from './checkpoint-chain.ts'
import { type Configuration, IndexFold } from './fold.ts'
import { damagedKey, messageBytesIn, messageIndexIn, RowFault, redeliveriesIn, stampKey } from './keys.ts'
import type { Located, MessageIndex, SequenceWindow, Statement } from './message-index.ts'
import type { PagePlan } from './overlay.ts'
import { readContent, type StoredContent } from './stored-content.ts'
import { readMessageValues } from './stored-messages.ts'

type Database = ClassicLevel<Buffer, Buffer>

/** Settings of LevelDB; one that is left out is LevelDB's own default. */
type LevelSettings = Pick<
  LevelDbOptions,
  | 'indexMaxOpenFiles'
  | 'indexBlockRestartInterval'
  | 'indexWriteBufferSize'
  | 'indexBlockSize'
  | 'indexCacheSize'
  | 'indexCompression'
>

export interface LevelIndexOptions extends LevelSettings {
  /** The database's own directory; made if it does not exist. */
  readonly directory: string
  /** Producers remembered, from 1 up; the one unused for longest goes first. The same on all nodes. */
  readonly maxProducers: number
  /** Gaps remembered per producer, from 0 up. The same on all nodes. */
  readonly maxGaps: number
}

/**
 * Opens the index in a directory, or begins an empty one. What cannot be continued (damage, another format) is deleted
 * and begun anew, since the log holds everything: then `begunAnew` tells why and `appliedIndex` is 0.
 *
 * LevelDB's lock on the directory also keeps a second process out of the store.
 *
 * @throws {@link StoreError} `STORE_DIRECTORY_IN_USE`, `STORE_DISK_FAILED`.
 */
export async function openLevelIndex(options: LevelIndexOptions): Promise<LevelIndex> {
  try {
    return await openOnce(options, undefined)
  } catch (error) {
    const reason = damageOf(error)
    if (reason === undefined) throw faultOf(error, options.directory, 'open')
    try {
      await ClassicLevel.destroy(options.directory)
      return await openOnce(options, reason)
    } catch (second) {
      throw faultOf(second, options.directory, 'rebuild')
    }
  }
}

async function openOnce(options: LevelIndexOptions, begunAnew: string | undefined): Promise<LevelIndex> {
  const db: Database = new ClassicLevel(options.directory, levelOptions(options))
  await db.open()
  try {
    const content = await readContent(db)
    const fold = new IndexFold(content, options.maxProducers, options.maxGaps)
    return new LevelIndex(db, fold, content, begunAnew)
  } catch (error) {
    await db.close()
    throw error
  }
}

function levelOptions(options: LevelSettings) {
  return {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    maxOpenFiles: options.indexMaxOpenFiles,
    blockRestartInterval: options.indexBlockRestartInterval,
    writeBufferSize: options.indexWriteBufferSize,
    blockSize: options.indexBlockSize,
    cacheSize: options.indexCacheSize,
    compression: options.indexCompression !== 'none',
  } as const
}

/** The message index on LevelDB: the shell around {@link IndexFold}. Made by {@link openLevelIndex}. */
export class LevelIndex implements MessageIndex {
  /** Why the database was begun anew when it was opened; undefined if it was not. */
  readonly begunAnew: string | undefined
  readonly #db: Database
  readonly #fold: IndexFold
  #savedPosition: number
  /** Number of the last checkpoint written, counted over the life of the database. */
  #checkpoint: number
  #running: Promise<void> | undefined
  #following: Promise<void> | undefined
  #failure: StoreError | undefined
  #closing: Promise<void> | undefined
  #flushedEntries = 0
  #scannedEntries = 0
  #checkpoints = 0

  constructor(db: Database, fold: IndexFold, content: StoredContent, begunAnew: string | undefined) {
    this.#db = db
    this.#fold = fold
    this.#savedPosition = content.position
    this.#checkpoint = content.checkpoint
    this.begunAnew = begunAnew
  }

  get appliedIndex(): number {
    return this.#fold.position
  }

  get epochStarts(): readonly EpochStart[] {
    return this.#fold.epochStarts
  }

  get configuration(): Configuration | undefined {
    return this.#fold.lastConfiguration
  }

  get pendingChanges(): number {
    return this.#fold.pendingChanges
  }

  /** `scannedEntries`: entries read from LevelDB by pages and to find low marks. */
  get statistics(): MessageIndex['statistics'] & { readonly scannedEntries: number } {
    return {
      flushedEntries: this.#flushedEntries,
      cancelledMessages: this.#fold.statistics.cancelledMessages,
      checkpoints: this.#checkpoints,
      scannedEntries: this.#scannedEntries,
    }
  }

  apply(bytes: Buffer): void {
    this.#assertOpen()
    this.#fold.apply(bytes)
  }

  queues(): QueueInfo[] {
    return this.#fold.queues()
  }

  queueNamed(name: string): QueueInfo | undefined {
    return this.#fold.queueNamed(name)
  }

  producerNamed(id: string): number | undefined {
    return this.#fold.producerNamed(id)
  }

  producerWindow(producer: number): SequenceWindow | undefined {
    return this.#fold.producerWindow(producer)
  }

  /**
   * @throws {@link StoreError} `STORE_CORRUPT` if LevelDB's files are damaged: the index is begun anew when it is opened
   *   next. `STORE_CLOSED`, `STORE_DISK_FAILED`.
   */
  async page(queue: number, after: number, limit: number): Promise<MessageEntry[]> {
    this.#assertOpen()
    const plan = this.#fold.page(queue, after, limit)
    if (plan === undefined) return []
    try {
      const entries = plan.from <= plan.to ? await this.#stored(queue, plan, limit) : []
      for (let place = 0; entries.length < limit && place < plan.inMemory.length; place++) {
        entries.push(plan.inMemory[place] as MessageEntry)
      }
      return entries
    } catch (error) {
      throw await this.#report(error, 'read')
    }
  }

  get retained(): { readonly position: number; readonly neededFrom: number } {
    return { position: this.#savedPosition, neededFrom: 1 }
  }

  liveBytes(_from: number, _to: number): number {
    throw new Error('not there yet')
  }

  locate(_queue: number, _indices: readonly number[]): Promise<(Located | undefined)[]> {
    throw new Error('not there yet')
  }

  statedBelow(_index: number, _limit: number): Statement[] {
    throw new Error('not there yet')
  }

  rebuildFrom(_firstIndex: number): void {
    throw new Error('not there yet')
  }

  rebuilt(): Promise<void> {
    throw new Error('not there yet')
  }

  async #stored(queue: number, plan: PagePlan, limit: number): Promise<MessageEntry[]> {
    const entries: MessageEntry[] = []
    await readMessageValues(this.#db, queue, plan.from, plan.to, limit, (value) => {
      this.#scannedEntries++
      const index = messageIndexIn(value, queue)
      if (!plan.survives(index)) return true
      const redeliveryCount = plan.redeliveries(index) ?? redeliveriesIn(value)
      return entries.push({ index, bytes: messageBytesIn(value), redeliveryCount }) < limit
    })
    return entries
  }

  /**
   * @throws {@link StoreError} `STORE_DISK_FAILED` or `STORE_CORRUPT`, then and ever after: what the database holds is
   *   only known again when it is opened anew. `STORE_CLOSED`.
   */
  checkpoint(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#writeCheckpoint().finally(() => {
        this.#running = undefined
      })
      return this.#running
    }
    // The one that runs has frozen its content already, so it may lack what its new caller has applied.
    this.#following ??= this.#running
      .catch(() => undefined) // Its own callers get that.
      .then(() => {
        this.#following = undefined
        return this.checkpoint()
      })
    return this.#following
  }

  async #writeCheckpoint(): Promise<void> {
    this.#assertOpen()
    if (this.#failure !== undefined) throw this.#failure
    this.#fold.assertWhole()
    if (this.#fold.position === this.#savedPosition) return
    const frozen = this.#fold.freeze()
    const writer = new CheckpointWriter(this.#db, frozen)
    const number = this.#checkpoint + 1
    try {
      await writer.write(number)
      if (endsLog(number)) await this.#db.compactRange(stampKey(0), stampKey(0xffff))
    } catch (error) {
      await writer.abandon()
      this.#failure = await this.#report(error, 'checkpoint')
      throw this.#failure
    }
    this.#fold.retire(writer.lowMarks)
    this.#checkpoint = number
    this.#savedPosition = frozen.position
    this.#flushedEntries += writer.entries
    this.#scannedEntries += writer.scannedEntries
    this.#checkpoints++
  }

  /** Closes without a checkpoint; one that runs is finished first. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#running?.catch(() => undefined)
      await this.#db.close()
    })()
    return this.#closing
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the index is closed')
  }

  /** Turns an error of LevelDB into ours; damage is also noted in the database, for the next time it is opened. */
  async #report(error: unknown, operation: string): Promise<StoreError> {
    if (this.#closing !== undefined) {
      return new StoreError({ code: 'STORE_CLOSED' }, 'the index was closed meanwhile', { cause: error })
    }
    const reason = damageOf(error)
    if (reason !== undefined) {
      const note = this.#db.put(damagedKey, Buffer.from(reason), { sync: true })
      await note.catch(() => undefined) // Then it is found once more, the next time.
    }
    return faultOf(error, this.#db.location, operation)
  }
}

/** Why the database must be begun anew, or undefined if that would be no remedy. */
function damageOf(error: unknown): string | undefined {
  if (error instanceof RowFault || error instanceof RangeError) return error.message
  const cause = levelErrorOf(error)
  // A file that another one names and that is not there is damage too; LevelDB calls it an I/O error.
  const missing = cause.code === 'LEVEL_IO_ERROR' && cause.message.includes('No such file or directory')
  return cause.code === 'LEVEL_CORRUPTION' || missing ? cause.message : undefined
}

/** The error as the store's callers know it. */
function faultOf(error: unknown, directory: string, operation: string): StoreError {
  const { code, message } = levelErrorOf(error)
  if (code === 'LEVEL_LOCKED') {
    const detail = { code: 'STORE_DIRECTORY_IN_USE', directory } as const
    return new StoreError(detail, `${directory}: another process has the store open`, { cause: error })
  }
  if (damageOf(error) !== undefined) {
    const detail = { code: 'STORE_CORRUPT', file: directory, offset: 0 } as const
    return new StoreError(detail, `index in ${directory} is damaged: ${message}`, { cause: error })
  }
  const detail = { code: 'STORE_DISK_FAILED', file: directory, operation } as const
  return new StoreError(detail, `index in ${directory}: ${operation} failed: ${message}`, { cause: error })
}

/** Errors on opening come wrapped: what LevelDB said is the cause. */
function levelErrorOf(error: unknown): Error & { code?: unknown } {
  const outer: Error & { code?: unknown } = error instanceof Error ? error : new Error(String(error))
  return outer.code === 'LEVEL_DATABASE_NOT_OPEN' && outer.cause instanceof Error ? outer.cause : outer
}

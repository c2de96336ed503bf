import { ClassicLevel } from 'classic-level'
import { StoreError } from '../errors.ts'
import type { EpochStart } from '../journal/log.ts'
import type { MessageEntry, QueueInfo } from '../message-store.ts'
import { CheckpointWriter } from './checkpoint.ts'
import { endsLog } from './checkpoint-chain.ts'
import { type FrozenChanges, IndexFold } from './fold.ts'
import { type Database, damageOf, faultOf, IndexDatabase, type LevelSettings } from './index-database.ts'
import { messageBytesIn, messageIndexIn, RowFault, redeliveriesIn, stampKey } from './keys.ts'
import type { LiveBytes } from './live-bytes.ts'
import type { Located, MessageIndex, Retained, SequenceWindow, Statement } from './message-index.ts'
import type { PagePlan, Place } from './overlay.ts'
import { lastCheckpointIn, readContent, type StoredContent } from './stored-content.ts'
import { lookUpMessages, readMessageValues } from './stored-messages.ts'

export interface LevelIndexOptions extends LevelSettings {
  /** The database's own directory; made if it does not exist. */
  readonly directory: string
  /** Producers remembered, from 1 up; the one unused for longest goes first. The same on all nodes. */
  readonly maxProducers: number
  /** Gaps remembered per producer, from 0 up. The same on all nodes. */
  readonly maxGaps: number
}

/** Batches in which the messages of removed queues are deleted behind one checkpoint; the rest waits for the next. */
const purgesPerCheckpoint = 10

/**
 * Opens the index in a directory, or begins an empty one. What cannot be continued (damage, another format, a rebuild
 * that was cut off) is deleted and begun anew, since the log holds everything: then `begunAnew` tells why and
 * `appliedIndex` is 0.
 *
 * LevelDB's lock on the directory also keeps a second process out of the store.
 *
 * @throws {@link StoreError} `STORE_DIRECTORY_IN_USE`, `STORE_DISK_FAILED`, `STORE_DISK_FULL`.
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
  const database = await IndexDatabase.open(options.directory, options)
  try {
    const content = await readContent(database.level)
    const fold = new IndexFold(content, options.maxProducers, options.maxGaps)
    return new LevelIndex(database, fold, content, begunAnew)
  } catch (error) {
    await database.close()
    throw error
  }
}

/** One write to LevelDB, which can be tried again: the same changes, as the checkpoint of the same number. */
interface NumberedWrite {
  readonly number: number
  /** Writes it; what it came to is kept for `landed`. */
  write(): Promise<void>
  /** It is in the database. */
  landed(): void
}

/** What `LevelIndex.retained` is made of, besides the live bytes. */
type SavedState = Pick<FrozenChanges, 'position' | 'strayAt' | 'oldestStatement' | 'rebuildingFrom'>

/** The message index on LevelDB: the shell around {@link IndexFold}. Made by {@link openLevelIndex}. */
export class LevelIndex implements MessageIndex {
  /** Why the database was begun anew when it was opened; undefined if it was not. */
  readonly begunAnew: string | undefined
  readonly #database: IndexDatabase
  readonly #fold: IndexFold
  /** As of the last checkpoint, as is `#saved`. */
  readonly #live: LiveBytes
  #saved: SavedState
  /** Removed queues whose messages are still in the database. */
  readonly #removedQueues: Set<number>
  /** Number of the last checkpoint written, counted over the life of the database. */
  #checkpoint: number
  /** What there was no space for. */
  #unwritten: NumberedWrite | undefined
  /** LevelDB met an error and takes no writes until it is opened again. */
  #stuck = false
  #running: Promise<void> | undefined
  #following: Promise<void> | undefined
  #failure: StoreError | undefined
  #closing: Promise<void> | undefined
  #flushedEntries = 0
  #scannedEntries = 0
  #checkpoints = 0

  constructor(
    database: IndexDatabase,
    fold: IndexFold,
    content: StoredContent,
    begunAnew: string | undefined,
  ) {
    this.#database = database
    this.#fold = fold
    this.#live = content.live
    const { position, strayAt } = content
    this.#saved = { position, strayAt, oldestStatement: fold.oldestStatement, rebuildingFrom: undefined }
    this.#checkpoint = content.checkpoint
    this.#removedQueues = new Set(content.removedQueues)
    this.begunAnew = begunAnew
  }

  get appliedIndex(): number {
    return this.#fold.position
  }

  get epochStarts(): readonly EpochStart[] {
    return this.#fold.epochStarts
  }

  get configuration(): { readonly index: number; readonly json: string } | undefined {
    return this.#fold.lastConfiguration
  }

  get pendingChanges(): number {
    return this.#fold.pendingChanges + this.#removedQueues.size
  }

  get retained(): Retained {
    const { position, strayAt, oldestStatement, rebuildingFrom } = this.#saved
    const needed = Math.min(this.#live.first ?? position + 1, oldestStatement ?? position + 1, position + 1)
    return { position, neededFrom: rebuildingFrom === undefined ? needed : 1, strayAt }
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

  hasProducer(producer: number): boolean {
    return this.#fold.hasProducer(producer)
  }

  liveBytes(from: number, to: number): number {
    return this.#live.between(from, to)
  }

  statedBelow(index: number, limit: number): Statement[] {
    return this.#fold.statedBelow(index, limit)
  }

  /**
   * @throws {@link StoreError} `STORE_CORRUPT` if LevelDB's files are damaged: the index is begun anew when it is opened
   *   next. `STORE_CLOSED`, `STORE_DISK_FAILED`.
   */
  page(queue: number, after: number, limit: number): Promise<MessageEntry[]> {
    return this.#reading(async (db) => {
      const plan = this.#fold.page(queue, after, limit)
      if (plan === undefined) return []
      const entries = plan.from <= plan.to ? await this.#stored(db, queue, plan, limit) : []
      for (let place = 0; entries.length < limit && place < plan.inMemory.length; place++) {
        entries.push(plan.inMemory[place] as MessageEntry)
      }
      return entries
    })
  }

  async #stored(db: Database, queue: number, plan: PagePlan, limit: number): Promise<MessageEntry[]> {
    const entries: MessageEntry[] = []
    await readMessageValues(db, queue, plan.from, plan.to, limit, (value) => {
      this.#scannedEntries++
      const index = messageIndexIn(value, queue)
      if (!plan.survives(index)) return true
      const redeliveryCount = plan.redeliveries(index) ?? redeliveriesIn(value)
      return entries.push({ index, bytes: messageBytesIn(value), redeliveryCount }) < limit
    })
    return entries
  }

  /** @throws {@link StoreError} as `page`. */
  locate(queue: number, indices: readonly number[]): Promise<(Located | undefined)[]> {
    return this.#reading(async (db) => {
      const places = indices.map((index) => this.#fold.locate(queue, index))
      const wanted = indices.filter((_, at) => isStored(places[at]))
      const found = wanted.length === 0 ? [] : await lookUpMessages(db, queue, wanted)
      let next = 0
      return places.map((place) => (isStored(place) ? merged(found[next++], place) : place?.inMemory))
    })
  }

  async #reading<Result>(read: (db: Database) => Promise<Result>): Promise<Result> {
    this.#assertOpen()
    try {
      return await this.#database.read(read)
    } catch (error) {
      throw await this.#report(error, 'read')
    }
  }

  rebuildFrom(firstIndex: number): void {
    this.#assertOpen()
    this.#fold.rebuildFrom(firstIndex)
  }

  async rebuilt(): Promise<void> {
    this.#assertOpen()
    this.#fold.endRebuild()
    await this.checkpoint()
  }

  /**
   * @throws {@link StoreError} `STORE_DISK_FULL`: what was to be written stays in memory, and the next call tries again.
   *   `STORE_DISK_FAILED` or `STORE_CORRUPT`, then and ever after: what the database holds is only known again when it
   *   is opened anew. `STORE_CLOSED`.
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
    if (this.#stuck) await this.#resume()
    const { position, rebuildingFrom } = this.#saved
    if (this.#fold.position !== position || this.#fold.rebuildingFrom !== rebuildingFrom) {
      await this.#carryOut(this.#frozenWrite(this.#fold.freeze()))
    }
    for (let purges = 0; purges < purgesPerCheckpoint; purges++) {
      const [queue] = this.#removedQueues
      if (queue === undefined) return
      await this.#carryOut(this.#purgingWrite(queue))
    }
  }

  #frozenWrite(frozen: FrozenChanges): NumberedWrite {
    const number = this.#checkpoint + 1
    let writer: CheckpointWriter
    return {
      number,
      write: () => {
        writer = new CheckpointWriter(this.#database.level, this.#live)
        return writer.write(number, frozen).catch((error) => abandoned(writer, error))
      },
      landed: () => {
        this.#count(writer)
        this.#fold.retire(writer.lowMarks, writer.strayAt)
        for (const queue of frozen.removedQueues) this.#removedQueues.add(queue)
        const { position, oldestStatement, rebuildingFrom } = frozen
        this.#saved = { position, oldestStatement, rebuildingFrom, strayAt: writer.strayAt }
        this.#checkpoints++
      },
    }
  }

  #purgingWrite(queue: number): NumberedWrite {
    const number = this.#checkpoint + 1
    let writer: CheckpointWriter
    let done: boolean
    return {
      number,
      write: async () => {
        writer = new CheckpointWriter(this.#database.level, this.#live)
        done = await writer
          .purge(number, this.#saved.position, queue)
          .catch((error) => abandoned(writer, error))
      },
      landed: () => {
        this.#count(writer)
        if (done) this.#removedQueues.delete(queue)
      },
    }
  }

  async #carryOut(write: NumberedWrite): Promise<void> {
    try {
      await write.write()
    } catch (error) {
      this.#unwritten = write
      throw await this.#failed(error)
    }
    this.#settle(write)
    if (!endsLog(write.number)) return
    try {
      await this.#database.level.compactRange(stampKey(0), stampKey(0xffff))
    } catch (error) {
      throw await this.#failed(error)
    }
  }

  #settle(write: NumberedWrite): void {
    write.landed()
    this.#checkpoint = write.number
    this.#unwritten = undefined
  }

  /** Opens the database again; LevelDB empties its log then. What was written last may be in it in spite of the error. */
  async #resume(): Promise<void> {
    const unwritten = this.#unwritten
    let last: number
    try {
      await this.#database.reopen()
      last = await lastCheckpointIn(this.#database.level)
      if (last !== this.#checkpoint && last !== unwritten?.number)
        throw new RowFault(`the last checkpoint is number ${last} instead of ${this.#checkpoint}`)
    } catch (error) {
      throw await this.#failed(error)
    }
    this.#stuck = false
    if (unwritten === undefined) return
    if (last === unwritten.number) this.#settle(unwritten)
    else await this.#carryOut(unwritten)
  }

  #count(writer: CheckpointWriter): void {
    writer.liveChanges.applyTo(this.#live)
    this.#flushedEntries += writer.entries
    this.#scannedEntries += writer.scannedEntries
  }

  /** Closes without a checkpoint; one that runs is finished first. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#running?.catch(() => undefined)
      await this.#database.close()
    })()
    return this.#closing
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the index is closed')
  }

  /** An error on writing: only for lack of space is it not the end. */
  async #failed(error: unknown): Promise<StoreError> {
    const fault = await this.#report(error, 'checkpoint')
    if (fault.code === 'STORE_DISK_FULL') this.#stuck = true
    else this.#failure = fault
    return fault
  }

  async #report(error: unknown, operation: string): Promise<StoreError> {
    if (this.#closing !== undefined) {
      return new StoreError({ code: 'STORE_CLOSED' }, 'the index was closed meanwhile', { cause: error })
    }
    return await this.#database.report(error, operation)
  }
}

async function abandoned(writer: CheckpointWriter, error: unknown): Promise<never> {
  await writer.abandon()
  throw error
}

function isStored(place: Place | undefined): place is Place & { readonly inMemory: undefined } {
  return place !== undefined && place.inMemory === undefined
}

/** What LevelDB holds of a message, with what memory knows to be newer. */
function merged(
  stored: Located | undefined,
  newer: Place & { readonly inMemory: undefined },
): Located | undefined {
  if (stored === undefined) return undefined
  return {
    location: newer.location ?? stored.location,
    bytes: stored.bytes,
    redeliveryCount: newer.redeliveryCount ?? stored.redeliveryCount,
  }
}

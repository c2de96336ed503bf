import type { ChainedBatch, ClassicLevel } from 'classic-level'
import { slotOf } from './checkpoint-chain.ts'
import type { FrozenChanges, FrozenQueue } from './fold.ts'
import {
  configurationKey,
  configurationValue,
  formatKey,
  formatValue,
  keptMessageValueBytes,
  locationIn,
  messageBytesIn,
  messageIndexIn,
  messageKeyBytes,
  messageValueBytes,
  numberedKey,
  numberValue,
  positionKey,
  positionValue,
  queueValue,
  RowFault,
  RowKind,
  rebuildingKey,
  stampKey,
  strayKey,
  writeMessageKey,
  writeMessageValue,
} from './keys.ts'
import { type LiveBytes, LiveChanges } from './live-bytes.ts'
import type { Generation } from './overlay.ts'
import { lookUpMessages, readMessageValues } from './stored-messages.ts'

type Database = ClassicLevel<Buffer, Buffer>

/** Rows put into the batch in one go; then the event loop has its turn, so that a large checkpoint stalls nobody. */
const rowsPerTurn = 1000

/** Entries are read one after the other if they are no further apart than this on average, else one by one. */
const maxSpread = 4

/** Most entries of a removed queue that one batch deletes. */
const purgedPerBatch = 10_000

/**
 * Writes what was frozen as one atomic, synced LevelDB batch, or deletes messages of a queue that was removed in one.
 *
 * Nothing of it shows in the database before it is whole: the batch is gathered in memory over several turns, from
 * changes that do not change any more, and written at the end. Bytes of live messages are counted by the entries put
 * and deleted, so what is stored of them is always what the entries add up to.
 */
export class CheckpointWriter {
  /** Message entries put or deleted. */
  entries = 0
  /** Message entries read to find low marks. */
  scannedEntries = 0
  /** The new low mark of each frozen queue, in their order. */
  readonly lowMarks: number[] = []
  /** What it changes in the live bytes. */
  readonly liveChanges: LiveChanges = new LiveChanges()
  /** Last stray record: `FrozenChanges.strayAt`, or what was found on looking up entries. */
  strayAt = 0
  readonly #db: Database
  readonly #live: LiveBytes
  readonly #batch: ChainedBatch<Database, Buffer, Buffer>
  readonly #key = Buffer.alloc(messageKeyBytes)
  readonly #value = Buffer.alloc(messageValueBytes)
  readonly #keptValue = Buffer.alloc(keptMessageValueBytes)
  #rowsThisTurn = 0

  /** @param live - As of the checkpoint before. */
  constructor(db: Database, live: LiveBytes) {
    this.#db = db
    this.#live = live
    this.#batch = db.batch()
  }

  /** @param checkpoint - Number of this checkpoint, one above the one before. */
  async write(checkpoint: number, frozen: FrozenChanges): Promise<void> {
    const { position, epochStarts, configuration, producers, queues, removedQueues, rebuildingFrom } = frozen
    const batch = this.#batch
    for (const { index, epoch } of epochStarts) {
      batch.put(numberedKey(RowKind.epochStart, index), numberValue(epoch))
    }
    if (configuration !== undefined) batch.put(configurationKey, configurationValue(configuration))
    if (rebuildingFrom === undefined) batch.del(rebuildingKey)
    else batch.put(rebuildingKey, numberValue(rebuildingFrom))
    for (const { id, value } of producers) {
      const key = numberedKey(RowKind.producer, id)
      if (value === undefined) batch.del(key)
      else batch.put(key, value)
      if (this.#turnIsOver()) await nextTurn()
    }
    this.strayAt = frozen.strayAt
    for (const queue of queues) await this.#queue(queue, frozen.storedTo)
    for (const id of removedQueues) {
      batch.del(numberedKey(RowKind.queue, id)).put(numberedKey(RowKind.removedQueue, id), Buffer.alloc(0))
    }
    if (this.strayAt > 0) batch.put(strayKey, numberValue(this.strayAt))
    await this.#end(checkpoint, position)
  }

  /**
   * Deletes some of the entries of a queue that was removed.
   *
   * @returns Whether these were the last: then it is also forgotten that the queue was there.
   */
  async purge(checkpoint: number, position: number, queue: number): Promise<boolean> {
    await readMessageValues(this.#db, queue, 0, Number.MAX_SAFE_INTEGER, purgedPerBatch, (value) => {
      this.#delete(queue, messageIndexIn(value, queue), value)
      return this.entries < purgedPerBatch
    })
    const done = this.entries < purgedPerBatch
    if (done) this.#batch.del(numberedKey(RowKind.removedQueue, queue))
    await this.#end(checkpoint, position)
    return done
  }

  /** Gives up what was gathered. */
  async abandon(): Promise<void> {
    await this.#batch.close()
  }

  async #end(checkpoint: number, position: number): Promise<void> {
    const batch = this.#batch
    for (const [bucket, bytes] of this.liveChanges.totals(this.#live)) {
      if (bytes < 0) throw new RowFault(`bucket ${bucket} would hold ${bytes} live bytes`)
      const key = numberedKey(RowKind.liveBytes, bucket)
      if (bytes === 0) batch.del(key)
      else batch.put(key, numberValue(bytes))
      if (this.#turnIsOver()) await nextTurn()
    }
    batch.put(formatKey, formatValue()).put(positionKey, positionValue(position, checkpoint))
    batch.put(stampKey(slotOf(checkpoint)), numberValue(checkpoint))
    await batch.write({ sync: true })
  }

  async #queue(queue: FrozenQueue, storedTo: number): Promise<void> {
    const { id, name, count, statedAt, messages } = queue
    const scan = { lowMark: queue.lowMark, passed: 0 }
    if (messages !== undefined) {
      await this.#scan(queue, messages, storedTo, scan)
      await this.#removed(id, messages, scan.passed)
      await this.#rewritten(id, messages, storedTo)
      await this.#added(id, messages)
      for (const [index, { location, bytes, redeliveryCount }] of messages.carried) {
        this.#put(id, index, bytes, redeliveryCount, location)
        this.liveChanges.add(location, bytes)
        if (this.#turnIsOver()) await nextTurn()
      }
    }
    this.lowMarks.push(scan.lowMark)
    this.#batch.put(numberedKey(RowKind.queue, id), queueValue(count, scan.lowMark, statedAt, name))
    if (this.#turnIsOver()) await nextTurn()
  }

  /**
   * Finds the first message that LevelDB will hold. It has to be looked for only if the one so far goes, and then from
   * there on; so each entry is passed once in its life, and none that is deleted already. What is passed is deleted.
   */
  async #scan(
    queue: FrozenQueue,
    messages: Generation,
    storedTo: number,
    scan: { lowMark: number; passed: number },
  ): Promise<void> {
    if (queue.lowMark === 0 || messages.removed.has(queue.lowMark)) {
      scan.lowMark = messages.added.first ?? 0
      if (queue.lowMark !== 0) {
        scan.passed = storedTo
        await readMessageValues(this.#db, queue.id, queue.lowMark, storedTo, rowsPerTurn, (value) => {
          this.scannedEntries++
          const index = messageIndexIn(value, queue.id)
          if (messages.removed.has(index)) {
            this.#delete(queue.id, index, value)
            return true
          }
          scan.lowMark = index
          scan.passed = index
          return false
        })
      }
    }
    for (const index of messages.carried.keys())
      if (scan.lowMark === 0 || index < scan.lowMark) scan.lowMark = index
  }

  /**
   * Deletes what is removed; it has to be read, since its length and location are not in memory.
   *
   * @param passed - Those up to here are deleted already.
   */
  async #removed(queue: number, { removed }: Generation, passed: number): Promise<void> {
    // In order, neighbours are in the same blocks of LevelDB.
    const indices = Float64Array.from(removed.keys())
      .filter((index) => index > passed)
      .sort()
    for (let from = 0; from < indices.length; from += rowsPerTurn) {
      const some = [...indices.subarray(from, from + rowsPerTurn)]
      const [first, last] = [some[0] as number, some.at(-1) as number]
      if (last - first < maxSpread * some.length) await this.#deleteWithin(queue, first, last, removed)
      else await this.#deleteEach(queue, some)
    }
  }

  async #deleteWithin(
    queue: number,
    first: number,
    last: number,
    removed: ReadonlyMap<number, number>,
  ): Promise<void> {
    await readMessageValues(this.#db, queue, first, last, rowsPerTurn, (value) => {
      const index = messageIndexIn(value, queue)
      if (removed.has(index)) this.#delete(queue, index, value)
      return true
    })
  }

  async #deleteEach(queue: number, indices: readonly number[]): Promise<void> {
    const found = await lookUpMessages(this.#db, queue, indices)
    for (const [place, message] of found.entries()) {
      if (message === undefined) continue // Was never there, or is removed long since.
      this.#batch.del(writeMessageKey(this.#key, queue, indices[place] as number))
      this.liveChanges.remove(message.location, message.bytes)
      this.entries++
    }
  }

  #delete(queue: number, index: number, value: Buffer): void {
    this.#batch.del(writeMessageKey(this.#key, queue, index))
    this.liveChanges.remove(locationIn(value), messageBytesIn(value))
    this.entries++
  }

  /** The length is not in memory: entries are read and written anew. These are rare enough for that. */
  async #rewritten(queue: number, messages: Generation, storedTo: number): Promise<void> {
    const { redelivered, relocated, removed } = messages
    const indices = [...redelivered.keys()].filter((index) => !removed.has(index))
    for (const index of relocated.keys())
      if (index <= storedTo && !removed.has(index) && !redelivered.has(index)) indices.push(index)
    for (let from = 0; from < indices.length; from += rowsPerTurn) {
      const some = indices.slice(from, from + rowsPerTurn)
      const found = await lookUpMessages(this.#db, queue, some)
      for (const [place, index] of some.entries()) {
        const message = found[place]
        const location = relocated.get(index)
        if (message === undefined) {
          // Was never there, or is removed long since: nothing is to be kept of it.
          if (location !== undefined) this.strayAt = Math.max(this.strayAt, location)
          continue
        }
        const count = redelivered.get(index)?.count ?? message.redeliveryCount
        this.#put(queue, index, message.bytes, count, location ?? message.location)
        if (location === undefined) continue
        this.liveChanges.remove(message.location, message.bytes)
        this.liveChanges.add(location, message.bytes)
      }
    }
  }

  async #added(queue: number, messages: Generation): Promise<void> {
    const { added, relocated } = messages
    const inPlace = relocated.size === 0
    let after = 0
    let last: number
    do {
      last = after
      added.each(last, (index, bytes, redeliveries) => {
        const location = inPlace ? index : messages.locationOf(index)
        this.#put(queue, index, bytes, redeliveries, location)
        this.liveChanges.add(location, bytes)
        after = index
        return !this.#turnIsOver()
      })
      if (this.#rowsThisTurn === 0 && after > last) await nextTurn()
    } while (after > last)
  }

  /** The batch copies key and value at once, so the buffers serve again. */
  #put(queue: number, index: number, bytes: number, redeliveries: number, location: number): void {
    const value = location === index ? this.#value : this.#keptValue
    this.#batch.put(
      writeMessageKey(this.#key, queue, index),
      writeMessageValue(value, queue, index, bytes, redeliveries, location),
    )
    this.entries++
  }

  /** Counts a row. */
  #turnIsOver(): boolean {
    if (++this.#rowsThisTurn < rowsPerTurn) return false
    this.#rowsThisTurn = 0
    return true
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

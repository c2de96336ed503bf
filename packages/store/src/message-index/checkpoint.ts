import type { ChainedBatch, ClassicLevel } from 'classic-level'
import { slotOf } from './checkpoint-chain.ts'
import type { FrozenChanges, FrozenQueue } from './fold.ts'
import {
  configurationKey,
  configurationValue,
  formatKey,
  formatValue,
  messageBytesIn,
  messageIndexIn,
  messageKey,
  messageKeyBytes,
  messageValueBytes,
  numberedKey,
  numberValue,
  positionKey,
  positionValue,
  queueValue,
  RowKind,
  stampKey,
  writeMessageKey,
  writeMessageValue,
} from './keys.ts'
import type { Generation } from './overlay.ts'
import { readMessageValues } from './stored-messages.ts'

type Database = ClassicLevel<Buffer, Buffer>

/** Rows put into the batch in one go; then the event loop has its turn, so that a large checkpoint stalls nobody. */
const rowsPerTurn = 1000

/**
 * Writes what was frozen as one atomic, synced LevelDB batch.
 *
 * Nothing of it shows in the database before it is whole: the batch is gathered in memory over several turns, from
 * changes that do not change any more, and written at the end.
 */
export class CheckpointWriter {
  /** Message entries put or deleted. */
  entries = 0
  /** Message entries read to find low marks. */
  scannedEntries = 0
  /** The new low mark of each frozen queue, in their order. */
  readonly lowMarks: number[] = []
  readonly #db: Database
  readonly #frozen: FrozenChanges
  readonly #batch: ChainedBatch<Database, Buffer, Buffer>
  readonly #key = Buffer.alloc(messageKeyBytes)
  readonly #value = Buffer.alloc(messageValueBytes)
  #rowsThisTurn = 0

  constructor(db: Database, frozen: FrozenChanges) {
    this.#db = db
    this.#frozen = frozen
    this.#batch = db.batch()
  }

  /** @param checkpoint - Number of this checkpoint, one above the one before. */
  async write(checkpoint: number): Promise<void> {
    const { position, epochStarts, configuration, producers, queues } = this.#frozen
    const batch = this.#batch
    batch.put(formatKey, formatValue()).put(positionKey, positionValue(position, checkpoint))
    batch.put(stampKey(slotOf(checkpoint)), numberValue(checkpoint))
    for (const { index, epoch } of epochStarts) {
      batch.put(numberedKey(RowKind.epochStart, index), numberValue(epoch))
    }
    if (configuration !== undefined) batch.put(configurationKey, configurationValue(configuration))
    for (const { id, value } of producers) {
      const key = numberedKey(RowKind.producer, id)
      if (value === undefined) batch.del(key)
      else batch.put(key, value)
      if (this.#turnIsOver()) await nextTurn()
    }
    for (const queue of queues) await this.#queue(queue)
    await batch.write({ sync: true })
  }

  /** Gives up what was gathered. */
  async abandon(): Promise<void> {
    await this.#batch.close()
  }

  async #queue(queue: FrozenQueue): Promise<void> {
    const { id, name, count, messages } = queue
    const lowMark = messages === undefined ? queue.lowMark : await this.#lowMark(queue, messages)
    this.lowMarks.push(lowMark)
    this.#batch.put(numberedKey(RowKind.queue, id), queueValue(count, lowMark, name))
    if (messages !== undefined) {
      await this.#removed(id, messages)
      await this.#redelivered(id, messages)
      await this.#added(id, messages)
    }
    if (this.#turnIsOver()) await nextTurn()
  }

  /**
   * The first message that LevelDB will hold. It has to be looked for only if the one so far goes, and then from there
   * on; so each entry is passed once in its life, and none that is deleted already.
   */
  async #lowMark(queue: FrozenQueue, messages: Generation): Promise<number> {
    if (queue.lowMark !== 0) {
      if (!messages.removed.has(queue.lowMark)) return queue.lowMark
      const survivor = await this.#firstSurvivor(queue, messages)
      if (survivor !== undefined) return survivor
    }
    return messages.added.first ?? 0
  }

  async #firstSurvivor(queue: FrozenQueue, messages: Generation): Promise<number | undefined> {
    let survivor: number | undefined
    await readMessageValues(
      this.#db,
      queue.id,
      queue.lowMark,
      this.#frozen.storedTo,
      rowsPerTurn,
      (value) => {
        this.scannedEntries++
        const index = messageIndexIn(value, queue.id)
        if (messages.removed.has(index)) return true
        survivor = index
        return false
      },
    )
    return survivor
  }

  async #removed(queue: number, messages: Generation): Promise<void> {
    for (const index of messages.removed.keys()) {
      this.#batch.del(writeMessageKey(this.#key, queue, index))
      this.entries++
      if (this.#turnIsOver()) await nextTurn()
    }
  }

  /** The length is not in memory: entries are read and written anew. Redeliveries are rare enough for that. */
  async #redelivered(queue: number, messages: Generation): Promise<void> {
    const indices = [...messages.redelivered.keys()].filter((index) => !messages.removed.has(index))
    for (let from = 0; from < indices.length; from += rowsPerTurn) {
      const some = indices.slice(from, from + rowsPerTurn)
      const values = await this.#db.getMany(some.map((index) => messageKey(queue, index)))
      for (const [place, index] of some.entries()) {
        const value = values[place]
        if (value === undefined) continue // Was never there, or is removed long since.
        messageIndexIn(value, queue)
        this.#put(queue, index, messageBytesIn(value), messages.redelivered.get(index)?.count ?? 0)
      }
    }
  }

  async #added(queue: number, messages: Generation): Promise<void> {
    let after = 0
    let last: number
    do {
      last = after
      messages.added.each(last, (index, bytes, redeliveries) => {
        this.#put(queue, index, bytes, redeliveries)
        after = index
        return !this.#turnIsOver()
      })
      if (this.#rowsThisTurn === 0 && after > last) await nextTurn()
    } while (after > last)
  }

  /** The batch copies key and value at once, so both buffers serve again. */
  #put(queue: number, index: number, bytes: number, redeliveries: number): void {
    this.#batch.put(
      writeMessageKey(this.#key, queue, index),
      writeMessageValue(this.#value, queue, index, bytes, redeliveries),
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

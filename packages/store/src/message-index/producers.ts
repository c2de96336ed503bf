import { readUint53, writeUint53 } from '../journal/integer.ts'
import type { Statement } from './message-index.ts'
import { GapWindow } from './sequence-window.ts'
import type { Stated, Statements } from './statements.ts'

/** A registered producer, as a link in the order of use. */
class Producer implements Stated {
  /** Index of the record that registered it. */
  readonly id: number
  /** The producer's own id. */
  readonly name: string
  readonly window: GapWindow
  /** Last record that used it. */
  usedAt: number
  statedAt = 0
  older: Producer | undefined
  newer: Producer | undefined
  changed = false

  constructor(id: number, name: string, window: GapWindow, usedAt: number) {
    this.id = id
    this.name = name
    this.window = window
    this.usedAt = usedAt
  }

  statement(): Statement {
    const { id, name, usedAt: lastUsed } = this
    const window = Buffer.allocUnsafe(this.window.encodedBytes)
    this.window.encode(window, 0)
    return { kind: 'producer', id, name, lastUsed, window }
  }
}

/** Rows that changed since the last call: `value` undefined means that the producer was forgotten. */
export interface ProducerRow {
  readonly id: number
  readonly value: Buffer | undefined
}

/**
 * The producers that duplicate detection knows, with what was seen of each.
 *
 * Pure. Invariants: what it holds depends on the records applied alone, not on checkpoints or restarts; it never holds
 * more than `maxProducers`, the one unused for longest in the order of the log goes first. So at any time these are
 * the `maxProducers` registrations with the highest last use of all that ever were, where what names a producer that
 * is forgotten is no use of it.
 */
export class Producers {
  readonly #maxProducers: number
  readonly #maxGaps: number
  readonly #statements: Statements
  readonly #byId = new Map<number, Producer>()
  readonly #byName = new Map<string, Producer>()
  #oldest: Producer | undefined
  #newest: Producer | undefined
  #changed: Producer[] = []
  #forgotten: number[] = []
  /** While the index is rebuilt, producers come to be known in another order than that of their use. */
  #unordered = false

  constructor(maxProducers: number, maxGaps: number, statements: Statements) {
    this.#maxProducers = maxProducers
    this.#maxGaps = maxGaps
    this.#statements = statements
  }

  get size(): number {
    return this.#byId.size
  }

  /** Rows that a checkpoint would write. */
  get pendingChanges(): number {
    return this.#changed.length + this.#forgotten.length
  }

  has(id: number): boolean {
    return this.#byId.has(id)
  }

  named(name: string): number | undefined {
    return this.#byName.get(name)?.id
  }

  window(id: number): GapWindow | undefined {
    return this.#byId.get(id)?.window.clone()
  }

  /** A registration begins with nothing seen; no master registers a name that is known. */
  register(index: number, name: string): void {
    const known = this.#byName.get(name)
    if (known !== undefined) this.#forget(known)
    const producer = new Producer(index, name, new GapWindow(this.#maxGaps), index)
    this.#insert(producer)
    this.#statements.state(producer, index)
    this.#bound()
  }

  /** A record states again what is known of a producer: it changes nothing but where that is said. */
  kept(id: number, at: number): void {
    const producer = this.#byId.get(id)
    if (producer === undefined) return
    this.#statements.state(producer, at)
    this.#note(producer)
  }

  /**
   * Takes a producer from the record that states it, while the index is rebuilt.
   *
   * @throws RangeError if the window is cut short.
   */
  carry(id: number, at: number, lastUsed: number, name: string, window: Buffer): void {
    if (this.#byId.has(id)) {
      this.kept(id, at)
      return
    }
    if (this.#byName.has(name)) return // Registered anew since: what was known of the first is forgotten.
    const producer = new Producer(id, name, GapWindow.decode(window, 0, this.#maxGaps), lastUsed)
    this.#insert(producer)
    this.#statements.state(producer, at)
    this.#bound()
  }

  /**
   * Counts a sequence as seen; nothing happens if the producer is not, or no longer, registered.
   *
   * @returns Whether it is registered.
   */
  see(id: number, sequence: number, at: number): boolean {
    const producer = this.#newest?.id === id ? this.#newest : this.#byId.get(id)
    if (producer === undefined) return false
    producer.window.add(sequence)
    producer.usedAt = at
    this.#note(producer)
    if (producer !== this.#newest) {
      this.#unlink(producer)
      this.#link(producer)
    }
    return true
  }

  /** From now on producers are carried in; see {@link carry}. */
  beginCarrying(): void {
    this.#unordered = true
  }

  endCarrying(): void {
    if (!this.#unordered) return
    this.#unordered = false
    this.#sort()
    this.#bound()
  }

  /** Hands out the changed rows, once each. */
  takeChanges(): ProducerRow[] {
    const rows: ProducerRow[] = this.#forgotten.map((id) => ({ id, value: undefined }))
    for (const producer of this.#changed) {
      producer.changed = false
      if (this.#byId.get(producer.id) === producer)
        rows.push({ id: producer.id, value: encodeProducer(producer) })
    }
    this.#changed = []
    this.#forgotten = []
    return rows
  }

  /**
   * Takes over the rows of a database.
   *
   * @returns All producers there are now, to be put in the order of their statements.
   * @throws RangeError if a row is cut short.
   */
  restore(rows: readonly { readonly id: number; readonly value: Buffer }[]): readonly Stated[] {
    for (const { id, value } of rows) this.#insert(this.#decode(id, value))
    this.#sort()
    this.#changed = []
    for (const producer of this.#byId.values()) producer.changed = false
    this.#bound() // The bound may be lower than when this was written.
    return [...this.#byId.values()]
  }

  #decode(id: number, value: Buffer): Producer {
    const window = GapWindow.decode(value, 16, this.#maxGaps)
    // The count of gaps on disk, not of those kept: it says where the name begins.
    const nameAt = 16 + 12 + value.readUInt32LE(24) * 16
    const producer = new Producer(id, value.toString('utf8', nameAt), window, readUint53(value, 0))
    producer.statedAt = readUint53(value, 8)
    return producer
  }

  #insert(producer: Producer): void {
    this.#byId.set(producer.id, producer)
    this.#byName.set(producer.name, producer)
    this.#link(producer)
    this.#note(producer)
  }

  #note(producer: Producer): void {
    if (producer.changed) return
    producer.changed = true
    this.#changed.push(producer)
  }

  #bound(): void {
    if (this.#unordered) {
      if (this.#byId.size < 2 * this.#maxProducers) return // Sorting each time would take too long.
      this.#sort()
    }
    while (this.#byId.size > this.#maxProducers && this.#oldest !== undefined) this.#forget(this.#oldest)
  }

  /** Links all in the order of their last use. */
  #sort(): void {
    this.#oldest = this.#newest = undefined
    const producers = [...this.#byId.values()].sort((one, other) => one.usedAt - other.usedAt)
    for (const producer of producers) this.#link(producer)
  }

  #forget(producer: Producer): void {
    this.#byId.delete(producer.id)
    this.#byName.delete(producer.name)
    this.#unlink(producer)
    this.#statements.forget(producer)
    this.#forgotten.push(producer.id)
  }

  #link(producer: Producer): void {
    producer.older = this.#newest
    producer.newer = undefined
    if (this.#newest === undefined) this.#oldest = producer
    else this.#newest.newer = producer
    this.#newest = producer
  }

  #unlink(producer: Producer): void {
    if (producer.older === undefined) this.#oldest = producer.newer
    else producer.older.newer = producer.newer
    if (producer.newer === undefined) this.#newest = producer.older
    else producer.newer.older = producer.older
  }
}

function encodeProducer(producer: Producer): Buffer {
  const name = Buffer.from(producer.name)
  const value = Buffer.allocUnsafe(16 + producer.window.encodedBytes + name.length)
  writeUint53(value, producer.usedAt, 0)
  writeUint53(value, producer.statedAt, 8)
  name.copy(value, producer.window.encode(value, 16))
  return value
}

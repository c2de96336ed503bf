import { readUint53, writeUint53 } from '../journal/integer.ts'
import { GapWindow } from './sequence-window.ts'

/** A registered producer, as a link in the order of use. */
interface Producer {
  /** Index of the record that registered it. */
  readonly id: number
  /** The producer's own id. */
  readonly name: string
  readonly window: GapWindow
  /** Last record that used it. */
  usedAt: number
  older: Producer | undefined
  newer: Producer | undefined
  changed: boolean
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
 * more than `maxProducers`, the one unused for longest in the order of the log goes first.
 */
export class Producers {
  readonly #maxProducers: number
  readonly #maxGaps: number
  readonly #byId = new Map<number, Producer>()
  readonly #byName = new Map<string, Producer>()
  #oldest: Producer | undefined
  #newest: Producer | undefined
  #changed: Producer[] = []
  #forgotten: number[] = []

  constructor(maxProducers: number, maxGaps: number) {
    this.#maxProducers = maxProducers
    this.#maxGaps = maxGaps
  }

  get size(): number {
    return this.#byId.size
  }

  /** Rows that a checkpoint would write. */
  get pendingChanges(): number {
    return this.#changed.length + this.#forgotten.length
  }

  named(name: string): number | undefined {
    return this.#byName.get(name)?.id
  }

  window(id: number): GapWindow | undefined {
    return this.#byId.get(id)?.window.clone()
  }

  register(index: number, name: string): void {
    const known = this.#byName.get(name)
    // No master registers a known name again; should it happen, what was seen of it still counts.
    const window = known?.window ?? new GapWindow(this.#maxGaps)
    if (known !== undefined) this.#forget(known)
    this.#insert({
      id: index,
      name,
      window,
      usedAt: index,
      older: undefined,
      newer: undefined,
      changed: false,
    })
    this.#bound()
  }

  /** Counts a sequence as seen; nothing happens if the producer is not, or no longer, registered. */
  see(id: number, sequence: number, at: number): void {
    const producer = this.#newest?.id === id ? this.#newest : this.#byId.get(id)
    if (producer === undefined) return
    producer.window.add(sequence)
    producer.usedAt = at
    this.#note(producer)
    if (producer === this.#newest) return
    this.#unlink(producer)
    this.#link(producer)
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
   * @throws RangeError if a row is cut short.
   */
  restore(rows: readonly { readonly id: number; readonly value: Buffer }[]): void {
    const producers = rows.map(({ id, value }) => this.#decode(id, value))
    for (const producer of producers.sort((one, other) => one.usedAt - other.usedAt)) this.#insert(producer)
    this.#changed = []
    for (const producer of producers) producer.changed = false
    this.#bound() // The bound may be lower than when this was written.
  }

  #decode(id: number, value: Buffer): Producer {
    const window = GapWindow.decode(value, 8, this.#maxGaps)
    // The count of gaps on disk, not of those kept: it says where the name begins.
    const nameAt = 8 + 12 + value.readUInt32LE(16) * 16
    const name = value.toString('utf8', nameAt)
    return {
      id,
      name,
      window,
      usedAt: readUint53(value, 0),
      older: undefined,
      newer: undefined,
      changed: false,
    }
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
    while (this.#byId.size > this.#maxProducers && this.#oldest !== undefined) this.#forget(this.#oldest)
  }

  #forget(producer: Producer): void {
    this.#byId.delete(producer.id)
    this.#byName.delete(producer.name)
    this.#unlink(producer)
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
  const value = Buffer.allocUnsafe(8 + producer.window.encodedBytes + name.length)
  writeUint53(value, producer.usedAt, 0)
  name.copy(value, producer.window.encode(value, 8))
  return value
}

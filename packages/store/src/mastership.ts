import { StoreError } from './errors.ts'
import type { BatchBuilder } from './journal/batch-builder.ts'
import { keptMessageHeaderBytes, messageHeaderBytes, RecordKind } from './journal/record.ts'
import type { MessageIndex, SequenceWindow, Statement } from './message-index/message-index.ts'
import type { MasterSession } from './message-store.ts'
import { Restatement, type RestatementWriter } from './space/restatement.ts'

/** What a mastership needs of the store it belongs to. */
export interface MastershipHost {
  /** Index of the next record to be appended. */
  nextIndex(): number
  /** A record of so many bytes comes next: what is open is sealed first if the two make too large a batch. */
  makeRoom(bytes: number): void
  /** Something was appended: to be sealed at the end of the turn, or at once if `now`. */
  appended(now: boolean): void
  mayDispatch(): boolean
  hasRoom(): boolean
  /** Whether the disk has space for more than what frees some. */
  hasSpace(): boolean
}

/** A producer that sent in this mastership: what was seen of it, whether applied or not. */
interface ActiveProducer {
  readonly window: SequenceWindow
  /** Of its last record. */
  lastIndex: number
}

const pruneAtLeast = 10_000

/**
 * One mastership: encodes changes into the open batch, and tells a producer's repetitions from what is new.
 *
 * Invariant: what was seen of a producer here is what the index has seen plus what this mastership appended. If that
 * is lost with the mastership, so is what it appended or it is committed by the next one, whose index then has it.
 */
export class Mastership implements MasterSession, RestatementWriter {
  readonly epoch: number
  readonly #builder: BatchBuilder
  readonly #index: MessageIndex
  readonly #host: MastershipHost
  readonly #maxRecordBytes: number
  readonly #directory: string
  readonly #newWindow: () => SequenceWindow
  readonly #producers = new Map<number, ActiveProducer>()
  /** Producers registered here whose record is not in the index yet. */
  readonly #registered = new Map<string, number>()
  #pruneAt = pruneAtLeast
  /** What the cleaner is looking at. */
  #restatement: Restatement | undefined
  #over = false

  constructor(
    epoch: number,
    parts: {
      readonly builder: BatchBuilder
      readonly index: MessageIndex
      readonly host: MastershipHost
      readonly maxRecordBytes: number
      /** Of the store, for errors. */
      readonly directory: string
      readonly newWindow: () => SequenceWindow
    },
  ) {
    this.epoch = epoch
    this.#builder = parts.builder
    this.#index = parts.index
    this.#host = parts.host
    this.#maxRecordBytes = parts.maxRecordBytes
    this.#directory = parts.directory
    this.#newWindow = parts.newWindow
  }

  /** From now on everything is refused. */
  end(): void {
    this.#over = true
  }

  addQueue(name: string): number {
    return this.#text(RecordKind.queueAdded, name)
  }

  producer(id: string): number {
    this.#check()
    const here = this.#registered.get(id)
    const known = here !== undefined && here > this.#index.appliedIndex ? here : this.#index.producerNamed(id)
    // The index forgets producers that were unused for long; one that it forgot is registered anew.
    if (known !== undefined) return known
    const bytes = Buffer.byteLength(id)
    if (bytes < 1 || bytes > 512) throw new TypeError(`producer id of ${bytes} bytes; 1 to 512 are allowed`)
    const registered = this.#text(RecordKind.producerAdded, id)
    this.#registered.set(id, registered)
    this.#producers.set(registered, { window: this.#newWindow(), lastIndex: registered })
    this.#prune()
    return registered
  }

  addMessage(queue: number, producer: number, sequence: number, head: Uint8Array, body: Uint8Array): number {
    this.#check()
    const bytes = messageHeaderBytes + head.length + body.length
    this.#checkBytes(bytes, 'message')
    if (!isIndex(queue)) throw new TypeError(`queue ${queue} is no id`)
    if (!this.#host.hasSpace()) throw this.#full()
    if (producer === 0 ? sequence !== 0 : !isIndex(producer) || !isIndex(sequence))
      throw new TypeError(`sequence ${sequence} of producer ${producer}`)
    this.#host.makeRoom(bytes)
    const index = this.#host.nextIndex()
    if (producer !== 0) {
      const active = this.#active(producer)
      // Where the first copy is in the log is not kept: the end of the log is never before it.
      if (active.window.has(sequence)) return -(index - 1)
      active.window.add(sequence)
      active.lastIndex = index
    }
    // Of a producer that it has forgotten the index takes no note. Where the log says so, a rebuild takes none either.
    const noted = producer > this.#index.appliedIndex || this.#index.hasProducer(producer)
    this.#builder.message(queue, noted ? producer : 0, noted ? sequence : 0, head, body)
    this.#host.appended(false)
    return index
  }

  removeMessages(queue: number, indices: readonly number[]): number {
    this.#check()
    this.#checkIndices(queue, indices)
    const index = this.#host.nextIndex()
    this.#builder.removals(queue, indices)
    this.#restatement?.changed(indices)
    this.#host.appended(false)
    return index
  }

  countRedelivery(queue: number, indices: readonly number[], count: number): number {
    this.#check()
    this.#checkIndices(queue, indices)
    if (!Number.isInteger(count) || count < 0 || count > 0xffffffff)
      throw new TypeError(`redelivery count ${count}`)
    const index = this.#host.nextIndex()
    this.#builder.redelivery(queue, indices, count)
    this.#restatement?.changed(indices)
    this.#host.appended(false)
    return index
  }

  removeQueue(queue: number): number {
    this.#check()
    if (!isIndex(queue)) throw new TypeError(`queue ${queue} is no id`)
    const index = this.#host.nextIndex()
    this.#builder.queueRemoved(queue)
    this.#restatement?.removed(queue)
    this.#host.appended(false)
    return index
  }

  // For the cleaner.

  /** Begins to watch what happens to things that are to be stated anew; one at a time. */
  restate(): Restatement {
    this.#check()
    this.#restatement = new Restatement(this, () => {
      this.#restatement = undefined
    })
    return this.#restatement
  }

  keepMessage(queue: number, message: number, redeliveryCount: number, envelope: Uint8Array): number {
    this.#check()
    this.#host.makeRoom(keptMessageHeaderBytes + envelope.length)
    const index = this.#host.nextIndex()
    this.#builder.messageKept(queue, message, redeliveryCount, envelope)
    this.#host.appended(false)
    return index
  }

  keepQueue(queue: number, name: string): number {
    this.#check()
    const index = this.#host.nextIndex()
    this.#builder.queueKept(queue, name)
    this.#host.appended(false)
    return index
  }

  /** What this mastership has seen of the producer counts too, applied or not. */
  keepProducer(statement: Extract<Statement, { kind: 'producer' }>): number {
    this.#check()
    const { id, name } = statement
    const active = this.#producers.get(id)
    const seen = active?.window ?? this.#index.producerWindow(id) ?? this.#newWindow()
    const window = Buffer.alloc(seen.encodedBytes)
    seen.encode(window, 0)
    this.#host.makeRoom(512 + window.length)
    const index = this.#host.nextIndex()
    this.#builder.producerKept(id, Math.max(statement.lastUsed, active?.lastIndex ?? 0), name, window)
    this.#host.appended(false)
    return index
  }

  mayDispatch(): boolean {
    this.#check()
    return this.#host.mayDispatch()
  }

  hasRoom(): boolean {
    this.#check()
    return this.#host.hasRoom()
  }

  flush(): void {
    this.#check()
    this.#host.appended(true)
  }

  #text(kind: RecordKind, text: string): number {
    this.#check()
    const bytes = Buffer.byteLength(text)
    this.#checkBytes(bytes, 'name')
    this.#host.makeRoom(bytes)
    const index = this.#host.nextIndex()
    this.#builder.text(kind, text)
    this.#host.appended(false)
    return index
  }

  #active(producer: number): ActiveProducer {
    let active = this.#producers.get(producer)
    if (active === undefined) {
      active = { window: this.#index.producerWindow(producer) ?? this.#newWindow(), lastIndex: 0 }
      // Before it is in: what it is about to send is not in the index.
      this.#prune()
      this.#producers.set(producer, active)
    }
    return active
  }

  /** Lets go of what the index knows as well by now: clients may come with any number of producer ids. */
  #prune(): void {
    if (this.#producers.size < this.#pruneAt) return
    const { appliedIndex } = this.#index
    for (const [producer, { lastIndex }] of this.#producers) {
      if (lastIndex <= appliedIndex) this.#producers.delete(producer)
    }
    for (const [id, registered] of this.#registered)
      if (registered <= appliedIndex) this.#registered.delete(id)
    this.#pruneAt = Math.max(pruneAtLeast, 2 * this.#producers.size)
  }

  /** What cannot be read back must never get into the log: no node could go on behind it. */
  #checkIndices(queue: number, indices: readonly number[]): void {
    if (!isIndex(queue)) throw new TypeError(`queue ${queue} is no id`)
    if (indices.length === 0) throw new TypeError('no message is named')
    for (const index of indices) if (!isIndex(index)) throw new TypeError(`${index} is no index of a message`)
    const bytes = 12 + 8 * indices.length
    this.#checkBytes(bytes, 'list of messages')
    this.#host.makeRoom(bytes)
  }

  #checkBytes(bytes: number, what: string): void {
    if (bytes <= this.#maxRecordBytes) return
    throw new StoreError(
      { code: 'STORE_RECORD_TOO_LARGE', bytes, limit: this.#maxRecordBytes },
      `${what} of ${bytes} bytes; maxRecordBytes is ${this.#maxRecordBytes}`,
    )
  }

  #full(): StoreError {
    const directory = this.#directory
    return new StoreError({ code: 'STORE_FULL', directory }, `${directory}: no space for more messages`)
  }

  #check(): void {
    if (this.#over) throw new StoreError({ code: 'STORE_NOT_MASTER' }, 'this broker is no longer master')
  }
}

function isIndex(number: number): boolean {
  return Number.isSafeInteger(number) && number > 0
}

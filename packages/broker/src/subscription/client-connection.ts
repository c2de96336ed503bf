import type { Message } from '../destination/message.ts'
import type { Queue } from '../destination/queue.ts'
import type { Client, Consumer, EngineConnection, Receiver, SubscribeOptions } from '../engine.ts'
import { QueueConsumer } from './queue-consumer.ts'

/** What connections need of the engine. */
export interface ConnectionHost {
  /** False once mastership is over: then nothing here has an effect any more. */
  readonly alive: boolean
  /** Highest index that is confirmed. */
  readonly confirmedIndex: number
  /** Lowest index that the next record may get. */
  readonly nextIndex: number
  /** Appends a message; @returns the index to wait for. */
  append(queue: string, head: Uint8Array, body: Uint8Array, producer: number, sequence: number): number
  producer(id: string): number
  queue(name: string): Queue
  hasRoom(): boolean
  mayDispatch(): boolean
  /** Asks for the queue to be settled and dispatched by the next `work`. */
  settleLater(queue: Queue): void
  dispatchLater(queue: Queue): void
  flushLater(connection: ClientConnection): void
  /** The connection waits for indices: tell it what is confirmed. */
  confirmLater(connection: ClientConnection): void
  /** Asks for `settled` after this turn's records are appended. */
  promised(connection: ClientConnection): void
  /** Asks for `roomAgain`. */
  wantsRoom(connection: ClientConnection): void
  forget(connection: ClientConnection): void
  /** Does what was asked for. */
  work(): void
  /** The session threw: its connection is closed, the others go on. */
  sessionFailed(connection: ClientConnection, error: unknown): void
}

/**
 * One client of the engine: its consumers, and what it waits for.
 *
 * Acknowledgements of a turn become one record at its end, so the index of that record is not known when the session
 * asks for it. It is promised the lowest index that the record can get instead, and no index from the promised one on
 * is reported to this client before the record itself is confirmed.
 *
 * Invariant: `Client.confirmed(i)` is called only if everything this client was told to await up to `i` is confirmed.
 */
export class ClientConnection implements EngineConnection {
  readonly client: Client
  /** In the engine's set of those that wait for confirmations. */
  waiting = false
  /** In the engine's list of those to flush. */
  flushing = false
  readonly #host: ConnectionHost
  readonly #consumers = new Set<QueueConsumer>()
  #open = true
  /** Highest index that the session waits for. */
  #awaited = 0
  #reported = 0
  /** It was given an index that is confirmed already. */
  #awaitsOld = false
  /** Promised in this turn for the records still to be appended; 0 for none. */
  #promised = 0
  /** Promises of earlier turns that lie below the index of their record, in rising order. */
  readonly #withheld: { readonly from: number; readonly until: number }[] = []
  #producerName: string | undefined
  #producer = 0

  constructor(client: Client, host: ConnectionHost) {
    this.client = client
    this.#host = host
  }

  get writable(): boolean {
    return this.#open && this.client.writable
  }

  send(
    queue: string,
    head: Uint8Array,
    body: Uint8Array,
    producer: string | undefined,
    sequence: number,
  ): number {
    if (producer !== undefined && producer !== this.#producerName) {
      this.#producer = this.#host.producer(producer)
      this.#producerName = producer
    }
    const index = this.#host.append(queue, head, body, producer === undefined ? 0 : this.#producer, sequence)
    return this.#awaits(index)
  }

  subscribe(options: SubscribeOptions, receiver: Receiver): Consumer {
    const queue = this.#host.queue(options.queue)
    const consumer = new QueueConsumer(queue, this, receiver, options)
    this.#consumers.add(consumer)
    queue.consumerCount += 1
    queue.ring.offer(consumer)
    this.#host.dispatchLater(queue)
    return consumer
  }

  hasRoom(): boolean {
    if (!this.#host.alive || this.#host.hasRoom()) return true
    this.#host.wantsRoom(this)
    return false
  }

  mayDeliver(): boolean {
    if (!this.#host.alive) return false
    if (this.#host.mayDispatch()) return true
    if (!this.flushing) this.#host.flushLater(this)
    return false
  }

  endOfRead(): void {
    if (this.#awaitsOld) {
      this.#awaitsOld = false
      this.confirm(this.#host.confirmedIndex, true)
    }
    this.#host.work()
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.endConsumers()
    this.#host.forget(this)
    this.#host.work()
  }

  consumes(queue: Queue): boolean {
    for (const consumer of this.#consumers) if (consumer.queue === queue) return true
    return false
  }

  /** Gives back what all consumers hold. */
  endConsumers(): void {
    for (const consumer of this.#consumers) consumer.end()
    this.#consumers.clear()
  }

  /** No consumer here keeps anything: mastership is over. */
  abandon(): void {
    this.#open = false
    this.#consumers.clear()
  }

  /** @returns Whether the session took it; if not, the connection is closed. */
  deliver(receiver: Receiver, message: Message, envelope: Buffer): boolean {
    try {
      receiver.deliver(message.index, message.redeliveryCount, envelope)
    } catch (error) {
      this.#host.sessionFailed(this, error)
      return false
    }
    if (!this.flushing) this.#host.flushLater(this)
    return true
  }

  /** Tells the session that records up to `index` are confirmed, as far as it may know. */
  confirm(index: number, repeat = false): void {
    let upTo = index
    while (this.#withheld[0] !== undefined && this.#withheld[0].until <= index) this.#withheld.shift()
    const withheld = this.#withheld[0]
    if (withheld !== undefined && withheld.from <= upTo) upTo = withheld.from - 1
    if (this.#promised !== 0 && this.#promised <= upTo) upTo = this.#promised - 1
    if (upTo < this.#reported || (upTo === this.#reported && !repeat)) return
    this.#reported = upTo
    this.waiting = upTo < this.#awaited
    if (this.waiting) this.#host.confirmLater(this)
    if (!this.flushing) this.#host.flushLater(this)
    try {
      this.client.confirmed(upTo)
    } catch (error) {
      this.#host.sessionFailed(this, error)
    }
  }

  /** Promises the session an index for what is to be settled at the end of this turn. */
  promiseSettling(): number {
    if (!this.#host.alive) return 0
    if (this.#promised === 0) {
      this.#promised = this.#host.nextIndex
      this.#host.promised(this)
    }
    return this.#awaits(this.#promised)
  }

  /** The records promised in this turn are appended; `index` is that of the last. */
  settled(index: number): void {
    if (index > this.#promised) this.#withheld.push({ from: this.#promised, until: index })
    this.#promised = 0
    // Registered anew: since the promise the client may have been told all that it waited for.
    if (index > this.#host.confirmedIndex) this.#awaits(index)
  }

  /** Output is free again: its consumers take their turns. */
  writableAgain(): void {
    for (const consumer of this.#consumers) {
      consumer.queue.ring.offer(consumer)
      this.#host.dispatchLater(consumer.queue)
    }
  }

  settleLater(queue: Queue): void {
    this.#host.settleLater(queue)
  }

  forget(consumer: QueueConsumer): void {
    this.#consumers.delete(consumer)
  }

  #awaits(index: number): number {
    if (index > this.#awaited) this.#awaited = index
    if (index <= this.#host.confirmedIndex) this.#awaitsOld = true
    else if (!this.waiting) {
      this.waiting = true
      this.#host.confirmLater(this)
    }
    return index
  }
}

import type { Message } from '../destination/message.ts'
import type { Queue } from '../destination/queue.ts'
import type { Consumer, Receiver, SubscribeOptions } from '../engine.ts'
import type { ClientConnection } from './client-connection.ts'
import { OutstandingMessages } from './outstanding-messages.ts'

/**
 * A consumer on a queue: its credit, and what it holds.
 *
 * Invariant: a message that was delivered is outstanding here until it is acknowledged or given back; in mode `auto`
 * it is acknowledged with the delivery.
 */
export class QueueConsumer implements Consumer {
  /** Kept by the queue's `ConsumerRing`. */
  inRing = false
  readonly queue: Queue
  readonly #connection: ClientConnection
  readonly #receiver: Receiver
  readonly #mode: SubscribeOptions['mode']
  readonly #prefetch: number
  readonly #outstanding = new OutstandingMessages()
  #open = true

  constructor(queue: Queue, connection: ClientConnection, receiver: Receiver, options: SubscribeOptions) {
    this.queue = queue
    this.#connection = connection
    this.#receiver = receiver
    this.#mode = options.mode
    this.#prefetch = options.prefetch
  }

  /** Credit in hand, and a client that takes output. */
  get canTake(): boolean {
    return this.#open && this.#outstanding.size < this.#prefetch && this.#connection.writable
  }

  /** Called by the queue, which has checked `canTake`. */
  deliver(message: Message): void {
    const envelope = message.envelope
    if (envelope === undefined) throw new Error(`message ${message.index} is not in memory`)
    message.envelope = undefined
    if (this.#mode === 'auto') {
      if (this.#connection.deliver(this.#receiver, message, envelope)) this.queue.acknowledge(message)
      else this.queue.giveBack([message])
      this.#connection.settleLater(this.queue)
    } else {
      this.#outstanding.add(message)
      this.#connection.deliver(this.#receiver, message, envelope)
    }
  }

  acknowledge(index: number): number {
    if (this.#mode === 'client') {
      const messages = this.#outstanding.takeThrough(index)
      for (const message of messages) this.queue.acknowledge(message)
      return this.#answered(messages.length)
    }
    const message = this.#outstanding.take(index)
    if (message === undefined) return 0
    this.queue.acknowledge(message)
    return this.#answered(1)
  }

  reject(index: number): number {
    const taken =
      this.#mode === 'client' ? this.#outstanding.takeThrough(index) : [this.#outstanding.take(index)]
    const messages = taken.filter((message) => message !== undefined)
    this.queue.giveBack(messages)
    return this.#answered(messages.length)
  }

  close(): void {
    if (!this.#open) return
    this.end()
    this.#connection.forget(this)
  }

  /** As `close`, for the connection that ends all its consumers. */
  end(): void {
    if (!this.#open) return
    this.#open = false
    this.queue.ring.remove(this)
    this.queue.consumerCount -= 1
    this.queue.giveBack(this.#outstanding.takeAll())
    this.#connection.settleLater(this.queue)
  }

  /** @returns What the session has to wait for, 0 if nothing was answered. */
  #answered(count: number): number {
    if (count === 0) return 0
    this.queue.ring.offer(this)
    this.#connection.settleLater(this.queue)
    return this.#connection.promiseSettling()
  }
}

import type { Consumer } from '../../engine.ts'
import type { StompFrame } from './frame.ts'
import { StompProtocolError } from './protocol-error.ts'
import { StompHeader, type StompVersion } from './vocabulary.ts'

export interface Subscription {
  /** Its place in the connection, for `ack` ids; never used again. */
  readonly number: number
  /** As the client names it: the id, or in STOMP 1.0 the destination. */
  readonly key: string
  consumer: Consumer | undefined
}

/** The subscriptions of one connection, and which of its messages an ACK or NACK means. */
export class Subscriptions {
  readonly #most: number
  readonly #messageIdPrefix: string
  readonly #byKey = new Map<string, Subscription>()
  readonly #byNumber = new Map<number, Subscription>()
  #count = 0

  /**
   * @param most - Subscriptions at one time.
   * @param messageIdPrefix - What stands before the index in a message-id.
   */
  constructor(most: number, messageIdPrefix: string) {
    this.#most = most
    this.#messageIdPrefix = messageIdPrefix
  }

  /** @throws StompProtocolError if the key is taken, or there are too many. */
  add(key: string): Subscription {
    if (this.#byKey.has(key)) {
      throw new StompProtocolError(
        'subscription id in use',
        'Each SUBSCRIBE of a connection has an id of its own.',
      )
    }
    if (this.#byKey.size >= this.#most) {
      throw new StompProtocolError('too many subscriptions', `A connection has at most ${this.#most}.`)
    }
    this.#count += 1
    const subscription: Subscription = { number: this.#count, key, consumer: undefined }
    this.#byKey.set(key, subscription)
    this.#byNumber.set(subscription.number, subscription)
    return subscription
  }

  /** Takes a subscription out. @throws StompProtocolError if there is none of that key. */
  take(key: string | undefined): Subscription {
    const subscription = key === undefined ? undefined : this.#byKey.get(key)
    if (subscription === undefined) {
      throw new StompProtocolError(
        'unknown subscription',
        'UNSUBSCRIBE has the id of a subscription of this connection.',
      )
    }
    this.#byKey.delete(subscription.key)
    this.#byNumber.delete(subscription.number)
    return subscription
  }

  /** Ends them all. */
  close(): void {
    for (const subscription of this.#byKey.values()) subscription.consumer?.close()
    this.#byKey.clear()
    this.#byNumber.clear()
  }

  /**
   * Acknowledges, or rejects, the message that a frame names.
   *
   * @returns Index to wait for, or 0 if there is no such message outstanding.
   */
  settle(frame: StompFrame, version: StompVersion, reject: boolean): number {
    return version === '1.2' ? this.#settleById(frame, reject) : this.#settleByMessage(frame, version, reject)
  }

  #settleById(frame: StompFrame, reject: boolean): number {
    const match = /^(\d{1,10})-(\d{1,16})$/.exec(frame.text(StompHeader.id) ?? '')
    if (match === null) return 0
    return settle(this.#byNumber.get(Number(match[1])), Number(match[2]), reject)
  }

  /** Before 1.2 a message is named by its message-id; in 1.0 even without the subscription. */
  #settleByMessage(frame: StompFrame, version: StompVersion, reject: boolean): number {
    const id = frame.text(StompHeader.messageId) ?? ''
    const digits = id.slice(this.#messageIdPrefix.length)
    if (!id.startsWith(this.#messageIdPrefix) || !/^\d{1,16}$/.test(digits)) return 0
    const index = Number(digits)
    const named = frame.raw(StompHeader.subscription)
    if (named !== undefined) return settle(this.#byKey.get(named), index, reject)
    if (version !== '1.0') return 0
    for (const subscription of this.#byKey.values()) {
      const stored = settle(subscription, index, reject)
      if (stored !== 0) return stored
    }
    return 0
  }
}

function settle(subscription: Subscription | undefined, index: number, reject: boolean): number {
  const consumer = subscription?.consumer
  if (consumer === undefined) return 0
  return reject ? consumer.reject(index) : consumer.acknowledge(index)
}

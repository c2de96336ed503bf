import type { Message } from '../destination/message.ts'

/**
 * What one consumer was given and has not answered, in the order of delivery.
 *
 * A map finds a message by its index; links through the messages themselves keep the order, so that taking one out
 * of the middle costs no more than the first, whatever the consumer leaves lying about.
 */
export class OutstandingMessages {
  readonly #byIndex = new Map<number, Message>()
  #last: Message | undefined

  get size(): number {
    return this.#byIndex.size
  }

  add(message: Message): void {
    message.previous = this.#last
    if (this.#last !== undefined) this.#last.next = message
    this.#last = message
    this.#byIndex.set(message.index, message)
  }

  /** Takes this one out, if it is here. */
  take(index: number): Message | undefined {
    const message = this.#byIndex.get(index)
    if (message !== undefined) this.#unlink(message)
    return message
  }

  /** Takes this one and all that were delivered before it, the latest first; none if `index` is not here. */
  takeThrough(index: number): Message[] {
    const taken: Message[] = []
    let message = this.#byIndex.get(index)
    while (message !== undefined) {
      const before: Message | undefined = message.previous
      this.#unlink(message)
      taken.push(message)
      message = before
    }
    return taken
  }

  takeAll(): Message[] {
    return this.#last === undefined ? [] : this.takeThrough(this.#last.index)
  }

  #unlink(message: Message): void {
    this.#byIndex.delete(message.index)
    if (message.previous !== undefined) message.previous.next = message.next
    if (message.next !== undefined) message.next.previous = message.previous
    else this.#last = message.previous
    message.previous = undefined
    message.next = undefined
  }
}

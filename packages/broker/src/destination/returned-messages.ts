import type { Message } from './message.ts'

/**
 * Messages that consumers gave back, waiting for redelivery in the order of the log.
 *
 * There are never more of them than consumers may hold at a time: they are delivered before anything newer is.
 * Invariant: indices rise from front to back.
 */
export class ReturnedMessages {
  #messages: Message[] = []
  /** Those before it are taken. */
  #front = 0

  get length(): number {
    return this.#messages.length - this.#front
  }

  get first(): Message | undefined {
    return this.#messages[this.#front]
  }

  shift(): Message | undefined {
    const message = this.#messages[this.#front]
    if (message === undefined) return undefined
    this.#front += 1
    if (this.#front === this.#messages.length) {
      this.#messages = []
      this.#front = 0
    }
    return message
  }

  /** @param messages - In rising order. */
  add(messages: readonly Message[]): void {
    const first = messages[0]
    if (first === undefined) return
    const last = this.#messages.at(-1)
    if (last !== undefined && last.index > first.index) {
      this.#messages = merge(this.#messages, this.#front, messages)
      this.#front = 0
    } else {
      for (const message of messages) this.#messages.push(message)
    }
  }

  clear(): void {
    this.#messages = []
    this.#front = 0
  }

  /** From the front, without taking them. */
  *[Symbol.iterator](): Iterator<Message> {
    for (let place = this.#front; place < this.#messages.length; place++) {
      const message = this.#messages[place]
      if (message !== undefined) yield message
    }
  }
}

function merge(left: readonly Message[], from: number, right: readonly Message[]): Message[] {
  const merged: Message[] = []
  let l = from
  let r = 0
  for (;;) {
    const a = left[l]
    const b = right[r]
    if (a !== undefined && (b === undefined || a.index < b.index)) {
      merged.push(a)
      l += 1
    } else if (b !== undefined) {
      merged.push(b)
      r += 1
    } else {
      return merged
    }
  }
}

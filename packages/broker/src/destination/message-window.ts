import type { Message } from './message.ts'

/**
 * Messages in the order of the log, taken from the front and added at the back: a ring that grows by doubling and
 * gives its memory back when it is empty.
 *
 * Invariant: indices rise from front to back.
 */
export class MessageWindow {
  #ring: (Message | undefined)[] = []
  #front = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  get first(): Message | undefined {
    return this.#length === 0 ? undefined : this.#ring[this.#front]
  }

  get last(): Message | undefined {
    return this.#length === 0
      ? undefined
      : this.#ring[(this.#front + this.#length - 1) & (this.#ring.length - 1)]
  }

  push(message: Message): void {
    if (this.#length === this.#ring.length) this.#grow()
    this.#ring[(this.#front + this.#length) & (this.#ring.length - 1)] = message
    this.#length += 1
  }

  shift(): Message | undefined {
    if (this.#length === 0) return undefined
    const message = this.#ring[this.#front]
    this.#ring[this.#front] = undefined
    this.#front = (this.#front + 1) & (this.#ring.length - 1)
    this.#length -= 1
    return message
  }

  clear(): void {
    this.#ring = []
    this.#front = 0
    this.#length = 0
  }

  #grow(): void {
    const old = this.#ring
    const ring: (Message | undefined)[] = []
    for (let place = 0; place < this.#length; place++) {
      ring.push(old[(this.#front + place) & (old.length - 1)])
    }
    // The size stays a power of two, so that a mask finds the place.
    const size = Math.max(16, old.length * 2)
    while (ring.length < size) ring.push(undefined)
    this.#ring = ring
    this.#front = 0
  }
}

import type { QueueConsumer } from './queue-consumer.ts'

/**
 * The consumers of a queue that may take a message, in turn.
 *
 * One that cannot take more drops out when its turn comes, and is offered again once it has credit or room: so a
 * thousand consumers that are full cost nothing while one is served.
 */
export class ConsumerRing {
  readonly #ready: QueueConsumer[] = []
  /** Whose turn it is. */
  #turn = 0

  /** Whose turn it is among those that can take a message now. */
  next(): QueueConsumer | undefined {
    for (;;) {
      if (this.#turn >= this.#ready.length) this.#turn = 0
      const consumer = this.#ready[this.#turn]
      if (consumer === undefined) return undefined
      if (consumer.canTake) {
        this.#turn += 1
        return consumer
      }
      consumer.inRing = false
      this.#ready.splice(this.#turn, 1)
    }
  }

  offer(consumer: QueueConsumer): void {
    if (consumer.inRing) return
    consumer.inRing = true
    this.#ready.push(consumer)
  }

  remove(consumer: QueueConsumer): void {
    if (!consumer.inRing) return
    consumer.inRing = false
    const place = this.#ready.indexOf(consumer)
    this.#ready.splice(place, 1)
    if (place < this.#turn) this.#turn -= 1
  }
}

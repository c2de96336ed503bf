import type { Statement } from '../message-index/message-index.ts'

/** Appends what states a thing anew; returns the index of its record. */
export interface RestatementWriter {
  keepMessage(queue: number, message: number, redeliveryCount: number, envelope: Uint8Array): number
  keepQueue(queue: number, name: string): number
  keepProducer(statement: Extract<Statement, { kind: 'producer' }>): number
}

/**
 * Things that are about to be stated anew, and what happens to them meanwhile.
 *
 * To find out what is true of a thing takes a while, in which clients go on changing it. A record that states it anew has to be the
 * whole truth as of its place in the log: otherwise a fold that begins behind the thing's first record, and does not know what
 * happened before, would bring a removed message back or forget a redelivery. So a thing that is changed while it is watched is
 * left alone; there will be another round.
 */
export class Restatement {
  readonly #writer: RestatementWriter
  readonly #ended: () => void
  /** Message to its queue. */
  readonly #messages = new Map<number, number>()
  readonly #queues = new Set<number>()

  constructor(writer: RestatementWriter, ended: () => void) {
    this.#writer = writer
    this.#ended = ended
  }

  watchMessage(queue: number, message: number): void {
    this.#messages.set(message, queue)
  }

  watchQueue(queue: number): void {
    this.#queues.add(queue)
  }

  /** A record that changes these messages was appended. */
  changed(messages: readonly number[]): void {
    if (this.#messages.size === 0) return
    for (const message of messages) this.#messages.delete(message)
  }

  /** A record that removes the queue was appended. */
  removed(queue: number): void {
    this.#queues.delete(queue)
    for (const [message, of] of this.#messages) if (of === queue) this.#messages.delete(message)
  }

  /** @returns Index of the record, or 0 if the message was changed meanwhile. */
  keepMessage(queue: number, message: number, redeliveryCount: number, envelope: Uint8Array): number {
    if (!this.#messages.delete(message)) return 0
    return this.#writer.keepMessage(queue, message, redeliveryCount, envelope)
  }

  /** @returns Index of the record, or 0 if the queue was removed meanwhile. */
  keep(statement: Exclude<Statement, { kind: 'configuration' }>): number {
    if (statement.kind === 'producer') return this.#writer.keepProducer(statement)
    return this.#queues.delete(statement.id) ? this.#writer.keepQueue(statement.id, statement.name) : 0
  }

  /** Watches nothing any more. */
  end(): void {
    this.#messages.clear()
    this.#queues.clear()
    this.#ended()
  }
}

import { batchHeaderBytes, decodeBatchHeader, lastIndexOf } from '../../store/src/journal/batch.ts'
import type { EpochStart } from '../../store/src/journal/log.ts'
import { RecordFault, readRecords } from '../../store/src/journal/record.ts'
import type {
  Located,
  MessageIndex,
  SequenceWindow,
  Statement,
} from '../../store/src/message-index/message-index.ts'
import { GapWindow } from '../../store/src/message-index/sequence-window.ts'
import type { MessageEntry, QueueInfo } from '../../store/src/message-store.ts'

interface MemoryQueue {
  readonly name: string
  /** In the order of their indices, which is that of their insertion. */
  readonly messages: Map<number, MessageEntry>
}

/**
 * The message index as plainly as its contract can be written: maps in memory, gone with the process. The model that
 * the LevelDB index is compared with, and its stand-in where a test is about something else.
 */
export class MemoryIndex implements MessageIndex {
  appliedIndex = 0
  configuration: { readonly index: number; readonly json: string } | undefined
  readonly epochStarts: EpochStart[] = []
  readonly statistics = { flushedEntries: 0, cancelledMessages: 0, checkpoints: 0 }
  readonly #maxProducers: number
  readonly #maxGaps: number
  readonly #queues = new Map<number, MemoryQueue>()
  /** In the order of their last use. */
  readonly #producers = new Map<number, { readonly name: string; readonly window: GapWindow }>()
  #pending = 0

  constructor(options: { readonly maxProducers: number; readonly maxGaps: number }) {
    this.#maxProducers = options.maxProducers
    this.#maxGaps = options.maxGaps
  }

  get pendingChanges(): number {
    return this.#pending
  }

  apply(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const header = decodeBatchHeader(bytes, at)
      if (typeof header === 'string') throw new TypeError(`no batch at offset ${at}: ${header}`)
      if (lastIndexOf(header) > this.appliedIndex) this.#applyBatch(bytes, at)
      at += batchHeaderBytes + header.payloadBytes
    }
  }

  queues(): QueueInfo[] {
    return Array.from(this.#queues, ([id, { name, messages }]) => ({ id, name, messageCount: messages.size }))
  }

  queueNamed(name: string): QueueInfo | undefined {
    return this.queues().findLast((queue) => queue.name === name)
  }

  async page(queue: number, after: number, limit: number): Promise<MessageEntry[]> {
    const messages = this.#queues.get(queue)?.messages.values() ?? []
    return Array.from(messages)
      .filter(({ index }) => index > after)
      .slice(0, limit)
  }

  producerNamed(name: string): number | undefined {
    for (const [id, producer] of this.#producers) if (producer.name === name) return id
    return undefined
  }

  producerWindow(producer: number): SequenceWindow | undefined {
    return this.#producers.get(producer)?.window.clone()
  }

  get retained(): { readonly position: number; readonly neededFrom: number } {
    return { position: 0, neededFrom: 1 }
  }

  liveBytes(_from: number, _to: number): number {
    throw new Error('not there yet')
  }

  locate(_queue: number, _indices: readonly number[]): Promise<(Located | undefined)[]> {
    throw new Error('not there yet')
  }

  statedBelow(_index: number, _limit: number): Statement[] {
    throw new Error('not there yet')
  }

  rebuildFrom(_firstIndex: number): void {
    throw new Error('not there yet')
  }

  rebuilt(): Promise<void> {
    throw new Error('not there yet')
  }

  async checkpoint(): Promise<void> {
    this.#pending = 0
    this.statistics.checkpoints++
  }

  async close(): Promise<void> {}

  #applyBatch(bytes: Buffer, at: number): void {
    const header = decodeBatchHeader(bytes, at)
    if (typeof header === 'string' || header.firstIndex !== this.appliedIndex + 1) {
      throw new TypeError(`the batch at offset ${at} does not follow record ${this.appliedIndex}`)
    }
    const { epoch, firstIndex, count, payloadBytes } = header
    readRecords(bytes, at + batchHeaderBytes, payloadBytes, firstIndex, count, {
      epochStart: (index) => this.epochStarts.push({ epoch, index }),
      configuration: (index, json) => {
        this.configuration = { index, json }
      },
      queueAdded: (index, name) => this.#queues.set(index, { name, messages: new Map() }),
      producerAdded: (index, name) => this.#register(index, name),
      messageAdded: (index, queue, producer, sequence, _batch, _at, envelopeBytes) => {
        this.#messagesOf(index, queue).set(index, { index, bytes: envelopeBytes, redeliveryCount: 0 })
        this.#see(producer, sequence)
      },
      messageRemoved: (index, queue, message) => this.#messagesOf(index, queue).delete(message),
      redeliveryCounted: (index, queue, message, redeliveryCount) => {
        const messages = this.#messagesOf(index, queue)
        const entry = messages.get(message)
        if (entry !== undefined) messages.set(message, { ...entry, redeliveryCount })
      },
      queueKept: () => {
        throw new Error('not there yet')
      },
      producerKept: () => {
        throw new Error('not there yet')
      },
      messageKept: () => {
        throw new Error('not there yet')
      },
      queueRemoved: () => {
        throw new Error('not there yet')
      },
    })
    this.appliedIndex = lastIndexOf(header)
    this.#pending += count
  }

  #messagesOf(index: number, queue: number): Map<number, MessageEntry> {
    const messages = this.#queues.get(queue)?.messages
    if (messages === undefined) throw new RecordFault(index, `names queue ${queue}, which does not exist`)
    return messages
  }

  #register(index: number, name: string): void {
    const known = this.producerNamed(name)
    const window = (known && this.#producers.get(known)?.window) || new GapWindow(this.#maxGaps)
    if (known !== undefined) this.#producers.delete(known)
    this.#producers.set(index, { name, window })
    for (const oldest of this.#producers.keys()) {
      if (this.#producers.size <= this.#maxProducers) break
      this.#producers.delete(oldest)
    }
  }

  #see(id: number, sequence: number): void {
    const producer = this.#producers.get(id)
    if (producer === undefined) return
    producer.window.add(sequence)
    this.#producers.delete(id)
    this.#producers.set(id, producer)
  }
}

import { batchHeaderBytes, decodeBatchHeader, lastIndexOf } from '../../store/src/journal/batch.ts'
import type { EpochStart } from '../../store/src/journal/log.ts'
import {
  messageHeaderBytes,
  RecordFault,
  type RecordVisitor,
  readRecords,
  recordHeaderBytes,
} from '../../store/src/journal/record.ts'
import type {
  Located,
  MessageIndex,
  Retained,
  SequenceWindow,
  Statement,
} from '../../store/src/message-index/message-index.ts'
import { GapWindow } from '../../store/src/message-index/sequence-window.ts'
import type { MessageEntry, QueueInfo } from '../../store/src/message-store.ts'

interface MemoryMessage extends MessageEntry, Located {}

interface MemoryQueue {
  /** Undefined while it is not known yet, in a rebuild. */
  name: string | undefined
  statedAt: number
  readonly messages: Map<number, MemoryMessage>
}

interface MemoryProducer {
  readonly name: string
  readonly window: GapWindow
  lastUsed: number
  statedAt: number
}

/** What is needed of the log as of one checkpoint. */
interface Needs {
  readonly retained: Retained
  /** Bytes of live messages by bucket of 64 records. */
  readonly live: ReadonlyMap<number, number>
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
  /** In the order of their last use, except in a rebuild. */
  readonly #producers = new Map<number, MemoryProducer>()
  readonly #producerIds = new Map<string, number>()
  #rebuildingFrom: number | undefined
  #strayAt = 0
  #pending = 0
  #needs: Needs = { retained: { position: 0, neededFrom: 1, strayAt: 0 }, live: new Map() }

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
    return Array.from(this.#queues, ([id, { name = '', messages }]) => ({
      id,
      name,
      messageCount: messages.size,
    })).sort((one, other) => one.id - other.id)
  }

  queueNamed(name: string): QueueInfo | undefined {
    return this.queues().findLast((queue) => queue.name === name)
  }

  async page(queue: number, after: number, limit: number): Promise<MessageEntry[]> {
    const messages = [...(this.#queues.get(queue)?.messages.values() ?? [])]
    return messages
      .sort((one, other) => one.index - other.index)
      .filter(({ index }) => index > after)
      .slice(0, limit)
      .map(({ index, bytes, redeliveryCount }) => ({ index, bytes, redeliveryCount }))
  }

  async locate(queue: number, indices: readonly number[]): Promise<(Located | undefined)[]> {
    return indices.map((index) => this.located(queue, index))
  }

  /** What `locate` tells of one message, at once. */
  located(queue: number, index: number): Located | undefined {
    const message = this.#queues.get(queue)?.messages.get(index)
    if (message === undefined) return undefined
    const { location, bytes, redeliveryCount } = message
    return { location, bytes, redeliveryCount }
  }

  producerNamed(name: string): number | undefined {
    return this.#producerIds.get(name)
  }

  hasProducer(producer: number): boolean {
    return this.#producers.has(producer)
  }

  producerWindow(producer: number): SequenceWindow | undefined {
    return this.#producers.get(producer)?.window.clone()
  }

  statedBelow(index: number, limit: number): Statement[] {
    return this.#statements()
      .filter(({ statedAt }) => statedAt < index)
      .slice(0, limit)
      .map(({ statement }) => statement)
  }

  get retained(): Retained {
    return this.#needs.retained
  }

  liveBytes(from: number, to: number): number {
    let sum = 0
    for (const [bucket, bytes] of this.#needs.live)
      if (bucket >= Math.floor(from / 64) && bucket <= Math.floor(to / 64)) sum += bytes
    return sum
  }

  rebuildFrom(firstIndex: number): void {
    if (this.appliedIndex !== 0) throw new TypeError('the index is not empty')
    this.appliedIndex = firstIndex - 1
    this.#rebuildingFrom = firstIndex
  }

  async rebuilt(): Promise<void> {
    this.endRebuild()
    await this.checkpoint()
  }

  async checkpoint(): Promise<void> {
    this.beginCheckpoint()()
  }

  async close(): Promise<void> {}

  /** What `rebuilt` does, but for the checkpoint. */
  protected endRebuild(): void {
    for (const [id, { name }] of this.#queues)
      if (name === undefined) throw new RecordFault(this.appliedIndex, `comes before the name of queue ${id}`)
    this.#rebuildingFrom = undefined
    this.#sortProducers()
  }

  /** @returns What makes the checkpoint count, once it is durable. */
  protected beginCheckpoint(): () => void {
    const needs = this.#needsNow()
    this.#pending = 0
    return () => {
      this.#needs = needs
      this.statistics.checkpoints++
    }
  }

  #needsNow(): Needs {
    const live = new Map<number, number>()
    for (const { messages } of this.#queues.values()) {
      for (const { location, bytes } of messages.values()) {
        const bucket = Math.floor(location / 64)
        const inLog = bytes + recordHeaderBytes + messageHeaderBytes
        live.set(bucket, (live.get(bucket) ?? 0) + inLog)
      }
    }
    const position = this.appliedIndex
    const starts = [...live.keys()].map((bucket) => Math.max(1, bucket * 64))
    const stated = this.#statements().map(({ statedAt }) => statedAt)
    const needed = this.#rebuildingFrom === undefined ? Math.min(position + 1, ...starts, ...stated) : 1
    return { retained: { position, neededFrom: needed, strayAt: this.#strayAt }, live }
  }

  /** In the order of their records. */
  #statements(): { readonly statedAt: number; readonly statement: Statement }[] {
    const all: { readonly statedAt: number; readonly statement: Statement }[] = []
    for (const [id, { name, statedAt }] of this.#queues)
      if (name !== undefined) all.push({ statedAt, statement: { kind: 'queue', id, name } })
    for (const [id, { name, lastUsed, statedAt, window }] of this.#producers) {
      const encoded = Buffer.alloc(window.encodedBytes)
      window.encode(encoded, 0)
      all.push({ statedAt, statement: { kind: 'producer', id, name, lastUsed, window: encoded } })
    }
    if (this.configuration !== undefined) {
      const { index, json } = this.configuration
      all.push({ statedAt: index, statement: { kind: 'configuration', json } })
    }
    return all.sort((one, other) => one.statedAt - other.statedAt)
  }

  #applyBatch(bytes: Buffer, at: number): void {
    const header = decodeBatchHeader(bytes, at)
    if (typeof header === 'string' || header.firstIndex !== this.appliedIndex + 1) {
      throw new TypeError(`the batch at offset ${at} does not follow record ${this.appliedIndex}`)
    }
    const { epoch, firstIndex, count, payloadBytes } = header
    readRecords(bytes, at + batchHeaderBytes, payloadBytes, firstIndex, count, this.#visitor(epoch))
    this.appliedIndex = lastIndexOf(header)
    this.#pending += count
  }

  #visitor(epoch: number): RecordVisitor {
    return {
      epochStart: (index) => this.epochStarts.push({ epoch, index }),
      configuration: (index, json) => {
        this.configuration = { index, json }
      },
      queueAdded: (index, name) => this.#queues.set(index, { name, statedAt: index, messages: new Map() }),
      queueKept: (index, id, name) => {
        const queue = this.#queueFor(id)
        if (queue === undefined) return this.#stray(index)
        queue.name ??= name
        queue.statedAt = index
      },
      queueRemoved: (_index, id) => this.#queues.delete(id),
      producerAdded: (index, name) => {
        const known = this.producerNamed(name)
        if (known !== undefined) this.#producers.delete(known)
        const window = new GapWindow(this.#maxGaps)
        this.#addProducer(index, { name, window, lastUsed: index, statedAt: index })
      },
      producerKept: (index, id, lastUsed, name, encoded) => {
        const known = this.#producers.get(id)
        if (known !== undefined) known.statedAt = index
        else if (this.#rebuildingFrom !== undefined && this.producerNamed(name) === undefined) {
          const window = GapWindow.decode(encoded, 0, this.#maxGaps)
          this.#addProducer(id, { name, window, lastUsed, statedAt: index })
        }
      },
      messageAdded: (index, id, producer, sequence, _batch, _at, bytes) => {
        const queue = this.#queueFor(id)
        if (queue === undefined) throw new RecordFault(index, `names queue ${id}, which does not exist`)
        queue.messages.set(index, { index, bytes, redeliveryCount: 0, location: index })
        this.#see(index, producer, sequence)
      },
      messageKept: (index, id, message, redeliveryCount, _batch, _at, bytes) => {
        const messages = this.#queueFor(id)?.messages
        const entry = messages?.get(message)
        if (entry !== undefined) messages?.set(message, { ...entry, location: index })
        else if (messages !== undefined && message < (this.#rebuildingFrom ?? 0))
          messages.set(message, { index: message, bytes, redeliveryCount, location: index })
        else this.#stray(index)
      },
      messageRemoved: (_index, id, message) => this.#queues.get(id)?.messages.delete(message),
      redeliveryCounted: (_index, id, message, redeliveryCount) => {
        const messages = this.#queues.get(id)?.messages
        const entry = messages?.get(message)
        if (entry !== undefined) messages?.set(message, { ...entry, redeliveryCount })
      },
    }
  }

  /** In a rebuild, a queue from below the log comes to be when it is first met. */
  #queueFor(id: number): MemoryQueue | undefined {
    const known = this.#queues.get(id)
    if (known !== undefined || id >= (this.#rebuildingFrom ?? 0)) return known
    const queue = { name: undefined, statedAt: 0, messages: new Map() }
    this.#queues.set(id, queue)
    return queue
  }

  #see(index: number, id: number, sequence: number): void {
    if (id === 0) return
    const producer = this.#producers.get(id)
    if (producer !== undefined) {
      producer.window.add(sequence)
      producer.lastUsed = index
      this.#producers.delete(id)
      this.#producers.set(id, producer)
    } else if (this.#rebuildingFrom === undefined) this.#stray(index)
  }

  #addProducer(id: number, producer: MemoryProducer): void {
    this.#producers.set(id, producer)
    this.#producerIds.set(producer.name, id)
    if (this.#producers.size <= this.#maxProducers) return
    if (this.#rebuildingFrom !== undefined) this.#sortProducers()
    for (const [oldest, { name }] of this.#producers) {
      if (this.#producers.size <= this.#maxProducers) break
      this.#producers.delete(oldest)
      this.#producerIds.delete(name)
    }
  }

  #sortProducers(): void {
    const byUse = [...this.#producers].sort(([, one], [, other]) => one.lastUsed - other.lastUsed)
    this.#producers.clear()
    for (const [id, producer] of byUse) this.#producers.set(id, producer)
  }

  #stray(index: number): void {
    this.#strayAt = index
  }
}

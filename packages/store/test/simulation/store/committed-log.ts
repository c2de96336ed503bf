import { crc32 } from 'node:zlib'
import { MemoryIndex } from '../../../../testkit/src/memory-index.ts'
import { type BatchHeader, batchHeaderBytes, lastIndexOf } from '../../../src/journal/batch.ts'
import { readRecords } from '../../../src/journal/record.ts'

/** A rule of the store is broken. */
export class Violation extends Error {}

export function messageRecord(
  queue: number,
  producer: number,
  sequence: number,
  envelope: Uint8Array,
): string {
  return `message ${queue} ${producer} ${sequence} ${crc32(envelope)}`
}

export function removalRecord(queue: number, indices: readonly number[]): string {
  return `removal ${queue} ${indices.join(' ')}`
}

export function redeliveryRecord(queue: number, indices: readonly number[], count: number): string {
  return `redelivery ${queue} ${count} ${indices.join(' ')}`
}

interface CommittedBatch {
  readonly epoch: number
  readonly firstIndex: number
  readonly lastIndex: number
  readonly bytes: Buffer
  readonly by: string
}

/**
 * What the cluster has committed, put together from what each node takes for committed, and checked as it grows:
 * nodes agree byte for byte (S8), every record is one that the master of its epoch appended in that place, what was
 * confirmed is in it (S6, S14), and no message is in it twice (S22).
 */
export class CommittedLog {
  /** The fold of the log, independent of any node. */
  readonly index: MemoryIndex
  readonly batches: CommittedBatch[] = []
  readonly #placeOf = new Map<number, number>()
  /** By epoch and index: what masters appended. */
  readonly #appended = new Map<string, string>()
  readonly #confirmed = new Map<number, string>()
  readonly #records = new Map<number, string>()
  /** Messages that were confirmed as already stored at or below an index. */
  #promisedMessages: { readonly key: string; readonly upTo: number }[] = []
  /** Index of each message, by what its producer calls it. */
  readonly messages: Map<string, number> = new Map()
  readonly envelopes: Map<number, Buffer> = new Map()
  readonly #queueNames = new Set<string>()
  lastIndex = 0
  lastEpoch = 0
  /** Highest index that any master confirmed. */
  confirmedIndex = 0

  constructor(maxProducers: number, maxGaps: number) {
    this.index = new MemoryIndex({ maxProducers, maxGaps })
  }

  /** A master of `epoch` appended a record. */
  appends(epoch: number, index: number, record: string): void {
    const place = `${epoch}/${index}`
    const before = this.#appended.get(place)
    if (before !== undefined)
      throw new Violation(`index ${index} of epoch ${epoch} was given to ${before} and ${record}`)
    this.#appended.set(place, record)
  }

  /** A record was confirmed: from now on it is in the log, for good. */
  confirms(index: number, record: string): void {
    this.#confirmed.set(index, record)
    const there = this.#records.get(index)
    if (index <= this.lastIndex && there !== record)
      throw new Violation(`S6: confirmed at ${index}: ${record}; committed there: ${there}`)
  }

  /** The message was confirmed as one that is in the log already. */
  confirmsKnown(key: string, upTo: number): void {
    this.#promisedMessages.push({ key, upTo })
    this.#checkPromised()
  }

  /** A node applied a batch: it is committed, as far as that node knows. */
  applies(node: string, header: BatchHeader, bytes: Buffer): void {
    const { epoch, firstIndex } = header
    if (firstIndex !== this.lastIndex + 1) {
      const known = this.batches[this.#placeOf.get(firstIndex) ?? -1]
      if (known === undefined || !known.bytes.equals(bytes))
        throw new Violation(
          `S8: ${node} has another batch (${epoch}, ${firstIndex}) than ${known?.by}, which has (${known?.epoch}, ${known?.firstIndex})`,
        )
      return
    }
    if (epoch < this.lastEpoch)
      throw new Violation(`S8: epoch ${epoch} at ${firstIndex} behind ${this.lastEpoch}`)
    const lastIndex = lastIndexOf(header)
    this.#placeOf.set(firstIndex, this.batches.length)
    this.batches.push({ epoch, firstIndex, lastIndex, bytes, by: node })
    this.lastEpoch = epoch
    for (const [index, record] of this.#recordsIn(header, bytes)) this.#takeRecord(epoch, index, record)
    this.lastIndex = lastIndex
    this.index.apply(bytes)
    this.#checkPromised()
  }

  #takeRecord(epoch: number, index: number, record: string): void {
    this.#records.set(index, record)
    const appended = this.#appended.get(`${epoch}/${index}`)
    if (record !== 'internal' && record !== appended)
      throw new Violation(
        `S8: record ${index} is ${record}; the master of epoch ${epoch} appended ${appended}`,
      )
    const confirmed = this.#confirmed.get(index)
    if (confirmed !== undefined && confirmed !== record)
      throw new Violation(`S6: confirmed at ${index}: ${confirmed}; committed there: ${record}`)
  }

  #recordsIn(header: BatchHeader, bytes: Buffer): Map<number, string> {
    const records = new Map<number, string>()
    const { payloadBytes, firstIndex, count } = header
    readRecords(bytes, batchHeaderBytes, payloadBytes, firstIndex, count, {
      epochStart: (index) => records.set(index, 'internal'),
      configuration: (index) => records.set(index, 'internal'),
      queueAdded: (index, name) => {
        if (this.#queueNames.has(name)) throw new Violation(`two queues named ${name}, one at ${index}`)
        this.#queueNames.add(name)
        records.set(index, `queue ${name}`)
      },
      producerAdded: (index, id) => records.set(index, `producer ${id}`),
      messageAdded: (index, queue, producer, sequence, batch, at, length) => {
        const envelope = batch.subarray(at, at + length)
        records.set(index, messageRecord(queue, producer, sequence, envelope))
        this.#takeMessage(index, envelope)
      },
      messageRemoved: (index, queue, message) => {
        const before = records.get(index)
        records.set(index, before === undefined ? removalRecord(queue, [message]) : `${before} ${message}`)
      },
      redeliveryCounted: (index, queue, message, times) => {
        const before = records.get(index)
        records.set(
          index,
          before === undefined ? redeliveryRecord(queue, [message], times) : `${before} ${message}`,
        )
      },
      queueKept: (index) => records.set(index, 'internal'),
      producerKept: (index) => records.set(index, 'internal'),
      messageKept: (index) => records.set(index, 'internal'),
      queueRemoved: (index, queue) => records.set(index, `removal of queue ${queue}`),
    })
    return records
  }

  #takeMessage(index: number, envelope: Buffer): void {
    const key = keyOf(envelope)
    const before = this.messages.get(key)
    if (before !== undefined)
      throw new Violation(`S22: message ${key} is stored twice, at ${before} and ${index}`)
    this.messages.set(key, index)
    this.envelopes.set(index, envelope)
  }

  #checkPromised(): void {
    this.#promisedMessages = this.#promisedMessages.filter(({ key, upTo }) => {
      if (upTo > this.lastIndex) return true
      const index = this.messages.get(key)
      if (index === undefined || index > upTo)
        throw new Violation(`S22: ${key} was confirmed as stored up to ${upTo}, and is at ${index}`)
      return false
    })
  }
}

/** What a producer calls a message: the beginning of its envelope. */
export function keyOf(envelope: Buffer): string {
  return envelope.toString('latin1', 0, envelope.indexOf(0x20))
}

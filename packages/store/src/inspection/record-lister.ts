import type { RecordVisitor } from '../journal/record.ts'

interface OfQueue {
  readonly index: number
  /** Id of the queue: the index of the record that added it. */
  readonly queue: number
  /** `undefined` if that record is damaged. */
  readonly queueName: string | undefined
}

/** A record as a dump shows it. */
export type DumpedRecord =
  | { readonly kind: 'epochStart'; readonly index: number; readonly nodeId: string }
  | { readonly kind: 'configuration'; readonly index: number; readonly json: string }
  | { readonly kind: 'queueAdded'; readonly index: number; readonly queueName: string }
  | { readonly kind: 'producerAdded'; readonly index: number; readonly producerId: string }
  | (OfQueue & {
      readonly kind: 'messageAdded'
      /** The index of the record that registered it; 0 for none. */
      readonly producer: number
      readonly producerId: string | undefined
      readonly sequence: number
      /** A view into the batch. */
      readonly envelope: Buffer
    })
  | (OfQueue & { readonly kind: 'messagesRemoved'; readonly messages: number[] })
  | (OfQueue & { readonly kind: 'redeliveryCounted'; readonly messages: number[]; readonly count: number })
  | (OfQueue & { readonly kind: 'queueKept' })
  | {
      readonly kind: 'producerKept'
      readonly index: number
      readonly producer: number
      readonly producerId: string
      readonly lastUsed: number
    }
  | (OfQueue & {
      readonly kind: 'messageKept'
      /** Index of the message, which it keeps. */
      readonly message: number
      readonly redeliveryCount: number
      /** A view into the batch. */
      readonly envelope: Buffer
    })
  | (OfQueue & { readonly kind: 'queueRemoved' })

/** Names of queues and producers by the index of the record that added them. */
export class LogNames {
  readonly queues: Map<number, string> = new Map()
  readonly producers: Map<number, string> = new Map()
}

/** Lists the records of one batch: to be handed to `readRecords`. Learns names from all, whatever it lists. */
export class RecordLister implements RecordVisitor {
  readonly records: DumpedRecord[] = []
  /** Whether any record was of the queue asked for. */
  concerned = false
  readonly #names: LogNames
  readonly #wanted: { readonly queue?: string; readonly headersOnly?: boolean }
  readonly #from: number
  readonly #to: number

  constructor(
    names: LogNames,
    wanted: { readonly queue?: string; readonly headersOnly?: boolean },
    from: number,
    to: number,
  ) {
    this.#names = names
    this.#wanted = wanted
    this.#from = from
    this.#to = to
  }

  epochStart(index: number, nodeId: string): void {
    if (this.#wants(index, undefined)) this.records.push({ kind: 'epochStart', index, nodeId })
  }

  configuration(index: number, json: string): void {
    if (this.#wants(index, undefined)) this.records.push({ kind: 'configuration', index, json })
  }

  queueAdded(index: number, name: string): void {
    this.#names.queues.set(index, name)
    if (this.#wants(index, name)) this.records.push({ kind: 'queueAdded', index, queueName: name })
  }

  producerAdded(index: number, id: string): void {
    this.#names.producers.set(index, id)
    if (this.#wants(index, undefined)) this.records.push({ kind: 'producerAdded', index, producerId: id })
  }

  messageAdded(
    index: number,
    queue: number,
    producer: number,
    sequence: number,
    batch: Buffer,
    envelopeAt: number,
    envelopeBytes: number,
  ): void {
    const queueName = this.#names.queues.get(queue)
    if (!this.#wants(index, queueName)) return
    const producerId = this.#names.producers.get(producer)
    const envelope = batch.subarray(envelopeAt, envelopeAt + envelopeBytes)
    this.records.push({
      kind: 'messageAdded',
      index,
      queue,
      queueName,
      producer,
      producerId,
      sequence,
      envelope,
    })
  }

  /** Comes once for each message of a record. */
  messageRemoved(index: number, queue: number, message: number): void {
    const last = this.records.at(-1)
    if (last?.index === index && last.kind === 'messagesRemoved') {
      last.messages.push(message)
      return
    }
    const queueName = this.#names.queues.get(queue)
    if (!this.#wants(index, queueName)) return
    this.records.push({ kind: 'messagesRemoved', index, queue, queueName, messages: [message] })
  }

  /** Comes once for each message of a record. */
  redeliveryCounted(index: number, queue: number, message: number, count: number): void {
    const last = this.records.at(-1)
    if (last?.index === index && last.kind === 'redeliveryCounted') {
      last.messages.push(message)
      return
    }
    const queueName = this.#names.queues.get(queue)
    if (!this.#wants(index, queueName)) return
    this.records.push({ kind: 'redeliveryCounted', index, queue, queueName, count, messages: [message] })
  }

  queueKept(index: number, queue: number, name: string): void {
    this.#names.queues.set(queue, name)
    if (this.#wants(index, name)) this.records.push({ kind: 'queueKept', index, queue, queueName: name })
  }

  producerKept(index: number, producer: number, lastUsed: number, id: string): void {
    this.#names.producers.set(producer, id)
    if (!this.#wants(index, undefined)) return
    this.records.push({ kind: 'producerKept', index, producer, producerId: id, lastUsed })
  }

  messageKept(
    index: number,
    queue: number,
    message: number,
    redeliveryCount: number,
    batch: Buffer,
    envelopeAt: number,
    envelopeBytes: number,
  ): void {
    const queueName = this.#names.queues.get(queue)
    if (!this.#wants(index, queueName)) return
    const envelope = batch.subarray(envelopeAt, envelopeAt + envelopeBytes)
    this.records.push({ kind: 'messageKept', index, queue, queueName, message, redeliveryCount, envelope })
  }

  queueRemoved(index: number, queue: number): void {
    const queueName = this.#names.queues.get(queue)
    if (this.#wants(index, queueName)) this.records.push({ kind: 'queueRemoved', index, queue, queueName })
  }

  #wants(index: number, queueName: string | undefined): boolean {
    if (index < this.#from || index > this.#to) return false
    const { queue, headersOnly } = this.#wanted
    if (queue !== undefined && queue !== queueName) return false
    this.concerned = true
    return headersOnly !== true
  }
}

import { RecordKind, type RecordVisitor } from '../journal/record.ts'

/** Names of the kinds of records. */
export type RecordKindName = keyof typeof RecordKind

/** Counts records by kind, and notes what the fold does not tell: to be handed to `readRecords`. */
export class RecordCensus implements RecordVisitor {
  readonly counts: Record<RecordKindName, number>
  /** Bytes of all envelopes. */
  envelopeBytes = 0
  /** Names of producers registered more than once. */
  readonly reregistered: Set<string> = new Set()
  /** Uuids of the clusters that the configurations name, with the record that did so first. */
  readonly clusters: Map<string, number> = new Map()
  readonly #producers = new Set<string>()
  /** A record that removes or counts several messages is reported once for each. */
  #lastCounted = 0

  constructor() {
    const names = Object.keys(RecordKind) as RecordKindName[]
    this.counts = Object.fromEntries(names.map((name) => [name, 0])) as Record<RecordKindName, number>
  }

  epochStart(): void {
    this.counts.epochStart++
  }

  configuration(index: number, json: string): void {
    this.counts.configuration++
    const uuid = uuidIn(json)
    if (!this.clusters.has(uuid)) this.clusters.set(uuid, index)
  }

  queueAdded(): void {
    this.counts.queueAdded++
  }

  producerAdded(_index: number, id: string): void {
    this.counts.producerAdded++
    if (this.#producers.has(id)) this.reregistered.add(id)
    this.#producers.add(id)
  }

  messageAdded(
    _index: number,
    _queue: number,
    _producer: number,
    _sequence: number,
    _batch: Buffer,
    _envelopeAt: number,
    envelopeBytes: number,
  ): void {
    this.counts.messageAdded++
    this.envelopeBytes += envelopeBytes
  }

  messageRemoved(index: number): void {
    if (index !== this.#lastCounted) this.counts.messagesRemoved++
    this.#lastCounted = index
  }

  redeliveryCounted(index: number): void {
    if (index !== this.#lastCounted) this.counts.redeliveryCounted++
    this.#lastCounted = index
  }

  queueKept(): void {
    this.counts.queueKept++
  }

  producerKept(): void {
    this.counts.producerKept++
  }

  messageKept(
    _index: number,
    _queue: number,
    _message: number,
    _redeliveryCount: number,
    _batch: Buffer,
    _envelopeAt: number,
    envelopeBytes: number,
  ): void {
    this.counts.messageKept++
    this.envelopeBytes += envelopeBytes
  }

  queueRemoved(): void {
    this.counts.queueRemoved++
  }
}

/** Empty if the configuration tells none. */
function uuidIn(json: string): string {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null && 'uuid' in value ? String(value.uuid) : ''
  } catch {
    return ''
  }
}

import type { RecordVisitor } from '../journal/record.ts'

/** An envelope as it stands in the log, whether its message still lives or not. */
export interface StoredEnvelope {
  /** The message's index: its identity. */
  readonly index: number
  /** Index of the record that the envelope stands in. */
  readonly location: number
  /** A view into the batch. */
  readonly envelope: Buffer
}

/** Collects the envelopes of batches, by queue. */
export class EnvelopeCollector implements RecordVisitor {
  readonly envelopes: Map<number, StoredEnvelope[]> = new Map()

  messageAdded(
    index: number,
    queue: number,
    _producer: number,
    _sequence: number,
    batch: Buffer,
    envelopeAt: number,
    envelopeBytes: number,
  ): void {
    this.#add(queue, {
      index,
      location: index,
      envelope: batch.subarray(envelopeAt, envelopeAt + envelopeBytes),
    })
  }

  messageKept(
    index: number,
    queue: number,
    message: number,
    _redeliveryCount: number,
    batch: Buffer,
    envelopeAt: number,
    envelopeBytes: number,
  ): void {
    this.#add(queue, {
      index: message,
      location: index,
      envelope: batch.subarray(envelopeAt, envelopeAt + envelopeBytes),
    })
  }

  epochStart(): void {}
  configuration(): void {}
  queueAdded(): void {}
  queueKept(): void {}
  queueRemoved(): void {}
  producerAdded(): void {}
  producerKept(): void {}
  messageRemoved(): void {}
  redeliveryCounted(): void {}

  #add(queue: number, stored: StoredEnvelope): void {
    const here = this.envelopes.get(queue)
    if (here === undefined) this.envelopes.set(queue, [stored])
    else here.push(stored)
  }
}

import { batchHeaderBytes, sealBatch } from '../../store/src/journal/batch.ts'
import { writeUint53 } from '../../store/src/journal/integer.ts'
import { messageHeaderBytes, RecordKind, recordHeaderBytes } from '../../store/src/journal/record.ts'

/** A record as tests write it down. */
export type RecordContent =
  | { readonly kind: 'epochStart'; readonly nodeId: string }
  | { readonly kind: 'configuration'; readonly json: string }
  | { readonly kind: 'queueAdded'; readonly name: string }
  | { readonly kind: 'producerAdded'; readonly id: string }
  | {
      readonly kind: 'messageAdded'
      readonly queue: number
      /** 0, the default, for none. */
      readonly producer?: number
      readonly sequence?: number
      /** The envelope, or its length if it does not matter what is in it. */
      readonly envelope: Uint8Array | number
    }
  | { readonly kind: 'messagesRemoved'; readonly queue: number; readonly messages: readonly number[] }
  | {
      readonly kind: 'redeliveryCounted'
      readonly queue: number
      readonly count: number
      readonly messages: readonly number[]
    }
  | { readonly kind: 'queueKept'; readonly queue: number; readonly name: string }
  | {
      readonly kind: 'producerKept'
      readonly producer: number
      readonly lastUsed: number
      readonly id: string
      /** As `GapWindow.encode` writes it. */
      readonly window: Uint8Array
    }
  | {
      readonly kind: 'messageKept'
      readonly queue: number
      readonly message: number
      /** 0, the default, for none. */
      readonly redeliveryCount?: number
      readonly envelope: Uint8Array | number
    }
  | { readonly kind: 'queueRemoved'; readonly queue: number }

/** Where a batch stands; everything left out is that of the first batch of a log. */
export interface BatchPlace {
  readonly epoch?: number
  readonly firstIndex?: number
  readonly logTimeMs?: number
  readonly commitIndex?: number
  readonly previousChecksum?: number
}

/** A sealed batch and what the next one follows on from. */
export interface BuiltBatch {
  readonly bytes: Buffer
  readonly firstIndex: number
  readonly lastIndex: number
  readonly checksum: number
}

/** Encodes and seals one batch. */
export function buildBatch(records: readonly RecordContent[], place: BatchPlace = {}): BuiltBatch {
  const firstIndex = place.firstIndex ?? 1
  const bytes = Buffer.concat([Buffer.alloc(batchHeaderBytes), ...records.map(encodeRecord)])
  const checksum = sealBatch(bytes, {
    holdsConfiguration: records.some(({ kind }) => kind === 'configuration'),
    epoch: place.epoch ?? 1,
    firstIndex,
    count: records.length,
    logTimeMs: place.logTimeMs ?? 0,
    commitIndex: place.commitIndex ?? firstIndex - 1,
    previousChecksum: place.previousChecksum ?? 0,
  })
  return { bytes, firstIndex, lastIndex: firstIndex + records.length - 1, checksum }
}

/** Builds one batch after the other, chained, as a log holds them. */
export class BatchChain {
  epoch = 1
  #lastIndex: number
  #checksum = 0

  /** @param lastIndex - Index after which the first batch begins. */
  constructor(lastIndex = 0) {
    this.#lastIndex = lastIndex
  }

  /** Index that the next record gets. */
  get nextIndex(): number {
    return this.#lastIndex + 1
  }

  next(...records: RecordContent[]): BuiltBatch {
    const place = { epoch: this.epoch, firstIndex: this.nextIndex, previousChecksum: this.#checksum }
    const batch = buildBatch(records, place)
    this.#lastIndex = batch.lastIndex
    this.#checksum = batch.checksum
    return batch
  }
}

/** Bytes of one record: length, kind and body. */
export function encodeRecord(record: RecordContent): Buffer {
  const body = encodeBody(record)
  const head = Buffer.alloc(recordHeaderBytes)
  head.writeUInt32LE(body.length, 0)
  head.writeUInt8(RecordKind[record.kind], 4)
  return Buffer.concat([head, body])
}

function encodeBody(record: RecordContent): Buffer {
  switch (record.kind) {
    case 'epochStart':
      return Buffer.from(record.nodeId)
    case 'configuration':
      return Buffer.from(record.json)
    case 'queueAdded':
      return Buffer.from(record.name)
    case 'producerAdded':
      return Buffer.from(record.id)
    case 'messageAdded': {
      const head = numbers(record.queue, record.producer ?? 0, record.sequence ?? 0)
      if (head.length !== messageHeaderBytes) throw new TypeError('the header of a message has changed')
      return Buffer.concat([head, envelopeOf(record.envelope)])
    }
    case 'messagesRemoved':
      return numbers(record.queue, ...record.messages)
    case 'redeliveryCounted': {
      return Buffer.concat([numbers(record.queue), uint32(record.count), numbers(...record.messages)])
    }
    case 'queueKept':
      return Buffer.concat([numbers(record.queue), Buffer.from(record.name)])
    case 'producerKept': {
      const id = Buffer.from(record.id)
      const length = Buffer.alloc(2)
      length.writeUInt16LE(id.length)
      return Buffer.concat([numbers(record.producer, record.lastUsed), length, id, record.window])
    }
    case 'messageKept': {
      const head = [numbers(record.queue, record.message), uint32(record.redeliveryCount ?? 0)]
      return Buffer.concat([...head, envelopeOf(record.envelope)])
    }
    case 'queueRemoved':
      return numbers(record.queue)
  }
}

function envelopeOf(envelope: Uint8Array | number): Uint8Array {
  return typeof envelope === 'number' ? Buffer.alloc(envelope, 'x') : envelope
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function numbers(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8)
  for (const [place, value] of values.entries()) writeUint53(bytes, value, place * 8)
  return bytes
}

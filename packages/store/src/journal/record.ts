import { readUint53 } from './integer.ts'

/**
 * Records: the changes that a batch carries. Each is a length (4 bytes, of the body), a kind (1 byte) and a body.
 * A record's index is the batch's first index plus its place in the batch.
 *
 * | kind | body |
 * |---|---|
 * | 1 epoch start | node id of the master (UTF-8) |
 * | 2 configuration | JSON: the voters (`configuration.ts`) |
 * | 3 queue added | name (UTF-8); the record's index is the queue's id |
 * | 4 producer added | the producer's own id (UTF-8); the record's index is its id here |
 * | 5 message added | queue id (8), producer id (8, 0 for none), producer sequence (8), envelope |
 * | 6 messages removed | queue id (8), then indices (8 each) |
 * | 7 redelivery counted | queue id (8), count (4), then indices (8 each) |
 *
 * A kind that is not in this table stops the reader (rule S36): records are never skipped.
 */
export const RecordKind = {
  epochStart: 1,
  configuration: 2,
  queueAdded: 3,
  producerAdded: 4,
  messageAdded: 5,
  messagesRemoved: 6,
  redeliveryCounted: 7,
} as const
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind]

export const recordHeaderBytes = 5
/** Bytes before the envelope in the body of a `messageAdded` record. */
export const messageHeaderBytes = 24

/** What {@link readRecords} calls, in the order of the log. Bodies are views into the batch. */
export interface RecordVisitor {
  epochStart(index: number, nodeId: string): void
  configuration(index: number, json: string): void
  queueAdded(index: number, name: string): void
  producerAdded(index: number, id: string): void
  /** The envelope is `batch.subarray(envelopeAt, envelopeAt + envelopeBytes)`: not cut out unless someone needs it. */
  messageAdded(
    index: number,
    queue: number,
    producer: number,
    sequence: number,
    batch: Buffer,
    envelopeAt: number,
    envelopeBytes: number,
  ): void
  /** One call for each message removed. */
  messageRemoved(index: number, queue: number, message: number): void
  redeliveryCounted(index: number, queue: number, message: number, count: number): void
}

/** A record that does not follow its description, in a batch whose checksum is right: written by another version. */
export class RecordFault extends Error {
  readonly index: number
  constructor(index: number, message: string) {
    super(`record ${index}: ${message}`)
    this.name = 'RecordFault'
    this.index = index
  }
}

/**
 * Walks the records of one batch.
 *
 * @param batch - Holds the payload at `at`, `bytes` long, with an intact checksum.
 * @param firstIndex - Index of the first record.
 * @param count - Records that the header promises.
 * @throws {@link RecordFault} for an unknown kind or a length that does not fit.
 */
export function readRecords(
  batch: Buffer,
  at: number,
  bytes: number,
  firstIndex: number,
  count: number,
  visitor: RecordVisitor,
): void {
  const end = at + bytes
  let offset = at
  for (let index = firstIndex; index < firstIndex + count; index++) {
    if (end - offset < recordHeaderBytes) throw new RecordFault(index, 'is missing from its batch')
    const length = batch.readUInt32LE(offset)
    const kind = batch.readUInt8(offset + 4)
    const body = offset + recordHeaderBytes
    if (length > end - body) throw new RecordFault(index, `${length} bytes do not fit into its batch`)
    readRecord(batch, kind, body, length, index, visitor)
    offset = body + length
  }
  if (offset !== end) throw new RecordFault(firstIndex + count, 'bytes are left over behind the last record')
}

function readRecord(
  batch: Buffer,
  kind: number,
  body: number,
  length: number,
  index: number,
  visitor: RecordVisitor,
): void {
  switch (kind) {
    case RecordKind.messageAdded:
      if (length < messageHeaderBytes) throw new RecordFault(index, 'message without header')
      visitor.messageAdded(
        index,
        readUint53(batch, body),
        readUint53(batch, body + 8),
        readUint53(batch, body + 16),
        batch,
        body + messageHeaderBytes,
        length - messageHeaderBytes,
      )
      return
    case RecordKind.messagesRemoved: {
      if (length < 16 || length % 8 !== 0) throw new RecordFault(index, `removal of ${length} bytes`)
      const queue = readUint53(batch, body)
      for (let at = body + 8; at < body + length; at += 8)
        visitor.messageRemoved(index, queue, readUint53(batch, at))
      return
    }
    case RecordKind.redeliveryCounted: {
      if (length < 20 || length % 8 !== 4) throw new RecordFault(index, `redelivery count of ${length} bytes`)
      const queue = readUint53(batch, body)
      const deliveries = batch.readUInt32LE(body + 8)
      for (let at = body + 12; at < body + length; at += 8)
        visitor.redeliveryCounted(index, queue, readUint53(batch, at), deliveries)
      return
    }
    case RecordKind.queueAdded:
      visitor.queueAdded(index, batch.toString('utf8', body, body + length))
      return
    case RecordKind.producerAdded:
      visitor.producerAdded(index, batch.toString('utf8', body, body + length))
      return
    case RecordKind.configuration:
      visitor.configuration(index, batch.toString('utf8', body, body + length))
      return
    case RecordKind.epochStart:
      visitor.epochStart(index, batch.toString('utf8', body, body + length))
      return
    default:
      throw new RecordFault(index, `unknown kind ${kind}; it was written by a newer version`)
  }
}

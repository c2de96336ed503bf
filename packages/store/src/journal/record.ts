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
 * | 8 queue kept | queue id (8), name (UTF-8) |
 * | 9 producer kept | producer id (8), last use (8), length of its own id (2), its own id (UTF-8), window (`sequence-window.ts`) |
 * | 10 message kept | queue id (8), message's index (8), redelivery count (4), envelope |
 * | 11 queue removed | queue id (8): the queue, and every message in it |
 *
 * Kinds 8 to 10 say again what an older part of the log says, so that this part can be deleted; the configuration is
 * said again by a record of kind 2. Each states the whole truth about its thing as of its own place in the log: when
 * it is appended, nothing that concerns the thing may be appended and not yet applied. What it names keeps its id or
 * index; only the place where it is said changes.
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
  queueKept: 8,
  producerKept: 9,
  messageKept: 10,
  queueRemoved: 11,
} as const
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind]

export const recordHeaderBytes = 5
/** Bytes before the envelope in the body of a `messageAdded` record. */
export const messageHeaderBytes = 24
/** Bytes before the envelope in the body of a `messageKept` record. */
export const keptMessageHeaderBytes = 20

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
  queueKept(index: number, queue: number, name: string): void
  /** The window is a view into the batch, as `GapWindow.encode` wrote it. */
  producerKept(index: number, producer: number, lastUsed: number, id: string, window: Buffer): void
  /** The message goes on under its own index, `message`; the envelope is where that of `messageAdded` is. */
  messageKept(
    index: number,
    queue: number,
    message: number,
    redeliveryCount: number,
    batch: Buffer,
    envelopeAt: number,
    envelopeBytes: number,
  ): void
  queueRemoved(index: number, queue: number): void
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
    case RecordKind.messageKept:
      if (length < keptMessageHeaderBytes) throw new RecordFault(index, 'kept message without header')
      visitor.messageKept(
        index,
        readUint53(batch, body),
        readUint53(batch, body + 8),
        batch.readUInt32LE(body + 16),
        batch,
        body + keptMessageHeaderBytes,
        length - keptMessageHeaderBytes,
      )
      return
    case RecordKind.queueKept:
      if (length < 8) throw new RecordFault(index, 'kept queue without id')
      visitor.queueKept(index, readUint53(batch, body), batch.toString('utf8', body + 8, body + length))
      return
    case RecordKind.producerKept:
      readKeptProducer(batch, body, length, index, visitor)
      return
    case RecordKind.queueRemoved:
      if (length !== 8) throw new RecordFault(index, `removal of a queue of ${length} bytes`)
      visitor.queueRemoved(index, readUint53(batch, body))
      return
    default:
      throw new RecordFault(index, `unknown kind ${kind}; it was written by a newer version`)
  }
}

function readKeptProducer(
  batch: Buffer,
  body: number,
  length: number,
  index: number,
  visitor: RecordVisitor,
): void {
  const idAt = body + 18
  const windowAt = length < 18 ? Number.POSITIVE_INFINITY : idAt + batch.readUInt16LE(body + 16)
  if (windowAt > body + length) throw new RecordFault(index, `kept producer of ${length} bytes`)
  visitor.producerKept(
    index,
    readUint53(batch, body),
    readUint53(batch, body + 8),
    batch.toString('utf8', idAt, windowAt),
    batch.subarray(windowAt, body + length),
  )
}

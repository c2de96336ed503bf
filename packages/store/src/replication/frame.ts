import { votersIn } from '../configuration-record.ts'
import type { Append, BatchSpan, ConsensusMessage } from '../consensus/message.ts'
import {
  type BatchHeader,
  batchHeaderBytes,
  decodeBatchHeader,
  lastIndexOf,
  payloadIntact,
} from '../journal/batch.ts'
import { readUint53, writeUint53 } from '../journal/integer.ts'

/**
 * The replication protocol's frames: a length (4 bytes, of what follows), a type (1 byte) and a body; all numbers
 * little-endian. Handshake, info and formation bodies are JSON; what consensus says is binary, and the batches of an
 * append are the journal's bytes, unchanged.
 */
export const FrameType = {
  hello: 1,
  proof: 2,
  welcome: 3,
  refuse: 4,
  info: 5,
  formation: 6,
  probe: 7,
  alive: 8,
  preVote: 10,
  preVoteReply: 11,
  vote: 12,
  voteReply: 13,
  append: 14,
  appendReply: 15,
  resign: 16,
  behind: 17,
  recall: 18,
  standNow: 19,
  snapshotRequest: 32,
  snapshotChunk: 33,
  repairRequest: 34,
  repairReply: 35,
  piece: 40,
} as const
export type FrameType = (typeof FrameType)[keyof typeof FrameType]

export const frameHeaderBytes = 5
/** Largest frame before a peer has proved that it belongs here. */
export const maxHandshakeFrameBytes: number = 4 * 1024
/** Largest frame of a member: the largest batch and some. */
export const maxFrameBytes: number = 160 * 1024 * 1024
const appendHeaderBytes = 48
/** Length of each body that is not JSON; an append's batches come behind. */
const bodyBytes: Readonly<Partial<Record<number, number>>> = {
  [FrameType.preVote]: 28,
  [FrameType.preVoteReply]: 17,
  [FrameType.vote]: 33,
  [FrameType.voteReply]: 17,
  [FrameType.appendReply]: 49,
  [FrameType.resign]: 9,
  [FrameType.standNow]: 8,
  [FrameType.behind]: 16,
  [FrameType.recall]: 24,
}

/** A frame that breaks the protocol: its connection is closed, nothing else happens. */
export class FrameFault extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'FrameFault'
  }
}

/** A frame with a JSON body. */
export function encodeJsonFrame(type: FrameType, body: unknown): Buffer {
  const json = Buffer.from(JSON.stringify(body))
  const frame = Buffer.allocUnsafe(frameHeaderBytes + json.length)
  frame.writeUInt32LE(1 + json.length, 0)
  frame.writeUInt8(type, 4)
  json.copy(frame, frameHeaderBytes)
  return frame
}

/** @throws FrameFault if it is not a JSON object. */
export function decodeJsonFrame(body: Buffer): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new FrameFault(`a body that is no JSON: ${String(cause)}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FrameFault('a body that is no object')
  return value as Record<string, unknown>
}

/** Chunks to be sent one after the other: an append's batches are not copied. */
export function encodeMessage(message: ConsensusMessage): Uint8Array[] {
  switch (message.type) {
    case 'append':
      return encodeAppend(message)
    case 'appendReply': {
      const body = frameOf(FrameType.appendReply, 49)
      writeUint53(body, message.epoch, 5)
      writeUint53(body, message.previousIndex, 13)
      writeUint53(body, message.durableIndex, 21)
      writeUint53(body, message.writtenIndex, 29)
      writeUint53(body, message.hintEpoch, 37)
      body.writeDoubleLE(message.sentAtMs, 45)
      body.writeUInt8(message.accepted ? 1 : 0, 53)
      return [body]
    }
    case 'preVote': {
      const body = frameOf(FrameType.preVote, 28)
      writeUint53(body, message.epoch, 5)
      writeUint53(body, message.lastEpoch, 13)
      writeUint53(body, message.lastIndex, 21)
      body.writeUInt32LE(message.weight, 29)
      return [body]
    }
    case 'preVoteReply': {
      const body = frameOf(FrameType.preVoteReply, 17)
      writeUint53(body, message.epoch, 5)
      writeUint53(body, message.promised, 13)
      body.writeUInt8((message.granted ? 1 : 0) | (message.owing ? 2 : 0), 21)
      return [body]
    }
    case 'vote': {
      const body = frameOf(FrameType.vote, 33)
      writeUint53(body, message.epoch, 5)
      writeUint53(body, message.lastEpoch, 13)
      writeUint53(body, message.lastIndex, 21)
      writeUint53(body, message.handedOver, 29)
      body.writeUInt8(message.all ? 1 : 0, 37)
      return [body]
    }
    case 'voteReply': {
      const body = frameOf(FrameType.voteReply, 17)
      writeUint53(body, message.epoch, 5)
      body.writeDoubleLE(message.leaseMs, 13)
      body.writeUInt8(message.granted ? 1 : 0, 21)
      return [body]
    }
    case 'resign': {
      const body = frameOf(FrameType.resign, 9)
      writeUint53(body, message.epoch, 5)
      body.writeUInt8(message.handedOver ? 1 : 0, 13)
      return [body]
    }
    case 'standNow': {
      const body = frameOf(FrameType.standNow, 8)
      writeUint53(body, message.epoch, 5)
      return [body]
    }
    case 'recall': {
      const body = frameOf(FrameType.recall, 24)
      writeUint53(body, message.epoch, 5)
      writeUint53(body, message.owed.epoch, 13)
      writeUint53(body, message.owed.index, 21)
      return [body]
    }
    case 'behind': {
      const body = frameOf(FrameType.behind, 16)
      writeUint53(body, message.epoch, 5)
      writeUint53(body, message.firstIndex, 13)
      return [body]
    }
  }
}

function frameOf(type: FrameType, bodyBytes: number): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + bodyBytes)
  frame.writeUInt32LE(1 + bodyBytes, 0)
  frame.writeUInt8(type, 4)
  return frame
}

function encodeAppend(message: Append): Uint8Array[] {
  const head = frameOf(FrameType.append, appendHeaderBytes)
  head.writeUInt32LE(1 + appendHeaderBytes + message.bytes.length, 0)
  writeUint53(head, message.epoch, 5)
  writeUint53(head, message.previousIndex, 13)
  writeUint53(head, message.previousEpoch, 21)
  writeUint53(head, message.commitIndex, 29)
  head.writeDoubleLE(message.sentAtMs, 37)
  writeUint53(head, message.commitEpoch, 45)
  return message.bytes.length === 0 ? [head] : [head, message.bytes]
}

/**
 * Reads what consensus said.
 *
 * @param body - Everything behind the type byte; the batches of an append stay views into it.
 * @throws FrameFault for an unknown type, a wrong length, or batches that are damaged or do not follow each other.
 */
export function decodeMessage(type: number, body: Buffer): ConsensusMessage {
  try {
    return decode(type, body)
  } catch (error) {
    // Reading past the end of a short body, or a number that is none of ours.
    if (error instanceof RangeError)
      throw new FrameFault(`frame of type ${type} with ${body.length} bytes: ${error.message}`)
    throw error
  }
}

function decode(type: number, body: Buffer): ConsensusMessage {
  const expected = bodyBytes[type]
  if (expected !== undefined && body.length !== expected)
    throw new FrameFault(`frame of type ${type} with ${body.length} bytes; ${expected} are due`)
  switch (type) {
    case FrameType.append:
      return decodeAppend(body)
    case FrameType.appendReply:
      return {
        type: 'appendReply',
        epoch: readUint53(body, 0),
        previousIndex: readUint53(body, 8),
        durableIndex: readUint53(body, 16),
        writtenIndex: readUint53(body, 24),
        hintEpoch: readUint53(body, 32),
        sentAtMs: body.readDoubleLE(40),
        accepted: body.readUInt8(48) === 1,
      }
    case FrameType.preVote:
      return {
        type: 'preVote',
        epoch: readUint53(body, 0),
        lastEpoch: readUint53(body, 8),
        lastIndex: readUint53(body, 16),
        weight: body.readUInt32LE(24),
      }
    case FrameType.preVoteReply:
      return {
        type: 'preVoteReply',
        epoch: readUint53(body, 0),
        promised: readUint53(body, 8),
        granted: (body.readUInt8(16) & 1) !== 0,
        owing: (body.readUInt8(16) & 2) !== 0,
      }
    case FrameType.vote:
      return {
        type: 'vote',
        epoch: readUint53(body, 0),
        lastEpoch: readUint53(body, 8),
        lastIndex: readUint53(body, 16),
        handedOver: readUint53(body, 24),
        all: body.readUInt8(32) === 1,
      }
    case FrameType.voteReply:
      return {
        type: 'voteReply',
        epoch: readUint53(body, 0),
        leaseMs: body.readDoubleLE(8),
        granted: body.readUInt8(16) === 1,
      }
    case FrameType.resign:
      return { type: 'resign', epoch: readUint53(body, 0), handedOver: body.readUInt8(8) === 1 }
    case FrameType.standNow:
      return { type: 'standNow', epoch: readUint53(body, 0) }
    case FrameType.behind:
      return { type: 'behind', epoch: readUint53(body, 0), firstIndex: readUint53(body, 8) }
    case FrameType.recall:
      return {
        type: 'recall',
        epoch: readUint53(body, 0),
        owed: { epoch: readUint53(body, 8), index: readUint53(body, 16) },
      }
    default:
      throw new FrameFault(`unknown frame type ${type}`)
  }
}

function decodeAppend(body: Buffer): Append {
  if (body.length < appendHeaderBytes) throw new FrameFault(`append of ${body.length} bytes`)
  const epoch = readUint53(body, 0)
  const previousIndex = readUint53(body, 8)
  const previousEpoch = readUint53(body, 16)
  const bytes = body.subarray(appendHeaderBytes)
  const batches = spansOf(bytes, previousIndex + 1, true)
  const first = batches[0]?.epoch ?? epoch
  const last = batches.at(-1)?.epoch ?? epoch
  if (first < previousEpoch || last > epoch)
    throw new FrameFault(
      `append of epoch ${epoch} behind epoch ${previousEpoch} with epochs ${first} to ${last}`,
    )
  const commitIndex = readUint53(body, 24)
  const sentAtMs = body.readDoubleLE(32)
  const commitEpoch = readUint53(body, 40)
  return {
    type: 'append',
    epoch,
    previousIndex,
    previousEpoch,
    commitIndex,
    commitEpoch,
    sentAtMs,
    batches,
    bytes,
  }
}

/**
 * The batches in a buffer of whole batches, end to end.
 *
 * @param firstIndex - Index that the first one must begin with.
 * @param verify - Also check each payload's checksum and the chain from batch to batch, and read configurations.
 * @throws FrameFault for anything but whole batches that follow on.
 */
export function spansOf(bytes: Buffer, firstIndex: number, verify: boolean): BatchSpan[] {
  const spans: BatchSpan[] = []
  let expected = firstIndex
  let offset = 0
  let previous: BatchHeader | undefined
  while (offset < bytes.length) {
    if (bytes.length - offset < batchHeaderBytes) throw new FrameFault('half a batch header')
    const header = decodeBatchHeader(bytes, offset)
    if (typeof header === 'string') throw new FrameFault(`batch header at ${offset}: wrong ${header}`)
    const end = offset + batchHeaderBytes + header.payloadBytes
    if (end > bytes.length) throw new FrameFault(`half a batch at ${offset}`)
    if (header.firstIndex !== expected)
      throw new FrameFault(`batch ${header.firstIndex} where ${expected} was due`)
    if (verify) {
      if (!payloadIntact(bytes, offset, header)) throw new FrameFault(`batch ${expected}: damaged payload`)
      if (
        previous !== undefined &&
        (header.previousChecksum !== previous.checksum || header.epoch < previous.epoch)
      ) {
        throw new FrameFault(`batch ${expected}: does not follow the one before`)
      }
    }
    const lastIndex = lastIndexOf(header)
    const voters = verify ? configurationIn(bytes, offset, header) : undefined
    spans.push({ epoch: header.epoch, firstIndex: expected, lastIndex, offset, voters })
    expected = lastIndex + 1
    offset = end
    previous = header
  }
  return spans
}

function configurationIn(bytes: Buffer, at: number, header: BatchHeader): BatchSpan['voters'] {
  try {
    return votersIn(bytes, at, header)
  } catch (error) {
    throw new FrameFault(`batch ${header.firstIndex}: configuration: ${String(error)}`)
  }
}

/**
 * Cuts a byte stream into frames. A frame that lies in one chunk is a view into it; a longer one is gathered in one
 * buffer of its own, allocated when its length has been checked.
 */
export class FrameDecoder {
  #limit: number
  #head: Buffer = Buffer.alloc(0)
  #gathering: Buffer | undefined
  #gathered = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** From the next frame on. */
  setLimit(limit: number): void {
    this.#limit = limit
  }

  /** @throws FrameFault for a length of zero or above the limit; the stream cannot be read on after that. */
  push(chunk: Buffer, frame: (type: number, body: Buffer) => void): void {
    let at = 0
    if (this.#gathering !== undefined) {
      at = this.#gather(this.#gathering, chunk, 0, frame)
    } else if (this.#head.length > 0) {
      chunk = Buffer.concat([this.#head, chunk])
      this.#head = Buffer.alloc(0)
    }
    while (chunk.length - at >= frameHeaderBytes) {
      const length = chunk.readUInt32LE(at)
      if (length === 0 || length > this.#limit)
        throw new FrameFault(`frame of ${length} bytes; the limit is ${this.#limit}`)
      if (chunk.length - at - 4 >= length) {
        frame(chunk.readUInt8(at + 4), chunk.subarray(at + frameHeaderBytes, at + 4 + length))
        at += 4 + length
      } else {
        const gathering = Buffer.allocUnsafe(length)
        this.#gathering = gathering
        this.#gathered = 0
        at = this.#gather(gathering, chunk, at + 4, frame)
      }
    }
    // Fewer than five bytes: copied, so that they do not keep the chunk alive.
    if (at < chunk.length) this.#head = Buffer.from(chunk.subarray(at))
  }

  #gather(into: Buffer, chunk: Buffer, at: number, frame: (type: number, body: Buffer) => void): number {
    const count = Math.min(into.length - this.#gathered, chunk.length - at)
    chunk.copy(into, this.#gathered, at, at + count)
    this.#gathered += count
    if (this.#gathered === into.length) {
      this.#gathering = undefined
      frame(into.readUInt8(0), into.subarray(1))
    }
    return at + count
  }
}

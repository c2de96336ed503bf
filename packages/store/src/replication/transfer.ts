import { readUint53, writeUint53 } from '../journal/integer.ts'
import type { EpochStart, LogStart } from '../journal/log.ts'
import { FrameFault, FrameType, frameHeaderBytes, spansOf } from './frame.ts'

/**
 * What members fetch from each other besides what a master sends by itself: a log's beginning for a store that is to be
 * begun anew, and batches in the place of damaged ones. The one that needs them asks, one request at a time, and is
 * answered with exactly one reply; the batches in it are the journal's bytes, unchanged.
 */
export type Transfer = SnapshotRequest | SnapshotChunk | RepairRequest | RepairReply

export interface SnapshotRequest {
  readonly type: 'snapshotRequest'
  /** Chosen by the requester, and repeated in the reply. */
  readonly id: number
  /** First record that is wanted; 0 for wherever the log begins. */
  readonly fromIndex: number
  /** Bytes of batches in the reply, at most, unless a single batch is larger; up to {@link maxTransferBytes}. */
  readonly maxBytes: number
}

export interface SnapshotChunk {
  readonly type: 'snapshotChunk'
  readonly id: number
  /** `refused` tells why there are no batches, for people. */
  readonly content: SnapshotContent | { readonly refused: string }
}

interface SnapshotContent {
  /** Where the log of the one that answers begins now. It rises while that one frees space. */
  readonly start: LogStart
  /** Index that the batches begin with. */
  readonly fromIndex: number
  /** Whole batches, end to end. */
  readonly batches: Buffer
  /** Nothing is behind these batches now. */
  readonly last: boolean
}

export interface RepairRequest {
  readonly type: 'repairRequest'
  readonly id: number
  readonly fromIndex: number
  readonly toIndex: number
  /** As in {@link SnapshotRequest}. */
  readonly maxBytes: number
}

export interface RepairReply {
  readonly type: 'repairReply'
  readonly id: number
  /** Index that the batches begin with. */
  readonly fromIndex: number
  /** Whole batches, end to end; `unknown` if the one that was asked does not have them intact either. */
  readonly batches: Buffer | 'unknown'
}

/** Most bytes of batches that may be asked for at a time. */
export const maxTransferBytes: number = 1024 * 1024
/** Far more epochs than a log's beginning has to name. */
const maxEpochStarts = 4096
/** Longest text of a refusal, in bytes. */
const maxReasonBytes = 1024

const requestBytes = 20
const repairRequestBytes = 28
/** Id and flags; a refusal's text comes behind, or the rest of the head. */
const chunkHeadBytes = 9
const chunkContentBytes: number = chunkHeadBytes + 28
const epochStartBytes = 16
const repairReplyBytes = 17
const chunkFlag = { last: 1, refused: 2 } as const
const replyFlag = { unknown: 1 } as const

/** Whether frames of this type are for {@link decodeTransfer}. */
export function isTransfer(type: number): boolean {
  return type >= FrameType.snapshotRequest && type <= FrameType.repairReply
}

/** Chunks to be sent one after the other: batches are not copied. */
export function encodeTransfer(transfer: Transfer): Uint8Array[] {
  switch (transfer.type) {
    case 'snapshotRequest': {
      const frame = frameOf(FrameType.snapshotRequest, requestBytes, 0)
      writeUint53(frame, transfer.id, 5)
      writeUint53(frame, transfer.fromIndex, 13)
      frame.writeUInt32LE(transfer.maxBytes, 21)
      return [frame]
    }
    case 'snapshotChunk':
      return encodeChunk(transfer)
    case 'repairRequest': {
      const frame = frameOf(FrameType.repairRequest, repairRequestBytes, 0)
      writeUint53(frame, transfer.id, 5)
      writeUint53(frame, transfer.fromIndex, 13)
      writeUint53(frame, transfer.toIndex, 21)
      frame.writeUInt32LE(transfer.maxBytes, 29)
      return [frame]
    }
    case 'repairReply': {
      const batches = transfer.batches === 'unknown' ? undefined : transfer.batches
      const frame = frameOf(FrameType.repairReply, repairReplyBytes, batches?.length ?? 0)
      writeUint53(frame, transfer.id, 5)
      writeUint53(frame, transfer.fromIndex, 13)
      frame.writeUInt8(batches === undefined ? replyFlag.unknown : 0, 21)
      return batches === undefined || batches.length === 0 ? [frame] : [frame, batches]
    }
  }
}

function encodeChunk({ id, content }: SnapshotChunk): Uint8Array[] {
  if ('refused' in content) {
    const reason = textOfAtMost(content.refused, maxReasonBytes)
    const frame = frameOf(FrameType.snapshotChunk, chunkHeadBytes, reason.length)
    writeUint53(frame, id, 5)
    frame.writeUInt8(chunkFlag.refused, 13)
    return [frame, reason]
  }
  const { start, fromIndex, batches, last } = content
  if (start.epochStarts.length > maxEpochStarts)
    throw new RangeError(`a log that begins with ${start.epochStarts.length} epochs`)
  const starts = start.epochStarts.length * epochStartBytes
  const frame = frameOf(FrameType.snapshotChunk, chunkContentBytes + starts, batches.length)
  writeUint53(frame, id, 5)
  frame.writeUInt8(last ? chunkFlag.last : 0, 13)
  writeUint53(frame, start.firstIndex, 14)
  writeUint53(frame, start.replayTo, 22)
  writeUint53(frame, fromIndex, 30)
  frame.writeUInt32LE(start.epochStarts.length, 38)
  let at = frameHeaderBytes + chunkContentBytes
  for (const { epoch, index } of start.epochStarts) {
    writeUint53(frame, epoch, at)
    writeUint53(frame, index, at + 8)
    at += epochStartBytes
  }
  return batches.length === 0 ? [frame] : [frame, batches]
}

/** A frame of which `ownBytes` of the body are filled in here, and `more` bytes come behind as they are. */
function frameOf(type: FrameType, ownBytes: number, more: number): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + ownBytes)
  frame.writeUInt32LE(1 + ownBytes + more, 0)
  frame.writeUInt8(type, 4)
  return frame
}

/**
 * Reads what a member asks for or answers. Nothing is allocated by what a number in the body says before the body has
 * been found long enough for it.
 *
 * @param body - Everything behind the type byte; batches stay views into it.
 * @throws FrameFault for a wrong length, a number that is none, or batches that are damaged or do not follow each other.
 */
export function decodeTransfer(type: number, body: Buffer): Transfer {
  try {
    return decode(type, body)
  } catch (error) {
    // Reading past the end of a short body, or a number that is none of ours.
    if (error instanceof RangeError)
      throw new FrameFault(`frame of type ${type} with ${body.length} bytes: ${error.message}`)
    throw error
  }
}

function decode(type: number, body: Buffer): Transfer {
  const id = readUint53(body, 0)
  switch (type) {
    case FrameType.snapshotRequest: {
      demandLength(body, requestBytes)
      return {
        type: 'snapshotRequest',
        id,
        fromIndex: readUint53(body, 8),
        maxBytes: bytesAskedFor(body, 16),
      }
    }
    case FrameType.snapshotChunk:
      return { type: 'snapshotChunk', id, content: chunkContent(body) }
    case FrameType.repairRequest: {
      demandLength(body, repairRequestBytes)
      const [fromIndex, toIndex] = [readUint53(body, 8), readUint53(body, 16)]
      if (fromIndex < 1 || toIndex < fromIndex)
        throw new FrameFault(`a repair of records ${fromIndex} to ${toIndex}`)
      return { type: 'repairRequest', id, fromIndex, toIndex, maxBytes: bytesAskedFor(body, 24) }
    }
    case FrameType.repairReply:
      return repairReply(id, body)
    default:
      throw new FrameFault(`unknown frame type ${type}`)
  }
}

function chunkContent(body: Buffer): SnapshotChunk['content'] {
  const flags = body.readUInt8(8)
  if (flags === chunkFlag.refused) {
    if (body.length - chunkHeadBytes > maxReasonBytes) throw new FrameFault('a refusal that is too long')
    return { refused: body.toString('utf8', chunkHeadBytes) }
  }
  if (flags !== 0 && flags !== chunkFlag.last) throw new FrameFault(`a snapshot's chunk with flags ${flags}`)
  const start = { firstIndex: readUint53(body, 9), replayTo: readUint53(body, 17) }
  const fromIndex = readUint53(body, 25)
  const count = body.readUInt32LE(33)
  const batchesAt = chunkContentBytes + count * epochStartBytes
  if (count > maxEpochStarts || batchesAt > body.length)
    throw new FrameFault(`a snapshot's chunk of ${body.length} bytes with ${count} epochs`)
  if (start.firstIndex < 1 || fromIndex < start.firstIndex)
    throw new FrameFault(`records from ${fromIndex} on of a log that begins with ${start.firstIndex}`)
  const epochStarts = epochStartsIn(body, count)
  const batches = body.subarray(batchesAt)
  spansOf(batches, fromIndex, true)
  return { start: { ...start, epochStarts }, fromIndex, batches, last: flags === chunkFlag.last }
}

function epochStartsIn(body: Buffer, count: number): EpochStart[] {
  const starts: EpochStart[] = []
  for (let place = 0; place < count; place++) {
    const at = chunkContentBytes + place * epochStartBytes
    const start = { epoch: readUint53(body, at), index: readUint53(body, at + 8) }
    const before = starts.at(-1)
    if (before !== undefined && (start.epoch <= before.epoch || start.index <= before.index))
      throw new FrameFault(`epoch ${start.epoch} from record ${start.index} on, behind ${before.epoch}`)
    starts.push(start)
  }
  return starts
}

function repairReply(id: number, body: Buffer): RepairReply {
  const fromIndex = readUint53(body, 8)
  const flags = body.readUInt8(16)
  const batches = body.subarray(repairReplyBytes)
  if (flags === replyFlag.unknown && batches.length === 0)
    return { type: 'repairReply', id, fromIndex, batches: 'unknown' }
  if (flags !== 0) throw new FrameFault(`a repair with flags ${flags}`)
  spansOf(batches, fromIndex, true)
  return { type: 'repairReply', id, fromIndex, batches }
}

function demandLength(body: Buffer, bytes: number): void {
  if (body.length !== bytes) throw new FrameFault(`${body.length} bytes where ${bytes} are due`)
}

function bytesAskedFor(body: Buffer, at: number): number {
  const bytes = body.readUInt32LE(at)
  if (bytes < 1 || bytes > maxTransferBytes)
    throw new FrameFault(`${bytes} bytes asked for; the limit is ${maxTransferBytes}`)
  return bytes
}

/** Cut between two characters if it is too long. */
function textOfAtMost(text: string, limit: number): Buffer {
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return bytes
  let end = limit
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.subarray(0, end)
}

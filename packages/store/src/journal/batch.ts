import { crc32 } from 'node:zlib'
import { readUint53, writeUint53 } from './integer.ts'

/**
 * The batch: records of one group commit, and the unit of atomicity, checksum and replication. Its bytes are the same
 * in memory, on every disk and on the wire.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | magic `LMQB` |
 * | 4 | 2 | format version |
 * | 6 | 2 | flags: bit 0 = holds a configuration record |
 * | 8 | 8 | epoch of the mastership that sealed it |
 * | 16 | 8 | index of its first record |
 * | 24 | 4 | count of records, 1 or more |
 * | 28 | 4 | length of the payload |
 * | 32 | 8 | log time: milliseconds since 1970, never less than that of the batch before |
 * | 40 | 8 | commit index known to the master when it sealed the batch |
 * | 48 | 4 | checksum of the header before (0 for the first batch of a log): makes the log a chain |
 * | 52 | 4 | CRC-32 of the payload |
 * | 56 | 4 | zero |
 * | 60 | 4 | CRC-32 of the 60 bytes before: the batch's checksum |
 *
 * The payload is a sequence of records (`record.ts`). All numbers are little-endian.
 */
export const batchHeaderBytes = 64
const batchFormatVersion = 1
/** `LMQB` read as a little-endian number. */
const batchMagic = 0x42514d4c
/** Upper bound of any payload, checked before anything is allocated for it. */
const maxPayloadBytes: number = 128 * 1024 * 1024

const configurationFlag = 1

export interface BatchHeader {
  /** A record in it is a configuration: whoever looks for those needs to read no other batches. */
  readonly holdsConfiguration: boolean
  readonly epoch: number
  readonly firstIndex: number
  readonly count: number
  readonly payloadBytes: number
  readonly logTimeMs: number
  readonly commitIndex: number
  readonly previousChecksum: number
  readonly payloadCrc: number
  /** CRC of this header, which covers `payloadCrc`: stands for the batch and all before it. */
  readonly checksum: number
}

/** Index of the last record in a batch. */
export function lastIndexOf(header: BatchHeader): number {
  return header.firstIndex + header.count - 1
}

/** Why bytes are no batch header: `end` means zeroes where the magic should be (never written). */
export type BatchHeaderFault = 'end' | 'magic' | 'version' | 'checksum' | 'length' | 'number'

/**
 * Reads and checks the header at `at`; the caller has seen to it that 64 bytes are there.
 * The payload is checked by {@link payloadIntact}, the chain by comparing `previousChecksum`.
 */
export function decodeBatchHeader(from: Buffer, at: number): BatchHeader | BatchHeaderFault {
  const magic = from.readUInt32LE(at)
  if (magic === 0) return 'end'
  if (magic !== batchMagic) return 'magic'
  const checksum = from.readUInt32LE(at + 60)
  if (crc32(from.subarray(at, at + 60)) !== checksum) return 'checksum'
  const flags = from.readUInt16LE(at + 6)
  if (from.readUInt16LE(at + 4) !== batchFormatVersion || (flags & ~configurationFlag) !== 0) return 'version'
  const count = from.readUInt32LE(at + 24)
  const payloadBytes = from.readUInt32LE(at + 28)
  if (payloadBytes > maxPayloadBytes || count === 0 || count * 5 > payloadBytes) return 'length'
  if (from.readUInt32LE(at + 12) >= 0x200000 || from.readUInt32LE(at + 20) >= 0x200000) return 'number'
  return {
    holdsConfiguration: flags === configurationFlag,
    epoch: readUint53(from, at + 8),
    firstIndex: readUint53(from, at + 16),
    count,
    payloadBytes,
    logTimeMs: readUint53(from, at + 32),
    commitIndex: readUint53(from, at + 40),
    previousChecksum: from.readUInt32LE(at + 48),
    payloadCrc: from.readUInt32LE(at + 52),
    checksum,
  }
}

/** Whether the payload that follows the header at `at` has the checksum that the header says. */
export function payloadIntact(from: Buffer, at: number, header: BatchHeader): boolean {
  const start = at + batchHeaderBytes
  return crc32(from.subarray(start, start + header.payloadBytes)) === header.payloadCrc
}

/**
 * Fills in the header at the start of `batch`, whose payload already stands behind it.
 *
 * @param batch - Exactly header and payload.
 * @returns The batch's checksum, which the next batch carries as `previousChecksum`.
 */
export function sealBatch(
  batch: Buffer,
  header: Omit<BatchHeader, 'payloadBytes' | 'payloadCrc' | 'checksum'>,
): number {
  batch.writeUInt32LE(batchMagic, 0)
  batch.writeUInt16LE(batchFormatVersion, 4)
  batch.writeUInt16LE(header.holdsConfiguration ? configurationFlag : 0, 6)
  writeUint53(batch, header.epoch, 8)
  writeUint53(batch, header.firstIndex, 16)
  batch.writeUInt32LE(header.count, 24)
  batch.writeUInt32LE(batch.length - batchHeaderBytes, 28)
  writeUint53(batch, header.logTimeMs, 32)
  writeUint53(batch, header.commitIndex, 40)
  batch.writeUInt32LE(header.previousChecksum, 48)
  batch.writeUInt32LE(crc32(batch.subarray(batchHeaderBytes)), 52)
  batch.writeUInt32LE(0, 56)
  const checksum = crc32(batch.subarray(0, 60))
  batch.writeUInt32LE(checksum, 60)
  return checksum
}

/** Length of the batch at `at`, header included; the header has been checked before. */
export function batchBytesAt(from: Buffer, at: number): number {
  return batchHeaderBytes + from.readUInt32LE(at + 28)
}

/** Epoch of the batch at `at`; the header has been checked before. */
export function epochAt(from: Buffer, at: number): number {
  return readUint53(from, at + 8)
}

/** First index of the batch at `at`; the header has been checked before. */
export function firstIndexAt(from: Buffer, at: number): number {
  return readUint53(from, at + 16)
}

/** Last index of the batch at `at`; the header has been checked before. */
export function lastIndexAt(from: Buffer, at: number): number {
  return readUint53(from, at + 16) + from.readUInt32LE(at + 24) - 1
}

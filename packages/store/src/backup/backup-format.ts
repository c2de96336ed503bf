import { crc32 } from 'node:zlib'
import { readUint53, writeUint53 } from '../journal/integer.ts'
import type { EpochStart, LogStart } from '../journal/log.ts'

/**
 * A backup is a log in one piece (rule S37): where it begins, and its batches up to the record that was committed when the backup was
 * begun, unchanged, so that each is covered by its own checksums and by the chain.
 *
 * | part | content |
 * |---|---|
 * | head | magic `LMQK` (4), version (2), zero (2), length of the text (4), CRC-32 of the text (4), the text: JSON, {@link BackupHead} |
 * | batches | end to end, from `start.firstIndex` to `toIndex` |
 * | foot | magic `LMQF` (4), bytes of all batches (8), their count of records (8), CRC-32 of the 20 bytes before (4) |
 *
 * A file without its foot is the beginning of a backup, and is not taken.
 */
export interface BackupHead {
  readonly clusterUuid: string
  readonly start: LogStart
  /** Last record in it, and its epoch. */
  readonly toIndex: number
  readonly toEpoch: number
  /** Wall clock, milliseconds since 1970. */
  readonly madeAtMs: number
}

export const backupHeadBytes = 16
export const backupFootBytes = 24
const headMagic = 0x4b514d4c
const footMagic = 0x46514d4c
const version = 1
const maxTextBytes: number = 1024 * 1024

/** Bytes that are no backup, or not all of one. */
export class BackupFault extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'BackupFault'
  }
}

export function encodeBackupHead(head: BackupHead): Buffer {
  const text = Buffer.from(JSON.stringify(head))
  const bytes = Buffer.alloc(backupHeadBytes + text.length)
  bytes.writeUInt32LE(headMagic, 0)
  bytes.writeUInt16LE(version, 4)
  bytes.writeUInt32LE(text.length, 8)
  bytes.writeUInt32LE(crc32(text), 12)
  text.copy(bytes, backupHeadBytes)
  return bytes
}

/**
 * Length of the text behind the first 16 bytes.
 *
 * @throws BackupFault if they begin no backup of this version.
 */
export function backupTextBytes(bytes: Buffer): number {
  if (bytes.length < backupHeadBytes || bytes.readUInt32LE(0) !== headMagic)
    throw new BackupFault('is no backup')
  if (bytes.readUInt16LE(4) !== version) throw new BackupFault('was written by another version')
  const length = bytes.readUInt32LE(8)
  if (length > maxTextBytes) throw new BackupFault('has a damaged head')
  return length
}

/** @param head - The first 16 bytes. @throws BackupFault */
export function decodeBackupHead(head: Buffer, text: Buffer): BackupHead {
  if (crc32(text) !== head.readUInt32LE(12)) throw new BackupFault('has a damaged head')
  const { clusterUuid, start, toIndex, toEpoch, madeAtMs } = JSON.parse(
    text.toString('utf8'),
  ) as Partial<BackupHead>
  if (
    typeof clusterUuid !== 'string' ||
    !isLogStart(start) ||
    !isCount(toIndex) ||
    !isCount(toEpoch) ||
    !isCount(madeAtMs)
  )
    throw new BackupFault('has a head that this version does not understand')
  return { clusterUuid, start, toIndex, toEpoch, madeAtMs }
}

export function encodeBackupFoot(bytes: number, records: number): Buffer {
  const foot = Buffer.alloc(backupFootBytes)
  foot.writeUInt32LE(footMagic, 0)
  writeUint53(foot, bytes, 4)
  writeUint53(foot, records, 12)
  foot.writeUInt32LE(crc32(foot.subarray(0, 20)), 20)
  return foot
}

/** @throws BackupFault if it is none: the backup was cut short. */
export function decodeBackupFoot(foot: Buffer): { readonly bytes: number; readonly records: number } {
  if (
    foot.length !== backupFootBytes ||
    foot.readUInt32LE(0) !== footMagic ||
    crc32(foot.subarray(0, 20)) !== foot.readUInt32LE(20)
  )
    throw new BackupFault('is not complete: its foot is missing or damaged')
  return { bytes: readUint53(foot, 4), records: readUint53(foot, 12) }
}

function isLogStart(value: unknown): value is LogStart {
  if (typeof value !== 'object' || value === null) return false
  const { firstIndex, replayTo, epochStarts } = value as Partial<LogStart>
  return (
    isCount(firstIndex) && isCount(replayTo) && Array.isArray(epochStarts) && epochStarts.every(isEpochStart)
  )
}

function isEpochStart(value: unknown): value is EpochStart {
  if (typeof value !== 'object' || value === null) return false
  const { epoch, index } = value as Partial<EpochStart>
  return isCount(epoch) && isCount(index)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

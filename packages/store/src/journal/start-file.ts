import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Disk } from '../io/disk.ts'
import { orDiskFailed } from './disk-failure.ts'
import { readUint53, writeUint53 } from './integer.ts'
import type { EpochStart, LogStart } from './log.ts'
import { newNameOf, replaceFile } from './replace-file.ts'

/**
 * Where the log of a directory begins: a small file, replaced as a whole before the first segment goes. Without it the
 * log begins with record 1, and a first segment above what it says is missing, not discarded.
 *
 * It holds the same content twice, so that no single damaged place makes the log unreadable.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | magic `LMQF` |
 * | 4 | 2 | format version |
 * | 6 | 2 | flags: bit 0 = records up to the replay index were durable in this directory |
 * | 8 | 8 | index of the first record |
 * | 16 | 8 | replay index |
 * | 24 | 4 | count of epoch starts |
 * | 28 | 16 each | epoch, index of its first record |
 * | then | 4 | CRC-32 of all before |
 */
export const startFileName = 'start'
/** Before it is complete and renamed. */
export const newStartName: string = newNameOf(startFileName)
/** Bounds what is read: 64 thousand epochs. */
const maxStartFileBytes: number = 2 * 1024 * 1024
const magic = 0x46514d4c
const version = 1
const headBytes = 28
const entryBytes = 16

/** What the file says. */
export interface StartFile {
  readonly start: LogStart
  /** Records up to `start.replayTo` were durable here; false while a journal is being filled from elsewhere. */
  readonly held: boolean
}

/** The log from its first record on. */
export const wholeLog: LogStart = { firstIndex: 1, replayTo: 0, epochStarts: [] }

/** The beginning of a log at the later index `firstIndex`, with those epoch starts that its reader needs. */
export function startAt(firstIndex: number, replayTo: number, epochStarts: readonly EpochStart[]): LogStart {
  const covering = epochStarts.findLastIndex((start) => start.index < firstIndex)
  const needed = epochStarts.slice(Math.max(0, covering)).filter((start) => start.index <= firstIndex)
  return { firstIndex, replayTo, epochStarts: needed }
}

/** Epoch of the last record before the log's beginning; 0 if there is none. */
export function epochBefore(start: LogStart): number {
  return start.epochStarts.findLast(({ index }) => index < start.firstIndex)?.epoch ?? 0
}

/** @throws RangeError if `start` contradicts itself. */
export function checkStart(start: LogStart): void {
  const { firstIndex, replayTo, epochStarts } = start
  const numbers = [firstIndex, replayTo, ...epochStarts.flatMap(({ epoch, index }) => [epoch, index])]
  if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0) || firstIndex < 1)
    throw new RangeError('the beginning of a log needs whole numbers')
  let before: EpochStart = { epoch: 0, index: 0 }
  for (const entry of epochStarts) {
    if (entry.epoch <= before.epoch || entry.index <= before.index || entry.index > firstIndex)
      throw new RangeError(`epoch ${entry.epoch} at ${entry.index} is out of order`)
    before = entry
  }
  if (firstIndex > 1 && epochBefore(start) === 0)
    throw new RangeError(`nothing tells the epoch of record ${firstIndex - 1}`)
}

function encodeStart({ start, held }: StartFile): Buffer {
  const { firstIndex, replayTo, epochStarts } = start
  const bytes = Buffer.alloc(headBytes + entryBytes * epochStarts.length + 4)
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUInt16LE(version, 4)
  bytes.writeUInt16LE(held ? 1 : 0, 6)
  writeUint53(bytes, firstIndex, 8)
  writeUint53(bytes, replayTo, 16)
  bytes.writeUInt32LE(epochStarts.length, 24)
  for (const [place, { epoch, index }] of epochStarts.entries()) {
    writeUint53(bytes, epoch, headBytes + entryBytes * place)
    writeUint53(bytes, index, headBytes + entryBytes * place + 8)
  }
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4)
  return bytes
}

/** What the file says, or why it says nothing. */
export function decodeStartFile(content: Buffer): StartFile | 'damaged' | 'version' {
  const first = decodeCopy(content.subarray(0, content.length / 2))
  return first === 'damaged' ? decodeCopy(content.subarray(content.length / 2)) : first
}

/** How many of the two copies are intact. */
export function intactStartCopies(content: Buffer): number {
  const half = content.length / 2
  return [content.subarray(0, half), content.subarray(half)].filter((copy) => decodeCopy(copy) !== 'damaged')
    .length
}

function decodeCopy(bytes: Buffer): StartFile | 'damaged' | 'version' {
  if (bytes.length < headBytes + 4 || bytes.readUInt32LE(0) !== magic) return 'damaged'
  if (crc32(bytes.subarray(0, -4)) !== bytes.readUInt32LE(bytes.length - 4)) return 'damaged'
  const flags = bytes.readUInt16LE(6)
  if (bytes.readUInt16LE(4) !== version || flags > 1) return 'version'
  const count = bytes.readUInt32LE(24)
  if (bytes.length !== headBytes + entryBytes * count + 4) return 'damaged'
  const epochStarts = Array.from({ length: count }, (_, place) => ({
    epoch: readUint53(bytes, headBytes + entryBytes * place),
    index: readUint53(bytes, headBytes + entryBytes * place + 8),
  }))
  const start = { firstIndex: readUint53(bytes, 8), replayTo: readUint53(bytes, 16), epochStarts }
  return { start, held: flags === 1 }
}

/** The file's content, or `undefined` if there is none. */
export async function readStartFile(disk: Disk, directory: string): Promise<Buffer | undefined> {
  const path = join(directory, startFileName)
  return await orDiskFailed('read', path, disk.readWhole(path, maxStartFileBytes))
}

/** From when this resolves, the log begins there, whatever lies below. */
export async function writeStartFile(disk: Disk, directory: string, file: StartFile): Promise<void> {
  const copy = encodeStart(file)
  await replaceFile(disk, directory, startFileName, Buffer.concat([copy, copy]))
}

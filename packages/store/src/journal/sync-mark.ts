import { crc32 } from 'node:zlib'
import { readUint53, writeUint53 } from './integer.ts'

/**
 * The sync mark: stands in a segment before the bytes of each group write, and says that everything before it was
 * synced when it was written. It belongs to this file alone: it is not replicated, has no index, and readers skip it.
 *
 * It is what tells a torn tail from corruption: damage with an intact mark anywhere behind it was once durable.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | magic `LMQS` |
 * | 4 | 2 | format version |
 * | 6 | 2 | zero |
 * | 8 | 8 | durable index: the last record before the mark |
 * | 16 | 8 | offset of this mark in its file, so that a mark inside a message's body is not taken for one |
 * | 24 | 4 | zero |
 * | 28 | 4 | CRC-32 of the 28 bytes before |
 */
export const syncMarkBytes = 32
const syncMarkVersion = 1
/** `LMQS` read as a little-endian number. */
export const syncMarkMagic = 0x53514d4c

const magicBytes = Buffer.from('LMQS', 'latin1')

/** A mark that says, at `offset`, that everything up to `durableIndex` is durable. */
export function encodeSyncMark(durableIndex: number, offset: number): Buffer {
  const mark = Buffer.alloc(syncMarkBytes)
  mark.writeUInt32LE(syncMarkMagic, 0)
  mark.writeUInt16LE(syncMarkVersion, 4)
  writeUint53(mark, durableIndex, 8)
  writeUint53(mark, offset, 16)
  mark.writeUInt32LE(crc32(mark.subarray(0, 28)), 28)
  return mark
}

/** As many marks as fill `bytes`, a multiple of the size of one. */
export function encodeSyncMarks(durableIndex: number, offset: number, bytes: number): Buffer {
  const marks = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += syncMarkBytes) encodeSyncMark(durableIndex, offset + at).copy(marks, at)
  return marks
}

/**
 * The durable index that the mark at `at` states, or why it is none.
 *
 * @param offset - Where in the file the mark stands.
 */
export function decodeSyncMark(from: Buffer, at: number, offset: number): number | 'mark' | 'version' {
  if (crc32(from.subarray(at, at + 28)) !== from.readUInt32LE(at + 28)) return 'mark'
  if (from.readUInt16LE(at + 4) !== syncMarkVersion) return 'version'
  if (from.readUInt32LE(at + 12) >= 0x200000 || from.readUInt32LE(at + 20) >= 0x200000) return 'mark'
  return readUint53(from, at + 16) === offset ? readUint53(from, at + 8) : 'mark'
}

/**
 * Looks for intact marks at any place in `from`, and returns the highest durable index they state, or -1.
 *
 * @param offset - Where in the file `from` begins.
 */
export function highestSyncMark(from: Buffer, offset: number): number {
  let highest = -1
  let at = from.indexOf(magicBytes)
  while (at >= 0 && at + syncMarkBytes <= from.length) {
    const durableIndex = decodeSyncMark(from, at, offset + at)
    if (typeof durableIndex === 'number') highest = Math.max(highest, durableIndex)
    at = from.indexOf(magicBytes, at + 1)
  }
  return highest
}

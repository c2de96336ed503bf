import { crc32 } from 'node:zlib'
import { readUint53, writeUint53 } from './integer.ts'

/**
 * The end mark: stands in a segment behind the bytes of each group write, and is written with them. It says that the
 * group was handed to the disk whole. Like the sync mark it belongs to this file alone, and readers skip it.
 *
 * A group without it was never synced, so nobody was told that it is durable. A damaged group that has it was either
 * torn all the same, as sectors reach the disk in any order, or was durable once: nobody can tell (rule S27, class c).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | magic `LMQE` |
 * | 4 | 2 | format version |
 * | 6 | 6 | offset of this mark in its file, so that a mark inside a message's body is not taken for one |
 * | 12 | 8 | last index of the group |
 * | 20 | 8 | epoch of that record |
 * | 28 | 4 | CRC-32 of the 28 bytes before |
 */
export const endMarkBytes = 32
const endMarkVersion = 1
/** `LMQE` read as a little-endian number. */
export const endMarkMagic = 0x45514d4c

const magicBytes = Buffer.from('LMQE', 'latin1')

export interface EndMark {
  readonly lastIndex: number
  readonly epoch: number
}

/** A mark that ends, at `offset`, the group whose last record is `lastIndex`, of `epoch`. */
export function encodeEndMark(lastIndex: number, epoch: number, offset: number): Buffer {
  const mark = Buffer.alloc(endMarkBytes)
  mark.writeUInt32LE(endMarkMagic, 0)
  mark.writeUInt16LE(endMarkVersion, 4)
  mark.writeUIntLE(offset, 6, 6)
  writeUint53(mark, lastIndex, 12)
  writeUint53(mark, epoch, 20)
  mark.writeUInt32LE(crc32(mark.subarray(0, 28)), 28)
  return mark
}

/**
 * What the mark at `at` says, or why it is none.
 *
 * @param offset - Where in the file the mark stands.
 */
export function decodeEndMark(from: Buffer, at: number, offset: number): EndMark | 'mark' | 'version' {
  if (crc32(from.subarray(at, at + 28)) !== from.readUInt32LE(at + 28)) return 'mark'
  if (from.readUInt16LE(at + 4) !== endMarkVersion) return 'version'
  if (from.readUInt32LE(at + 16) >= 0x200000 || from.readUInt32LE(at + 24) >= 0x200000) return 'mark'
  if (from.readUIntLE(at + 6, 6) !== offset) return 'mark'
  return { lastIndex: readUint53(from, at + 12), epoch: readUint53(from, at + 20) }
}

/**
 * The intact end marks at any place in `from`, by their offsets in the file.
 *
 * @param offset - Where in the file `from` begins.
 */
export function endMarksIn(from: Buffer, offset: number): Map<number, EndMark> {
  const marks = new Map<number, EndMark>()
  let at = from.indexOf(magicBytes)
  while (at >= 0 && at + endMarkBytes <= from.length) {
    const mark = decodeEndMark(from, at, offset + at)
    if (typeof mark === 'object') marks.set(offset + at, mark)
    at = from.indexOf(magicBytes, at + 1)
  }
  return marks
}

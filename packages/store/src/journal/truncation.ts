import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Disk } from '../io/disk.ts'
import { orDiskFailed } from './disk-failure.ts'
import { readUint53, writeUint53 } from './integer.ts'
import { newNameOf, replaceFile } from './replace-file.ts'

/**
 * The truncation under way: a small file that is durable before anything is cut and removed after. A crash in between
 * leaves segments half zeroed and half removed, which recovery would have to take for corruption if it did not know.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | magic `LMQT` |
 * | 4 | 2 | format version |
 * | 6 | 2 | zero |
 * | 8 | 8 | index of the last record to keep |
 * | 16 | 4 | CRC-32 of the 16 bytes before |
 */
export const truncationFileName = 'truncation'
/** Before it is complete and renamed; a crash may leave it behind. */
export const newTruncationName: string = newNameOf(truncationFileName)
export const truncationBytes = 20
const magic = 0x54514d4c
const version = 1

function encodeTruncation(index: number): Buffer {
  const bytes = Buffer.alloc(truncationBytes)
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUInt16LE(version, 4)
  writeUint53(bytes, index, 8)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 16)), 16)
  return bytes
}

/** The index to keep, or why the bytes do not tell one. */
export function decodeTruncation(bytes: Buffer): number | 'damaged' | 'version' {
  if (bytes.length !== truncationBytes || bytes.readUInt32LE(0) !== magic) return 'damaged'
  if (crc32(bytes.subarray(0, 16)) !== bytes.readUInt32LE(16)) return 'damaged'
  if (bytes.readUInt16LE(4) !== version) return 'version'
  return readUint53(bytes, 8)
}

/** Makes the truncation to `index` durable as an intention: from now on recovery carries it out. */
export async function noteTruncation(disk: Disk, directory: string, index: number): Promise<void> {
  await replaceFile(disk, directory, truncationFileName, encodeTruncation(index))
}

/** The truncation is carried out and durable. */
export async function clearTruncation(disk: Disk, directory: string): Promise<void> {
  const path = join(directory, truncationFileName)
  const remove = async (): Promise<void> => {
    await disk.remove(path)
    await disk.syncDirectory(directory)
  }
  await orDiskFailed('remove', path, remove())
}

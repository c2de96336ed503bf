import { join } from 'node:path'
import type { Disk } from '../io/disk.ts'
import { isNoSpace, orDiskFailed } from './disk-failure.ts'
import { newNameOf } from './replace-file.ts'
import type { Segment } from './segment.ts'
import type { Position } from './tail-verdict.ts'

/**
 * What recovery cut from the end of the log although it may have been acknowledged: kept for a human, never read again.
 * One line of JSON that tells where it stood, then the bytes. Only the last few are kept.
 */
const namePattern = /^cut-(\d{1,15})$/
export const newCutName: string = newNameOf('cut')
const mostFiles = 4
const mostBytes: number = 64 * 1024 * 1024

/** Number of the file with this name, or `undefined` if it is none of these. */
export function cutNumberOf(name: string): number | undefined {
  const digits = namePattern.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/**
 * Copies what stands behind the sound end of the last segment.
 *
 * @returns The file; `undefined` if there was no space: the store must come up all the same.
 */
export async function keepCut(
  disk: Disk,
  directory: string,
  segment: Segment,
  owed: Position,
): Promise<string | undefined> {
  const names = await orDiskFailed('read', directory, disk.list(directory))
  const numbers = names.flatMap((name) => cutNumberOf(name) ?? []).sort((a, b) => a - b)
  const number = (numbers.at(-1) ?? 0) + 1
  const path = join(directory, `cut-${number}`)
  const temporary = join(directory, newCutName)
  try {
    await orDiskFailed('write', temporary, write(disk, temporary, segment, owed))
  } catch (error) {
    if (!isNoSpace(error)) throw error
    const begun = (await orDiskFailed('read', directory, disk.list(directory))).includes(newCutName)
    if (begun) await orDiskFailed('remove', temporary, disk.remove(temporary))
    return undefined
  }
  const settle = async (): Promise<void> => {
    await disk.rename(temporary, path)
    for (const old of numbers.slice(0, Math.max(0, numbers.length + 1 - mostFiles)))
      await disk.remove(join(directory, `cut-${old}`))
    await disk.syncDirectory(directory)
  }
  await orDiskFailed('rename', path, settle())
  return path
}

async function write(disk: Disk, path: string, segment: Segment, owed: Position): Promise<void> {
  const { endOffset, dirtyEndOffset, lastIndex } = segment
  const bytes = Buffer.alloc(Math.min(mostBytes, dirtyEndOffset - endOffset))
  const from = await disk.open(segment.path, 'read')
  try {
    await from.read(bytes, 0, bytes.length, endOffset)
  } finally {
    await from.close()
  }
  const place = {
    segment: segment.path,
    offset: endOffset,
    bytes: bytes.length,
    behindIndex: lastIndex,
    owed,
  }
  const file = await disk.open(path, 'create')
  try {
    await file.write([Buffer.from(`${JSON.stringify(place)}\n`), bytes], 0)
    await file.sync()
  } finally {
    await file.close()
  }
}

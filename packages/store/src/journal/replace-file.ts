import { join } from 'node:path'
import type { Disk } from '../io/disk.ts'
import { orDiskFailed } from './disk-failure.ts'

/** Name that the new content of a file has until it is complete; a crash may leave it behind. */
export function newNameOf(name: string): string {
  return `${name}.new`
}

/** Replaces a small file, or makes it: whole at any time, and durable when this resolves. */
export async function replaceFile(
  disk: Disk,
  directory: string,
  name: string,
  content: Uint8Array,
): Promise<void> {
  const path = join(directory, name)
  const temporary = join(directory, newNameOf(name))
  const write = async (): Promise<void> => {
    // A try before may have run out of space.
    if ((await disk.list(directory)).includes(newNameOf(name))) await disk.remove(temporary)
    const file = await disk.open(temporary, 'create')
    try {
      await file.write([content], 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await disk.rename(temporary, path)
    await disk.syncDirectory(directory)
  }
  await orDiskFailed('write', path, write())
}

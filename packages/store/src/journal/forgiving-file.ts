import type { DiskFile } from '../io/disk.ts'

const sectorBytes = 4096

/**
 * A file in which everything can be read: what the disk does not give reads as zeroes, and so does what is missing at
 * its end. For looking for what is damaged; writing it anew can make it readable again.
 */
export function forgiving(file: DiskFile): DiskFile {
  return {
    read: async (into, at, length, position) => {
      try {
        const read = await file.read(into, at, length, position)
        into.fill(0, at + read, at + length)
      } catch {
        for (let done = 0; done < length; ) {
          const piece = Math.min(sectorBytes - ((position + done) % sectorBytes), length - done)
          const read = await file.read(into, at + done, piece, position + done).catch(() => 0)
          into.fill(0, at + done + read, at + done + piece)
          done += piece
        }
      }
      return length
    },
    write: (chunks, position) => file.write(chunks, position),
    allocate: (bytes) => file.allocate(bytes),
    sync: () => file.sync(),
    size: () => file.size(),
    close: () => file.close(),
  }
}

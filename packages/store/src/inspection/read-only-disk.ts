import type { Disk, DiskFile } from '../io/disk.ts'

/** A disk that can only be read: whoever looks at a store through it cannot change it, not even by mistake. */
export class ReadOnlyDisk implements Disk {
  readonly #disk: Disk

  constructor(disk: Disk) {
    this.#disk = disk
  }

  async open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile> {
    if (mode !== 'read') throw refused(mode, path)
    const file = await this.#disk.open(path, 'read')
    return {
      read: (into, at, length, position) => file.read(into, at, length, position),
      size: () => file.size(),
      close: () => file.close(),
      write: () => Promise.reject(refused('write', path)),
      allocate: () => Promise.reject(refused('allocate', path)),
      sync: () => Promise.reject(refused('sync', path)),
    }
  }

  list(directory: string): Promise<string[]> {
    return this.#disk.list(directory)
  }

  readWhole(path: string, maxBytes: number): Promise<Buffer | undefined> {
    return this.#disk.readWhole(path, maxBytes)
  }

  /** Nothing rests on what is read here, so there is nothing to make durable. */
  async syncDirectory(): Promise<void> {}

  async makeDirectory(directory: string): Promise<void> {
    throw refused('makeDirectory', directory)
  }

  async rename(from: string): Promise<void> {
    throw refused('rename', from)
  }

  async remove(path: string): Promise<void> {
    throw refused('remove', path)
  }

  async removeDirectory(directory: string): Promise<void> {
    throw refused('removeDirectory', directory)
  }
}

function refused(operation: string, path: string): TypeError {
  return new TypeError(`${operation} of ${path} while the store is only looked at`)
}

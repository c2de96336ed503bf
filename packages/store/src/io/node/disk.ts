import { close, fdatasync, fstat, fsync, open, read, rename, type Stats, writev } from 'node:fs'
import { mkdir, readdir, rm, unlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Disk, DiskFile } from '../disk.ts'

const openDescriptor = promisify(open)
const closeDescriptor = promisify(close)
const syncData = promisify(fdatasync)
const syncAll = promisify(fsync)
const statDescriptor = promisify(fstat) as (descriptor: number) => Promise<Stats>
const renameFile = promisify(rename)

const flags = { create: 'wx+', write: 'r+', read: 'r' } as const
const zeroBytes = 1024 * 1024
/** Below this, joining chunks is cheaper than a vector of them. */
const joinBelowBytes = 128 * 1024

/** The machine's files. Errors are those of Node, with their `code`. */
export class NodeDisk implements Disk {
  async open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile> {
    return new NodeDiskFile(await openDescriptor(path, flags[mode], 0o600))
  }

  async list(directory: string): Promise<string[]> {
    try {
      return await readdir(directory)
    } catch (error) {
      if (isMissing(error)) return []
      throw error
    }
  }

  async makeDirectory(directory: string): Promise<void> {
    const made = await mkdir(directory, { recursive: true, mode: 0o700 })
    if (made === undefined) return
    // Each new name is durable only once the directory that holds it is synced.
    const top = dirname(resolve(made))
    for (let parent = dirname(resolve(directory)); ; parent = dirname(parent)) {
      await this.syncDirectory(parent)
      if (parent === top || parent === dirname(parent)) return
    }
  }

  async readWhole(path: string, maxBytes: number): Promise<Buffer | undefined> {
    let file: DiskFile
    try {
      file = await this.open(path, 'read')
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
    try {
      const bytes = await file.size()
      if (bytes > maxBytes) throw new RangeError(`${path} has ${bytes} bytes, more than ${maxBytes}`)
      const whole = Buffer.alloc(bytes)
      return whole.subarray(0, await file.read(whole, 0, bytes, 0))
    } finally {
      await file.close()
    }
  }

  async rename(from: string, to: string): Promise<void> {
    await renameFile(from, to)
  }

  async remove(path: string): Promise<void> {
    await unlink(path)
  }

  async removeDirectory(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true })
  }

  async syncDirectory(directory: string): Promise<void> {
    const descriptor = await openDescriptor(directory, 'r')
    try {
      await syncAll(descriptor)
    } finally {
      await closeDescriptor(descriptor)
    }
  }
}

class NodeDiskFile implements DiskFile {
  readonly #descriptor: number
  #closed = false

  constructor(descriptor: number) {
    this.#descriptor = descriptor
  }

  async read(into: Buffer, at: number, length: number, position: number): Promise<number> {
    let done = 0
    while (done < length) {
      const count = await this.#readOnce(into, at + done, length - done, position + done)
      if (count === 0) break
      done += count
    }
    return done
  }

  async write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    let rest: readonly Uint8Array[] = chunks
    if (chunks.length > 1) {
      const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
      if (bytes < joinBelowBytes) rest = [Buffer.concat(chunks, bytes)]
    }
    let at = position
    for (;;) {
      rest = rest.filter((chunk) => chunk.length > 0)
      if (rest.length === 0) return
      const written = await this.#writeOnce(rest, at)
      at += written
      rest = behind(rest, written)
    }
  }

  async allocate(bytes: number): Promise<void> {
    const zeroes = Buffer.alloc(Math.min(bytes, zeroBytes))
    for (let at = await this.size(); at < bytes; at += zeroes.length)
      await this.write([zeroes.subarray(0, Math.min(zeroes.length, bytes - at))], at)
    // The size is metadata that `fdatasync` need not have written; from here on it does not change.
    await syncAll(this.#descriptor)
  }

  async sync(): Promise<void> {
    await syncData(this.#descriptor)
  }

  async size(): Promise<number> {
    return (await statDescriptor(this.#descriptor)).size
  }

  async close(): Promise<void> {
    // A descriptor's number may belong to another file by the time of a second close.
    if (this.#closed) return
    this.#closed = true
    await closeDescriptor(this.#descriptor)
  }

  #readOnce(into: Buffer, at: number, length: number, position: number): Promise<number> {
    return new Promise((done, failed) => {
      read(this.#descriptor, into, at, length, position, (error, count) => {
        if (error) failed(error)
        else done(count)
      })
    })
  }

  #writeOnce(chunks: readonly Uint8Array[], position: number): Promise<number> {
    return new Promise((done, failed) => {
      writev(this.#descriptor, chunks, position, (error, count) => {
        if (error) failed(error)
        else done(count)
      })
    })
  }
}

/** What is left of the chunks after their first `bytes` bytes: writes may be short. */
function behind(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes
  const rest: Uint8Array[] = []
  for (const chunk of chunks) {
    if (skip >= chunk.length) skip -= chunk.length
    else {
      rest.push(skip === 0 ? chunk : chunk.subarray(skip))
      skip = 0
    }
  }
  return rest
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

import { join } from 'node:path'
import type { Disk, DiskFile } from '../io/disk.ts'
import { diskFailed, isNoSpace, orDiskFailed } from './disk-failure.ts'
import { Segment, segmentPath } from './segment.ts'

const spareName = 'spare'
const newSegmentName = 'segment.new'
const reserveName = 'reserve'
/** Enough for what is written to free space. */
const reserveBytes: number = 64 * 1024
/** Files that a crash may leave behind, and that hold nothing. */
export const temporaryNames: readonly string[] = [spareName, newSegmentName, reserveName]

interface OpenSegment {
  readonly file: Promise<DiskFile>
  uses: number
  /** Close once nobody uses it. */
  retired: boolean
}

/**
 * The files of a journal: which there are, the one being written, and a few open for reading.
 *
 * Invariants: a segment gets its name after its zeroes are durable, and the name is durable before anything is written
 * into it; it is started only after everything before it was synced. There is always at least one segment, once the
 * first has been started.
 */
export class SegmentSet {
  readonly #disk: Disk
  readonly #directory: string
  readonly #segmentBytes: number
  readonly #openFiles: number
  #segments: Segment[]
  /** The last segment, open for writing. */
  #file: DiskFile | undefined
  /** In the order of their last use. */
  readonly #readers = new Map<Segment, OpenSegment>()
  /** The next segment, being made ahead. Resolves to false if there was no space for it. */
  #spare: Promise<boolean> | undefined
  #hasReserve = false

  constructor(disk: Disk, directory: string, segmentBytes: number, openFiles: number, segments: Segment[]) {
    this.#disk = disk
    this.#directory = directory
    this.#segmentBytes = segmentBytes
    this.#openFiles = openFiles
    this.#segments = segments
  }

  get first(): Segment {
    return this.#existing(this.#segments[0])
  }

  get last(): Segment {
    return this.#existing(this.#segments.at(-1))
  }

  /** In order. */
  get all(): readonly Segment[] {
    return this.#segments
  }

  get isEmpty(): boolean {
    return this.#segments.length === 0
  }

  /** The segment whose range holds record `index`, which is not below the first. */
  holding(index: number): Segment {
    let low = 0
    let high = this.#segments.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#segments[middle]?.firstIndex ?? 0) <= index) low = middle + 1
      else high = middle
    }
    return this.#existing(this.#segments[low - 1])
  }

  /** Writes into the last segment. */
  async write(chunks: readonly Uint8Array[], offset: number): Promise<void> {
    const file = await this.#writable()
    await orDiskFailed('write', this.last.path, file.write(chunks, offset))
  }

  /** Syncs the last segment. */
  async sync(): Promise<void> {
    const file = await this.#writable()
    await orDiskFailed('sync', this.last.path, file.sync())
  }

  /** Adds a segment behind the last, which has been synced; takes the place of the last one if that is empty. */
  async start(firstIndex: number, capacity: number): Promise<void> {
    await this.#closeWritten()
    const made = capacity === this.#segmentBytes && (await this.#takeSpare())
    const temporary = join(this.#directory, made ? spareName : newSegmentName)
    if (!made) await this.#allocate(temporary, capacity)
    const path = segmentPath(this.#directory, firstIndex)
    await orDiskFailed('rename', temporary, this.#disk.rename(temporary, path))
    await orDiskFailed('sync', this.#directory, this.#disk.syncDirectory(this.#directory))
    if (this.#segments.at(-1)?.firstIndex === firstIndex) this.#forget(this.#segments.pop())
    this.#segments.push(new Segment(path, firstIndex, capacity))
  }

  /** The next segment is there, or being made. */
  get hasSpare(): boolean {
    return this.#spare !== undefined
  }

  /**
   * Makes the next segment ahead, so that starting it takes no time, and there is room for a while when the disk is full.
   *
   * @returns False if there is no space for it.
   */
  async prepareSpare(): Promise<boolean> {
    this.#spare ??= this.#makeSpare()
    return await this.#spare
  }

  async #makeSpare(): Promise<boolean> {
    try {
      await this.#allocate(join(this.#directory, spareName), this.#segmentBytes)
      if (!this.#hasReserve) await this.#allocate(join(this.#directory, reserveName), reserveBytes)
      this.#hasReserve = true
      return true
    } catch (error) {
      if (!isNoSpace(error)) throw error
      this.#spare = undefined
      return false
    }
  }

  /** Frees the little space that is kept for small files; false if it has been used. */
  async releaseReserve(): Promise<boolean> {
    if (!this.#hasReserve) return false
    this.#hasReserve = false
    const path = join(this.#directory, reserveName)
    await orDiskFailed('remove', path, this.#disk.remove(path))
    return true
  }

  /** Removes the segments that begin above `index`, except the first. The names are gone for good after this. */
  async removeAbove(index: number): Promise<void> {
    let removed = false
    while (this.#segments.length > 1 && this.last.firstIndex > index) {
      await this.#closeWritten()
      const { path } = this.last
      this.#forget(this.#segments.pop())
      await orDiskFailed('remove', path, this.#disk.remove(path))
      removed = true
    }
    if (removed) await orDiskFailed('sync', this.#directory, this.#disk.syncDirectory(this.#directory))
  }

  /** Removes the segments before the one that begins with `firstIndex`. Who has one of them open may finish reading. */
  async removeBefore(firstIndex: number): Promise<void> {
    const place = this.#segments.findIndex((segment) => segment.firstIndex === firstIndex)
    const removed = this.#segments.splice(0, Math.max(0, place))
    for (const segment of removed) this.#forget(segment)
    for (const { path } of removed) await orDiskFailed('remove', path, this.#disk.remove(path))
    if (removed.length > 0)
      await orDiskFailed('sync', this.#directory, this.#disk.syncDirectory(this.#directory))
  }

  /** Lends the file of a segment for reading until `use` has settled. */
  async read<T>(segment: Segment, use: (file: DiskFile) => Promise<T>): Promise<T> {
    // Opened now, its descriptor would be nobody's to close (W29), and its name may belong to another file already.
    if (segment.removed) throw diskFailed('open', segment.path, new Error('the segment has been removed'))
    const open = this.#readers.get(segment) ?? this.#openReader(segment)
    this.#readers.delete(segment)
    this.#readers.set(segment, open)
    open.uses++
    this.#closeUnused()
    try {
      return await use(await orDiskFailed('open', segment.path, open.file))
    } finally {
      open.uses--
      if (open.retired && open.uses === 0) void closeQuietly(open.file)
    }
  }

  /** Writes into any segment, in a place where nothing sound is, and syncs it. */
  async writeOver(segment: Segment, bytes: Uint8Array, offset: number): Promise<void> {
    const write = async (): Promise<void> => {
      const file = await this.#disk.open(segment.path, 'write')
      try {
        await file.write([bytes], offset)
        await file.sync()
      } finally {
        await file.close()
      }
    }
    await orDiskFailed('write', segment.path, write())
  }

  /** Makes the file of a segment that is missing. */
  async restore(segment: Segment, capacity: number): Promise<void> {
    const temporary = join(this.#directory, newSegmentName)
    await this.#allocate(temporary, capacity)
    // Of a file with this name that is empty.
    this.#retire(segment)
    await orDiskFailed('rename', temporary, this.#disk.rename(temporary, segment.path))
    await orDiskFailed('sync', this.#directory, this.#disk.syncDirectory(this.#directory))
    segment.capacity = capacity
  }

  /** A segment that is missing, for what `segment` has no room for: records `firstIndex` to `lastIndex`. */
  insert(segment: Segment, firstIndex: number, lastIndex: number): Segment {
    const made = new Segment(segmentPath(this.#directory, firstIndex), firstIndex, 0)
    made.lastIndex = lastIndex
    segment.lastIndex = firstIndex - 1
    this.#segments.splice(this.#segments.indexOf(segment) + 1, 0, made)
    return made
  }

  async close(): Promise<void> {
    await this.#spare?.catch(() => false)
    for (const segment of [...this.#readers.keys()]) this.#retire(segment)
    await this.#closeWritten()
  }

  async #writable(): Promise<DiskFile> {
    this.#file ??= await orDiskFailed('open', this.last.path, this.#disk.open(this.last.path, 'write'))
    return this.#file
  }

  async #closeWritten(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    if (file !== undefined) await orDiskFailed('close', this.last.path, file.close())
  }

  async #takeSpare(): Promise<boolean> {
    const spare = this.#spare
    const made = spare !== undefined && (await spare)
    if (this.#spare === spare) this.#spare = undefined
    return made
  }

  async #allocate(path: string, bytes: number): Promise<void> {
    // An earlier try may have run out of space half way.
    const names = await orDiskFailed('read', this.#directory, this.#disk.list(this.#directory))
    if (names.some((name) => join(this.#directory, name) === path))
      await orDiskFailed('remove', path, this.#disk.remove(path))
    const file = await orDiskFailed('create', path, this.#disk.open(path, 'create'))
    try {
      await orDiskFailed('allocate', path, file.allocate(bytes))
      await orDiskFailed('sync', path, file.sync())
    } catch (error) {
      // What it has taken would be missing elsewhere. The name is not durable, and needs not be gone for good.
      if (isNoSpace(error)) await orDiskFailed('remove', path, this.#disk.remove(path))
      throw error
    } finally {
      await orDiskFailed('close', path, file.close())
    }
  }

  #openReader(segment: Segment): OpenSegment {
    const open = { file: this.#disk.open(segment.path, 'read'), uses: 0, retired: false }
    // A failed open is not kept: the next reader tries again.
    open.file.catch(() => this.#readers.delete(segment))
    return open
  }

  #closeUnused(): void {
    for (const [segment, open] of this.#readers) {
      if (this.#readers.size <= this.#openFiles) return
      if (open.uses === 0) this.#retire(segment)
    }
  }

  #forget(segment: Segment | undefined): void {
    if (segment === undefined) return
    segment.removed = true
    this.#retire(segment)
  }

  #retire(segment: Segment): void {
    const open = this.#readers.get(segment)
    if (open === undefined) return
    this.#readers.delete(segment)
    open.retired = true
    if (open.uses === 0) void closeQuietly(open.file)
  }

  #existing(segment: Segment | undefined): Segment {
    if (segment === undefined) throw diskFailed('open', this.#directory, new Error('there is no segment'))
    return segment
  }
}

/** Closing a file that was only read loses nothing, whatever comes of it. */
async function closeQuietly(file: Promise<DiskFile>): Promise<void> {
  try {
    await (await file).close()
  } catch {
    return
  }
}

import { StoreError } from '../errors.ts'
import type { Disk } from '../io/disk.ts'
import { type BatchHeader, batchHeaderBytes, decodeBatchHeader, lastIndexOf } from './batch.ts'
import { Chain } from './chain.ts'
import { orDiskFailed } from './disk-failure.ts'
import { type GroupPart, layOutGroup } from './group.ts'
import type { EpochStart, Log, LogListener } from './log.ts'
import { type RecoveryReport, recover } from './recovery.ts'
import type { Segment } from './segment.ts'
import { offsetBehind, readBatches } from './segment-read.ts'
import { scanSegment } from './segment-scan.ts'
import { SegmentSet } from './segment-set.ts'
import { corrupt } from './survey.ts'
import { encodeSyncMark, syncMarkBytes } from './sync-mark.ts'
import type { Tail } from './tail.ts'
import { clearTruncation, noteTruncation } from './truncation.ts'
import { type Chunk, chunkUpTo, Window } from './window.ts'

export interface JournalOptions {
  readonly disk: Disk
  /** Holds the segments; made if it does not exist. Nobody else has it open. */
  readonly directory: string
  /** Size of a segment in bytes. A batch that is larger gets a segment of its own size. */
  readonly segmentBytes: number
  /**
   * Last record that the checkpoint of the index has applied: everything up to it is committed and durable. Segments
   * wholly below it are not read at open. 0 reads everything.
   */
  readonly verifiedTo: number
  /** Where the epochs up to `verifiedTo` begin; later entries are ignored. */
  readonly epochStarts: readonly EpochStart[]
  readonly listener: LogListener
  /** Appended bytes kept in memory for readers. @defaultValue 16777216 */
  readonly windowBytes?: number
  /** Segments kept open for reading. @defaultValue 16 */
  readonly openFiles?: number
}

export interface OpenedJournal {
  /** Everything in it is durable. */
  readonly log: Journal
  /** Of the whole log, in order. */
  readonly epochStarts: EpochStart[]
  readonly report: RecoveryReport
}

/**
 * Recovers the journal in a directory and opens it.
 *
 * @throws StoreError `STORE_CORRUPT` if anything that was once durable is damaged or missing, up to `verifiedTo` at
 * least; nothing has been changed then. `STORE_UNKNOWN_FORMAT`, `STORE_DISK_FAILED`.
 */
export async function openJournal(options: JournalOptions): Promise<OpenedJournal> {
  const { disk, directory, segmentBytes } = options
  await orDiskFailed('create', directory, disk.makeDirectory(directory))
  const { segments, tail, epochStarts, report } = await recover(
    disk,
    directory,
    options.verifiedTo,
    options.epochStarts,
  )
  const files = new SegmentSet(disk, directory, segmentBytes, options.openFiles ?? 16, segments)
  if (files.isEmpty) await files.start(1, segmentBytes)
  const window = new Window(options.windowBytes ?? 16 * 1024 * 1024)
  const log = new Journal(disk, directory, segmentBytes, files, tail, window, options.listener)
  return { log, epochStarts, report }
}

interface Truncation {
  readonly truncateTo: number
}

/**
 * The log on this node's disk: a queue of appends and truncations, and one loop that carries them out.
 *
 * What the fields say and what readers see follows the calls at once; files follow through the loop. The loop takes
 * everything that waits as one group: one write and one sync, before which the next group gathers.
 *
 * Invariants: nothing is reported durable before its sync; after a failed write or sync nothing is reported at all;
 * a file is only read up to what has been written and no waiting truncation drops; whatever is not yet written is in
 * `#window`.
 */
export class Journal implements Log {
  readonly #disk: Disk
  readonly #directory: string
  readonly #segmentBytes: number
  readonly #files: SegmentSet
  readonly #tail: Tail
  readonly #window: Window
  readonly #listener: LogListener

  #queue: (Chunk | Truncation)[] = []
  #queuedBytes = 0
  #writingBytes = 0
  #running: Promise<void> | undefined
  /** Lowest index that a waiting truncation cuts at: what lies above on disk is as good as gone. */
  #floor = Number.POSITIVE_INFINITY
  /** Rises with each truncation: a reader that sees it change begins anew. */
  #truncations = 0
  /** Last record that can be read from a file. */
  #writtenIndex: number
  #durableIndex: number
  #failure: StoreError | undefined
  #closing: Promise<void> | undefined
  readonly #scans = new Map<Segment, Promise<void>>()

  constructor(
    disk: Disk,
    directory: string,
    segmentBytes: number,
    files: SegmentSet,
    tail: Tail,
    window: Window,
    listener: LogListener,
  ) {
    this.#disk = disk
    this.#directory = directory
    this.#segmentBytes = segmentBytes
    this.#files = files
    this.#tail = tail
    this.#window = window
    this.#listener = listener
    this.#writtenIndex = tail.lastIndex
    this.#durableIndex = tail.lastIndex
  }

  get firstIndex(): number {
    return this.#files.first.firstIndex
  }

  get lastIndex(): number {
    return this.#tail.lastIndex
  }

  get lastEpoch(): number {
    return this.#tail.epoch
  }

  get lastChecksum(): number {
    return this.#tail.checksum
  }

  get lastTimeMs(): number {
    return this.#tail.timeMs
  }

  get durableIndex(): number {
    return this.#durableIndex
  }

  get pendingBytes(): number {
    return this.#queuedBytes + this.#writingBytes
  }

  append(bytes: Buffer, firstIndex: number, lastIndex: number): void {
    if (this.#closing !== undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the journal is closed')
    // The process is about to end, and its owner has been told.
    if (this.#failure !== undefined) return
    for (const header of this.#headersOf(bytes, firstIndex, lastIndex)) this.#tail.push(header)
    const chunk = { bytes, firstIndex, lastIndex }
    this.#window.push(chunk)
    this.#window.drop(this.#writtenIndex)
    this.#queue.push(chunk)
    this.#queuedBytes += bytes.length
    this.#running ??= this.#run()
  }

  /**
   * Drops everything above `index`, which is the last record of a batch, or 0.
   *
   * @throws RangeError if `index` lies below the batch with the highest commit index that any batch in the log names:
   * what is committed is never truncated, and the log forgets the ends of those batches.
   */
  truncate(index: number): void {
    if (this.#closing !== undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the journal is closed')
    if (index >= this.#tail.lastIndex || this.#failure !== undefined) return
    this.#tail.truncate(index)
    this.#window.truncate(index)
    this.#unqueueAbove(index)
    this.#writtenIndex = Math.min(this.#writtenIndex, index)
    this.#durableIndex = Math.min(this.#durableIndex, index)
    this.#floor = Math.min(this.#floor, index)
    this.#truncations++
    this.#queue.push({ truncateTo: index })
    this.#running ??= this.#run()
  }

  async read(fromIndex: number, maxBytes: number): Promise<Buffer> {
    for (;;) {
      if (fromIndex < this.firstIndex)
        throw new StoreError(
          { code: 'STORE_LOG_GONE', index: fromIndex },
          `record ${fromIndex} is gone, the log begins with ${this.firstIndex}`,
        )
      const truncations = this.#truncations
      const batches: Buffer[] = []
      try {
        await this.#collect(fromIndex, maxBytes, batches)
      } catch (error) {
        // What was being read may have been cut under the reader.
        if (truncations === this.#truncations) throw error
      }
      if (truncations !== this.#truncations) continue
      const [first] = batches
      return first !== undefined && batches.length === 1 ? first : Buffer.concat(batches)
    }
  }

  async batchWith(index: number): Promise<Buffer> {
    const batch = await this.read(index, 1)
    if (batch.length === 0)
      throw new StoreError(
        { code: 'STORE_LOG_GONE', index },
        `record ${index} is not, or no longer, in the log`,
      )
    return batch
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Headers of batches about to be appended, which must go on exactly where the log ends. */
  #headersOf(bytes: Buffer, firstIndex: number, lastIndex: number): BatchHeader[] {
    const headers: BatchHeader[] = []
    let next = this.#tail.lastIndex + 1
    let checksum = this.#tail.checksum
    let at = 0
    while (at + batchHeaderBytes <= bytes.length) {
      const header = decodeBatchHeader(bytes, at)
      if (typeof header === 'string' || header.firstIndex !== next || header.previousChecksum !== checksum)
        throw new RangeError(`what was given as batch ${next} does not follow record ${next - 1}`)
      headers.push(header)
      next = lastIndexOf(header) + 1
      checksum = header.checksum
      at += batchHeaderBytes + header.payloadBytes
    }
    if (at !== bytes.length || headers[0]?.firstIndex !== firstIndex || next !== lastIndex + 1)
      throw new RangeError(`records ${firstIndex} to ${lastIndex} are not what was given`)
    return headers
  }

  #unqueueAbove(index: number): void {
    for (;;) {
      const work = this.#queue.at(-1)
      if (work === undefined || ('truncateTo' in work ? work.truncateTo < index : work.lastIndex <= index))
        return
      this.#queue.pop()
      if ('truncateTo' in work) continue
      const kept = chunkUpTo(work, index)
      this.#queuedBytes -= work.bytes.length - (kept?.bytes.length ?? 0)
      if (kept !== undefined) this.#queue.push(kept)
      if (kept !== undefined) return
    }
  }

  async #run(): Promise<void> {
    // Whatever is appended in the same turn of the event loop goes out together.
    await undefined
    try {
      for (let work = this.#queue[0]; work !== undefined; work = this.#queue[0]) {
        if ('truncateTo' in work) await this.#carryOut(work)
        else await this.#writeGroup(this.#takeGroup())
      }
    } catch (error) {
      // Anything else is a bug of ours or of the listener, and ends the process as an unhandled rejection.
      if (!(error instanceof StoreError)) throw error
      this.#fail(error)
    } finally {
      this.#running = undefined
    }
  }

  /** Everything that waits, up to the next truncation. */
  #takeGroup(): Chunk[] {
    const group: Chunk[] = []
    for (const work of this.#queue) {
      if ('truncateTo' in work) break
      group.push(work)
    }
    this.#queue = this.#queue.slice(group.length)
    this.#writingBytes = group.reduce((sum, chunk) => sum + chunk.bytes.length, 0)
    this.#queuedBytes -= this.#writingBytes
    return group
  }

  async #writeGroup(group: readonly Chunk[]): Promise<void> {
    const { endOffset, capacity } = this.#files.last
    for (const part of layOutGroup(group, endOffset, capacity, this.#segmentBytes)) {
      // A part that was not synced is never followed by a segment: that would prove to recovery that it was.
      if (this.#failure !== undefined) return
      if (part.segment !== undefined) await this.#files.start(part.segment.firstIndex, part.segment.capacity)
      await this.#writePart(part)
    }
  }

  async #writePart(part: GroupPart): Promise<void> {
    // One loop writes and syncs, so everything before this part is durable.
    const mark = encodeSyncMark((part.places[0] ?? 0) - 1, part.offset)
    await this.#files.write([mark, ...part.chunks], part.offset)
    // Making the spare may have failed meanwhile.
    if (this.#failure !== undefined) return
    const segment = this.#files.last
    for (let place = 0; place < part.places.length; place += 2)
      segment.note(part.places[place] ?? 0, part.places[place + 1] ?? 0)
    segment.extend(part.lastIndex, part.endOffset)
    const written = Math.min(part.lastIndex, this.#floor)
    if (written > this.#writtenIndex) {
      this.#writtenIndex = written
      this.#window.drop(written)
      this.#listener.written(written)
    }
    await this.#files.sync()
    if (this.#failure !== undefined) return
    // Before the report: its receiver asks whether the disk is free again.
    for (const chunk of part.chunks) this.#writingBytes -= chunk.length
    const durable = Math.min(part.lastIndex, this.#floor)
    if (durable > this.#durableIndex) {
      this.#durableIndex = durable
      this.#listener.durable(durable)
    }
    if (segment.endOffset * 4 > segment.capacity)
      this.#files.prepareSpare((error) => {
        if (error instanceof StoreError) this.#fail(error)
      })
  }

  async #carryOut(truncation: Truncation): Promise<void> {
    this.#queue.shift()
    await this.#cut(truncation.truncateTo)
    this.#floor = Number.POSITIVE_INFINITY
    for (const work of this.#queue)
      if ('truncateTo' in work) this.#floor = Math.min(this.#floor, work.truncateTo)
  }

  /** Everything above `index` is gone for good once this resolves; a crash in between leaves a note to go on. */
  async #cut(index: number): Promise<void> {
    if (this.#files.last.lastIndex <= index) return
    await noteTruncation(this.#disk, this.#directory, index)
    await this.#files.removeAbove(index)
    const segment = this.#files.last
    const endOffset =
      segment.lastIndex <= index
        ? segment.endOffset
        : await this.#readFile(segment, (file) => offsetBehind(file, segment, index))
    const piece = Buffer.alloc(Math.min(1024 * 1024, segment.dirtyEndOffset - endOffset))
    for (let at = endOffset; at < segment.dirtyEndOffset; at += piece.length)
      await this.#files.write([piece.subarray(0, Math.min(piece.length, segment.dirtyEndOffset - at))], at)
    await this.#files.sync()
    segment.cut(Math.min(segment.lastIndex, index), endOffset)
    await clearTruncation(this.#disk, this.#directory)
  }

  #fail(error: StoreError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#queue = []
    this.#listener.failed(error)
  }

  async #collect(fromIndex: number, maxBytes: number, into: Buffer[]): Promise<void> {
    let next = fromIndex
    let room = maxBytes
    while (next <= this.#tail.lastIndex) {
      if (this.#window.firstIndex <= next) {
        this.#window.collect(next, room, into.length === 0, into)
        return
      }
      const segment = this.#files.holding(next)
      if (!segment.scanned) await this.#scan(segment)
      const before = into.length
      const range = {
        fromIndex: next,
        upToIndex: this.#writtenIndex,
        maxBytes: room,
        atLeastOne: before === 0,
      }
      const readTo = await this.#readFile(segment, (file) => readBatches(file, segment, range, into))
      for (const batch of into.slice(before)) room -= batch.length
      // Less than the segment holds means that the next batch does not fit.
      if (readTo < Math.min(segment.lastIndex, range.upToIndex) || room <= 0) return
      next = readTo + 1
    }
  }

  async #readFile<T>(
    segment: Segment,
    use: (file: Parameters<typeof readBatches>[0]) => Promise<T>,
  ): Promise<T> {
    try {
      return await this.#files.read(segment, use)
    } catch (error) {
      if (error instanceof StoreError) throw error
      return await orDiskFailed('read', segment.path, Promise.reject(error))
    }
  }

  /** Reads a segment below the checkpoint for the first time: checks it in full and fills its table. */
  #scan(segment: Segment): Promise<void> {
    const running = this.#scans.get(segment)
    if (running !== undefined) return running
    const { lastIndex } = segment
    const scan = this.#readFile(segment, async (file) => {
      const chain = new Chain(segment.firstIndex)
      const stop = await scanSegment(file, segment, {
        batch: (header) => chain.accept(header),
        mark: () => undefined,
      })
      segment.lastIndex = lastIndex
      if (chain.nextIndex !== lastIndex + 1)
        throw corrupt(
          segment.path,
          stop.offset,
          `records ${chain.nextIndex} to ${lastIndex} are damaged (${stop.fault})`,
        )
      segment.scanned = true
    }).finally(() => this.#scans.delete(segment))
    this.#scans.set(segment, scan)
    return scan
  }

  async #close(): Promise<void> {
    await this.#running
    if (this.#failure !== undefined) throw this.#failure
    try {
      await this.#markClosed()
      await this.#files.close()
    } catch (error) {
      if (error instanceof StoreError) this.#fail(error)
      throw error
    }
  }

  /** Leaves the proof behind that everything is durable, if there is room for it. */
  async #markClosed(): Promise<void> {
    const segment = this.#files.last
    const { endOffset, lastIndex } = segment
    if (endOffset + syncMarkBytes > segment.capacity) return
    await this.#files.write([encodeSyncMark(lastIndex, endOffset)], endOffset)
    await this.#files.sync()
    segment.extend(lastIndex, endOffset + syncMarkBytes)
  }
}

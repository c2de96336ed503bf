import { join } from 'node:path'
import { StoreError } from '../errors.ts'
import type { Clock, Timer } from '../io/clock.ts'
import type { Disk } from '../io/disk.ts'
import { type BatchHeader, batchHeaderBytes, decodeBatchHeader, lastIndexOf } from './batch.ts'
import { Chain } from './chain.ts'
import { corrupt, costsNothing, type Damage, damagedRecords, type Hole, withoutRoom } from './damage.ts'
import { diskFailed, isNoSpace, orDiskFailed } from './disk-failure.ts'
import { encodeEndMark, endMarkBytes } from './end-mark.ts'
import { forgiving } from './forgiving-file.ts'
import { type GroupPart, layOutGroup } from './group.ts'
import type { EpochStart, Log, LogListener, LogStart, SegmentExtent } from './log.ts'
import { type RecoveryReport, recover } from './recovery.ts'
import { checkRepair, fillHole } from './repair.ts'
import { Segment } from './segment.ts'
import { offsetBehind, readBatches } from './segment-read.ts'
import { checkPiece, scanWithHoles } from './segment-scan.ts'
import { SegmentSet, temporaryNames } from './segment-set.ts'
import { checkStart, epochBefore, newStartName, startAt, writeStartFile } from './start-file.ts'
import { encodeSyncMark, syncMarkBytes } from './sync-mark.ts'
import type { Tail } from './tail.ts'
import type { Position } from './tail-verdict.ts'
import { clearTruncation, noteTruncation } from './truncation.ts'
import { type Chunk, chunkFrom, chunkUpTo, Window } from './window.ts'

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
  /** Where a new journal begins: only for a directory that holds none, otherwise what is found there stands. */
  readonly start?: LogStart | undefined
  /**
   * Makes durable that this node may have acknowledged records up to `position`, which it no longer has. Awaited before
   * a last group is cut that was whole once, or nearly so (rule S27, class c; S24).
   */
  readonly owed?: ((position: Position) => Promise<void>) | undefined
  /**
   * Opens a journal with damage to what was durable once, to be read and repaired: see {@link OpenedJournal.damage}.
   * @defaultValue it is refused
   */
  readonly tolerate?: boolean | undefined
  /**
   * With it the journal waits for space when the disk is full, and tries again every second; without, that is a failure.
   * @defaultValue none
   */
  readonly clock?: Clock | undefined
  /** Appended bytes kept in memory for readers. @defaultValue 16777216 */
  readonly windowBytes?: number
  /** Segments kept open for reading. @defaultValue 16 */
  readonly openFiles?: number
}

export interface OpenedJournal {
  /**
   * With it the journal is open to be read where it is intact, and to be repaired; nothing has been changed. Once that
   * is done, it is to be closed and opened again.
   */
  readonly damage: Damage | undefined
  /** Everything in it is durable. */
  readonly log: Journal
  /** In order: of the whole log, or from that of the record before its beginning on. */
  readonly epochStarts: EpochStart[]
  /** First records of the batches above `verifiedTo` that hold a configuration, and maybe of some below it. */
  readonly configurations: readonly number[]
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
  if (options.start !== undefined) await beginAt(disk, directory, options.start)
  const { start, segments, tail, epochStarts, configurations, damage, report } = await recover(
    disk,
    directory,
    options.verifiedTo,
    options.epochStarts,
    options,
  )
  const files = new SegmentSet(disk, directory, segmentBytes, options.openFiles ?? 16, segments)
  if (files.isEmpty) await files.start(start.firstIndex, segmentBytes)
  const window = new Window(options.windowBytes ?? 16 * 1024 * 1024)
  const found = { start, epochStarts, tail, isWhole: damage === undefined }
  const log = new Journal(
    disk,
    directory,
    segmentBytes,
    files,
    found,
    window,
    options.listener,
    options.clock,
  )
  return { log, epochStarts, configurations, damage, report }
}

/** Lets the log of an empty directory begin at `start`. */
async function beginAt(disk: Disk, directory: string, start: LogStart): Promise<void> {
  checkStart(start)
  const names = await orDiskFailed('read', directory, disk.list(directory))
  const isNew = names.every((name) => name === newStartName || temporaryNames.includes(name))
  if (!isNew) return
  // Left by a crash in between.
  const path = join(directory, newStartName)
  if (names.includes(newStartName)) await orDiskFailed('remove', path, disk.remove(path))
  await writeStartFile(disk, directory, { start, held: false })
}

/** From one try to make room to the next. */
const retryMs = 1000

interface Truncation {
  readonly truncateTo: number
}

/** Where a piece of the log ended that was read to be checked. */
export interface ScrubPlace {
  /** First index of the segment, or of where it was. */
  readonly segment: number
  readonly offset: number
  /** What the next batch follows; `undefined` at the beginning of a segment. */
  readonly chain: Chain | undefined
}

interface Repair {
  readonly fromIndex: number
  readonly batches: Buffer
  readonly outcome: PromiseWithResolvers<Damage | undefined>
}

interface Discard {
  readonly belowIndex: number
  readonly replayTo: number
  readonly outcome: PromiseWithResolvers<void>
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
  /** These do not wait their turn: what they concern is neither appended nor truncated any more, and they free space. */
  #discards: Discard[] = []
  #repairs: Repair[] = []
  #space: 'enough' | 'low' = 'enough'
  /** The next segment is being made. */
  #sparing = false
  #spareTimer: Timer | undefined
  /** Ends a wait for space. */
  #wake: (() => void) | undefined
  readonly #clock: Clock | undefined
  /** First records of the holes that the listener has heard of. */
  readonly #reported = new Set<number>()
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
  /** False: opened with damage, only to be read and repaired. */
  readonly #isWhole: boolean
  #start: LogStart
  /** From that of the record before the beginning on. */
  #epochStarts: readonly EpochStart[]

  constructor(
    disk: Disk,
    directory: string,
    segmentBytes: number,
    files: SegmentSet,
    found: {
      readonly start: LogStart
      readonly epochStarts: readonly EpochStart[]
      readonly tail: Tail
      readonly isWhole: boolean
    },
    window: Window,
    listener: LogListener,
    clock: Clock | undefined,
  ) {
    this.#clock = clock
    this.#disk = disk
    this.#directory = directory
    this.#segmentBytes = segmentBytes
    this.#files = files
    this.#start = found.start
    this.#epochStarts = found.epochStarts
    this.#tail = found.tail
    this.#isWhole = found.isWhole
    this.#window = window
    this.#listener = listener
    this.#writtenIndex = found.tail.lastIndex
    this.#durableIndex = found.tail.lastIndex
    if (this.#isWhole) this.#prepareSpare()
  }

  get start(): LogStart {
    return this.#start
  }

  get firstIndex(): number {
    return this.#start.firstIndex
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
    this.#checkOpen()
    // The process is about to end, and its owner has been told.
    if (this.#failure !== undefined) return
    for (const header of this.#headersOf(bytes, firstIndex, lastIndex)) {
      if (header.epoch !== this.#lastKnownEpoch)
        this.#epochStarts = [...this.#epochStarts, { epoch: header.epoch, index: header.firstIndex }]
      this.#tail.push(header)
    }
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
    this.#checkOpen()
    if (index >= this.#tail.lastIndex || this.#failure !== undefined) return
    this.#tail.truncate(index)
    this.#epochStarts = this.#epochStarts.filter((start) => start.index <= index)
    this.#window.truncate(index)
    this.#unqueueAbove(index)
    this.#writtenIndex = Math.min(this.#writtenIndex, index)
    this.#durableIndex = Math.min(this.#durableIndex, index)
    this.#floor = Math.min(this.#floor, index)
    this.#truncations++
    this.#queue.push({ truncateTo: index })
    this.#wake?.()
    this.#running ??= this.#run()
  }

  async read(fromIndex: number, maxBytes: number): Promise<Buffer> {
    for (let attempts = 0; ; ) {
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
        // What was being read may have been cut or discarded under the reader.
        if (truncations !== this.#truncations || fromIndex < this.firstIndex) continue
        const damaged = attempts++ < 2 ? this.#unknownDamage(error, fromIndex) : undefined
        if (damaged === undefined) throw error
        await this.#examine(damaged)
        continue
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

  segments(): readonly SegmentExtent[] {
    const { last } = this.#files
    return this.#files.all.map((segment) => ({
      firstIndex: segment.firstIndex,
      lastIndex: Math.min(segment.lastIndex, this.lastIndex),
      bytes: segment === last ? segment.endOffset : segment.capacity,
    }))
  }

  discardBelow(index: number, replayTo: number): Promise<void> {
    this.#checkOpen()
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (index > replayTo + 1 || replayTo > this.#durableIndex || replayTo < this.#start.replayTo)
      throw new RangeError(
        `nothing below ${index} can be discarded: replay to ${replayTo}, durable to ${this.#durableIndex}`,
      )
    // Before anything else happens: a truncation below could not be carried out any more.
    this.#tail.commit(replayTo)
    const outcome = Promise.withResolvers<void>()
    this.#discards.push({ belowIndex: index, replayTo, outcome })
    this.#wake?.()
    this.#running ??= this.#run()
    return outcome.promise
  }

  get space(): 'enough' | 'low' {
    return this.#space
  }

  get damage(): Damage | undefined {
    for (const { holes } of this.#files.all) {
      const hole = holes.find((each) => !costsNothing(each))
      if (hole !== undefined) return withoutRoom(hole)
    }
    return undefined
  }

  repair(damage: Damage, batches: Buffer): Promise<Damage | undefined> {
    if (this.#closing !== undefined)
      return Promise.reject(new StoreError({ code: 'STORE_CLOSED' }, 'the journal is closed'))
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const outcome = Promise.withResolvers<Damage | undefined>()
    this.#repairs.push({ fromIndex: damage.fromIndex, batches, outcome })
    this.#wake?.()
    this.#running ??= this.#run()
    return outcome.promise
  }

  close(): Promise<void> {
    if (this.#closing === undefined) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      this.#closing = promise
      this.#close().then(resolve, reject)
    }
    return this.#closing
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the journal is closed')
    if (!this.#isWhole) throw corrupt(this.#directory, 0, 'the journal is damaged, and not to be appended to')
  }

  /** Headers of batches about to be appended, which must go on exactly where the log ends. */
  #headersOf(bytes: Buffer, firstIndex: number, lastIndex: number): BatchHeader[] {
    const headers: BatchHeader[] = []
    let next = this.#tail.lastIndex + 1
    // What came before the beginning of a log that begins later is not known.
    let checksum = next === this.#start.firstIndex && next > 1 ? undefined : this.#tail.checksum
    let epoch = this.#lastKnownEpoch
    let at = 0
    while (at + batchHeaderBytes <= bytes.length) {
      const header = decodeBatchHeader(bytes, at)
      if (
        typeof header === 'string' ||
        header.firstIndex !== next ||
        header.epoch < epoch ||
        header.previousChecksum !== (checksum ?? header.previousChecksum)
      )
        throw new RangeError(`what was given as batch ${next} does not follow record ${next - 1}`)
      headers.push(header)
      next = lastIndexOf(header) + 1
      checksum = header.checksum
      epoch = header.epoch
      at += batchHeaderBytes + header.payloadBytes
    }
    if (at !== bytes.length || headers[0]?.firstIndex !== firstIndex || next !== lastIndex + 1)
      throw new RangeError(`records ${firstIndex} to ${lastIndex} are not what was given`)
    return headers
  }

  /** More than that of the last record only in an empty log whose first epoch is known. */
  get #lastKnownEpoch(): number {
    return this.#epochStarts.at(-1)?.epoch ?? 0
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
      for (;;) {
        await this.#discardAll()
        await this.#repairAll()
        const work = this.#queue[0]
        if (work !== undefined) {
          if (!(await this.#tryWork(work))) await this.#waitForSpace()
        } else if (this.#discards.length === 0 && this.#repairs.length === 0) break
      }
    } catch (error) {
      // Anything else is a bug of ours or of the listener, and ends the process as an unhandled rejection.
      if (!(error instanceof StoreError)) throw error
      this.#fail(error)
    } finally {
      this.#running = undefined
    }
  }

  /** @returns False if there is no space for it: it stays in the queue, and nothing of it is in a file. */
  async #tryWork(work: Chunk | Truncation): Promise<boolean> {
    try {
      if ('truncateTo' in work) await this.#carryOut(work)
      else await this.#writeGroup(this.#takeGroup())
      return true
    } catch (error) {
      if (!this.#isShortage(error)) throw error
      this.#setSpace('low')
      return false
    }
  }

  /** Until it is worth trying again; or gives up what waits, if the journal is being closed. */
  async #waitForSpace(): Promise<void> {
    if (this.#closing === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = this.#clock?.setTimer(retryMs, resolve)
      this.#wake = resolve
      await promise
      this.#wake = undefined
      timer?.cancel()
    }
    if (this.#closing === undefined || this.#discards.length > 0) return
    this.#queue = []
    this.#queuedBytes = 0
  }

  /** Whether something failed only because the disk is full, and nothing is in doubt for it. */
  #isShortage(error: unknown): boolean {
    // A sync that fails leaves the content unknown, whatever the reason.
    const inDoubt =
      error instanceof StoreError && error.detail.code === 'STORE_DISK_FAILED'
        ? error.detail.operation === 'sync'
        : true
    return this.#clock !== undefined && !inDoubt && isNoSpace(error)
  }

  #setSpace(space: 'enough' | 'low'): void {
    if (space === this.#space || this.#failure !== undefined) return
    this.#space = space
    this.#listener.spaceChanged(space)
  }

  /** Keeps the next segment ready, in the background: what is left when the disk is full. */
  #prepareSpare(): void {
    if (this.#sparing || this.#closing !== undefined) return
    if (this.#files.hasSpare) {
      this.#setSpace('enough')
      return
    }
    this.#sparing = true
    this.#spareTimer?.cancel()
    this.#files.prepareSpare().then(
      (made) => {
        this.#sparing = false
        if (this.#closing !== undefined) return
        this.#setSpace(made ? 'enough' : 'low')
        if (!made) this.#spareTimer = this.#clock?.setTimer(retryMs, () => this.#retrySpare())
      },
      (error: unknown) => {
        this.#sparing = false
        if (error instanceof StoreError) this.#fail(error)
      },
    )
  }

  #retrySpare(): void {
    // Two that take what little space there is get none of them done.
    if (this.#wake === undefined) this.#prepareSpare()
    else if (this.#closing === undefined)
      this.#spareTimer = this.#clock?.setTimer(retryMs, () => this.#retrySpare())
  }

  /** Writes a small file, for which some space is kept. */
  async #writeSmall(write: () => Promise<void>): Promise<void> {
    try {
      await write()
    } catch (error) {
      if (!this.#isShortage(error) || !(await this.#files.releaseReserve())) throw error
      await write()
    }
  }

  async #discardAll(): Promise<void> {
    for (let discard = this.#discards[0]; discard !== undefined; discard = this.#discards[0]) {
      try {
        await this.#discard(discard.belowIndex, discard.replayTo)
      } catch (error) {
        // Nothing has been changed then, and whoever wants space comes again.
        if (!this.#isShortage(error)) throw error
      }
      this.#discards.shift()
      discard.outcome.resolve()
    }
  }

  /** In this order: the beginning is durable, readers know of it, the files go. A crash leaves files too many only. */
  async #discard(belowIndex: number, replayTo: number): Promise<void> {
    // An empty last segment, which a crash can leave, does not tell what the next batch follows.
    const last = Math.min(belowIndex, this.#durableIndex)
    const kept = this.#files.all.findLast((segment) => segment.firstIndex <= last)
    const firstIndex = kept?.firstIndex ?? 0
    if (firstIndex <= this.#start.firstIndex) return
    const start = startAt(firstIndex, Math.max(replayTo, this.#start.replayTo), this.#epochStarts)
    await this.#writeSmall(() => writeStartFile(this.#disk, this.#directory, { start, held: true }))
    this.#start = start
    const needed = start.epochStarts[0]?.index ?? 0
    this.#epochStarts = this.#epochStarts.filter(({ index }) => index >= needed)
    await this.#files.removeBefore(firstIndex)
  }

  async #repairAll(): Promise<void> {
    for (let repair = this.#repairs[0]; repair !== undefined; repair = this.#repairs[0]) {
      const { outcome } = repair
      try {
        const next = await this.#repair(repair)
        outcome.resolve(next ?? this.damage)
      } catch (error) {
        if (!(error instanceof RangeError || this.#isShortage(error))) throw error
        outcome.reject(error)
      }
      this.#repairs.shift()
    }
  }

  /** @returns What has to be repaired before, if anything. */
  async #repair({ fromIndex, batches }: Repair): Promise<Damage | undefined> {
    if (fromIndex < this.firstIndex) return undefined
    const segment = this.#files.holding(fromIndex)
    if (!segment.scanned) await this.#scan(segment)
    const found = (): Hole | undefined =>
      segment.holes.find(
        (each) => each.fromIndex === fromIndex && costsNothing(each) === (batches.length === 0),
      )
    const damage = found()
    if (damage === undefined) return undefined
    const before = await this.#chainBefore(fromIndex)
    if (!(before instanceof Chain)) return before
    const behind = await this.#headerOf(damage.toIndex + 1)
    // What was read for this may have told more about the damage.
    const hole = found()
    if (hole?.toIndex !== damage.toIndex) return undefined
    checkRepair(hole, batches, before, behind && 'epoch' in behind ? behind : undefined)
    await fillHole(this.#files, segment, hole, batches, before.nextIndex, this.#segmentBytes)
    this.#reported.delete(fromIndex)
    // If it turned out to be more than marks, another copy is needed after all.
    if (costsNothing(hole)) this.#report(segment)
    return undefined
  }

  /**
   * Reads a piece of the log from the disk, and checks it. Damage is reported as if a reader had met it.
   *
   * @param place - Where the piece before ended; `undefined` begins at the beginning.
   * @returns Where the next piece begins; `undefined` at the end of the log.
   */
  async scrub(
    place: ScrubPlace | undefined,
    maxBytes: number,
  ): Promise<{ readonly next: ScrubPlace | undefined; readonly bytes: number }> {
    const from = place?.segment ?? 0
    const segment = this.#files.all.find(({ firstIndex }) => firstIndex >= from)
    if (segment === undefined) return { next: undefined, bytes: 0 }
    const behind = this.#files.all.find(({ firstIndex }) => firstIndex > segment.firstIndex)
    const next = behind && { segment: behind.firstIndex, offset: 0, chain: undefined }
    // It is being repaired, and comes again.
    if (segment.holes.length > 0) return { next, bytes: 0 }
    const goesOn = place?.segment === segment.firstIndex && place.chain !== undefined
    const chain = goesOn ? place.chain : this.#chainAt(segment)
    const offset = goesOn ? place.offset : 0
    const truncations = this.#truncations
    const found = await this.#readFile(segment, (file) =>
      checkPiece(file, segment, chain, offset, Math.min(segment.lastIndex, this.#durableIndex), maxBytes),
    ).catch((error: unknown) => {
      if (segment.removed) return undefined
      if (this.#unknownDamage(error, segment.firstIndex) === undefined) throw error
      return { offset: offset + maxBytes, ended: 'damage' as const }
    })
    if (found === undefined || truncations !== this.#truncations)
      return { next: { segment: segment.firstIndex, offset: 0, chain: undefined }, bytes: maxBytes }
    const bytes = found.offset - offset
    if (found.ended === 'piece')
      return { next: { segment: segment.firstIndex, offset: found.offset, chain }, bytes }
    if (found.ended === 'damage') await this.#examine(segment)
    return { next, bytes }
  }

  /** What a batch that begins with record `index` follows, or what is damaged there. */
  async #chainBefore(index: number): Promise<Chain | Damage> {
    if (index === this.#start.firstIndex) return new Chain(index, epochBefore(this.#start))
    const header = await this.#headerOf(index - 1)
    if (header === undefined) return new Chain(index)
    if (!('epoch' in header)) return header
    const chain = new Chain(header.firstIndex)
    chain.checksum = undefined
    chain.accept(header)
    return chain
  }

  /** Header of the batch that holds record `index`, or what is damaged there; `undefined` if it is beyond the end. */
  async #headerOf(index: number): Promise<BatchHeader | Damage | undefined> {
    if (index > this.#tail.lastIndex) return undefined
    try {
      const header = decodeBatchHeader(await this.read(index, 1), 0)
      if (typeof header === 'object') return header
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'STORE_CORRUPT') throw error
    }
    const hole = this.#files.holding(index).holeWith(index)
    return hole && withoutRoom(hole)
  }

  /** The segment that an error of a reader is about, unless it was known to be damaged there. */
  #unknownDamage(error: unknown, fromIndex: number): Segment | undefined {
    if (!(error instanceof StoreError)) return undefined
    const { detail } = error
    // A place that cannot be read is damaged as well.
    const isUnreadable = detail.code === 'STORE_DISK_FAILED' && detail.operation === 'read'
    if (!isUnreadable && detail.code !== 'STORE_CORRUPT') return undefined
    const { file } = detail
    if (this.#files.holding(fromIndex).holeWith(fromIndex) !== undefined) return undefined
    return this.#files.all.find((segment) => segment.path === file)
  }

  /** Reads a segment that was sound once, to find everything that is damaged in it. */
  async #examine(segment: Segment): Promise<void> {
    const truncations = this.#truncations
    const isLast = segment === this.#files.last
    const { endOffset, lastIndex } = segment
    const probe = new Segment(segment.path, segment.firstIndex, isLast ? endOffset : segment.capacity)
    const chain = this.#chainAt(segment)
    await this.#readFile(segment, (file) => scanWithHoles(forgiving(file), probe, chain, lastIndex))
    if (segment.removed || truncations !== this.#truncations) return
    // The last segment is being written behind what was read.
    segment.holes = isLast
      ? probe.holes.map((hole) => ({ ...hole, endOffset: Math.min(hole.endOffset, endOffset) }))
      : probe.holes
    this.#report(segment)
  }

  #chainAt({ firstIndex }: Segment): Chain {
    return new Chain(firstIndex, firstIndex === this.#start.firstIndex ? epochBefore(this.#start) : 0)
  }

  #report(segment: Segment): void {
    for (const hole of segment.holes) {
      if (this.#reported.has(hole.fromIndex) || this.#closing !== undefined) continue
      this.#reported.add(hole.fromIndex)
      if (!costsNothing(hole)) this.#listener.damaged(withoutRoom(hole))
      // Marks need no other copy.
      else this.repair(hole, Buffer.alloc(0)).catch(() => undefined)
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
      try {
        if (part.segment !== undefined)
          await this.#files.start(part.segment.firstIndex, part.segment.capacity)
        await this.#writePart(part)
      } catch (error) {
        if (this.#isShortage(error)) this.#putBack(group, part.places[0] ?? 0)
        throw error
      }
    }
  }

  /** What has not been written of a group waits again, unless it has been truncated meanwhile. */
  #putBack(group: readonly Chunk[], fromIndex: number): void {
    const waiting = group.flatMap((chunk) => {
      const rest = chunkFrom(chunk, fromIndex)
      return (rest && chunkUpTo(rest, this.#floor)) ?? []
    })
    this.#writingBytes = 0
    this.#queuedBytes += waiting.reduce((sum, chunk) => sum + chunk.bytes.length, 0)
    this.#queue = [...waiting, ...this.#queue]
  }

  /** Makes the place of a part whose write ran out of space as if nothing had been written. */
  async #rollBack(part: GroupPart): Promise<void> {
    const bytes = part.batchesEnd + endMarkBytes - part.offset
    await this.#files.write([Buffer.alloc(bytes)], part.offset)
    await this.#files.sync()
  }

  async #writePart(part: GroupPart): Promise<void> {
    // One loop writes and syncs, so everything before this part is durable.
    const mark = encodeSyncMark((part.places[0] ?? 0) - 1, part.offset)
    const end = encodeEndMark(part.lastIndex, part.epoch, part.batchesEnd)
    try {
      await this.#files.write([mark, ...part.chunks, end], part.offset)
    } catch (error) {
      if (!this.#isShortage(error)) throw error
      await this.#rollBack(part).catch(() => {
        // What is in the file now is not known.
        throw diskFailed('write', this.#files.last.path, error)
      })
      throw error
    }
    // Making the spare may have failed meanwhile.
    if (this.#failure !== undefined) return
    const segment = this.#files.last
    for (let place = 0; place < part.places.length; place += 2)
      segment.note(part.places[place] ?? 0, part.places[place + 1] ?? 0)
    segment.extend(part.lastIndex, part.batchesEnd + endMarkBytes)
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
    if (segment.endOffset * 4 > segment.capacity || this.#space === 'low') this.#prepareSpare()
  }

  async #carryOut(truncation: Truncation): Promise<void> {
    this.#queue.shift()
    try {
      await this.#cut(truncation.truncateTo)
    } catch (error) {
      // Another that goes further may have come meanwhile.
      if (this.#isShortage(error) && this.#floor >= truncation.truncateTo) this.#queue.unshift(truncation)
      throw error
    }
    this.#floor = Number.POSITIVE_INFINITY
    for (const work of this.#queue)
      if ('truncateTo' in work) this.#floor = Math.min(this.#floor, work.truncateTo)
  }

  /** Everything above `index` is gone for good once this resolves; a crash in between leaves a note to go on. */
  async #cut(index: number): Promise<void> {
    if (this.#files.last.lastIndex <= index) return
    await this.#writeSmall(() => noteTruncation(this.#disk, this.#directory, index))
    await this.#files.removeAbove(index)
    const segment = this.#files.last
    const endOffset =
      segment.lastIndex <= index
        ? segment.endOffset
        : await this.#readFile(segment, (file) => offsetBehind(file, segment, index))
    // What is kept was synced before; without a mark, damage to it would pass for a group that was never whole.
    const fits = endOffset < segment.dirtyEndOffset && endOffset + syncMarkBytes <= segment.capacity
    const markedTo = fits ? endOffset + syncMarkBytes : endOffset
    if (fits) await this.#files.write([encodeSyncMark(index, endOffset)], endOffset)
    const piece = Buffer.alloc(Math.min(1024 * 1024, Math.max(0, segment.dirtyEndOffset - markedTo)))
    for (let at = markedTo; at < segment.dirtyEndOffset; at += piece.length)
      await this.#files.write([piece.subarray(0, Math.min(piece.length, segment.dirtyEndOffset - at))], at)
    await this.#files.sync()
    segment.cut(Math.min(segment.lastIndex, index), markedTo)
    await clearTruncation(this.#disk, this.#directory)
  }

  #fail(error: StoreError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#queue = []
    for (const { outcome } of this.#discards) outcome.reject(error)
    this.#discards = []
    for (const { outcome } of this.#repairs) outcome.reject(error)
    this.#repairs = []
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
      const damaged = segment.holeWith(next)
      if (damaged !== undefined) {
        if (into.length > 0) return
        throw damagedRecords(damaged)
      }
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
      await scanWithHoles(forgiving(file), segment, this.#chainAt(segment), lastIndex)
      segment.lastIndex = lastIndex
      segment.scanned = true
      this.#report(segment)
    }).finally(() => this.#scans.delete(segment))
    this.#scans.set(segment, scan)
    return scan
  }

  async #close(): Promise<void> {
    this.#spareTimer?.cancel()
    this.#wake?.()
    await this.#running
    if (this.#failure !== undefined) throw this.#failure
    try {
      if (this.#isWhole) await this.#markClosed()
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

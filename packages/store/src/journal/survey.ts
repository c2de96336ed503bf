import { join } from 'node:path'
import { StoreError } from '../errors.ts'
import type { Disk, DiskFile } from '../io/disk.ts'
import { type BatchHeader, lastIndexOf } from './batch.ts'
import { Chain } from './chain.ts'
import { corrupt, costsNothing, type Damage, holeAt, unknownFormat, withoutRoom } from './damage.ts'
import { orDiskFailed } from './disk-failure.ts'
import { forgiving } from './forgiving-file.ts'
import type { EpochStart, LogStart } from './log.ts'
import { firstIndexOfName, Segment, segmentPath } from './segment.ts'
import {
  firstHeader,
  type ScanStop,
  type ScanVisitor,
  scanSegment,
  scanWithHoles,
  surveyRest,
} from './segment-scan.ts'
import { decodeStartFile, epochBefore, readStartFile, startFileName, wholeLog } from './start-file.ts'
import { syncMarkBytes } from './sync-mark.ts'
import { Tail } from './tail.ts'
import { judgeTail, type Position } from './tail-verdict.ts'
import { decodeTruncation, truncationBytes, truncationFileName } from './truncation.ts'

/** A place in a segment where marks stood, behind record `lastIndex`. */
export interface DamagedMarks {
  readonly segment: Segment
  readonly offset: number
  readonly bytes: number
  readonly lastIndex: number
}

/**
 * Looks at a journal directory without changing anything, and decides what is a torn tail and what is corruption
 * (rule S27).
 *
 * Damage was once durable, and so is corruption, if it lies at or below `verifiedTo`, if a later segment exists (it is
 * only made after all before it was synced), or if an intact sync mark lies behind it (likewise). A batch that is sound
 * in itself but does not continue the log is corruption wherever it lies: a torn write leaves no sound batch of
 * another place, as everything behind the end is zero. All other damage is in the last group (`tail-verdict.ts`): that is
 * torn, or doubtful if its end mark is there. Damage that only concerns marks costs nothing.
 */
export class Survey {
  readonly #disk: Disk
  readonly #directory: string
  readonly #verifiedTo: number

  /** Where the log begins. */
  start: LogStart = wholeLog
  /** In order; those wholly below `verifiedTo` are not scanned. */
  readonly segments: Segment[] = []
  /** Files that a truncation had not yet removed when the process ended. */
  readonly obsolete: string[] = []
  /** Files below the beginning of the log that were to be removed when the process ended. */
  readonly discarded: string[] = []
  epochStarts: EpochStart[]
  tail: Tail = new Tail(0, 0, 0, 0)
  /** Of the truncation that was under way. */
  truncateTo: number | undefined
  /** First records of the batches that were read and hold a configuration. */
  readonly configurations: number[] = []
  batches = 0
  records = 0
  scannedSegments = 0
  /** Bytes behind the last sound item of the last segment, up to the last that is not zero. */
  tornBytes = 0
  /** What the node may have acknowledged of the group that is cut (rule S27, class c). */
  owed: Position | undefined
  /** Damage that costs no record. */
  readonly damagedMarks: DamagedMarks[] = []
  /** From here on nothing proves that the last segment is durable. */
  unprovenOffset = 0
  /** The journal was closed, and nothing lies behind the mark that says so. */
  clean = false
  /** Up to here the log was durable, whatever its own marks prove. */
  #durableTo: number
  readonly #tolerate: boolean

  /** @param tolerate - What is damaged becomes holes, where otherwise it is thrown. */
  constructor(
    disk: Disk,
    directory: string,
    verifiedTo: number,
    epochStarts: readonly EpochStart[],
    tolerate: boolean = false,
  ) {
    this.#disk = disk
    this.#directory = directory
    this.#verifiedTo = verifiedTo
    this.#durableTo = verifiedTo
    this.#tolerate = tolerate
    this.epochStarts = epochStarts.filter((start) => start.index <= verifiedTo)
  }

  /** The first hole that costs records, if there is one. */
  get damage(): Damage | undefined {
    for (const { holes } of this.segments) {
      const hole = holes.find((each) => !costsNothing(each))
      if (hole !== undefined) return withoutRoom(hole)
    }
    return undefined
  }

  /** @throws StoreError `STORE_CORRUPT`, `STORE_UNKNOWN_FORMAT`, `STORE_DISK_FAILED`. */
  async run(): Promise<void> {
    await this.#readStart()
    this.truncateTo = await this.#readTruncation()
    await this.#findSegments()
    const { firstIndex } = this.start
    const first = this.segments[0]
    if (first === undefined && this.#durableTo < firstIndex && this.truncateTo === undefined) {
      this.tail = new Tail(firstIndex - 1, epochBefore(this.start), 0, 0)
      this.tail.commit(this.#keptTo)
      return
    }
    if (first?.firstIndex !== firstIndex) this.#missing(first)
    const scanFrom = Math.max(
      0,
      this.segments.findLastIndex((segment) => segment.firstIndex <= this.#verifiedTo),
    )
    for (const [place, segment] of this.segments.slice(0, scanFrom).entries()) {
      const next = this.segments[place + 1]
      if (segment.capacity === 0 && segment.holes.length > 0) continue
      await this.#withFile(segment.path, (file) => this.#checkFirst(file, segment, next))
    }
    await this.#scanAll(this.segments.slice(scanFrom))
    this.tail.commit(Math.max(this.#verifiedTo, this.#keptTo))
  }

  /** No truncation reaches below: what came before the beginning is not known, so something must be left. */
  get #keptTo(): number {
    const { firstIndex, replayTo } = this.start
    return Math.max(replayTo, firstIndex > 1 ? firstIndex : 0)
  }

  /** The log does not begin where it should: a segment that is not there takes the place of what is missing. */
  #missing(first: Segment | undefined): void {
    const { firstIndex } = this.start
    const error =
      first === undefined
        ? corrupt(this.#directory, 0, `no segments, although record ${this.#durableTo} was durable`)
        : corrupt(
            first.path,
            0,
            `the first segment begins with record ${first.firstIndex}, the log with ${firstIndex}`,
          )
    if (!this.#tolerate || this.truncateTo !== undefined) throw error
    const path = segmentPath(this.#directory, firstIndex)
    const missing = new Segment(path, firstIndex, 0)
    missing.lastIndex = first === undefined ? this.#durableTo : first.firstIndex - 1
    const { lastIndex } = missing
    missing.holes.push({
      fromIndex: firstIndex,
      toIndex: lastIndex,
      file: path,
      offset: 0,
      endOffset: Number.POSITIVE_INFINITY,
    })
    this.segments.unshift(missing)
  }

  async #readStart(): Promise<void> {
    const content = await readStartFile(this.#disk, this.#directory)
    if (content === undefined) return
    const path = join(this.#directory, startFileName)
    const file = decodeStartFile(content)
    if (file === 'version') throw unknownFormat(path)
    if (file === 'damaged') throw corrupt(path, 0, 'what says where the log begins is damaged')
    this.start = file.start
    if (file.held) this.#durableTo = Math.max(this.#durableTo, file.start.replayTo)
    // What the index knows of what lay before, and what the file says of the beginning.
    const { epochStarts } = file.start
    const from = epochStarts[0]?.index ?? 1
    const to = epochStarts.at(-1)?.index ?? 0
    const before = this.epochStarts.filter(({ index }) => index < from)
    const after = this.epochStarts.filter(({ index }) => index > Math.max(to, file.start.firstIndex))
    this.epochStarts = [...before, ...epochStarts, ...after]
  }

  async #readTruncation(): Promise<number | undefined> {
    const path = join(this.#directory, truncationFileName)
    const bytes = await orDiskFailed('read', path, this.#disk.readWhole(path, truncationBytes))
    if (bytes === undefined) return undefined
    const index = decodeTruncation(bytes)
    if (index === 'version') throw unknownFormat(path)
    if (index === 'damaged') throw corrupt(path, 0, 'the note of a truncation is damaged')
    const least = Math.max(this.#durableTo, this.start.firstIndex > 1 ? this.start.firstIndex : 0)
    if (index < least) throw corrupt(path, 0, `a truncation to ${index} is below ${least}`)
    return index
  }

  async #findSegments(): Promise<void> {
    const names = await orDiskFailed('read', this.#directory, this.#disk.list(this.#directory))
    const found = names.map(firstIndexOfName).filter((index) => index !== undefined)
    for (const firstIndex of found.sort((a, b) => a - b)) {
      const path = segmentPath(this.#directory, firstIndex)
      if (firstIndex < this.start.firstIndex) {
        this.discarded.push(path)
        continue
      }
      if (this.segments.length > 0 && this.truncateTo !== undefined && firstIndex > this.truncateTo) {
        this.obsolete.push(path)
        continue
      }
      const bytes = await this.#withFile(path, (file) => file.size())
      this.segments.push(new Segment(path, firstIndex, bytes))
    }
  }

  /** Of a segment below the checkpoint only the first header is read; the rest is checked when somebody reads it. */
  async #checkFirst(file: DiskFile, segment: Segment, next: Segment | undefined): Promise<void> {
    const header = await firstHeader(file, segment)
    if (header === 'version') throw unknownFormat(segment.path)
    const lastIndex = (next?.firstIndex ?? 0) - 1
    if (this.#tolerate && (typeof header === 'string' || header.firstIndex !== segment.firstIndex)) {
      await scanWithHoles(file, segment, new Chain(segment.firstIndex), lastIndex)
      segment.lastIndex = lastIndex
      return
    }
    if (typeof header === 'string') throw corrupt(segment.path, 0, `its first batch is damaged (${header})`)
    if (header.firstIndex !== segment.firstIndex)
      throw corrupt(segment.path, 0, `begins with record ${header.firstIndex}`)
    this.#noteEpoch(header, segment, 0)
    segment.scanned = false
    segment.dirtyEndOffset = segment.capacity
    segment.lastIndex = lastIndex
  }

  async #scanAll(segments: readonly Segment[]): Promise<void> {
    const firstIndex = segments[0]?.firstIndex ?? 1
    const chain = new Chain(firstIndex, firstIndex === this.start.firstIndex ? epochBefore(this.start) : 0)
    this.tail = new Tail(firstIndex - 1, chain.epoch, 0, 0)
    for (const [place, segment] of segments.entries()) {
      if (segment.capacity === 0 && segment.holes.length > 0) {
        chain.skipTo(segment.lastIndex + 1)
        continue
      }
      this.scannedSegments++
      const next = segments[place + 1]
      // In the last segment, nothing may pass for a group that was never whole.
      await this.#withFile(segment.path, (file) =>
        this.#scanOne(this.#tolerate && next !== undefined ? forgiving(file) : file, segment, chain, next),
      )
    }
    if (this.damage !== undefined)
      this.tail = new Tail(chain.nextIndex - 1, chain.epoch, chain.checksum ?? 0, chain.timeMs)
    else if (this.batches === 0 && chain.nextIndex > this.start.firstIndex)
      throw corrupt(
        segments[0]?.path ?? this.#directory,
        0,
        `record ${chain.nextIndex - 1} and all before it are gone`,
      )
  }

  /** Scans a segment to its end, from hole to hole. */
  async #scanOne(file: DiskFile, segment: Segment, chain: Chain, next: Segment | undefined): Promise<void> {
    for (let from = 0; ; ) {
      const stop = await this.#scan(file, segment, chain, from)
      const lost =
        next === undefined
          ? await this.#judgeEnd(file, segment, chain, stop)
          : this.#judgeMiddle(segment, chain, stop, next)
      if (lost === undefined) return
      if (!this.#tolerate) throw lost.error
      const hole = await holeAt(file, segment, chain, stop, lost.toIndex, next === undefined)
      const bytes = hole.endOffset - hole.offset
      if (costsNothing(hole) && bytes % syncMarkBytes === 0)
        this.damagedMarks.push({ segment, offset: hole.offset, bytes, lastIndex: hole.toIndex })
      else segment.holes.push(hole)
      segment.lastIndex = Math.max(segment.lastIndex, hole.toIndex)
      if (hole.endOffset === Number.POSITIVE_INFINITY) return
      from = hole.endOffset
    }
  }

  /** A segment that another follows was durable up to that. */
  #judgeMiddle(segment: Segment, chain: Chain, stop: ScanStop, next: Segment): Lost | undefined {
    segment.dirtyEndOffset = segment.capacity
    if (chain.nextIndex === next.firstIndex) return undefined
    const error = corrupt(
      segment.path,
      stop.offset,
      `${describe(stop)} where record ${chain.nextIndex} should be; the next segment begins with ${next.firstIndex}`,
    )
    // Two segments for the same records: nothing tells which of them is the log's.
    if (chain.nextIndex > next.firstIndex) throw error
    return { toIndex: next.firstIndex - 1, error }
  }

  async #scan(file: DiskFile, segment: Segment, chain: Chain, from: number): Promise<ScanStop> {
    let lastMark = { offset: 0, durableIndex: -1 }
    const visitor: ScanVisitor = {
      batch: (header, offset) => {
        this.#noteEpoch(header, segment, offset)
        if (header.holdsConfiguration) this.configurations.push(header.firstIndex)
        this.tail.push(header)
        this.batches++
        this.records += header.count
      },
      damagedMarks: (offset, bytes) => {
        this.damagedMarks.push({ segment, offset, bytes, lastIndex: chain.nextIndex - 1 })
      },
      mark: (durableIndex, offset) => {
        lastMark = { offset, durableIndex }
      },
      enough: () => chain.nextIndex - 1 === this.truncateTo,
    }
    const stop = await scanSegment(file, segment, chain, visitor, from)
    if (stop.fault === 'version') throw unknownFormat(segment.path)
    this.unprovenOffset = lastMark.offset
    this.clean =
      lastMark.durableIndex >= chain.nextIndex - 1 && lastMark.offset + syncMarkBytes === segment.endOffset
    return stop
  }

  /** Tells a torn tail from corruption at the end of the last segment; returns what was durable and is lost. */
  async #judgeEnd(file: DiskFile, segment: Segment, chain: Chain, stop: ScanStop): Promise<Lost | undefined> {
    const lastIndex = chain.nextIndex - 1
    const durableTo = Math.max(this.#durableTo, this.truncateTo ?? 0)
    const rest = await surveyRest(file, stop.offset, segment.capacity)
    const verdict = judgeTail(lastIndex, rest, durableTo)
    const lost = (toIndex: number, why: string): Lost => {
      const what = `${describe(stop)} behind record ${lastIndex}${why}`
      return { toIndex, error: corrupt(segment.path, stop.offset, what) }
    }
    if (lastIndex < durableTo)
      return lost(
        verdict.kind === 'proven' ? verdict.durableTo : durableTo,
        `, although ${durableTo} was durable`,
      )
    if (this.truncateTo === undefined) {
      if (verdict.kind === 'proven')
        return lost(verdict.durableTo, `, although ${verdict.durableTo} was durable`)
      if (neverTorn.has(stop.fault)) throw lost(lastIndex, '').error
      if (verdict.kind === 'doubtful') this.owed = verdict.owed
    }
    segment.dirtyEndOffset = rest.dirtyEndOffset
    this.tornBytes = rest.dirtyEndOffset - stop.offset
    this.clean &&= this.tornBytes === 0 && this.truncateTo === undefined
    return undefined
  }

  #noteEpoch(header: BatchHeader, segment: Segment, offset: number): void {
    const known = this.epochStarts.findLast((start) => start.index <= header.firstIndex)
    if (known?.epoch === header.epoch) return
    const highest = this.epochStarts.at(-1)?.epoch ?? 0
    if (header.epoch <= highest)
      throw corrupt(
        segment.path,
        offset,
        `records ${header.firstIndex} to ${lastIndexOf(header)} are of epoch ${header.epoch}, not ${known?.epoch ?? 0}`,
      )
    this.epochStarts.push({ epoch: header.epoch, index: header.firstIndex })
  }

  async #withFile<T>(path: string, use: (file: DiskFile) => Promise<T>): Promise<T> {
    const file = await orDiskFailed('open', path, this.#disk.open(path, 'read'))
    try {
      return await use(file)
    } catch (cause) {
      if (cause instanceof StoreError) throw cause
      return await orDiskFailed('read', path, Promise.reject(cause))
    } finally {
      await orDiskFailed('close', path, file.close())
    }
  }
}

/** A torn write leaves no sound header of such content, so these are corruption wherever they are. */
const neverTorn: ReadonlySet<string> = new Set([
  'length',
  'number',
  // Nothing is ever begun that does not fit into its file.
  'cut short',
  'file size',
  'first index',
  'checksum of the batch before',
  'epoch',
  'log time',
])

/** Records up to `toIndex` were durable and are not there. */
interface Lost {
  readonly toIndex: number
  readonly error: StoreError
}

function describe(stop: ScanStop): string {
  return stop.fault === 'end' ? 'nothing' : `damage (${stop.fault})`
}

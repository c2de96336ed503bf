import type { Disk, DiskFile } from '../io/disk.ts'
import { type BatchHeader, batchHeaderBytes, lastIndexOf } from '../journal/batch.ts'
import { Chain, type ChainFault } from '../journal/chain.ts'
import { orDiskFailed } from '../journal/disk-failure.ts'
import type { LogStart } from '../journal/log.ts'
import { nextSound } from '../journal/next-sound.ts'
import { firstIndexOfName, segmentPath } from '../journal/segment.ts'
import { SegmentCursor } from '../journal/segment-cursor.ts'
import type { ItemFault } from '../journal/segment-item.ts'
import { damagedMarksAt, surveyRest } from '../journal/segment-scan.ts'
import { epochBefore, wholeLog } from '../journal/start-file.ts'
import { judgeTail, type Position } from '../journal/tail-verdict.ts'

const viewBytes = 1024 * 1024

/** A segment file, as the walk meets it. */
export interface WalkedSegment {
  readonly path: string
  /** By its name. */
  readonly firstIndex: number
  readonly bytes: number
}

/** `unreadable`: the file system gave an error. `missing`: there is no file for these records. */
export type JournalFault = ItemFault | ChainFault | 'unreadable' | 'missing'

interface Place {
  readonly segment: WalkedSegment
  /** In bytes within the segment's file. */
  readonly offset: number
}

/** What a walk meets, in the order of the log. */
export type JournalEvent =
  | ({ readonly type: 'segment' } & Place)
  /** An intact batch. `bytes` is header and payload, a view that is not written to again. */
  | ({ readonly type: 'batch'; readonly header: BatchHeader; readonly bytes: Buffer } & Place)
  /** An intact sync mark. `lastIndex` is the record before it, which its durable index should be. */
  | ({ readonly type: 'mark'; readonly durableIndex: number; readonly lastIndex: number } & Place)
  /** An intact end mark. `statedIndex` should be `lastIndex`, the record before it. */
  | ({
      readonly type: 'endMark'
      readonly statedIndex: number
      readonly epoch: number
      readonly lastIndex: number
    } & Place)
  /**
   * Something that was durable is damaged, gone, or not of this log. The walk goes on where it finds something sound.
   * Records `firstIndex` to `lastIndex` are concerned: none if `lastIndex` is one less, unknown if it is undefined.
   */
  | ({
      readonly type: 'damage'
      readonly fault: JournalFault
      readonly error?: unknown
      readonly firstIndex: number
      readonly lastIndex: number | undefined
    } & Place)
  /**
   * The unfinished last write: nothing behind `lastIndex` was ever durable. Recovery cuts it. With `owed`, an intact end
   * mark says that the write was whole, or nearly so: it may have been durable up to there (rule S27, class c).
   */
  | ({
      readonly type: 'torn'
      readonly fault: JournalFault
      readonly bytes: number
      readonly lastIndex: number
      readonly owed: Position | undefined
    } & Place)
  /** Bytes other than zero behind the end of a segment that another one follows. Nobody reads them. */
  | ({ readonly type: 'stray'; readonly bytes: number } & Place)
  /** A segment was read to its end: `offset` is where its last item ends. */
  | ({ readonly type: 'end'; readonly lastIndex: number } & Place)

/** The segments of a journal by the names of their files, in order; files of other names are left out. */
export async function listSegments(disk: Disk, directory: string): Promise<WalkedSegment[]> {
  const names = await orDiskFailed('read', directory, disk.list(directory))
  const found = names.map(firstIndexOfName).filter((index) => index !== undefined)
  const segments: WalkedSegment[] = []
  for (const firstIndex of found.sort((a, b) => a - b)) {
    const path = segmentPath(directory, firstIndex)
    const file = await orDiskFailed('open', path, disk.open(path, 'read'))
    try {
      segments.push({ path, firstIndex, bytes: await orDiskFailed('read', path, file.size()) })
    } finally {
      await orDiskFailed('close', path, file.close())
    }
  }
  return segments
}

/**
 * Reads a whole journal, checks everything in it, and goes on behind damage.
 *
 * It judges as recovery does (`journal/survey.ts`, rule S27), but reads every segment, and tells everything it finds
 * instead of stopping at the first. What recovery leaves for the reader of a record (damage below the checkpoint of
 * the index) is found too.
 *
 * @param segments - From {@link listSegments}; those before the beginning of the log are left out.
 */
export async function* walkJournal(
  disk: Disk,
  segments: readonly WalkedSegment[],
  bounds: {
    /** Where the log begins. @defaultValue with record 1 */
    readonly start?: LogStart
    /** Of the truncation under way, if there is one: what lies above is as good as gone. */
    readonly truncateTo?: number | undefined
  } = {},
): AsyncGenerator<JournalEvent, void, undefined> {
  const { start = wholeLog, truncateTo } = bounds
  const kept = segments.filter(({ firstIndex }) => firstIndex >= start.firstIndex)
  const [first] = kept
  if (first === undefined) return
  const chain = new Chain(first.firstIndex, epochBefore(start))
  const walk = new JournalWalk(disk, chain, truncateTo)
  if (first.firstIndex > start.firstIndex) {
    const missing = { firstIndex: start.firstIndex, lastIndex: first.firstIndex - 1 }
    yield { type: 'damage', segment: first, offset: 0, fault: 'missing', ...missing }
  }
  for (const [place, segment] of kept.entries()) yield* walk.segment(segment, kept[place + 1])
}

class JournalWalk {
  readonly #disk: Disk
  readonly #truncateTo: number | undefined
  #chain: Chain

  constructor(disk: Disk, chain: Chain, truncateTo: number | undefined) {
    this.#disk = disk
    this.#chain = chain
    this.#truncateTo = truncateTo
  }

  get #lastIndex(): number {
    return this.#chain.nextIndex - 1
  }

  async *segment(segment: WalkedSegment, next: WalkedSegment | undefined): AsyncGenerator<JournalEvent> {
    yield { type: 'segment', segment, offset: 0 }
    const reader = new SegmentReader(await this.#open(segment), segment)
    try {
      yield* this.#items(reader, next)
    } catch (error) {
      if (!(error instanceof ReadFault)) throw error
      const lastIndex = next && next.firstIndex - 1
      const firstIndex = this.#chain.nextIndex
      const { offset } = reader
      yield {
        type: 'damage',
        segment,
        offset,
        fault: 'unreadable',
        error: error.cause,
        firstIndex,
        lastIndex,
      }
      if (next !== undefined) this.#goOnAt(next.firstIndex)
    } finally {
      await reader.close()
    }
  }

  async #open(segment: WalkedSegment): Promise<DiskFile> {
    return await orDiskFailed('open', segment.path, this.#disk.open(segment.path, 'read'))
  }

  async *#items(reader: SegmentReader, next: WalkedSegment | undefined): AsyncGenerator<JournalEvent> {
    const { segment } = reader
    while (this.#lastIndex !== this.#truncateTo) {
      const { offset } = reader
      const item = await reader.item()
      if (item.kind === 'mark') {
        const { durableIndex } = item
        yield { type: 'mark', segment, offset, durableIndex, lastIndex: this.#lastIndex }
      } else if (item.kind === 'endMark') {
        const { lastIndex: statedIndex, epoch } = item
        yield { type: 'endMark', segment, offset, statedIndex, epoch, lastIndex: this.#lastIndex }
      } else if (item.kind === 'batch') {
        yield* this.#batch(reader, item.header, item.bytes)
      } else {
        const over = yield* this.#fault(reader, item.fault, next)
        if (over) return
        continue
      }
      reader.skip(item.bytes)
    }
    yield { type: 'end', segment, offset: reader.offset, lastIndex: this.#lastIndex }
  }

  async *#batch(reader: SegmentReader, header: BatchHeader, length: number): AsyncGenerator<JournalEvent> {
    const { segment, offset } = reader
    const fault = this.#chain.accept(header)
    if (fault !== undefined) {
      const firstIndex = this.#chain.nextIndex
      yield { type: 'damage', segment, offset, fault, firstIndex, lastIndex: lastIndexOf(header) }
      this.#goOnWith(header)
    }
    yield { type: 'batch', segment, offset, header, bytes: reader.bytes(length) }
  }

  /** @returns Whether the segment is over. */
  async *#fault(
    reader: SegmentReader,
    fault: ItemFault,
    next: WalkedSegment | undefined,
  ): AsyncGenerator<JournalEvent, boolean> {
    const { segment, offset } = reader
    const lastIndex = this.#lastIndex
    const marks = fault === 'version' ? 0 : await reader.damagedMarks(this.#chain)
    if (marks > 0) {
      yield { type: 'damage', segment, offset, fault, firstIndex: lastIndex + 1, lastIndex }
      reader.skip(marks)
      return false
    }
    const isWhole = next !== undefined && lastIndex + 1 === next.firstIndex
    const rest = await reader.rest()
    const bytes = rest.dirtyEndOffset - offset
    if (bytes === 0 && (isWhole || next === undefined)) {
      yield { type: 'end', segment, offset, lastIndex }
      return true
    }
    if (!neverTorn.has(fault)) {
      if (isWhole) {
        yield { type: 'stray', segment, offset, bytes }
        yield { type: 'end', segment, offset, lastIndex }
        return true
      }
      const verdict =
        this.#truncateTo === undefined ? judgeTail(lastIndex, rest, 0) : ({ kind: 'torn' } as const)
      if (next === undefined && verdict.kind !== 'proven') {
        const owed = verdict.kind === 'doubtful' ? verdict.owed : undefined
        yield { type: 'torn', segment, offset, fault, bytes, lastIndex, owed }
        yield { type: 'end', segment, offset, lastIndex }
        return true
      }
    }
    return yield* this.#goBehind(reader, fault, next)
  }

  /** Tells of damage, and looks for something sound behind it. */
  async *#goBehind(
    reader: SegmentReader,
    fault: ItemFault,
    next: WalkedSegment | undefined,
  ): AsyncGenerator<JournalEvent, boolean> {
    const { segment, offset } = reader
    const firstIndex = this.#chain.nextIndex
    // A sound header still tells what the damaged payload was, and keeps the chain.
    const header = fault === 'payload' ? await reader.header() : undefined
    if (header !== undefined && this.#chain.accept(header) === undefined) {
      yield { type: 'damage', segment, offset, fault, firstIndex, lastIndex: lastIndexOf(header) }
      reader.skip(batchHeaderBytes + header.payloadBytes)
      return false
    }
    const sound = await reader.nextSound(firstIndex, next?.firstIndex ?? Number.POSITIVE_INFINITY)
    const goesOnAt = sound?.nextIndex ?? next?.firstIndex
    const lastIndex = goesOnAt === undefined ? undefined : goesOnAt - 1
    yield { type: 'damage', segment, offset, fault, firstIndex, lastIndex }
    if (goesOnAt !== undefined && goesOnAt !== firstIndex) this.#goOnAt(goesOnAt)
    if (sound === undefined) yield { type: 'end', segment, offset, lastIndex: this.#lastIndex }
    else reader.moveTo(sound.offset)
    return sound === undefined
  }

  /** What comes before the next batch is not known. */
  #goOnAt(nextIndex: number): void {
    const { epoch, timeMs } = this.#chain
    this.#chain = new Chain(nextIndex)
    this.#chain.epoch = epoch
    this.#chain.timeMs = timeMs
  }

  #goOnWith(header: BatchHeader): void {
    this.#chain = new Chain(header.firstIndex)
    this.#chain.checksum = undefined
    this.#chain.accept(header)
  }
}

/** Recovery takes these for corruption wherever they are: a torn write leaves no sound header of such content. */
const neverTorn: ReadonlySet<JournalFault> = new Set<JournalFault>([
  'version',
  'length',
  'number',
  'cut short',
  'file size',
])

/** Reading failed, in the file system or below. */
class ReadFault extends Error {}

/** One segment's file, with the place where the walk is in it. */
class SegmentReader {
  readonly segment: WalkedSegment
  readonly #file: DiskFile
  #cursor: SegmentCursor

  constructor(file: DiskFile, segment: WalkedSegment) {
    this.#file = file
    this.segment = segment
    this.#cursor = new SegmentCursor(file, segment.bytes, 0, viewBytes)
  }

  get offset(): number {
    return this.#cursor.offset
  }

  item(): ReturnType<SegmentCursor['item']> {
    return reading(this.#cursor.item())
  }

  /** Of the batch here, whose payload need not be sound. */
  async header(): Promise<BatchHeader | undefined> {
    const item = await reading(this.#cursor.item(() => true))
    return item.kind === 'batch' ? item.header : undefined
  }

  bytes(length: number): Buffer {
    return this.#cursor.bytes(length)
  }

  skip(bytes: number): void {
    this.#cursor.skip(bytes)
  }

  moveTo(offset: number): void {
    this.#cursor = new SegmentCursor(this.#file, this.segment.bytes, offset, viewBytes)
  }

  damagedMarks(chain: Chain): Promise<number> {
    return reading(damagedMarksAt(this.#file, this.segment.bytes, this.offset, chain))
  }

  rest(): ReturnType<typeof surveyRest> {
    return reading(surveyRest(this.#file, this.offset, this.segment.bytes))
  }

  nextSound(fromIndex: number, belowIndex: number): ReturnType<typeof nextSound> {
    return reading(nextSound(this.#file, this.segment.bytes, this.offset, fromIndex, belowIndex))
  }

  /** What was only read loses nothing by a close that fails. */
  async close(): Promise<void> {
    await this.#file.close().catch(() => undefined)
  }
}

async function reading<T>(outcome: Promise<T>): Promise<T> {
  try {
    return await outcome
  } catch (cause) {
    throw new ReadFault('reading failed', { cause })
  }
}

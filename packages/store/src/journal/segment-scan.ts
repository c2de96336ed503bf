import type { DiskFile } from '../io/disk.ts'
import { type BatchHeader, lastIndexOf } from './batch.ts'
import { Chain, type ChainFault } from './chain.ts'
import { type Hole, holeAt, unknownFormat } from './damage.ts'
import { type EndMark, endMarksIn } from './end-mark.ts'
import type { Segment } from './segment.ts'
import { SegmentCursor } from './segment-cursor.ts'
import type { ItemFault } from './segment-item.ts'
import { highestSyncMark, syncMarkBytes } from './sync-mark.ts'

const viewBytes = 1024 * 1024
const zeroes = Buffer.alloc(viewBytes)

/** What a scan meets, in the order of the file. */
export interface ScanVisitor {
  /** An intact batch that goes on where the one before it ended. */
  batch?(header: BatchHeader, offset: number): void
  mark?(durableIndex: number, offset: number): void
  /** Damage where only marks can have been: what is behind it goes on where what is before it ended. */
  damagedMarks?(offset: number, bytes: number): void
  /** Ends the scan before the next item. */
  enough?(): boolean
}

/** Where a scan ended, and why. */
export interface ScanStop {
  readonly offset: number
  readonly fault: ItemFault | ChainFault | 'enough'
}

/** Reads a segment from `from` on, where an item begins, checks that the batches in it follow each other, and enters them into its table. */
export async function scanSegment(
  file: DiskFile,
  segment: Segment,
  chain: Chain,
  visitor: ScanVisitor,
  from: number = 0,
): Promise<ScanStop> {
  const cursor = new SegmentCursor(file, segment.capacity, from, viewBytes)
  for (;;) {
    const offset = cursor.offset
    if (visitor.enough?.()) return { offset, fault: 'enough' }
    const item = await cursor.item()
    if (item.kind === 'fault') {
      const known = item.fault !== 'version'
      const bytes = known ? await damagedMarksAt(file, segment.capacity, offset, chain) : 0
      if (bytes === 0) return { offset, fault: item.fault }
      visitor.damagedMarks?.(offset, bytes)
      cursor.skip(bytes)
      continue
    }
    const after = offset + item.bytes
    if (item.kind === 'batch') {
      const fault = chain.accept(item.header)
      if (fault !== undefined) return { offset, fault }
      visitor.batch?.(item.header, offset)
      segment.note(item.header.firstIndex, offset)
      segment.extend(lastIndexOf(item.header), after)
    } else {
      if (item.kind === 'mark') visitor.mark?.(item.durableIndex, offset)
      segment.extend(segment.lastIndex, after)
    }
    cursor.skip(item.bytes)
  }
}

/**
 * Reads a segment whose last record is known to its end, whatever is damaged in it, and notes the holes.
 *
 * @throws StoreError `STORE_UNKNOWN_FORMAT`.
 */
export async function scanWithHoles(
  file: DiskFile,
  segment: Segment,
  chain: Chain,
  lastIndex: number,
): Promise<void> {
  segment.holes = []
  const note = (hole: Hole): void => void segment.holes.push(hole)
  const visitor: ScanVisitor = {
    damagedMarks: (offset, bytes) =>
      note({
        fromIndex: chain.nextIndex,
        toIndex: chain.nextIndex - 1,
        file: segment.path,
        offset,
        endOffset: offset + bytes,
      }),
    enough: () => chain.nextIndex > lastIndex,
  }
  for (let from = 0; ; ) {
    const stop = await scanSegment(file, segment, chain, visitor, from)
    if (stop.fault === 'version') throw unknownFormat(segment.path)
    if (stop.fault === 'enough') return
    const hole = await holeAt(file, segment, chain, stop, lastIndex, false)
    note(hole)
    if (hole.endOffset === Number.POSITIVE_INFINITY) return
    from = hole.endOffset
  }
}

/**
 * Checks what stands in a segment from `offset` on, where an item begins, up to record `lastIndex`.
 *
 * @returns How far it came: to `lastIndex`, through `maxBytes`, or to damage.
 */
export async function checkPiece(
  file: DiskFile,
  segment: Segment,
  chain: Chain,
  offset: number,
  lastIndex: number,
  maxBytes: number,
): Promise<{ readonly offset: number; readonly ended: 'segment' | 'piece' | 'damage' }> {
  const fileBytes = segment.scanned ? segment.endOffset : segment.capacity
  const cursor = new SegmentCursor(file, fileBytes, offset, Math.min(maxBytes, viewBytes))
  while (chain.nextIndex <= lastIndex) {
    if (cursor.offset - offset >= maxBytes) return { offset: cursor.offset, ended: 'piece' }
    const item = await cursor.item()
    if (item.kind === 'fault' || (item.kind === 'batch' && chain.accept(item.header) !== undefined))
      return { offset: cursor.offset, ended: 'damage' }
    cursor.skip(item.bytes)
  }
  return { offset: cursor.offset, ended: 'segment' }
}

/**
 * How many bytes of damaged marks are at `offset`; 0 if the damage may cost a record. At most the end mark of a group,
 * the mark that a recovery, truncation or close leaves, and the sync mark of the next group follow each other.
 */
export async function damagedMarksAt(
  file: DiskFile,
  fileBytes: number,
  offset: number,
  chain: Chain,
): Promise<number> {
  const lastIndex = chain.nextIndex - 1
  for (
    let bytes = syncMarkBytes;
    bytes <= 3 * syncMarkBytes && offset + bytes < fileBytes;
    bytes += syncMarkBytes
  ) {
    const item = await new SegmentCursor(file, fileBytes, offset + bytes, 4096).item()
    const goesOn =
      (item.kind === 'batch' && chain.faultOf(item.header) === undefined) ||
      (item.kind === 'mark' && item.durableIndex === lastIndex) ||
      (item.kind === 'endMark' && item.lastIndex === lastIndex)
    if (goesOn) return bytes
  }
  return 0
}

/** First batch header of a segment, or why there is none. Its payload is not looked at. */
export async function firstHeader(file: DiskFile, segment: Segment): Promise<BatchHeader | ItemFault> {
  const cursor = new SegmentCursor(file, segment.capacity, 0, 4096)
  for (;;) {
    const item = await cursor.item(() => true)
    if (item.kind === 'batch') return item.header
    if (item.kind === 'fault') {
      if (item.fault === 'version') return item.fault
      const bytes = await damagedMarksAt(file, segment.capacity, cursor.offset, new Chain(segment.firstIndex))
      if (bytes === 0) return item.fault
      cursor.skip(bytes)
    } else cursor.skip(item.bytes)
  }
}

/** What lies behind the last sound item of a segment. */
export interface SegmentRest {
  /** Behind the last byte that is not zero; the beginning of the rest if all are. */
  readonly dirtyEndOffset: number
  /** Highest durable index of the sync marks in it; -1 without any. */
  readonly highestMark: number
  /** The intact end marks in it, in order. */
  readonly endMarks: readonly EndMark[]
}

export async function surveyRest(file: DiskFile, offset: number, fileBytes: number): Promise<SegmentRest> {
  const view = Buffer.allocUnsafe(viewBytes)
  let dirtyEndOffset = offset
  let highestMark = -1
  const endMarks = new Map<number, EndMark>()
  let at = offset
  while (at < fileBytes) {
    const length = Math.min(viewBytes, fileBytes - at)
    const seen = view.subarray(0, await file.read(view, 0, length, at))
    if (seen.length === 0) break
    if (!seen.equals(zeroes.subarray(0, seen.length))) {
      dirtyEndOffset = at + lengthWithoutZeroes(seen)
      highestMark = Math.max(highestMark, highestSyncMark(seen, at))
      for (const [place, mark] of endMarksIn(seen, at)) endMarks.set(place, mark)
    }
    const last = at + seen.length >= fileBytes
    // A mark may lie across two views, so they overlap.
    at += last ? seen.length : Math.max(1, seen.length - syncMarkBytes)
  }
  return { dirtyEndOffset, highestMark, endMarks: [...endMarks.values()] }
}

function lengthWithoutZeroes(bytes: Buffer): number {
  let length = bytes.length
  while (length > 0 && bytes[length - 1] === 0) length--
  return length
}

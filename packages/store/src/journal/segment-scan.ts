import type { DiskFile } from '../io/disk.ts'
import { type BatchHeader, lastIndexOf } from './batch.ts'
import type { ChainFault } from './chain.ts'
import type { Segment } from './segment.ts'
import { SegmentCursor } from './segment-cursor.ts'
import type { ItemFault } from './segment-item.ts'
import { highestSyncMark, syncMarkBytes } from './sync-mark.ts'

const viewBytes = 1024 * 1024
const zeroes = Buffer.alloc(viewBytes)

/** What a scan meets, in the order of the file. */
export interface ScanVisitor {
  /** Whether the scan goes on behind an intact batch; a reason not to leaves the batch outside. */
  batch(header: BatchHeader, offset: number): ChainFault | undefined
  mark(durableIndex: number, offset: number): void
  /** Ends the scan before the next item. */
  enough?(): boolean
}

/** Where a scan ended, and why. */
export interface ScanStop {
  readonly offset: number
  readonly fault: ItemFault | ChainFault | 'enough'
}

/** Reads a segment from its start and enters its batches into the table of `segment`. */
export async function scanSegment(file: DiskFile, segment: Segment, visitor: ScanVisitor): Promise<ScanStop> {
  const cursor = new SegmentCursor(file, segment.capacity, 0, viewBytes)
  for (;;) {
    const offset = cursor.offset
    if (visitor.enough?.()) return { offset, fault: 'enough' }
    const item = await cursor.item()
    if (item.kind === 'fault') return { offset, fault: item.fault }
    const after = offset + item.bytes
    if (item.kind === 'mark') {
      visitor.mark(item.durableIndex, offset)
      segment.extend(segment.lastIndex, after)
    } else {
      const fault = visitor.batch(item.header, offset)
      if (fault !== undefined) return { offset, fault }
      segment.note(item.header.firstIndex, offset)
      segment.extend(lastIndexOf(item.header), after)
    }
    cursor.skip(item.bytes)
  }
}

/** First batch header of a segment, or why there is none. Its payload is not looked at. */
export async function firstHeader(file: DiskFile, fileBytes: number): Promise<BatchHeader | ItemFault> {
  const cursor = new SegmentCursor(file, fileBytes, 0, 4096)
  for (;;) {
    const item = await cursor.item(() => true)
    if (item.kind === 'fault') return item.fault
    if (item.kind === 'batch') return item.header
    cursor.skip(item.bytes)
  }
}

/** What lies behind the last sound item of a segment. */
export interface SegmentRest {
  /** Behind the last byte that is not zero; the beginning of the rest if all are. */
  readonly dirtyEndOffset: number
  /** Highest durable index of the sync marks in it; -1 without any. */
  readonly highestMark: number
}

export async function surveyRest(file: DiskFile, offset: number, fileBytes: number): Promise<SegmentRest> {
  const view = Buffer.allocUnsafe(viewBytes)
  let dirtyEndOffset = offset
  let highestMark = -1
  let at = offset
  while (at < fileBytes) {
    const length = Math.min(viewBytes, fileBytes - at)
    const seen = view.subarray(0, await file.read(view, 0, length, at))
    if (seen.length === 0) break
    if (!seen.equals(zeroes.subarray(0, seen.length))) {
      dirtyEndOffset = at + lengthWithoutZeroes(seen)
      highestMark = Math.max(highestMark, highestSyncMark(seen, at))
    }
    const last = at + seen.length >= fileBytes
    // A mark may lie across two views, so they overlap.
    at += last ? seen.length : Math.max(1, seen.length - syncMarkBytes)
  }
  return { dirtyEndOffset, highestMark }
}

function lengthWithoutZeroes(bytes: Buffer): number {
  let length = bytes.length
  while (length > 0 && bytes[length - 1] === 0) length--
  return length
}

import type { DiskFile } from '../io/disk.ts'
import { lastIndexOf } from './batch.ts'
import { corrupt, unknownFormat } from './damage.ts'
import type { Segment } from './segment.ts'
import { SegmentCursor } from './segment-cursor.ts'
import type { SegmentItem } from './segment-item.ts'

const leastViewBytes = 32 * 1024
const mostViewBytes = 1024 * 1024

/** What a reader asks a segment for. */
export interface SegmentRange {
  /** A record of the first batch wanted. */
  readonly fromIndex: number
  /** Last record wanted, which ends a batch. */
  readonly upToIndex: number
  readonly maxBytes: number
  /** Takes the first batch however large it is. */
  readonly atLeastOne: boolean
}

/**
 * Adds to `into` whole batches of a scanned segment, checksums verified.
 *
 * @returns The last record added; `fromIndex - 1` if the first batch does not fit into `maxBytes`.
 */
export async function readBatches(
  file: DiskFile,
  segment: Segment,
  range: SegmentRange,
  into: Buffer[],
): Promise<number> {
  const { fromIndex } = range
  const upToIndex = Math.min(range.upToIndex, segment.lastIndex)
  const viewBytes = Math.min(Math.max(leastViewBytes, range.maxBytes), mostViewBytes)
  const cursor = new SegmentCursor(file, segment.endOffset, segment.offsetFor(fromIndex), viewBytes)
  let room = range.maxBytes
  let needed = range.atLeastOne
  let readTo = fromIndex - 1
  while (readTo < upToIndex) {
    const hole = segment.holes.length === 0 ? undefined : segment.holeAt(cursor.offset)
    if (hole !== undefined) {
      // What has been read is given; whoever asks for what comes next is told.
      if (hole.marksEnd === undefined) break
      cursor.skip(hole.marksEnd - cursor.offset)
      continue
    }
    const item = sound(await cursor.item((header) => lastIndexOf(header) < fromIndex), segment, cursor.offset)
    if (item.kind === 'batch' && lastIndexOf(item.header) >= fromIndex) {
      if (item.bytes > room && !needed) break
      needed = false
      room -= item.bytes
      into.push(cursor.bytes(item.bytes))
      readTo = lastIndexOf(item.header)
    }
    cursor.skip(item.bytes)
  }
  return readTo
}

/** Offset behind the batch of a scanned segment that ends with record `index`. */
export async function offsetBehind(file: DiskFile, segment: Segment, index: number): Promise<number> {
  if (index < segment.firstIndex) return 0
  const cursor = new SegmentCursor(file, segment.endOffset, segment.offsetFor(index), leastViewBytes)
  for (;;) {
    const item = sound(await cursor.item(() => true), segment, cursor.offset)
    cursor.skip(item.bytes)
    if (item.kind === 'batch' && lastIndexOf(item.header) >= index) return cursor.offset
  }
}

type SoundItem = Exclude<SegmentItem, { kind: 'more' | 'fault' }>

function sound(
  item: SoundItem | { kind: 'fault'; fault: string },
  segment: Segment,
  offset: number,
): SoundItem {
  if (item.kind !== 'fault') return item
  if (item.fault === 'version') throw unknownFormat(segment.path)
  throw corrupt(
    segment.path,
    offset,
    `what was sound when the segment was scanned is damaged (${item.fault})`,
  )
}

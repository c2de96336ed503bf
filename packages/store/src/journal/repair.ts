import {
  type BatchHeader,
  batchBytesAt,
  batchHeaderBytes,
  decodeBatchHeader,
  firstIndexAt,
  lastIndexOf,
  payloadIntact,
} from './batch.ts'
import type { Chain } from './chain.ts'
import type { Damage, Hole } from './damage.ts'
import { orDiskFailed } from './disk-failure.ts'
import type { Segment } from './segment.ts'
import type { SegmentSet } from './segment-set.ts'
import { encodeSyncMarks, syncMarkBytes } from './sync-mark.ts'

/**
 * Checks that batches belong into a hole: each is intact, the first follows what stands before the hole, and if they
 * fill it, what stands behind it follows the last. So it does not matter whose they are.
 *
 * @param before - What stands before the hole; has taken the batches afterwards.
 * @param behind - The first batch behind it; `undefined` if there is none, or it is damaged as well.
 * @throws RangeError if they do not.
 */
export function checkRepair(
  damage: Damage,
  batches: Buffer,
  before: Chain,
  behind: BatchHeader | undefined,
): void {
  const misfit = (why: string): RangeError =>
    new RangeError(`not what records ${damage.fromIndex} to ${damage.toIndex} were: ${why}`)
  for (let at = 0; at < batches.length; at += batchBytesAt(batches, at)) {
    const header =
      batches.length - at < batchHeaderBytes ? ('cut short' as const) : decodeBatchHeader(batches, at)
    if (typeof header === 'string') throw misfit(header)
    const end = at + batchHeaderBytes + header.payloadBytes
    if (end > batches.length || !payloadIntact(batches, at, header)) throw misfit('payload')
    const fault = before.accept(header)
    if (fault !== undefined) throw misfit(fault)
    if (lastIndexOf(header) > damage.toIndex) throw misfit(`record ${lastIndexOf(header)}`)
  }
  if (before.nextIndex <= damage.toIndex || behind === undefined) return
  const fault = before.faultOf(behind)
  if (fault !== undefined) throw misfit(`${fault} of the batch behind`)
}

/**
 * Writes checked batches into the hole that they belong into, in place, and makes them durable. They need not fill it:
 * what is left of it stays a hole, after a crash too. Damaged marks between them move to the end of the hole's room.
 *
 * @param segmentBytes - Size of a segment that is made for what no file has room for.
 * @param nextIndex - First record behind the batches.
 * @throws RangeError if there is no room for them.
 */
export async function fillHole(
  files: SegmentSet,
  segment: Segment,
  hole: Hole,
  batches: Buffer,
  nextIndex: number,
  segmentBytes: number,
): Promise<void> {
  segment.forget(hole.offset, hole.endOffset)
  if (hole.endOffset === Number.POSITIVE_INFINITY)
    await fillToEnd(files, segment, hole, batches, nextIndex, segmentBytes)
  else await fillInside(files, segment, hole, batches, nextIndex)
}

async function fillInside(
  files: SegmentSet,
  segment: Segment,
  hole: Hole,
  batches: Buffer,
  nextIndex: number,
): Promise<void> {
  const end = hole.offset + batches.length
  const left = hole.endOffset - end
  const isFilled = nextIndex > hole.toIndex
  // What seemed sound behind it was not: the log's own bytes can stand in a message's body.
  if (left < 0 || (isFilled && left % syncMarkBytes !== 0)) {
    widen(files, segment, hole)
    return
  }
  const marks = isFilled ? encodeSyncMarks(hole.toIndex, end, left) : Buffer.alloc(0)
  await rewrite(files, segment, Buffer.concat([batches, marks]), hole.offset)
  settle(segment, hole, isFilled ? undefined : { ...hole, fromIndex: nextIndex, offset: end })
}

async function fillToEnd(
  files: SegmentSet,
  segment: Segment,
  hole: Hole,
  batches: Buffer,
  nextIndex: number,
  segmentBytes: number,
): Promise<void> {
  if (segment.capacity === 0 && batches.length > 0)
    await files.restore(segment, Math.max(segmentBytes, batchBytesAt(batches, 0) + 3 * syncMarkBytes))
  let length = 0
  while (length < batches.length) {
    const bytes = batchBytesAt(batches, length)
    if (hole.offset + length + bytes + syncMarkBytes > segment.capacity) break
    length += bytes
  }
  const rest = batches.subarray(length)
  const end = hole.offset + length
  await rewrite(files, segment, batches.subarray(0, length), hole.offset)
  if (rest.length === 0 && nextIndex <= hole.toIndex) {
    settle(segment, hole, { ...hole, fromIndex: nextIndex, offset: end })
    return
  }
  const lastIndex = (rest.length > 0 ? firstIndexAt(rest, 0) : nextIndex) - 1
  await finish(files, segment, end, lastIndex)
  settle(segment, hole, undefined)
  if (rest.length === 0) return
  // The file that they were in is missing.
  const bytes = Math.max(segmentBytes, batchBytesAt(rest, 0) + 3 * syncMarkBytes)
  const made = files.insert(segment, lastIndex + 1, hole.toIndex)
  const remaining = { ...hole, fromIndex: lastIndex + 1, file: made.path, offset: 0 }
  made.holes = [remaining]
  await fillToEnd(files, made, remaining, rest, nextIndex, bytes)
}

/** Puts a mark behind the last record of a segment, and zeroes behind that. */
async function finish(files: SegmentSet, segment: Segment, end: number, lastIndex: number): Promise<void> {
  const marks = end + syncMarkBytes <= segment.capacity ? syncMarkBytes : 0
  await rewrite(files, segment, encodeSyncMarks(lastIndex, end, marks), end)
  const piece = Buffer.alloc(1024 * 1024)
  for (let at = end + marks; at < segment.capacity; at += piece.length)
    await rewrite(files, segment, piece.subarray(0, Math.min(piece.length, segment.capacity - at)), at)
}

/** Takes the whole rest of the segment for damaged, as far as it was written. */
function widen(files: SegmentSet, segment: Segment, hole: Hole): void {
  const endOffset = segment === files.last ? segment.endOffset : Number.POSITIVE_INFINITY
  if (hole.toIndex === segment.lastIndex && hole.endOffset === endOffset)
    throw new RangeError(`there is no room for records ${hole.fromIndex} to ${hole.toIndex} in ${hole.file}`)
  segment.holes = segment.holes.filter((each) => each.offset < hole.offset)
  segment.holes.push({ ...hole, toIndex: segment.lastIndex, endOffset })
}

function settle(segment: Segment, hole: Hole, left: Hole | undefined): void {
  segment.holes = segment.holes.flatMap((each) => (each === hole ? (left ?? []) : each))
}

/** Writes over damaged bytes, and reads them back. */
async function rewrite(files: SegmentSet, segment: Segment, bytes: Buffer, offset: number): Promise<void> {
  if (bytes.length === 0) return
  await files.writeOver(segment, bytes, offset)
  const found = Buffer.alloc(bytes.length)
  const read = files.read(segment, (file) => file.read(found, 0, found.length, offset))
  await orDiskFailed('read', segment.path, read)
  if (!found.equals(bytes))
    await orDiskFailed('write', segment.path, Promise.reject(new Error('what was written reads differently')))
  segment.extend(segment.lastIndex, Math.max(segment.endOffset, offset + bytes.length))
}

import { batchBytesAt, epochAt, firstIndexAt, lastIndexAt } from './batch.ts'
import { endMarkBytes } from './end-mark.ts'
import { syncMarkBytes } from './sync-mark.ts'
import type { Chunk } from './window.ts'

/** What one write and one sync take: a run of batches in one segment, with a sync mark before and an end mark behind. */
export interface GroupPart {
  /** Starts a segment with this first index and at least this size; `undefined`: goes on in the present one. */
  readonly segment: { readonly firstIndex: number; readonly capacity: number } | undefined
  /** Where the mark goes; the batches follow it. */
  readonly offset: number
  readonly chunks: Buffer[]
  /** First index and offset of each batch, in turn. */
  readonly places: number[]
  lastIndex: number
  /** Epoch of the last batch. */
  epoch: number
  /** Where the end mark goes. */
  batchesEnd: number
}

/**
 * Divides a group among segments: batches are never split, and one that is larger than a segment gets its own.
 *
 * @param endOffset - Where the present segment ends.
 * @param capacity - Its size.
 * @param segmentBytes - Size of new ones.
 */
export function layOutGroup(
  group: readonly Chunk[],
  endOffset: number,
  capacity: number,
  segmentBytes: number,
): GroupPart[] {
  const parts: GroupPart[] = []
  let part = partAt(undefined, endOffset)
  let room = capacity
  for (const { bytes } of group) {
    let start = 0
    for (let at = 0; at < bytes.length; ) {
      const length = batchBytesAt(bytes, at)
      if (part.batchesEnd + length + endMarkBytes > room) {
        if (at > start) part.chunks.push(bytes.subarray(start, at))
        if (part.chunks.length > 0) parts.push(part)
        start = at
        // Room for one more mark, the one that a clean close leaves behind.
        room = Math.max(segmentBytes, length + 2 * syncMarkBytes + endMarkBytes)
        part = partAt({ firstIndex: firstIndexAt(bytes, at), capacity: room }, 0)
      }
      part.places.push(firstIndexAt(bytes, at), part.batchesEnd)
      part.batchesEnd += length
      part.lastIndex = lastIndexAt(bytes, at)
      part.epoch = epochAt(bytes, at)
      at += length
    }
    if (start < bytes.length) part.chunks.push(start === 0 ? bytes : bytes.subarray(start))
  }
  if (part.chunks.length > 0) parts.push(part)
  return parts
}

function partAt(segment: GroupPart['segment'], offset: number): GroupPart {
  return {
    segment,
    offset,
    chunks: [],
    places: [],
    lastIndex: 0,
    epoch: 0,
    batchesEnd: offset + syncMarkBytes,
  }
}

import type { DiskFile } from '../io/disk.ts'
import { SegmentCursor } from './segment-cursor.ts'

const viewBytes = 1024 * 1024
const magics = ['LMQB', 'LMQS', 'LMQE'].map((text) => Buffer.from(text, 'latin1'))

/** Where a segment goes on behind damage. */
export interface SoundPlace {
  readonly offset: number
  /** Index of the next record from there on. */
  readonly nextIndex: number
}

/**
 * The next mark, or the next batch that begins at `fromIndex` or above and below `belowIndex`, behind `offset`. A body
 * may hold the bytes of another log's batch; its index keeps most of them out, and the chain tells of the others.
 */
export async function nextSound(
  file: DiskFile,
  fileBytes: number,
  offset: number,
  fromIndex: number,
  belowIndex: number,
): Promise<SoundPlace | undefined> {
  const view = Buffer.allocUnsafe(Math.min(viewBytes, Math.max(0, fileBytes - offset)))
  for (let at = offset + 1; at < fileBytes; ) {
    const length = Math.min(view.length, fileBytes - at)
    const seen = view.subarray(0, await file.read(view, 0, length, at))
    for (let found = nextMagic(seen, 0); found >= 0; found = nextMagic(seen, found + 1)) {
      const item = await new SegmentCursor(file, fileBytes, at + found, 4096).item()
      if (item.kind === 'fault') continue
      const place = { offset: at + found, nextIndex: 0 }
      if (item.kind === 'batch') place.nextIndex = item.header.firstIndex
      else place.nextIndex = (item.kind === 'mark' ? item.durableIndex : item.lastIndex) + 1
      if (place.nextIndex >= fromIndex && place.nextIndex < belowIndex) return place
      // A mark behind the last batch of the segment.
      if (item.kind !== 'batch' && place.nextIndex === belowIndex) return place
    }
    if (seen.length < length || at + length >= fileBytes) return undefined
    // A magic may lie across two views, so they overlap.
    at += length - 3
  }
  return undefined
}

function nextMagic(bytes: Buffer, from: number): number {
  const places = magics.map((magic) => bytes.indexOf(magic, from)).filter((place) => place >= 0)
  return places.length === 0 ? -1 : Math.min(...places)
}

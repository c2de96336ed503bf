import {
  type BatchHeader,
  type BatchHeaderFault,
  batchHeaderBytes,
  decodeBatchHeader,
  payloadIntact,
} from './batch.ts'
import { decodeEndMark, endMarkBytes, endMarkMagic } from './end-mark.ts'
import { decodeSyncMark, syncMarkBytes, syncMarkMagic } from './sync-mark.ts'

/**
 * Why bytes in a segment are neither batch nor mark. `end`: zeroes or the end of the file, nothing was written;
 * `cut short`: no room for a header before the end of the file; `file size`: a sound header promises more than is there.
 */
export type ItemFault = BatchHeaderFault | 'mark' | 'payload' | 'cut short' | 'file size'

/**
 * What stands at one place of a segment: batches and marks follow each other without gaps, then come zeroes.
 * `more` asks for a longer view of the file.
 */
export type SegmentItem =
  | { readonly kind: 'batch'; readonly header: BatchHeader; readonly bytes: number }
  | { readonly kind: 'mark'; readonly durableIndex: number; readonly bytes: number }
  | {
      readonly kind: 'endMark'
      readonly lastIndex: number
      readonly epoch: number
      readonly bytes: number
    }
  | { readonly kind: 'fault'; readonly fault: ItemFault }
  | { readonly kind: 'more'; readonly bytes: number }

const markBytes: ReadonlyMap<number, number> = new Map([
  [syncMarkMagic, syncMarkBytes],
  [endMarkMagic, endMarkBytes],
])
const end: SegmentItem = { kind: 'fault', fault: 'end' }
const cutShort: SegmentItem = { kind: 'fault', fault: 'cut short' }

/**
 * Reads and checks the item at `at`, payload included.
 *
 * @param offset - Where in the file `at` is.
 * @param fileBytes - Size of the file, beyond which no view can reach.
 * @param skipPayload - Leaves a payload unchecked, and need not see it, if this returns true for its header.
 */
export function decodeItem(
  from: Buffer,
  at: number,
  offset: number,
  fileBytes: number,
  skipPayload?: (header: BatchHeader) => boolean,
): SegmentItem {
  const seen = from.length - at
  const there = fileBytes - offset
  if (there < 4) return end
  if (seen < 4) return { kind: 'more', bytes: batchHeaderBytes }
  const magic = from.readUInt32LE(at)
  if (magic === 0) return end
  const headerBytes = markBytes.get(magic) ?? batchHeaderBytes
  if (there < headerBytes) return cutShort
  if (seen < headerBytes) return { kind: 'more', bytes: headerBytes }
  if (magic === syncMarkMagic) {
    const mark = decodeSyncMark(from, at, offset)
    if (typeof mark !== 'number') return { kind: 'fault', fault: mark }
    return { kind: 'mark', durableIndex: mark, bytes: syncMarkBytes }
  }
  if (magic === endMarkMagic) {
    const mark = decodeEndMark(from, at, offset)
    if (typeof mark === 'string') return { kind: 'fault', fault: mark }
    return { kind: 'endMark', ...mark, bytes: endMarkBytes }
  }
  const header = decodeBatchHeader(from, at)
  if (typeof header === 'string') return { kind: 'fault', fault: header }
  const bytes = batchHeaderBytes + header.payloadBytes
  if (there < bytes) return { kind: 'fault', fault: 'file size' }
  if (skipPayload?.(header)) return { kind: 'batch', header, bytes }
  if (seen < bytes) return { kind: 'more', bytes }
  if (!payloadIntact(from, at, header)) return { kind: 'fault', fault: 'payload' }
  return { kind: 'batch', header, bytes }
}

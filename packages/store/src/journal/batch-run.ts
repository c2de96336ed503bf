import { type BatchHeader, batchHeaderBytes, decodeBatchHeader, lastIndexOf } from './batch.ts'

/** The leading ones of verified batches, end to end, whose records are all at or below `index`. */
export function batchesUpTo(bytes: Buffer, index: number): Buffer {
  let offset = 0
  while (offset < bytes.length) {
    const header = headerAt(bytes, offset)
    if (lastIndexOf(header) > index) break
    offset += batchHeaderBytes + header.payloadBytes
  }
  return bytes.subarray(0, offset)
}

/** Index of the last record in verified batches, end to end; 0 for none. */
export function lastIndexIn(bytes: Buffer): number {
  let last = 0
  for (let offset = 0; offset < bytes.length; ) {
    const header = headerAt(bytes, offset)
    last = lastIndexOf(header)
    offset += batchHeaderBytes + header.payloadBytes
  }
  return last
}

/** A header that the log has verified when it was read. */
function headerAt(bytes: Buffer, offset: number): BatchHeader {
  const header = decodeBatchHeader(bytes, offset)
  if (typeof header === 'string') throw new Error(`a verified batch has a wrong ${header}`)
  return header
}

/**
 * Whole numbers of up to 53 bits in 8 bytes, little-endian: log indices, epochs and times.
 * `bigint` is too slow for the hot path, and 2^53 records last 285 years at a million a second.
 */
const high = 2 ** 32

export function writeUint53(into: Buffer, value: number, at: number): void {
  into.writeUInt32LE(value % high, at)
  into.writeUInt32LE(Math.floor(value / high), at + 4)
}

/** @throws RangeError if the stored number is 2^53 or more: no index, epoch or time is. */
export function readUint53(from: Buffer, at: number): number {
  const value = from.readUInt32LE(at + 4) * high + from.readUInt32LE(at)
  if (value > Number.MAX_SAFE_INTEGER) throw new RangeError(`number at offset ${at} exceeds 2^53`)
  return value
}

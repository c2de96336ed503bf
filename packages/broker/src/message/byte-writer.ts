/**
 * Bytes gathered in one growing buffer: envelopes, properties and protocol frames are written with it.
 *
 * Invariant: `length` never exceeds the buffer, because each write makes room first; integers are big-endian.
 */
export class ByteWriter {
  #bytes: Buffer
  #length = 0
  readonly #initialBytes: number

  constructor(initialBytes = 1024) {
    this.#initialBytes = initialBytes
    this.#bytes = Buffer.allocUnsafeSlow(initialBytes)
  }

  get length(): number {
    return this.#length
  }

  /** What was written; shares memory with this writer until {@link clear} or {@link take}. */
  get written(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  /** Forgets what was written and keeps the buffer, unless one large write has blown it up. */
  clear(): void {
    this.#length = 0
    if (this.#bytes.length > Math.max(KEPT_BYTES, this.#initialBytes)) {
      this.#bytes = Buffer.allocUnsafeSlow(this.#initialBytes)
    }
  }

  /** Hands over what was written, for good: later writes go elsewhere. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#length)
    // The rest of a buffer that is mostly free serves the next writes, so small takes cost no allocation each.
    const rest = this.#bytes.length - this.#length
    this.#bytes =
      rest >= this.#length && rest >= MIN_REST_BYTES
        ? this.#bytes.subarray(this.#length)
        : Buffer.allocUnsafeSlow(Math.min(Math.max(this.#length, this.#initialBytes), KEPT_BYTES))
    this.#length = 0
    return taken
  }

  u8(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#length++] = value
  }

  u16(value: number): void {
    this.#reserve(2)
    const bytes = this.#bytes
    bytes[this.#length++] = value >>> 8
    bytes[this.#length++] = value
  }

  u32(value: number): void {
    this.#reserve(4)
    this.#putU32(this.#length, value)
    this.#length += 4
  }

  i64(value: bigint): void {
    this.#reserve(8)
    this.#length = this.#bytes.writeBigInt64BE(value, this.#length)
  }

  f32(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeFloatBE(value, this.#length)
  }

  f64(value: number): void {
    this.#reserve(8)
    this.#length = this.#bytes.writeDoubleBE(value, this.#length)
  }

  bytes(source: Uint8Array): void {
    this.#reserve(source.length)
    this.#bytes.set(source, this.#length)
    this.#length += source.length
  }

  /** Copies `source[start, end)`; for a few bytes this is cheaper than a view of them. */
  range(source: Uint8Array, start: number, end: number): void {
    const count = end - start
    this.#reserve(count)
    const bytes = this.#bytes
    if (count > SHORT) {
      bytes.set(source.subarray(start, end), this.#length)
      this.#length += count
      return
    }
    let at = this.#length
    for (let from = start; from < end; from++) bytes[at++] = source[from] as number
    this.#length = at
  }

  /** Writes each character's low byte: for ASCII, and for bytes that were kept as a `latin1` string. */
  latin1(text: string): void {
    const count = text.length
    this.#reserve(count)
    if (count > SHORT) {
      this.#length += this.#bytes.write(text, this.#length, 'latin1')
      return
    }
    const bytes = this.#bytes
    let at = this.#length
    for (let from = 0; from < count; from++) bytes[at++] = text.charCodeAt(from)
    this.#length = at
  }

  utf8(text: string): void {
    const count = text.length
    this.#reserve(count * 3)
    const bytes = this.#bytes
    let at = this.#length
    if (count <= SHORT) {
      let from = 0
      for (; from < count; from++) {
        const code = text.charCodeAt(from)
        if (code > 0x7f) break
        bytes[at++] = code
      }
      if (from === count) {
        this.#length = at
        return
      }
    }
    this.#length += bytes.write(text, this.#length, 'utf8')
  }

  /** UTF-8 with its length in bytes before it, as u32. */
  utf8WithLength32(text: string): void {
    const at = this.reserveU32()
    this.utf8(text)
    this.fillU32(at, this.#length - at - 4)
  }

  /** Leaves four bytes for a length that is not known yet; see {@link fillU32}. */
  reserveU32(): number {
    this.#reserve(4)
    const at = this.#length
    this.#length += 4
    return at
  }

  fillU32(at: number, value: number): void {
    this.#putU32(at, value)
  }

  fillU16(at: number, value: number): void {
    this.#bytes[at] = value >>> 8
    this.#bytes[at + 1] = value
  }

  /** Writes a safe integer in decimal. */
  decimal(value: number): void {
    if (value < 0) {
      this.latin1(String(value))
      return
    }
    this.#reserve(16)
    let digits = 1
    for (let limit = 10; digits < 16 && value >= limit; limit *= 10) digits++
    const bytes = this.#bytes
    let rest = value
    for (let at = this.#length + digits - 1; at >= this.#length; at--) {
      const tenth = Math.floor(rest / 10)
      bytes[at] = 48 + rest - tenth * 10
      rest = tenth
    }
    this.#length += digits
  }

  #putU32(at: number, value: number): void {
    const bytes = this.#bytes
    bytes[at] = value >>> 24
    bytes[at + 1] = value >>> 16
    bytes[at + 2] = value >>> 8
    bytes[at + 3] = value
  }

  #reserve(count: number): void {
    if (this.#length + count > this.#bytes.length) this.#grow(count)
  }

  #grow(count: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + count, 256))
    grown.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = grown
  }
}

/** Up to so many bytes, a loop is faster than a call into the runtime. */
const SHORT = 48
/** A buffer that has grown beyond this is not kept for the next use. */
const KEPT_BYTES = 1024 * 1024
/** A rest smaller than this is not worth keeping. */
const MIN_REST_BYTES = 512

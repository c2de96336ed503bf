/**
 * One decoded STOMP frame: offsets into the bytes it came in, made into strings only when asked.
 *
 * Invariant: the decoder has checked all offsets, escapes and the UTF-8 of the head. There is one frame object for a
 * connection, filled again and again: it and its body are valid until the decoder's callback returns.
 */
import type { PropertiesWriter } from '../../message/properties.ts'
import { HEADER_COUNT, headerTable, type StompCommand } from './vocabulary.ts'

/** Offsets kept for one header: name start and end, value start and end, relative to the frame. */
const STRIDE = 4
/** From so many headers on, names are compared by hash, so that a frame full of headers costs no quadratic work. */
const MANY_HEADERS = 16

export class StompFrame {
  command: StompCommand = 1
  bytes: Buffer = Buffer.alloc(0)
  /** Where in `bytes` the frame begins. */
  start = 0
  /** Of the body, relative to `start`. */
  bodyStart = 0
  bodyEnd = 0
  /** Whether all of the head is ASCII. */
  ascii = true
  /** Whether this frame's headers are escaped at all: by version, and not in CONNECT and CONNECTED. */
  unescapes = false

  #count = 0
  #offsets = new Int32Array(32 * STRIDE)
  #ids = new Uint8Array(32)
  #escaped = new Uint8Array(32)
  /** Index: header number. Place of its first occurrence plus 1, or 0. */
  readonly #places = new Uint16Array(HEADER_COUNT)
  #names: Set<string> | undefined

  get headerCount(): number {
    return this.#count
  }

  get body(): Buffer {
    return this.bytes.subarray(this.start + this.bodyStart, this.start + this.bodyEnd)
  }

  get bodyBytes(): number {
    return this.bodyEnd - this.bodyStart
  }

  /** Whether the header is there; `header` is a number of `StompHeader`, as in all that follows. */
  has(header: number): boolean {
    return this.#places[header] !== 0
  }

  /** Value of the first such header, unescaped. */
  text(header: number): string | undefined {
    const place = this.#places[header] as number
    return place === 0 ? undefined : this.#value(place - 1)
  }

  /** Bytes of the value as they came, escapes included, one character each: for handing the value back unread. */
  raw(header: number): string | undefined {
    const place = this.#places[header] as number
    if (place === 0) return undefined
    return this.bytes.toString('latin1', this.valueStart(place - 1), this.valueEnd(place - 1))
  }

  /** @returns The value as a whole number of at most 15 digits; `undefined` if absent, NaN if it is anything else. */
  decimal(header: number): number | undefined {
    const place = this.#places[header] as number
    if (place === 0) return undefined
    const end = this.valueEnd(place - 1)
    let at = this.valueStart(place - 1)
    if (at === end || end - at > 15) return Number.NaN
    let value = 0
    for (; at < end; at++) {
      const digit = (this.bytes[at] as number) - 48
      if (digit < 0 || digit > 9) return Number.NaN
      value = value * 10 + digit
    }
    return value
  }

  /** Place of a header for {@link valueStart} and {@link valueEnd}, or -1. */
  placeOf(header: number): number {
    return (this.#places[header] as number) - 1
  }

  valueStart(place: number): number {
    return this.start + (this.#offsets[place * STRIDE + 2] as number)
  }

  valueEnd(place: number): number {
    return this.start + (this.#offsets[place * STRIDE + 3] as number)
  }

  /** Number of the header at `place`, 0 if the broker does not know it. */
  headerAt(place: number): number {
    return this.#ids[place] as number
  }

  /** Whether no header of the same name stands before the one at `place`: of a repeated header the first counts. */
  isFirst(place: number): boolean {
    const id = this.#ids[place] as number
    if (id !== 0) return this.#places[id] === place + 1
    if (this.#count >= MANY_HEADERS) return this.#isFirstByHash(place)
    const offsets = this.#offsets
    const start = this.start + (offsets[place * STRIDE] as number)
    const length = (offsets[place * STRIDE + 1] as number) - (offsets[place * STRIDE] as number)
    for (let earlier = 0; earlier < place; earlier++) {
      const from = offsets[earlier * STRIDE] as number
      if ((offsets[earlier * STRIDE + 1] as number) - from !== length || this.#ids[earlier] !== 0) continue
      if (this.#equal(this.start + from, start, length)) return false
    }
    return true
  }

  nameAt(place: number): string {
    const at = place * STRIDE
    return this.#decode(
      this.start + (this.#offsets[at] as number),
      this.start + (this.#offsets[at + 1] as number),
      place,
    )
  }

  textAt(place: number): string {
    return this.#value(place)
  }

  /** Adds the header at `place` to an envelope's properties. */
  copyTo(properties: PropertiesWriter, place: number): void {
    if (this.#escaped[place] !== 0 && this.unescapes) {
      properties.addString(this.nameAt(place), this.#value(place))
      return
    }
    const at = place * STRIDE
    const offsets = this.#offsets
    properties.addStringRange(
      this.bytes,
      this.start + (offsets[at] as number),
      this.start + (offsets[at + 1] as number),
      this.start + (offsets[at + 2] as number),
      this.start + (offsets[at + 3] as number),
    )
  }

  /** For the decoder: empties the frame. */
  begin(): void {
    this.#count = 0
    this.#places.fill(0)
    this.#names = undefined
    this.ascii = true
  }

  /** For the decoder: adds a header, all offsets relative to `start`. */
  addHeader(
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
    escaped: boolean,
  ): void {
    const place = this.#count
    if (place === this.#ids.length) this.#grow()
    const at = place * STRIDE
    this.#offsets[at] = nameStart
    this.#offsets[at + 1] = nameEnd
    this.#offsets[at + 2] = valueStart
    this.#offsets[at + 3] = valueEnd
    this.#escaped[place] = escaped ? 1 : 0
    const id = headerTable.find(this.bytes, this.start + nameStart, this.start + nameEnd)
    this.#ids[place] = id
    this.#count = place + 1
    if (id !== 0 && this.#places[id] === 0) this.#places[id] = place + 1
  }

  #value(place: number): string {
    return this.#decode(this.valueStart(place), this.valueEnd(place), place)
  }

  #decode(start: number, end: number, place: number): string {
    const text = this.bytes.toString(this.ascii ? 'latin1' : 'utf8', start, end)
    return this.#escaped[place] !== 0 && this.unescapes ? withoutEscapes(text) : text
  }

  #equal(one: number, other: number, length: number): boolean {
    const bytes = this.bytes
    for (let at = 0; at < length; at++) if (bytes[one + at] !== bytes[other + at]) return false
    return true
  }

  /** Called with rising places only, which is how headers are gone through. */
  #isFirstByHash(place: number): boolean {
    this.#names ??= new Set()
    const seen = this.#names
    const name = this.nameAt(place)
    if (seen.has(name)) return false
    seen.add(name)
    return true
  }

  #grow(): void {
    const size = this.#ids.length * 2
    const offsets = new Int32Array(size * STRIDE)
    offsets.set(this.#offsets)
    this.#offsets = offsets
    const ids = new Uint8Array(size)
    ids.set(this.#ids)
    this.#ids = ids
    const escaped = new Uint8Array(size)
    escaped.set(this.#escaped)
    this.#escaped = escaped
  }
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\\n', '\n'],
  ['\\r', '\r'],
  ['\\c', ':'],
  ['\\\\', '\\'],
])

function withoutEscapes(text: string): string {
  return text.replace(/\\./g, (sequence) => ESCAPES.get(sequence) ?? sequence)
}

/**
 * Application properties of a message as bytes: typed, in the sender's order, decoded only when someone asks.
 *
 * One entry is: u16 length of the name, name as UTF-8, u8 type, value. Strings, byte arrays, lists and maps start with
 * a u32 length in bytes. A list holds (type, value), a map entries like the outermost.
 *
 * Invariants: every length is checked against what is left; nesting and count are capped, so that a few bytes of
 * input cannot cost much; names are data, never keys of a plain object (`__proto__` is as good as any).
 */
import { ByteWriter } from './byte-writer.ts'
import { MalformedEnvelopeError } from './malformed-envelope.ts'

export const PropertyType = {
  null: 0,
  boolean: 1,
  byte: 2,
  short: 3,
  int: 4,
  long: 5,
  float: 6,
  double: 7,
  string: 8,
  bytes: 9,
  char: 10,
  list: 11,
  map: 12,
} as const

/** A value with its type, which JavaScript alone would lose (an int is not a short to a selector or to JMS). */
export type PropertyValue =
  | { readonly type: 'null' }
  | { readonly type: 'boolean'; readonly value: boolean }
  | { readonly type: 'byte' | 'short' | 'int' | 'float' | 'double'; readonly value: number }
  | { readonly type: 'long'; readonly value: bigint }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'bytes'; readonly value: Uint8Array }
  /** One UTF-16 code unit, as in Java. */
  | { readonly type: 'char'; readonly value: string }
  | { readonly type: 'list'; readonly value: readonly PropertyValue[] }
  | { readonly type: 'map'; readonly value: ReadonlyMap<string, PropertyValue> }

/** Deepest nesting of lists and maps; the properties themselves are depth 0. */
export const MAX_PROPERTY_DEPTH = 8
/** Most values in one message, nested ones included. */
const MAX_PROPERTY_COUNT = 65_535
const MAX_NAME_BYTES = 65_535

/** Encodes properties one by one; reuse one writer for many messages. */
export class PropertiesWriter {
  readonly #writer = new ByteWriter(1024)

  get isEmpty(): boolean {
    return this.#writer.length === 0
  }

  /** What was added since {@link clear}; valid until the next call of this writer. */
  get encoded(): Uint8Array {
    return this.#writer.written
  }

  clear(): void {
    this.#writer.clear()
  }

  /** Adds a string property whose name and value are ranges of `source`, both valid UTF-8. */
  addStringRange(
    source: Uint8Array,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    if (nameEnd - nameStart > MAX_NAME_BYTES) throw new TypeError('a property name has at most 65535 bytes')
    this.#writer.u16(nameEnd - nameStart)
    this.#writer.range(source, nameStart, nameEnd)
    this.#writer.u8(PropertyType.string)
    this.#writer.u32(valueEnd - valueStart)
    this.#writer.range(source, valueStart, valueEnd)
  }

  add(name: string, value: PropertyValue): void {
    this.#name(name)
    this.#value(value, 0)
  }

  addString(name: string, value: string): void {
    this.#name(name)
    this.#writer.u8(PropertyType.string)
    this.#writer.utf8WithLength32(value)
  }

  #name(name: string): void {
    const at = this.#writer.length
    this.#writer.u16(0)
    this.#writer.utf8(name)
    const bytes = this.#writer.length - at - 2
    if (bytes > MAX_NAME_BYTES) throw new TypeError('a property name has at most 65535 bytes')
    this.#writer.fillU16(at, bytes)
  }

  #value(property: PropertyValue, depth: number): void {
    if (depth > MAX_PROPERTY_DEPTH) throw new TypeError(`properties nest at most ${MAX_PROPERTY_DEPTH} deep`)
    const writer = this.#writer
    writer.u8(PropertyType[property.type])
    switch (property.type) {
      case 'null':
        break
      case 'boolean':
        writer.u8(property.value ? 1 : 0)
        break
      case 'byte':
        writer.u8(property.value)
        break
      case 'short':
        writer.u16(property.value)
        break
      case 'int':
        writer.u32(property.value)
        break
      case 'long':
        writer.i64(property.value)
        break
      case 'float':
        writer.f32(property.value)
        break
      case 'double':
        writer.f64(property.value)
        break
      case 'string':
        writer.utf8WithLength32(property.value)
        break
      case 'bytes':
        writer.u32(property.value.length)
        writer.bytes(property.value)
        break
      case 'char':
        writer.u16(property.value.charCodeAt(0))
        break
      case 'list': {
        const at = writer.reserveU32()
        for (const element of property.value) this.#value(element, depth + 1)
        writer.fillU32(at, writer.length - at - 4)
        break
      }
      case 'map': {
        const at = writer.reserveU32()
        for (const [name, element] of property.value) {
          this.#name(name)
          this.#value(element, depth + 1)
        }
        writer.fillU32(at, writer.length - at - 4)
        break
      }
      default:
        property satisfies never
    }
  }
}

/** Steps through encoded properties without decoding what is not asked for. */
export class PropertiesReader {
  readonly #bytes: Buffer
  readonly #end: number
  #next: number
  #count = 0
  #nameStart = 0
  #nameEnd = 0
  #type = 0
  #valueStart = 0
  #valueEnd = 0

  /** Reads `bytes[start, end)`. */
  constructor(bytes: Buffer, start = 0, end: number = bytes.length) {
    this.#bytes = bytes
    this.#next = start
    this.#end = end
  }

  /**
   * Moves to the next property.
   *
   * @returns Whether there is one.
   * @throws MalformedEnvelopeError if a length points outside.
   */
  next(): boolean {
    if (this.#next === this.#end) return false
    if (++this.#count > MAX_PROPERTY_COUNT) throw new MalformedEnvelopeError('too many properties')
    const bytes = this.#bytes
    const start = this.#next
    if (this.#end - start < 3) throw new MalformedEnvelopeError('a property is cut off')
    this.#nameStart = start + 2
    this.#nameEnd = start + 2 + bytes.readUInt16BE(start)
    if (this.#nameEnd >= this.#end) throw new MalformedEnvelopeError('a property name reaches beyond the end')
    this.#type = bytes[this.#nameEnd] as number
    this.#valueStart = this.#nameEnd + 1
    this.#valueEnd = valueEnd(bytes, this.#type, this.#valueStart, this.#end)
    if (sized(this.#type)) this.#valueStart += 4
    this.#next = this.#valueEnd
    return true
  }

  get name(): string {
    return this.#bytes.toString('utf8', this.#nameStart, this.#nameEnd)
  }

  get nameStart(): number {
    return this.#nameStart
  }

  get nameEnd(): number {
    return this.#nameEnd
  }

  /** One of {@link PropertyType}. */
  get type(): number {
    return this.#type
  }

  /** Where the value's bytes begin, behind its length if it has one. */
  get valueStart(): number {
    return this.#valueStart
  }

  get valueEnd(): number {
    return this.#valueEnd
  }

  get value(): PropertyValue {
    const budget = { left: MAX_PROPERTY_COUNT }
    return decodeValue(this.#bytes, this.#type, this.#valueStart, this.#valueEnd, 0, budget)
  }
}

/** Encodes a whole set of properties into bytes of its own. */
export function encodeProperties(properties: Iterable<readonly [string, PropertyValue]>): Buffer {
  const writer = new PropertiesWriter()
  for (const [name, value] of properties) writer.add(name, value)
  return Buffer.from(writer.encoded)
}

/**
 * Decodes all properties; of a repeated name the first counts.
 *
 * @throws MalformedEnvelopeError for bytes that {@link encodeProperties} cannot have made.
 */
export function decodeProperties(bytes: Uint8Array): Map<string, PropertyValue> {
  const buffer = Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return decodeMap(buffer, 0, buffer.length, 0, { left: MAX_PROPERTY_COUNT })
}

interface Budget {
  left: number
}

function decodeMap(
  bytes: Buffer,
  start: number,
  end: number,
  depth: number,
  budget: Budget,
): Map<string, PropertyValue> {
  const map = new Map<string, PropertyValue>()
  const reader = new PropertiesReader(bytes, start, end)
  while (reader.next()) {
    const value = decodeValue(bytes, reader.type, reader.valueStart, reader.valueEnd, depth, budget)
    const name = reader.name
    if (!map.has(name)) map.set(name, value)
  }
  return map
}

function decodeList(
  bytes: Buffer,
  start: number,
  end: number,
  depth: number,
  budget: Budget,
): PropertyValue[] {
  const list: PropertyValue[] = []
  for (let at = start; at < end; ) {
    const type = bytes[at] as number
    const next = valueEnd(bytes, type, at + 1, end)
    list.push(decodeValue(bytes, type, sized(type) ? at + 5 : at + 1, next, depth, budget))
    at = next
  }
  return list
}

function decodeValue(
  bytes: Buffer,
  type: number,
  start: number,
  end: number,
  depth: number,
  budget: Budget,
): PropertyValue {
  if (--budget.left < 0) throw new MalformedEnvelopeError('too many properties')
  switch (type) {
    case PropertyType.null:
      return { type: 'null' }
    case PropertyType.boolean:
      return { type: 'boolean', value: bytes[start] !== 0 }
    case PropertyType.byte:
      return { type: 'byte', value: bytes.readInt8(start) }
    case PropertyType.short:
      return { type: 'short', value: bytes.readInt16BE(start) }
    case PropertyType.int:
      return { type: 'int', value: bytes.readInt32BE(start) }
    case PropertyType.long:
      return { type: 'long', value: bytes.readBigInt64BE(start) }
    case PropertyType.float:
      return { type: 'float', value: bytes.readFloatBE(start) }
    case PropertyType.double:
      return { type: 'double', value: bytes.readDoubleBE(start) }
    case PropertyType.string:
      return { type: 'string', value: bytes.toString('utf8', start, end) }
    case PropertyType.bytes:
      return { type: 'bytes', value: bytes.subarray(start, end) }
    case PropertyType.char:
      return { type: 'char', value: String.fromCharCode(bytes.readUInt16BE(start)) }
    default:
      if (depth >= MAX_PROPERTY_DEPTH) throw new MalformedEnvelopeError('properties nest too deep')
      return type === PropertyType.list
        ? { type: 'list', value: decodeList(bytes, start, end, depth + 1, budget) }
        : { type: 'map', value: decodeMap(bytes, start, end, depth + 1, budget) }
  }
}

const FIXED_BYTES: Readonly<Record<number, number>> = {
  [PropertyType.null]: 0,
  [PropertyType.boolean]: 1,
  [PropertyType.byte]: 1,
  [PropertyType.short]: 2,
  [PropertyType.int]: 4,
  [PropertyType.long]: 8,
  [PropertyType.float]: 4,
  [PropertyType.double]: 8,
  [PropertyType.char]: 2,
}

/** Whether a value of this type begins with its length. */
function sized(type: number): boolean {
  return (
    type === PropertyType.string ||
    type === PropertyType.bytes ||
    type === PropertyType.list ||
    type === PropertyType.map
  )
}

/** Where a value that starts at `at` ends; never beyond `limit`. */
function valueEnd(bytes: Buffer, type: number, at: number, limit: number): number {
  let end: number
  if (sized(type)) {
    if (limit - at < 4) throw new MalformedEnvelopeError('the length of a property is cut off')
    end = at + 4 + bytes.readUInt32BE(at)
  } else {
    const size = FIXED_BYTES[type]
    if (size === undefined) throw new MalformedEnvelopeError(`unknown property type ${type}`)
    end = at + size
  }
  if (end > limit) throw new MalformedEnvelopeError('a property reaches beyond the end')
  return end
}

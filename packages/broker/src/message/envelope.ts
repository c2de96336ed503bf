/**
 * The one form in which every protocol's messages are stored and handed on: a head that says what is known about the
 * message, and the body's bytes behind it. `encodeEnvelopeHead` writes the head; head + body is the envelope, so that
 * the body is copied only once, into the journal.
 *
 * ```
 *  0 u8  version (1)             10 f64 timestamp, ms since 1970
 *  1 u8  flags: 1 persistent     18 f64 expiration, ms since 1970, 0 = never
 *  2 u8  priority, 0 to 9        26 what the presence bits announce, lowest bit first:
 *  3 u8  body kind                  strings as u32 length + UTF-8; destinations with a u8 kind before that;
 *  4 u16 presence bits              producer id followed by f64 sequence; group sequence i32;
 *  6 u32 length of the head         properties as u32 length + bytes (properties.ts)
 * ```
 *
 * Invariants: an `EnvelopeView` has checked every length before it gives out anything, so no read leaves the buffer;
 * the optional fields end exactly where the head ends; an unknown version, flag or presence bit is refused, not skipped.
 */
import { ByteWriter } from './byte-writer.ts'
import type { Destination, DestinationKind } from './destination.ts'
import { MalformedEnvelopeError } from './malformed-envelope.ts'
import { decodeProperties, PropertiesReader, type PropertyValue } from './properties.ts'

export const BodyKind = {
  none: 0,
  text: 1,
  bytes: 2,
  map: 3,
  stream: 4,
  /** Serialized by the sender's platform; never looked into. */
  object: 5,
  /** AMQP 1.0 sections as they came. */
  amqp: 6,
} as const
export type BodyKind = (typeof BodyKind)[keyof typeof BodyKind]

/** The optional fields of the head; the numbers are their presence bits. */
export const EnvelopeField = {
  messageId: 0,
  destination: 1,
  correlationId: 2,
  replyTo: 3,
  type: 4,
  groupId: 5,
  userId: 6,
  contentType: 7,
  producerId: 8,
  groupSequence: 9,
  properties: 10,
} as const
export type EnvelopeField = (typeof EnvelopeField)[keyof typeof EnvelopeField]

export interface EnvelopeFields {
  readonly persistent: boolean
  /** 0 (lowest) to 9; JMS's default is 4. */
  readonly priority: number
  readonly bodyKind: BodyKind
  /** When the sender sent it, in milliseconds since 1970. */
  readonly timestampMs: number
  /** When it ceases to be of use, in milliseconds since 1970; 0 is never. */
  readonly expirationMs: number
  /** Without one, a connector shows an id made of the log index. */
  readonly messageId?: string | undefined
  readonly destination?: Destination | undefined
  readonly correlationId?: string | undefined
  readonly replyTo?: Destination | undefined
  readonly type?: string | undefined
  readonly groupId?: string | undefined
  readonly userId?: string | undefined
  readonly contentType?: string | undefined
  readonly producerId?: string | undefined
  /** From 1 up; only with `producerId`. */
  readonly producerSequence?: number | undefined
  /** 32 bits, signed. */
  readonly groupSequence?: number | undefined
  /** As encoded by `PropertiesWriter`. */
  readonly properties?: Uint8Array | undefined
}

const VERSION = 1
const PERSISTENT = 1
const FIXED_BYTES = 26
const FIELD_COUNT = 11
const PRESENCE_AT = 4
const HEAD_LENGTH_AT = 6

const scratch = new ByteWriter(64 * 1024)

/**
 * Encodes all of an envelope but its body.
 *
 * @returns Bytes in a buffer that is used again: valid until the next call.
 * @throws TypeError for a value outside its range; sessions check what comes from clients before.
 */
export function encodeEnvelopeHead(fields: EnvelopeFields): Buffer {
  checkRanges(fields)
  const out = scratch
  out.clear()
  out.u8(VERSION)
  out.u8(fields.persistent ? PERSISTENT : 0)
  out.u8(fields.priority)
  out.u8(fields.bodyKind)
  out.u16(0)
  out.u32(0)
  out.f64(fields.timestampMs)
  out.f64(fields.expirationMs)
  let presence = 0
  presence |= putString(fields.messageId, EnvelopeField.messageId)
  presence |= putDestination(fields.destination, EnvelopeField.destination)
  presence |= putString(fields.correlationId, EnvelopeField.correlationId)
  presence |= putDestination(fields.replyTo, EnvelopeField.replyTo)
  presence |= putString(fields.type, EnvelopeField.type)
  presence |= putString(fields.groupId, EnvelopeField.groupId)
  presence |= putString(fields.userId, EnvelopeField.userId)
  presence |= putString(fields.contentType, EnvelopeField.contentType)
  presence |= putString(fields.producerId, EnvelopeField.producerId)
  if (fields.producerId !== undefined) out.f64(fields.producerSequence as number)
  if (fields.groupSequence !== undefined) {
    out.u32(fields.groupSequence)
    presence |= 1 << EnvelopeField.groupSequence
  }
  if (fields.properties !== undefined && fields.properties.length > 0) {
    out.u32(fields.properties.length)
    out.bytes(fields.properties)
    presence |= 1 << EnvelopeField.properties
  }
  out.fillU16(PRESENCE_AT, presence)
  out.fillU32(HEAD_LENGTH_AT, out.length)
  return out.written
}

function putString(text: string | undefined, field: EnvelopeField): number {
  if (text === undefined) return 0
  scratch.utf8WithLength32(text)
  return 1 << field
}

function putDestination(destination: Destination | undefined, field: EnvelopeField): number {
  if (destination === undefined) return 0
  scratch.u8(destination.kind)
  scratch.utf8WithLength32(destination.name)
  return 1 << field
}

function checkRanges(fields: EnvelopeFields): void {
  const { priority, timestampMs, expirationMs, producerId, producerSequence, groupSequence } = fields
  if (!(priority >= 0 && priority <= 9)) throw new TypeError(`priority: 0 to 9, got ${priority}`)
  if (!Number.isSafeInteger(timestampMs))
    throw new TypeError(`timestampMs: a safe integer, got ${timestampMs}`)
  if (!Number.isSafeInteger(expirationMs))
    throw new TypeError(`expirationMs: a safe integer, got ${expirationMs}`)
  if (groupSequence !== undefined && (groupSequence | 0) !== groupSequence) {
    throw new TypeError(`groupSequence: 32 bits, got ${groupSequence}`)
  }
  if ((producerId === undefined) !== (producerSequence === undefined)) {
    throw new TypeError('producerId and producerSequence come together')
  }
  if (producerSequence !== undefined && !(Number.isSafeInteger(producerSequence) && producerSequence > 0)) {
    throw new TypeError(`producerSequence: a safe integer from 1 up, got ${producerSequence}`)
  }
}

/**
 * Reads an envelope: lengths are checked when it is opened, strings and properties are decoded when they are asked for.
 * One view serves many envelopes, one after the other.
 */
export class EnvelopeView {
  #bytes: Buffer = Buffer.alloc(0)
  #presence = 0
  #headLength = 0
  readonly #starts = new Uint32Array(FIELD_COUNT)
  readonly #ends = new Uint32Array(FIELD_COUNT)

  constructor(envelope?: Buffer) {
    if (envelope !== undefined) this.open(envelope)
  }

  /**
   * Turns to another envelope, which the view keeps a reference to.
   *
   * @throws MalformedEnvelopeError if it is cut off, lies about a length or is of an unknown version.
   */
  open(envelope: Buffer): this {
    if (envelope.length < FIXED_BYTES) throw new MalformedEnvelopeError(`only ${envelope.length} bytes`)
    if (envelope[0] !== VERSION) throw new MalformedEnvelopeError(`unknown version ${envelope[0]}`)
    if (((envelope[1] as number) & ~PERSISTENT) !== 0) throw new MalformedEnvelopeError('unknown flags')
    if ((envelope[2] as number) > 9) throw new MalformedEnvelopeError('priority above 9')
    if ((envelope[3] as number) > BodyKind.amqp) throw new MalformedEnvelopeError('unknown body kind')
    const presence = envelope.readUInt16BE(PRESENCE_AT)
    const headLength = envelope.readUInt32BE(HEAD_LENGTH_AT)
    if (presence >= 1 << FIELD_COUNT) throw new MalformedEnvelopeError('unknown fields')
    if (headLength > envelope.length) throw new MalformedEnvelopeError('the head is cut off')
    let at = FIXED_BYTES
    for (let rest = presence; rest !== 0; rest &= rest - 1) {
      at = this.#locate(envelope, 31 - Math.clz32(rest & -rest), at, headLength)
    }
    if (at !== headLength) throw new MalformedEnvelopeError('the head is longer than its fields')
    this.#bytes = envelope
    this.#presence = presence
    this.#headLength = headLength
    if (!Number.isSafeInteger(this.timestampMs) || !Number.isSafeInteger(this.expirationMs)) {
      throw new MalformedEnvelopeError('a time is not a whole number')
    }
    if (this.has(EnvelopeField.producerId) && !((this.producerSequence as number) > 0)) {
      throw new MalformedEnvelopeError('the producer sequence is not a positive number')
    }
    return this
  }

  /** Notes where a field's bytes are. @returns Where the next field begins. */
  #locate(envelope: Buffer, field: number, at: number, limit: number): number {
    let start = at
    let length = 4
    if (field !== EnvelopeField.groupSequence) {
      if (field === EnvelopeField.destination || field === EnvelopeField.replyTo) start++
      if (limit - start < 4) throw new MalformedEnvelopeError('a length is cut off')
      length = envelope.readUInt32BE(start)
      start += 4
      if (start - at === 5 && (envelope[at] as number) > 3)
        throw new MalformedEnvelopeError('unknown destination kind')
    }
    const end = start + length
    const next = field === EnvelopeField.producerId ? end + 8 : end
    if (next > limit) throw new MalformedEnvelopeError('a field reaches beyond the head')
    this.#starts[field] = start
    this.#ends[field] = end
    return next
  }

  /** The whole envelope; {@link start} and {@link end} are offsets in it. */
  get bytes(): Buffer {
    return this.#bytes
  }

  has(field: EnvelopeField): boolean {
    return (this.#presence & (1 << field)) !== 0
  }

  /** Where the bytes of a field begin that the envelope {@link has}. */
  start(field: EnvelopeField): number {
    return this.#starts[field] as number
  }

  end(field: EnvelopeField): number {
    return this.#ends[field] as number
  }

  get persistent(): boolean {
    return ((this.#bytes[1] as number) & PERSISTENT) !== 0
  }

  get priority(): number {
    return this.#bytes[2] as number
  }

  get bodyKind(): BodyKind {
    return this.#bytes[3] as BodyKind
  }

  get timestampMs(): number {
    return this.#bytes.readDoubleBE(10)
  }

  get expirationMs(): number {
    return this.#bytes.readDoubleBE(18)
  }

  get messageId(): string | undefined {
    return this.#string(EnvelopeField.messageId)
  }

  get destination(): Destination | undefined {
    return this.#destination(EnvelopeField.destination)
  }

  get correlationId(): string | undefined {
    return this.#string(EnvelopeField.correlationId)
  }

  get replyTo(): Destination | undefined {
    return this.#destination(EnvelopeField.replyTo)
  }

  get type(): string | undefined {
    return this.#string(EnvelopeField.type)
  }

  get groupId(): string | undefined {
    return this.#string(EnvelopeField.groupId)
  }

  get userId(): string | undefined {
    return this.#string(EnvelopeField.userId)
  }

  get contentType(): string | undefined {
    return this.#string(EnvelopeField.contentType)
  }

  get producerId(): string | undefined {
    return this.#string(EnvelopeField.producerId)
  }

  get producerSequence(): number | undefined {
    if (!this.has(EnvelopeField.producerId)) return undefined
    return this.#bytes.readDoubleBE(this.end(EnvelopeField.producerId))
  }

  get groupSequence(): number | undefined {
    if (!this.has(EnvelopeField.groupSequence)) return undefined
    return this.#bytes.readInt32BE(this.start(EnvelopeField.groupSequence))
  }

  /** @throws MalformedEnvelopeError on reading, if the properties are damaged. */
  get properties(): Map<string, PropertyValue> {
    if (!this.has(EnvelopeField.properties)) return new Map()
    return decodeProperties(
      this.#bytes.subarray(this.start(EnvelopeField.properties), this.end(EnvelopeField.properties)),
    )
  }

  /** Steps through the properties without decoding them all. */
  readProperties(): PropertiesReader | undefined {
    if (!this.has(EnvelopeField.properties)) return undefined
    return new PropertiesReader(
      this.#bytes,
      this.start(EnvelopeField.properties),
      this.end(EnvelopeField.properties),
    )
  }

  /** Where the body begins; it reaches to the end of the envelope. */
  get bodyStart(): number {
    return this.#headLength
  }

  get body(): Buffer {
    return this.#bytes.subarray(this.#headLength)
  }

  /** Kind of a destination field that the envelope {@link has}. */
  destinationKind(field: typeof EnvelopeField.destination | typeof EnvelopeField.replyTo): DestinationKind {
    return this.#bytes[this.start(field) - 5] as DestinationKind
  }

  #string(field: EnvelopeField): string | undefined {
    return this.has(field) ? this.#bytes.toString('utf8', this.start(field), this.end(field)) : undefined
  }

  #destination(
    field: typeof EnvelopeField.destination | typeof EnvelopeField.replyTo,
  ): Destination | undefined {
    const name = this.#string(field)
    return name === undefined ? undefined : { kind: this.destinationKind(field), name }
  }
}

/** Id shown for a message that brought none: stable, and the same on every broker of a cluster if the prefix is. */
export function derivedMessageId(prefix: string, index: number): string {
  return `ID:${prefix}-${index}`
}

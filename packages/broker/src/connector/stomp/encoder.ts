/**
 * STOMP frames to bytes, gathered in one buffer for a connection until the turn is over.
 *
 * Pure. Invariants: headers are escaped as the version says, and nothing that came from an application can end a
 * header line or a frame; the protocol's own headers stand first, and no application property bears one's name.
 */
import { ByteWriter } from '../../message/byte-writer.ts'
import { EnvelopeField, type EnvelopeView } from '../../message/envelope.ts'
import { PropertyType } from '../../message/properties.ts'
import { destinationPrefix } from './destination.ts'
import { headerTable, isReservedOnMessage, StompHeader, type StompVersion } from './vocabulary.ts'

const LF = 10
const CR = 13
const COLON = 58
const BACKSLASH = 92
const SPACE = 32

/** What stays the same in all messages of a subscription. */
export interface MessagePrefix {
  /** Command, subscription, destination and the beginning of the message id, ready to be sent. */
  readonly bytes: Buffer
  /** Name of the queue as it stands in envelopes, to tell a message that was sent elsewhere. */
  readonly queue: Buffer
  /** Beginning of the `ack` header's value; undefined where there is none. */
  readonly ack: string | undefined
}

export class StompEncoder {
  readonly #out = new ByteWriter(4096)
  #version: StompVersion = '1.2'

  /** From now on headers are escaped by the rules of `version`. */
  accept(version: StompVersion): void {
    this.#version = version
  }

  get pendingBytes(): number {
    return this.#out.length
  }

  /** Hands over what was written since the last time. */
  take(): Buffer {
    return this.#out.take()
  }

  heartBeat(): void {
    this.#out.u8(LF)
  }

  /** @param headers - Free of line ends; CONNECTED knows no escapes. */
  connected(headers: readonly (readonly [name: string, value: string])[]): void {
    this.#out.latin1('CONNECTED\n')
    for (const [name, value] of headers) this.#out.utf8(`${name}:${value}\n`)
    this.#out.latin1('\n\0')
  }

  /** @param rawId - As it came, escapes included. */
  receipt(rawId: string): void {
    this.#out.latin1('RECEIPT\nreceipt-id:')
    this.#out.latin1(rawId)
    this.#out.latin1('\n\n\0')
  }

  /**
   * @param expected - What would have been right: the body.
   * @param rawReceiptId - Of the frame that was wrong, if it asked for a receipt.
   * @param versions - Those that are supported, if that was the question.
   */
  error(message: string, expected: string, rawReceiptId: string | undefined, versions?: string): void {
    const out = this.#out
    const body = Buffer.from(`${expected}\n`)
    out.latin1('ERROR\n')
    if (versions !== undefined) out.latin1(`version:${versions}\n`)
    out.latin1('message:')
    const text = Buffer.from(message)
    this.#escaped(text, 0, text.length)
    out.latin1('\n')
    if (rawReceiptId !== undefined) {
      out.latin1('receipt-id:')
      out.latin1(rawReceiptId)
      out.latin1('\n')
    }
    out.latin1('content-type:text/plain\ncontent-length:')
    out.decimal(body.length)
    out.latin1('\n\n')
    out.bytes(body)
    out.u8(0)
  }

  /** Prepares the messages of a subscription; ids and destination as they came, escapes included. */
  prefix(
    rawSubscription: string | undefined,
    rawDestination: string,
    queue: string,
    messageIdPrefix: string,
    ack: string | undefined,
  ): MessagePrefix {
    const writer = new ByteWriter(256)
    writer.latin1('MESSAGE\n')
    if (rawSubscription !== undefined) writer.latin1(`subscription:${rawSubscription}\n`)
    writer.latin1(`destination:${rawDestination}\nmessage-id:`)
    const id = new StompEncoder()
    id.accept(this.#version)
    id.#escaped(Buffer.from(messageIdPrefix), 0, Buffer.byteLength(messageIdPrefix))
    writer.bytes(id.take())
    return { bytes: Buffer.from(writer.written), queue: Buffer.from(queue), ack }
  }

  message(prefix: MessagePrefix, index: number, redeliveryCount: number, envelope: EnvelopeView): void {
    const out = this.#out
    out.bytes(prefix.bytes)
    out.decimal(index)
    if (prefix.ack !== undefined) {
      out.latin1('\nack:')
      out.latin1(prefix.ack)
      out.decimal(index)
    }
    out.latin1('\ncontent-length:')
    out.decimal(envelope.bytes.length - envelope.bodyStart)
    out.latin1('\ntimestamp:')
    out.decimal(envelope.timestampMs)
    out.latin1('\nexpires:')
    out.decimal(envelope.expirationMs)
    out.latin1('\npriority:')
    out.u8(48 + envelope.priority)
    if (redeliveryCount > 0) out.latin1('\nredelivered:true')
    if (envelope.persistent) out.latin1('\npersistent:true')
    out.u8(LF)
    this.#fields(prefix, envelope)
    this.#properties(envelope)
    out.u8(LF)
    out.range(envelope.bytes, envelope.bodyStart, envelope.bytes.length)
    out.u8(0)
  }

  #fields(prefix: MessagePrefix, envelope: EnvelopeView): void {
    this.#field(envelope, EnvelopeField.contentType, 'content-type:')
    this.#field(envelope, EnvelopeField.correlationId, 'correlation-id:')
    if (envelope.has(EnvelopeField.replyTo)) {
      const kind = envelope.destinationKind(EnvelopeField.replyTo)
      this.#field(envelope, EnvelopeField.replyTo, `reply-to:${destinationPrefix(kind)}`)
    }
    this.#field(envelope, EnvelopeField.type, 'type:')
    this.#field(envelope, EnvelopeField.groupId, 'JMSXGroupID:')
    this.#field(envelope, EnvelopeField.userId, 'JMSXUserID:')
    const groupSequence = envelope.groupSequence
    if (groupSequence !== undefined) this.#out.latin1(`JMSXGroupSeq:${groupSequence}\n`)
    if (envelope.has(EnvelopeField.destination) && !sentTo(envelope, prefix.queue)) {
      const kind = envelope.destinationKind(EnvelopeField.destination)
      this.#field(envelope, EnvelopeField.destination, `original-destination:${destinationPrefix(kind)}`)
    }
  }

  #field(envelope: EnvelopeView, field: EnvelopeField, name: string): void {
    if (!envelope.has(field)) return
    this.#out.latin1(name)
    this.#escaped(envelope.bytes, envelope.start(field), envelope.end(field))
    this.#out.u8(LF)
  }

  #properties(envelope: EnvelopeView): void {
    const reader = envelope.readProperties()
    if (reader === undefined) return
    while (reader.next()) {
      const header = headerTable.find(envelope.bytes, reader.nameStart, reader.nameEnd)
      // A reply-to that names no destination of ours is kept as a property, for the application to make sense of.
      const ownReplyTo = header === StompHeader.replyTo && !envelope.has(EnvelopeField.replyTo)
      if (reader.nameStart === reader.nameEnd || (isReservedOnMessage(header) && !ownReplyTo)) continue
      const text = reader.type === PropertyType.string ? undefined : textOf(reader.value)
      if (text === undefined && reader.type !== PropertyType.string) continue
      this.#escaped(envelope.bytes, reader.nameStart, reader.nameEnd)
      this.#out.u8(COLON)
      if (text === undefined) this.#escaped(envelope.bytes, reader.valueStart, reader.valueEnd)
      else this.#escaped(Buffer.from(text), 0, Buffer.byteLength(text))
      this.#out.u8(LF)
    }
  }

  #escaped(bytes: Buffer, start: number, end: number): void {
    let clean = start
    for (let at = start; at < end; at++) {
      const byte = bytes[at] as number
      if (byte > BACKSLASH || (byte > CR && byte !== COLON && byte !== BACKSLASH)) continue
      if (byte !== LF && byte !== CR && byte !== COLON && byte !== BACKSLASH && byte !== 0) continue
      this.#out.range(bytes, clean, at)
      this.#escape(byte)
      clean = at + 1
    }
    this.#out.range(bytes, clean, end)
  }

  #escape(byte: number): void {
    const out = this.#out
    // A NUL would end the frame for clients that look for one, and STOMP 1.0 has no escapes at all.
    if (byte === 0) out.u8(SPACE)
    else if (this.#version === '1.0') out.u8(byte === LF || byte === CR ? SPACE : byte)
    else if (byte === LF) out.latin1('\\n')
    else if (byte === COLON) out.latin1('\\c')
    else if (byte === BACKSLASH) out.latin1('\\\\')
    else if (this.#version === '1.2') out.latin1('\\r')
    else out.u8(SPACE)
  }
}

function sentTo(envelope: EnvelopeView, queue: Buffer): boolean {
  const start = envelope.start(EnvelopeField.destination)
  if (envelope.destinationKind(EnvelopeField.destination) !== 0) return false
  if (envelope.end(EnvelopeField.destination) - start !== queue.length) return false
  for (let at = 0; at < queue.length; at++) {
    if (envelope.bytes[start + at] !== queue[at]) return false
  }
  return true
}

/** Properties of other protocols as STOMP shows them; what has no text form is left out. */
function textOf(property: { readonly type: string; readonly value?: unknown }): string | undefined {
  switch (property.type) {
    case 'null':
      return ''
    case 'bytes':
    case 'list':
    case 'map':
      return undefined
    default:
      return String(property.value)
  }
}

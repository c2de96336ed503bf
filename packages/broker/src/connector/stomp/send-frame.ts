/** A SEND frame as an envelope: which header becomes which field, with ActiveMQ's names and defaults. */
import { isUtf8 } from 'node:buffer'
import type { Destination } from '../../message/destination.ts'
import { BodyKind, encodeEnvelopeHead } from '../../message/envelope.ts'
import { PropertiesWriter } from '../../message/properties.ts'
import { parseDestination } from './destination.ts'
import type { StompFrame } from './frame.ts'
import { StompProtocolError } from './protocol-error.ts'
import { isReservedOnMessage, StompHeader } from './vocabulary.ts'

/** ActiveMQ's and JMS's. */
const DEFAULT_PRIORITY = 4

/** Shared by all connections: it is filled and emptied within one call. */
const properties = new PropertiesWriter()

/** For duplicate detection: who sent it, and as which of its messages. */
export interface ProducerMark {
  readonly id: string
  readonly sequence: number
}

/** @throws StompProtocolError if one of the two headers is missing or malformed. */
export function producerMark(frame: StompFrame): ProducerMark | undefined {
  const id = frame.text(StompHeader.producerId)
  const sequence = frame.decimal(StompHeader.producerSequence)
  if (id === undefined && sequence === undefined) return undefined
  if (id === undefined || id === '' || !Number.isSafeInteger(sequence) || sequence === 0) {
    throw new StompProtocolError(
      'malformed producer headers',
      'levelmq.producerId and levelmq.producerSequenceId come together; the sequence is a whole number from 1 up.',
    )
  }
  return { id, sequence: sequence as number }
}

/**
 * Encodes the head of the envelope; the frame's body is its body.
 *
 * @returns Bytes that are good until the next envelope is encoded.
 * @throws StompProtocolError for a header that is not what it should be.
 */
export function envelopeHead(
  frame: StompFrame,
  destination: Destination,
  producer: ProducerMark | undefined,
  wallMs: number,
): Buffer {
  properties.clear()
  const count = frame.headerCount
  for (let place = 0; place < count; place++) {
    if (!isReservedOnMessage(frame.headerAt(place)) && frame.isFirst(place)) frame.copyTo(properties, place)
  }
  const replyText = frame.text(StompHeader.replyTo)
  const replyTo = replyText === undefined ? undefined : parseDestination(replyText)
  if (replyText !== undefined && replyTo === undefined) properties.addString('reply-to', replyText)
  const priority = wholeNumber(frame, StompHeader.priority, 'priority', 9) ?? DEFAULT_PRIORITY
  return encodeEnvelopeHead({
    persistent: frame.text(StompHeader.persistent) === 'true',
    priority,
    bodyKind: bodyKind(frame),
    timestampMs: wholeNumber(frame, StompHeader.timestamp, 'timestamp') ?? wallMs,
    expirationMs: wholeNumber(frame, StompHeader.expires, 'expires') ?? 0,
    messageId: undefined,
    destination,
    correlationId: frame.text(StompHeader.correlationId),
    replyTo,
    type: frame.text(StompHeader.type),
    groupId: frame.text(StompHeader.groupId),
    userId: undefined,
    contentType: frame.text(StompHeader.contentType),
    producerId: producer?.id,
    producerSequence: producer?.sequence,
    groupSequence: groupSequence(frame),
    properties: properties.isEmpty ? undefined : properties.encoded,
  })
}

/** As in ActiveMQ: with a content-length the body is bytes, without one it is text; `amq-msg-type` decides otherwise. */
function bodyKind(frame: StompFrame): BodyKind {
  const asked = frame.text(StompHeader.messageType)
  if (asked === 'bytes') return BodyKind.bytes
  if (asked !== 'text' && frame.has(StompHeader.contentLength)) return BodyKind.bytes
  return isUtf8(frame.body) ? BodyKind.text : BodyKind.bytes
}

function groupSequence(frame: StompFrame): number | undefined {
  const text = frame.text(StompHeader.groupSequence)
  if (text === undefined) return undefined
  const value = Number(text)
  if (!/^-?\d{1,10}$/.test(text) || (value | 0) !== value) {
    throw new StompProtocolError('malformed JMSXGroupSeq', 'JMSXGroupSeq is a whole number of 32 bits.')
  }
  return value
}

function wholeNumber(
  frame: StompFrame,
  header: number,
  name: string,
  limit: number = Number.MAX_SAFE_INTEGER,
): number | undefined {
  const value = frame.decimal(header)
  if (value !== undefined && !(value <= limit)) {
    throw new StompProtocolError(
      `malformed ${name}`,
      `${name} is a whole number${limit === Number.MAX_SAFE_INTEGER ? ' of milliseconds since 1970' : ` from 0 to ${limit}`}.`,
    )
  }
  return value
}

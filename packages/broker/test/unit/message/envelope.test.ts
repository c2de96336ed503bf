import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  BodyKind,
  derivedMessageId,
  EnvelopeField,
  type EnvelopeFields,
  EnvelopeView,
  encodeEnvelopeHead,
} from '../../../src/message/envelope.ts'
import { MalformedEnvelopeError } from '../../../src/message/malformed-envelope.ts'
import { encodeProperties } from '../../../src/message/properties.ts'

const text = fc.option(fc.string({ unit: 'grapheme', maxLength: 80 }), { nil: undefined })
const destination = fc.option(
  fc.record({
    kind: fc.constantFrom(0, 1, 2, 3) as fc.Arbitrary<0 | 1 | 2 | 3>,
    name: fc.string({ minLength: 1 }),
  }),
  { nil: undefined },
)
const producer = fc.option(
  fc.record({ producerId: fc.string(), producerSequence: fc.maxSafeNat().map((n) => Math.max(n, 1)) }),
  { nil: undefined },
)
const fields: fc.Arbitrary<EnvelopeFields> = fc
  .tuple(
    fc.record({
      persistent: fc.boolean(),
      priority: fc.integer({ min: 0, max: 9 }),
      bodyKind: fc.constantFrom(...Object.values(BodyKind)),
      timestampMs: fc.maxSafeInteger(),
      expirationMs: fc.maxSafeNat(),
      messageId: text,
      destination,
      correlationId: text,
      replyTo: destination,
      type: text,
      groupId: text,
      userId: text,
      contentType: text,
      groupSequence: fc.option(fc.integer(), { nil: undefined }),
      properties: fc.option(
        fc.string().map((value) => encodeProperties([['name', { type: 'string', value }]])),
        { nil: undefined },
      ),
    }),
    producer,
  )
  .map(([rest, sent]) => ({ ...rest, ...sent }))

function envelope(of: EnvelopeFields, body = Buffer.alloc(0)): Buffer {
  return Buffer.concat([encodeEnvelopeHead(of), body])
}

const minimal: EnvelopeFields = {
  persistent: false,
  priority: 4,
  bodyKind: BodyKind.none,
  timestampMs: 0,
  expirationMs: 0,
}

describe('envelope', () => {
  test('what was encoded is read back', () => {
    fc.assert(
      fc.property(fields, fc.uint8Array(), (sent, body) => {
        const view = new EnvelopeView(envelope(sent, Buffer.from(body)))
        expect({
          persistent: view.persistent,
          priority: view.priority,
          bodyKind: view.bodyKind,
          timestampMs: view.timestampMs,
          expirationMs: view.expirationMs,
          messageId: view.messageId,
          destination: view.destination,
          correlationId: view.correlationId,
          replyTo: view.replyTo,
          type: view.type,
          groupId: view.groupId,
          userId: view.userId,
          contentType: view.contentType,
          producerId: view.producerId,
          producerSequence: view.producerSequence,
          groupSequence: view.groupSequence,
          body: [...view.body],
          properties: view.has(EnvelopeField.properties) ? encodeProperties(view.properties) : undefined,
        }).toEqual({
          ...sent,
          producerId: sent.producerId,
          producerSequence: sent.producerSequence,
          body: [...body],
        })
      }),
    )
  })

  test('a head cut off anywhere is refused', () => {
    fc.assert(
      fc.property(fields, (sent) => {
        const whole = envelope(sent)
        for (let length = 0; length < whole.length; length++) {
          expect(() => new EnvelopeView(whole.subarray(0, length))).toThrow(MalformedEnvelopeError)
        }
      }),
      { numRuns: 20 },
    )
  })

  test('a changed byte gives an error or values inside the envelope, never another fault', () => {
    fc.assert(
      fc.property(fields, fc.nat(), fc.nat({ max: 255 }), (sent, at, value) => {
        const bytes = envelope(sent, Buffer.from('body'))
        bytes[at % bytes.length] = value
        try {
          const view = new EnvelopeView(bytes)
          expect(view.body.length).toBeLessThanOrEqual(bytes.length)
          void [view.messageId, view.destination, view.replyTo, view.producerSequence, view.groupSequence]
          void view.properties
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedEnvelopeError)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('an unknown version, flag, field or body kind is refused', () => {
    for (const [at, value] of [
      [0, 2],
      [1, 2],
      [2, 10],
      [3, 7],
      [4, 0x08],
    ] as const) {
      const bytes = envelope(minimal)
      bytes[at] = value
      expect(() => new EnvelopeView(bytes)).toThrow(MalformedEnvelopeError)
    }
  })

  test('the head of the one before is not mixed into the next', () => {
    const first = Buffer.from(encodeEnvelopeHead({ ...minimal, messageId: 'x'.repeat(100) }))
    const second = Buffer.from(encodeEnvelopeHead(minimal))
    expect(second.length).toBe(26)
    expect(new EnvelopeView(first).messageId).toBe('x'.repeat(100))
    expect(new EnvelopeView(second).messageId).toBeUndefined()
  })

  test('values out of range are refused on encoding', () => {
    for (const wrong of [
      { priority: 10 },
      { priority: -1 },
      { timestampMs: 0.5 },
      { expirationMs: Number.MAX_VALUE },
      { groupSequence: 2 ** 31 },
      { producerId: 'a' },
      { producerSequence: 1 },
      { producerId: 'a', producerSequence: 0 },
    ]) {
      expect(() => encodeEnvelopeHead({ ...minimal, ...wrong })).toThrow(TypeError)
    }
  })

  test('an id is derived from the log index', () => {
    expect(derivedMessageId('levelmq-1', 42)).toBe('ID:levelmq-1-42')
  })
})

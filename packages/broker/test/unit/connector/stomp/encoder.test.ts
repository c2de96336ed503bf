import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { StompEncoder } from '../../../../src/connector/stomp/encoder.ts'
import type { StompVersion } from '../../../../src/connector/stomp/vocabulary.ts'
import { BodyKind, EnvelopeView, encodeEnvelopeHead } from '../../../../src/message/envelope.ts'
import { encodeProperties, type PropertyValue } from '../../../../src/message/properties.ts'
import { decodeAll } from './decoded.ts'

function message(
  properties: Iterable<readonly [string, PropertyValue]>,
  version: StompVersion = '1.2',
  body = 'body',
) {
  const envelope = Buffer.concat([
    encodeEnvelopeHead({
      persistent: true,
      priority: 7,
      bodyKind: BodyKind.text,
      timestampMs: 1_700_000_000_123,
      expirationMs: 0,
      destination: { kind: 0, name: 'orders' },
      correlationId: 'c:1',
      replyTo: { kind: 2, name: 'answers' },
      properties: encodeProperties(properties),
    }),
    Buffer.from(body),
  ])
  const encoder = new StompEncoder()
  encoder.accept(version)
  const prefix = encoder.prefix('s1', '/queue/orders', 'orders', 'ID:levelmq-', '3-')
  encoder.message(prefix, 41, 1, new EnvelopeView(envelope))
  const { frames, error } = decodeAll([encoder.take()], version)
  expect(error).toBeUndefined()
  expect(frames).toHaveLength(1)
  return frames[0]
}

describe('stomp encoder', () => {
  test('a message carries what its envelope says', () => {
    expect(message([['colour', { type: 'string', value: 'rot' }]])).toEqual({
      command: 'MESSAGE',
      headers: {
        subscription: 's1',
        destination: '/queue/orders',
        'message-id': 'ID:levelmq-41',
        ack: '3-41',
        'content-length': '4',
        timestamp: '1700000000123',
        expires: '0',
        priority: '7',
        redelivered: 'true',
        persistent: 'true',
        'correlation-id': 'c:1',
        'reply-to': '/temp-queue/answers',
        colour: 'rot',
      },
      body: 'body',
    })
  })

  test('any text in a property comes out of a decoder as it was', () => {
    const text = fc.string({
      unit: fc.oneof(fc.string({ unit: 'grapheme', minLength: 1 }), fc.constantFrom('\n', '\r', ':', '\\')),
    })
    fc.assert(
      fc.property(text, text, (name, value) => {
        fc.pre(!name.includes('\0') && !value.includes('\0') && name !== '')
        expect(message([[`x${name}`, { type: 'string', value }]])?.headers[`x${name}`]).toBe(value)
      }),
    )
  })

  test('a property cannot end its line or the frame in any version', () => {
    const value = 'a\r\ncontent-length:0\n\n\0SEND\n\n\0'
    for (const version of ['1.0', '1.1', '1.2'] as const) {
      expect(message([['x', { type: 'string', value }]], version)?.body).toBe('body')
    }
  })

  test('a property cannot pass for a header of the protocol', () => {
    const frame = message([
      ['content-length', { type: 'string', value: '1' }],
      ['ack', { type: 'string', value: '9' }],
      ['JMSXUserID', { type: 'string', value: 'root' }],
    ])
    expect(frame?.headers).toMatchObject({ 'content-length': '4', ack: '3-41' })
    expect(frame?.headers.JMSXUserID).toBeUndefined()
  })

  test('typed properties of other protocols are shown as text where they have one', () => {
    expect(
      message([
        ['i', { type: 'int', value: -5 }],
        ['l', { type: 'long', value: 2n ** 62n }],
        ['b', { type: 'boolean', value: true }],
        ['m', { type: 'map', value: new Map() }],
      ])?.headers,
    ).toMatchObject({ i: '-5', l: '4611686018427387904', b: 'true' })
  })

  test('what was taken stays as it is while more is written', () => {
    const encoder = new StompEncoder()
    encoder.receipt('1')
    const taken = encoder.take()
    for (let number = 0; number < 2000; number++) encoder.receipt(`more-${number}`)
    expect(taken.toString()).toBe('RECEIPT\nreceipt-id:1\n\n\0')
    expect(decodeAll([encoder.take()], '1.2').frames).toHaveLength(2000)
    expect(encoder.pendingBytes).toBe(0)
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MalformedEnvelopeError } from '../../../src/message/malformed-envelope.ts'
import {
  decodeProperties,
  encodeProperties,
  MAX_PROPERTY_DEPTH,
  PropertiesReader,
  PropertiesWriter,
  PropertyType,
  type PropertyValue,
} from '../../../src/message/properties.ts'

const { value } = fc.letrec<{ value: PropertyValue; leaf: PropertyValue }>((tie) => ({
  leaf: fc.oneof(
    fc.constant<PropertyValue>({ type: 'null' }),
    fc.boolean().map((v): PropertyValue => ({ type: 'boolean', value: v })),
    fc.integer({ min: -128, max: 127 }).map((v): PropertyValue => ({ type: 'byte', value: v })),
    fc.integer({ min: -32768, max: 32767 }).map((v): PropertyValue => ({ type: 'short', value: v })),
    fc.integer().map((v): PropertyValue => ({ type: 'int', value: v })),
    fc
      .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
      .map((v): PropertyValue => ({ type: 'long', value: v })),
    fc.float().map((v): PropertyValue => ({ type: 'float', value: v })),
    fc.double().map((v): PropertyValue => ({ type: 'double', value: v })),
    fc.string({ unit: 'grapheme' }).map((v): PropertyValue => ({ type: 'string', value: v })),
    fc.uint8Array().map((v): PropertyValue => ({ type: 'bytes', value: Buffer.from(v) })),
    fc.nat({ max: 0xffff }).map((v): PropertyValue => ({ type: 'char', value: String.fromCharCode(v) })),
  ),
  value: fc.oneof(
    { maxDepth: 4 },
    tie('leaf'),
    fc.array(tie('value'), { maxLength: 4 }).map((v): PropertyValue => ({ type: 'list', value: v })),
    fc
      .array(fc.tuple(fc.string(), tie('value')), { maxLength: 4 })
      .map((v): PropertyValue => ({ type: 'map', value: new Map(v) })),
  ),
}))
const names = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('__proto__', 'constructor', 'prototype'),
)

describe('properties', () => {
  test('what was encoded is decoded, with its type', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(names, value), { selector: ([name]) => name }), (entries) => {
        expect([...decodeProperties(encodeProperties(entries))]).toEqual(entries)
      }),
    )
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })

  test('random bytes give an error or properties, never another fault', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeProperties(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedEnvelopeError)
        }
      }),
      { numRuns: 5000 },
    )
  })

  test('encoded bytes cut off inside an entry are refused', () => {
    const bytes = encodeProperties([
      ['name', { type: 'map', value: new Map([['n', { type: 'long', value: 1n }]]) }],
    ])
    for (let length = 1; length < bytes.length; length++) {
      expect(() => decodeProperties(bytes.subarray(0, length))).toThrow(MalformedEnvelopeError)
    }
  })

  test('nesting is capped in both directions', () => {
    let nested: PropertyValue = { type: 'null' }
    for (let depth = 0; depth < MAX_PROPERTY_DEPTH; depth++) nested = { type: 'list', value: [nested] }
    expect(decodeProperties(encodeProperties([['deep', nested]])).get('deep')).toEqual(nested)
    expect(() => encodeProperties([['deep', { type: 'list', value: [nested] }]])).toThrow(TypeError)

    let hostile = Buffer.from([PropertyType.null])
    for (let depth = 0; depth <= MAX_PROPERTY_DEPTH; depth++) {
      const head = Buffer.from([PropertyType.list, 0, 0, 0, 0])
      head.writeUInt32BE(hostile.length, 1)
      hostile = Buffer.concat([head, hostile])
    }
    const entry = Buffer.concat([Buffer.from([0, 1, 97]), hostile])
    expect(() => decodeProperties(entry)).toThrow('nest too deep')
  })

  test('the count is capped', () => {
    const entry = Buffer.from([0, 1, 97, PropertyType.null])
    expect(() => decodeProperties(Buffer.alloc(4 * 65_536, entry))).toThrow('too many')
    const list = Buffer.alloc(5 + 65_536, 0)
    list[0] = PropertyType.list
    list.writeUInt32BE(65_536, 1)
    expect(() => decodeProperties(Buffer.concat([Buffer.from([0, 1, 97]), list]))).toThrow('too many')
  })

  test('ranges of a frame become string properties without being decoded', () => {
    const writer = new PropertiesWriter()
    const frame = Buffer.from('größe:42')
    writer.addStringRange(frame, 0, 7, 8, 10)
    const reader = new PropertiesReader(Buffer.from(writer.encoded))
    expect(reader.next()).toBe(true)
    expect([reader.name, reader.value]).toEqual(['größe', { type: 'string', value: '42' }])
    expect(reader.next()).toBe(false)
    writer.clear()
    expect(writer.isEmpty).toBe(true)
  })
})

import { crc32 } from 'node:zlib'
import { SeededRandom } from '@levelmq/testkit'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { batchHeaderBytes, decodeBatchHeader, payloadIntact } from '../../../src/journal/batch.ts'
import { BatchBuilder } from '../../../src/journal/batch-builder.ts'
import { RecordKind, type RecordVisitor, readRecords } from '../../../src/journal/record.ts'

type Written = readonly [index: number, kind: string, ...facts: unknown[]]

/** What `readRecords` finds in a sealed batch. */
function recordsOf(bytes: Buffer): Written[] {
  const header = decodeBatchHeader(bytes, 0)
  if (typeof header === 'string') throw new Error(`wrong ${header}`)
  if (!payloadIntact(bytes, 0, header)) throw new Error('wrong payload')
  const written: Written[] = []
  const note =
    (kind: string) =>
    (index: number, ...facts: unknown[]) =>
      void written.push([index, kind, ...facts])
  const visitor: RecordVisitor = {
    epochStart: note('epochStart'),
    configuration: note('configuration'),
    queueAdded: note('queueAdded'),
    producerAdded: note('producerAdded'),
    messageRemoved: note('removed'),
    redeliveryCounted: note('redelivery'),
    queueKept: note('queueKept'),
    producerKept: (index, producer, lastUsed, id, window) =>
      void written.push([index, 'producerKept', producer, lastUsed, id, window.toString('hex')]),
    messageKept: (index, queue, message, count, batch, at, length) =>
      void written.push([
        index,
        'messageKept',
        queue,
        message,
        count,
        batch.toString('hex', at, at + length),
      ]),
    queueRemoved: note('queueRemoved'),
    messageAdded: (index, queue, producer, sequence, batch, at, length) =>
      void written.push([
        index,
        'message',
        queue,
        producer,
        sequence,
        batch.toString('hex', at, at + length),
      ]),
  }
  readRecords(bytes, batchHeaderBytes, header.payloadBytes, header.firstIndex, header.count, visitor)
  return written
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

const place = { epoch: 3, firstIndex: 100, logTimeMs: 12345, commitIndex: 98, previousChecksum: 77 }
const index = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
const bytes = fc.uint8Array({ maxLength: 300 })
const text = fc.string({ unit: 'grapheme', maxLength: 50 })
const change = fc.oneof(
  fc.record({
    kind: fc.constant('message' as const),
    queue: index,
    producer: index,
    sequence: index,
    head: bytes,
    body: bytes,
  }),
  fc.record({
    kind: fc.constant('removals' as const),
    queue: index,
    indices: fc.array(index, { minLength: 1, maxLength: 20 }),
  }),
  fc.record({
    kind: fc.constant('redelivery' as const),
    queue: index,
    indices: fc.array(index, { minLength: 1, maxLength: 20 }),
    count: fc.nat(0xffffffff),
  }),
  fc.record({ kind: fc.constant('text' as const), text }),
  fc.record({ kind: fc.constant('queueKept' as const), queue: index, text }),
  fc.record({
    kind: fc.constant('producerKept' as const),
    producer: index,
    lastUsed: index,
    text,
    window: bytes,
  }),
  fc.record({
    kind: fc.constant('messageKept' as const),
    queue: index,
    message: index,
    count: fc.nat(0xffffffff),
    body: bytes,
  }),
  fc.record({ kind: fc.constant('queueRemoved' as const), queue: index }),
)

describe('batch builder', () => {
  test('records: what was put in is read back, in order, with dense indices', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 30 }), (changes) => {
        const builder = new BatchBuilder()
        const expected: Written[] = []
        for (const [offset, each] of changes.entries()) {
          const at = 100 + offset
          switch (each.kind) {
            case 'message':
              builder.message(each.queue, each.producer, each.sequence, each.head, each.body)
              expected.push([
                at,
                'message',
                each.queue,
                each.producer,
                each.sequence,
                Buffer.concat([each.head, each.body]).toString('hex'),
              ])
              break
            case 'removals':
              builder.removals(each.queue, each.indices)
              for (const message of each.indices) expected.push([at, 'removed', each.queue, message])
              break
            case 'redelivery':
              builder.redelivery(each.queue, each.indices, each.count)
              for (const message of each.indices)
                expected.push([at, 'redelivery', each.queue, message, each.count])
              break
            case 'text':
              builder.text(RecordKind.queueAdded, each.text)
              expected.push([at, 'queueAdded', each.text])
              break
            case 'queueKept':
              builder.queueKept(each.queue, each.text)
              expected.push([at, 'queueKept', each.queue, each.text])
              break
            case 'producerKept':
              builder.producerKept(each.producer, each.lastUsed, each.text, each.window)
              expected.push([at, 'producerKept', each.producer, each.lastUsed, each.text, hex(each.window)])
              break
            case 'messageKept':
              builder.messageKept(each.queue, each.message, each.count, each.body)
              expected.push([at, 'messageKept', each.queue, each.message, each.count, hex(each.body)])
              break
            case 'queueRemoved':
              builder.queueRemoved(each.queue)
              expected.push([at, 'queueRemoved', each.queue])
          }
        }
        expect(builder.count).toBe(changes.length)
        const size = builder.bytes
        const sealed = builder.seal(place)
        expect(sealed.length).toBe(size)
        expect(decodeBatchHeader(sealed, 0)).toMatchObject({ ...place, count: changes.length })
        expect(recordsOf(sealed)).toEqual(expected)
        expect([builder.count, builder.bytes]).toEqual([0, batchHeaderBytes])
      }),
    )
  })

  test('growth: a batch larger than the buffer holds everything, before and behind the limit', () => {
    const builder = new BatchBuilder()
    const random = new SeededRandom(1)
    const bodies = [10, 65536, 100, 300_000, 2_000_000, 5].map((size) =>
      Buffer.alloc(size, random.between(1, 255)),
    )
    for (const body of bodies) builder.message(1, 0, 0, Buffer.of(9), body)
    const found = recordsOf(builder.seal(place))
    expect(found.map((record) => record[5])).toEqual(bodies.map((body) => `09${body.toString('hex')}`))
  })

  test('sealed: a batch keeps its bytes while the next ones are filled', () => {
    const builder = new BatchBuilder()
    const sealed: { bytes: Buffer; copy: Buffer }[] = []
    for (const size of [10, 40_000, 10, 200_000, 3_000_000, 10, 70_000]) {
      builder.message(1, 0, 0, Buffer.of(1), Buffer.alloc(size, size & 0xff))
      const bytes = builder.seal(place)
      sealed.push({ bytes, copy: Buffer.from(bytes) })
    }
    for (const { bytes, copy } of sealed) expect(bytes.equals(copy)).toBe(true)
  })

  test('sealed: a small batch does not keep much more memory alive than it has bytes', () => {
    const builder = new BatchBuilder()
    builder.message(1, 0, 0, Buffer.of(1), Buffer.alloc(4_000_000))
    builder.seal(place)
    builder.message(1, 0, 0, Buffer.of(1), Buffer.alloc(100))
    expect(builder.seal(place).buffer.byteLength).toBeLessThan(1000)
  })

  test('clear: what was gathered is gone, and nothing of it shows in the next batch', () => {
    const builder = new BatchBuilder()
    builder.message(1, 2, 3, Buffer.alloc(500, 0xaa), Buffer.alloc(500, 0xaa))
    builder.clear()
    expect([builder.count, builder.bytes]).toEqual([0, batchHeaderBytes])
    builder.text(RecordKind.queueAdded, 'q')
    const sealed = builder.seal(place)
    expect(recordsOf(sealed)).toEqual([[100, 'queueAdded', 'q']])
    expect(sealed.includes(0xaaaa)).toBe(false)
  })

  test('input: nothing of the caller is kept', () => {
    const builder = new BatchBuilder()
    const [head, body, indices] = [Buffer.of(1, 2), Buffer.of(3, 4), [5, 6]]
    builder.message(1, 0, 0, head, body)
    builder.removals(1, indices)
    head.fill(0xff)
    body.fill(0xff)
    indices.fill(99)
    expect(recordsOf(builder.seal(place))).toEqual([
      [100, 'message', 1, 0, 0, '01020304'],
      [101, 'removed', 1, 5],
      [101, 'removed', 1, 6],
    ])
  })
})

test('batch builder: the header tells whether a configuration is inside, and an unknown flag is refused (S35, S36)', () => {
  const flagOf = (batch: Buffer) => {
    const header = decodeBatchHeader(batch, 0)
    return typeof header === 'string' ? header : header.holdsConfiguration
  }
  const builder = new BatchBuilder()
  builder.text(RecordKind.queueAdded, 'orders')
  builder.text(RecordKind.configuration, '{}')
  builder.text(RecordKind.queueAdded, 'other')
  const held = builder.seal(place)
  expect(flagOf(held)).toBe(true)
  builder.text(RecordKind.queueAdded, 'orders')
  expect(flagOf(builder.seal(place))).toBe(false)
  builder.text(RecordKind.configuration, '{}')
  builder.clear()
  builder.text(RecordKind.queueAdded, 'orders')
  expect(flagOf(builder.seal(place))).toBe(false)
  held.writeUInt16LE(2, 6)
  held.writeUInt32LE(crc32(held.subarray(0, 60)), 60)
  expect(flagOf(held)).toBe('version')
})

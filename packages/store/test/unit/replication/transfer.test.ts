import { BatchChain } from '@levelmq/testkit'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameDecoder, FrameFault, FrameType, maxFrameBytes } from '../../../src/replication/frame.ts'
import {
  decodeTransfer,
  encodeTransfer,
  isTransfer,
  maxTransferBytes,
  type SnapshotChunk,
  type Transfer,
} from '../../../src/replication/transfer.ts'

const id = fc.maxSafeNat()
const askedBytes = fc.integer({ min: 1, max: maxTransferBytes })
const fromIndex = fc.integer({ min: 1, max: 1e9 })

/** Batches that begin with record `from`. */
function batchesFrom(from: number, sizes: readonly number[]): Buffer {
  const chain = new BatchChain(from - 1)
  return Buffer.concat(
    sizes.map((size) => chain.next({ kind: 'messageAdded', queue: 1, envelope: size }).bytes),
  )
}

const batches = fc.tuple(fromIndex, fc.array(fc.nat(200), { maxLength: 4 })).map(([from, sizes]) => ({
  fromIndex: from,
  batches: batchesFrom(from, sizes),
}))
const epochStarts = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 1, max: 1e6 })), { maxLength: 5 })
  .map((steps) => {
    let [epoch, index] = [0, 0]
    return steps.map(([epochs, indices]) => {
      epoch += epochs
      index += indices
      return { epoch, index }
    })
  })
const transfer: fc.Arbitrary<Transfer> = fc.oneof(
  fc.record({
    type: fc.constant('snapshotRequest' as const),
    id,
    fromIndex: fc.maxSafeNat(),
    maxBytes: askedBytes,
  }),
  fc
    .tuple(id, batches, epochStarts, fc.nat(), fc.boolean(), fc.maxSafeNat())
    .map(([number, content, starts, before, last, replayTo]) => ({
      type: 'snapshotChunk' as const,
      id: number,
      content: {
        ...content,
        last,
        start: { firstIndex: Math.max(1, content.fromIndex - before), replayTo, epochStarts: starts },
      },
    })),
  fc.record({
    type: fc.constant('snapshotChunk' as const),
    id,
    content: fc.record({ refused: fc.string({ unit: 'grapheme', maxLength: 60 }) }),
  }),
  fc.tuple(id, fromIndex, fc.nat(1e6), askedBytes).map(([number, from, count, maxBytes]) => ({
    type: 'repairRequest' as const,
    id: number,
    fromIndex: from,
    toIndex: from + count,
    maxBytes,
  })),
  fc.tuple(id, batches).map(([number, content]) => ({
    type: 'repairReply' as const,
    id: number,
    ...content,
  })),
  fc.record({
    type: fc.constant('repairReply' as const),
    id,
    fromIndex,
    batches: fc.constant('unknown' as const),
  }),
)

describe('transfers', () => {
  test('each kind is read back as it was written', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(transfer, (written) => {
        seen.add(written.type)
        const { type, body } = frameOf(written)
        expect(isTransfer(type)).toBe(true)
        expect(decodeTransfer(type, body)).toEqual(written)
      }),
      { numRuns: 400 },
    )
    expect(seen.size).toBe(4)
  })

  test('batches are not copied on the way out, nor on the way in', () => {
    const bytes = batchesFrom(5, [1000])
    const chunks = encodeTransfer({ type: 'repairReply', id: 1, fromIndex: 5, batches: bytes })
    expect(chunks[1]).toBe(bytes)
    const { type, body } = frameOf({ type: 'repairReply', id: 1, fromIndex: 5, batches: bytes })
    const decoded = decodeTransfer(type, body)
    expect(decoded.type === 'repairReply' && (decoded.batches as Buffer).buffer).toBe(body.buffer)
  })

  test('X2: a body cut at any byte, or with one more, is a FrameFault or has fewer batches', () => {
    fc.assert(
      fc.property(transfer, (written) => {
        const { type, body } = frameOf(written)
        for (let length = 0; length <= body.length; length++) {
          onlyFrameFault(() => {
            const read = decodeTransfer(type, body.subarray(0, length))
            // Cut between two batches, or in the text of a refusal: nothing else can be read.
            if (length < body.length) expect(written.type).toMatch(/snapshotChunk|repairReply/)
            expect(read.type).toBe(written.type)
          })
        }
        if ('refused' in ((written as Partial<SnapshotChunk>).content ?? {})) return
        expect(() => decodeTransfer(type, Buffer.concat([body, Buffer.of(1)]))).toThrow(FrameFault)
      }),
      { numRuns: 60 },
    )
  })

  test.each<[string, Transfer, number, number]>([
    ['no bytes asked for', request({}), 16, 0],
    ['more bytes asked for than a chunk has', request({}), 16, maxTransferBytes + 1],
    ['four gigabytes asked for', request({}), 16, 0xffffffff],
    ['more epochs than there are bytes', chunk(), 33, 100],
    ['four thousand million epochs', chunk(), 33, 0xffffffff],
    ['an unknown flag of a chunk', chunk(), 8, 4],
    ['an index of 2^53', chunk(), 29, 0x200000],
    ['batches below the beginning', chunk(), 9, 6],
    ['a beginning with record 0', chunk(), 9, 0],
    ['other batches than said', chunk(), 25, 6],
    ['an unknown flag of a repair', repair(), 16, 2],
    ['nothing known, and batches behind', repair(), 16, 1],
    ['a repair of record 0', { type: 'repairRequest', id: 1, fromIndex: 1, toIndex: 2, maxBytes: 1 }, 8, 0],
    [
      'a repair that ends first',
      { type: 'repairRequest', id: 1, fromIndex: 1, toIndex: 2, maxBytes: 1 },
      8,
      3,
    ],
  ])('X2: %s is a FrameFault, before anything is allocated', (_name, written, at, value) => {
    const { type, body } = frameOf(written)
    const wrong = Buffer.from(body)
    if (at === 8 || (at === 16 && written.type === 'repairReply')) wrong.writeUInt8(value, at)
    else wrong.writeUInt32LE(value, at)
    decodeTransfer(type, body)
    const before = process.memoryUsage().arrayBuffers
    expect(() => decodeTransfer(type, wrong)).toThrow(FrameFault)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  test('S1: a flipped bit anywhere in the batches of a chunk or a repair is refused', () => {
    for (const written of [chunk(), repair()]) {
      const { type, body } = frameOf(written)
      const bytes = batchesFrom(5, [10, 1])
      for (let bit = 8 * (body.length - bytes.length); bit < 8 * body.length; bit++) {
        const damaged = Buffer.from(body)
        damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        expect(() => decodeTransfer(type, damaged), `bit ${bit}`).toThrow(FrameFault)
      }
    }
  })

  test('epochs that do not rise are refused', () => {
    const written = chunk()
    const { type, body } = frameOf(written)
    const wrong = Buffer.from(body)
    // The second epoch's first index.
    wrong.writeUInt32LE(1, 37 + 16 + 8)
    expect(() => decodeTransfer(type, wrong)).toThrow(/from record 1 on/)
  })

  test('garbage: any body behind any type gives a transfer or a FrameFault, and nothing else', () => {
    fc.assert(
      fc.property(fc.integer({ min: 30, max: 37 }), fc.uint8Array({ maxLength: 300 }), (type, bytes) => {
        onlyFrameFault(() => decodeTransfer(type, Buffer.from(bytes)))
      }),
      { numRuns: 1000 },
    )
  })

  test('a refusal is told in a thousand bytes, and never in half a character', () => {
    const { type, body } = frameOf({
      type: 'snapshotChunk',
      id: 1,
      content: { refused: `x${'ä'.repeat(5000)}` },
    })
    const read = decodeTransfer(type, body) as SnapshotChunk
    expect((read.content as { refused: string }).refused).toBe(`x${'ä'.repeat(511)}`)
    const longer = Buffer.concat([body, Buffer.alloc(100, 'x')])
    expect(() => decodeTransfer(type, longer)).toThrow(FrameFault)
  })
})

function request(changes: { readonly maxBytes?: number }): Transfer {
  return { type: 'snapshotRequest', id: 1, fromIndex: 0, maxBytes: 1000, ...changes }
}

function chunk(): Transfer {
  const start = {
    firstIndex: 5,
    replayTo: 9,
    epochStarts: [
      { epoch: 1, index: 2 },
      { epoch: 4, index: 5 },
    ],
  }
  return {
    type: 'snapshotChunk',
    id: 1,
    content: { start, fromIndex: 5, batches: batchesFrom(5, [10, 1]), last: false },
  }
}

function repair(): Transfer {
  return { type: 'repairReply', id: 1, fromIndex: 5, batches: batchesFrom(5, [10, 1]) }
}

function frameOf(written: Transfer): { readonly type: number; readonly body: Buffer } {
  const frames: { type: number; body: Buffer }[] = []
  const decoder = new FrameDecoder(maxFrameBytes)
  decoder.push(Buffer.concat(encodeTransfer(written)), (type, body) => frames.push({ type, body }))
  expect(frames).toHaveLength(1)
  return frames[0] ?? { type: FrameType.refuse, body: Buffer.alloc(0) }
}

function onlyFrameFault(run: () => void): void {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(FrameFault)
  }
}

import { BatchChain } from '@levelmq/testkit'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ConsensusMessage } from '../../../src/consensus/message.ts'
import { batchHeaderBytes, sealBatch } from '../../../src/journal/batch.ts'
import {
  decodeJsonFrame,
  decodeMessage,
  encodeJsonFrame,
  encodeMessage,
  FrameDecoder,
  FrameFault,
  FrameType,
  frameHeaderBytes,
  maxHandshakeFrameBytes,
  spansOf,
} from '../../../src/replication/frame.ts'

interface Frame {
  readonly type: number
  readonly body: Buffer
}

const uint53 = fc.maxSafeNat()
const clockMs = fc.double({ noNaN: true, min: 0, max: 1e12 })
/** Batches that follow record `previousIndex`, in epoch `epoch`. */
function batchesBehind(previousIndex: number, epoch: number, sizes: readonly number[]): Buffer {
  const chain = new BatchChain(previousIndex)
  chain.epoch = epoch
  return Buffer.concat(
    sizes.map((size) => chain.next({ kind: 'messageAdded', queue: 1, envelope: size }).bytes),
  )
}
const append = fc
  .record({
    previousIndex: fc.nat(1e9),
    epoch: fc.integer({ min: 1, max: 1e9 }),
    commitIndex: uint53,
    commitEpoch: uint53,
    sentAtMs: clockMs,
    sizes: fc.array(fc.nat(200), { maxLength: 4 }),
  })
  .map(({ sizes, previousIndex, epoch, ...rest }): ConsensusMessage => {
    const bytes = batchesBehind(previousIndex, epoch, sizes)
    const batches = spansOf(bytes, previousIndex + 1, true)
    return { type: 'append', previousIndex, previousEpoch: epoch, epoch, ...rest, bytes, batches }
  })
const message: fc.Arbitrary<ConsensusMessage> = fc.oneof(
  append,
  fc.record({
    type: fc.constant('appendReply' as const),
    epoch: uint53,
    accepted: fc.boolean(),
    previousIndex: uint53,
    durableIndex: uint53,
    writtenIndex: uint53,
    hintEpoch: uint53,
    sentAtMs: clockMs,
  }),
  fc.record({
    type: fc.constant('preVote' as const),
    epoch: uint53,
    lastEpoch: uint53,
    lastIndex: uint53,
    weight: fc.nat(1_000_000),
  }),
  fc.record({
    type: fc.constant('preVoteReply' as const),
    epoch: uint53,
    granted: fc.boolean(),
    owing: fc.boolean(),
    promised: uint53,
  }),
  fc.record({
    type: fc.constant('vote' as const),
    epoch: uint53,
    lastEpoch: uint53,
    lastIndex: uint53,
    all: fc.boolean(),
    handedOver: uint53,
  }),
  fc.record({
    type: fc.constant('voteReply' as const),
    epoch: uint53,
    granted: fc.boolean(),
    leaseMs: clockMs,
  }),
  fc.record({ type: fc.constant('resign' as const), epoch: uint53, handedOver: fc.boolean() }),
  fc.record({ type: fc.constant('standNow' as const), epoch: uint53 }),
  fc.record({ type: fc.constant('behind' as const), epoch: uint53, firstIndex: uint53 }),
  fc.record({
    type: fc.constant('recall' as const),
    epoch: uint53,
    owed: fc.record({ epoch: uint53, index: uint53 }),
  }),
)

describe('replication frames', () => {
  test('message: each kind is read back as it was written', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(message, (written) => {
        seen.add(written.type)
        const [frame] = framesIn(Buffer.concat(encodeMessage(written)))
        expect(decodeMessage(frame?.type ?? 0, frame?.body ?? Buffer.alloc(0))).toEqual(written)
      }),
      { numRuns: 400 },
    )
    expect(seen.size).toBe(10)
  })

  test('json: an object is read back as it was written', () => {
    const [frame] = framesIn(encodeJsonFrame(FrameType.info, { name: 'ä', slaves: [1] }))
    expect(frame?.type).toBe(FrameType.info)
    expect(decodeJsonFrame(frame?.body ?? Buffer.alloc(0))).toEqual({ name: 'ä', slaves: [1] })
  })

  test.each(['', '{', '[]', 'null', '1', '"text"'])('json: %j is no frame body', (body) => {
    expect(() => decodeJsonFrame(Buffer.from(body))).toThrow(FrameFault)
  })

  test('append: its batches are not copied on the way out, nor on the way in', () => {
    const bytes = batchesBehind(4, 1, [1000])
    const chunks = encodeMessage(appendOf(bytes, 4))
    expect(chunks[1]).toBe(bytes)
    const whole = Buffer.concat(chunks)
    const decoded = decodeMessage(FrameType.append, whole.subarray(frameHeaderBytes))
    expect(decoded.type === 'append' && decoded.bytes.buffer).toBe(whole.buffer)
  })
})

describe('frame decoder', () => {
  const stream = Buffer.concat([
    encodeJsonFrame(FrameType.hello, { a: 1 }),
    ...encodeMessage({ type: 'resign', epoch: 3, handedOver: false }),
    ...encodeMessage(appendOf(batchesBehind(0, 1, [3, 50]), 0)),
    ...encodeMessage({ type: 'vote', epoch: 4, lastEpoch: 3, lastIndex: 2 ** 52, all: false, handedOver: 0 }),
  ])
  const whole = framesIn(stream)

  test('stream: cut in two at each byte, the frames are the same', () => {
    for (let cut = 0; cut <= stream.length; cut++) {
      expect(framesIn(stream.subarray(0, cut), stream.subarray(cut))).toEqual(whole)
    }
  })

  test('stream: byte by byte, and in pieces of any size, the frames are the same', () => {
    expect(framesIn(...[...stream].map((byte) => Buffer.of(byte)))).toEqual(whole)
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (sizes) => {
        const pieces: Buffer[] = []
        for (let at = 0, place = 0; at < stream.length; place++) {
          const size = sizes[place % sizes.length] ?? 1
          pieces.push(stream.subarray(at, at + size))
          at += size
        }
        expect(framesIn(...pieces)).toEqual(whole)
      }),
    )
  })

  test('stream: pieces may be overwritten by their owner once they are pushed, a frame across two is whole', () => {
    const frames: Frame[] = []
    const decoder = new FrameDecoder(1000)
    const buffer = Buffer.alloc(10)
    for (let at = 0; at < stream.length; at += 10) {
      const piece = buffer.subarray(0, Math.min(10, stream.length - at))
      stream.copy(piece, 0, at)
      decoder.push(piece, (type, body) => frames.push({ type, body: Buffer.from(body) }))
      buffer.fill(0xee)
    }
    expect(frames).toEqual(whole)
  })

  test.each([
    ['zero', 0],
    ['one above the limit', maxHandshakeFrameBytes + 1],
    ['four gigabytes', 0xffffffff],
  ])('length: of %s is refused at its fifth byte, before anything is allocated', (_name, length) => {
    const head = Buffer.alloc(frameHeaderBytes)
    head.writeUInt32LE(length)
    const before = process.memoryUsage().arrayBuffers
    expect(() => framesIn(head)).toThrow(FrameFault)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  test('length: at the limit is taken; a raised limit holds from the next frame on', () => {
    const decoder = new FrameDecoder(10)
    const frames: number[] = []
    const frame = (bytes: number): Buffer => {
      const head = Buffer.alloc(4 + bytes)
      head.writeUInt32LE(bytes)
      return head
    }
    // As after a handshake: the limit changes while one chunk is worked off.
    decoder.push(Buffer.concat([frame(10), frame(11)]), (_type, body) => {
      frames.push(body.length)
      decoder.setLimit(11)
    })
    expect(frames).toEqual([9, 10])
    expect(() => decoder.push(frame(12), () => undefined)).toThrow(FrameFault)
  })

  test('garbage: random bytes give frames or a FrameFault, and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        onlyFrameFault(() => {
          for (const { type, body } of framesIn(Buffer.from(bytes))) decodeMessage(type, body)
        })
      }),
      { numRuns: 500 },
    )
  })

  test('garbage: any body behind any type gives a message or a FrameFault, and nothing else', () => {
    fc.assert(
      fc.property(fc.nat(20), fc.uint8Array({ maxLength: 300 }), (type, bytes) => {
        onlyFrameFault(() => decodeMessage(type, Buffer.from(bytes)))
      }),
      { numRuns: 1000 },
    )
  })
})

describe('what a message must be', () => {
  test('length: a body that is a byte short or long is refused, for every kind', () => {
    fc.assert(
      fc.property(message, (written) => {
        const [frame] = framesIn(Buffer.concat(encodeMessage(written)))
        const { type, body } = frame as Frame
        const short = body.subarray(0, body.length - 1)
        expect(() => decodeMessage(type, short)).toThrow(FrameFault)
        expect(() => decodeMessage(type, Buffer.concat([body, Buffer.of(1)]))).toThrow(FrameFault)
      }),
    )
  })

  test('S1: a flipped bit anywhere in the batches of an append is refused', () => {
    const bytes = batchesBehind(7, 2, [20, 1])
    const body = bodyOf(appendOf(bytes, 7, 2))
    const from = body.length - bytes.length
    decodeMessage(FrameType.append, body)
    for (let bit = 8 * from; bit < 8 * body.length; bit++) {
      const damaged = Buffer.from(body)
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => decodeMessage(FrameType.append, damaged), `bit ${bit}`).toThrow(FrameFault)
    }
  })

  test('S1: batches with an index left out, repeated or not following the head are refused', () => {
    const chain = new BatchChain(7)
    const [one, two, three] = [1, 2, 3].map(
      (size) => chain.next({ kind: 'messageAdded', queue: 1, envelope: size }).bytes,
    ) as [Buffer, Buffer, Buffer]
    const refused = (previousIndex: number, ...batches: Buffer[]): void => {
      const body = bodyOf({ ...appendOf(Buffer.alloc(0), previousIndex), bytes: Buffer.concat(batches) })
      expect(() => decodeMessage(FrameType.append, body)).toThrow(FrameFault)
    }
    refused(7, one, three)
    refused(7, one, one)
    refused(7, two, one)
    refused(6, one)
    refused(8, one)
    refused(7, one, two.subarray(0, two.length - 1))
    refused(7, one, two.subarray(0, batchHeaderBytes - 1))
  })

  test('S1: a batch of another log with the right index is refused', () => {
    const ours = new BatchChain(7)
    const theirs = new BatchChain(7)
    const one = ours.next({ kind: 'messageAdded', queue: 1, envelope: 1 })
    theirs.next({ kind: 'messageAdded', queue: 1, envelope: 2 })
    const strange = theirs.next({ kind: 'messageAdded', queue: 1, envelope: 3 })
    const body = bodyOf({
      ...appendOf(Buffer.alloc(0), 7),
      bytes: Buffer.concat([one.bytes, strange.bytes]),
    })
    expect(() => decodeMessage(FrameType.append, body)).toThrow(/does not follow/)
  })

  test.each([
    ['epochs that fall', 5, 5, [5, 4]],
    ['a first epoch below that of the record before', 5, 5, [4]],
    ['an epoch above that of the master', 5, 5, [5, 6]],
  ])('S3: an append with %s is refused', (_name, epoch, previousEpoch, epochs) => {
    const chain = new BatchChain(7)
    const batches = epochs.map((each) => {
      chain.epoch = each
      return chain.next({ kind: 'messageAdded', queue: 1, envelope: 1 }).bytes
    })
    const head = { ...appendOf(Buffer.alloc(0), 7), epoch, previousEpoch }
    const body = bodyOf({ ...head, bytes: Buffer.concat(batches) })
    expect(() => decodeMessage(FrameType.append, body)).toThrow(FrameFault)
  })

  test('S1: a batch that claims more records than its payload can hold is refused', () => {
    const { bytes } = new BatchChain(0).next({ kind: 'messageAdded', queue: 1, envelope: 1 })
    sealBatch(bytes, {
      holdsConfiguration: false,
      epoch: 1,
      firstIndex: 1,
      count: 2 ** 31,
      logTimeMs: 0,
      commitIndex: 0,
      previousChecksum: 0,
    })
    const body = bodyOf({ ...appendOf(Buffer.alloc(0), 0), bytes })
    expect(() => decodeMessage(FrameType.append, body)).toThrow(FrameFault)
  })

  test('number: an index of 2^53 is refused', () => {
    const body = bodyOf({ type: 'vote', epoch: 1, lastEpoch: 1, lastIndex: 1, all: false, handedOver: 0 })
    body.writeUInt32LE(0x200000, 20)
    expect(() => decodeMessage(FrameType.vote, body)).toThrow(FrameFault)
  })

  test('type: one that is not known is refused by its number', () => {
    expect(() => decodeMessage(99, Buffer.alloc(8))).toThrow(/type 99/)
  })
})

function appendOf(
  bytes: Buffer,
  previousIndex: number,
  epoch = 1,
): Extract<ConsensusMessage, { type: 'append' }> {
  return {
    type: 'append',
    epoch,
    previousIndex,
    previousEpoch: epoch,
    commitIndex: previousIndex,
    commitEpoch: epoch,
    sentAtMs: 1.5,
    batches: spansOf(bytes, previousIndex + 1, true),
    bytes,
  }
}

function bodyOf(message: ConsensusMessage): Buffer {
  return Buffer.concat(encodeMessage(message)).subarray(frameHeaderBytes)
}

function framesIn(...chunks: Buffer[]): Frame[] {
  const frames: Frame[] = []
  const decoder = new FrameDecoder(maxHandshakeFrameBytes)
  for (const chunk of chunks) decoder.push(chunk, (type, body) => frames.push({ type, body }))
  return frames
}

function onlyFrameFault(run: () => void): void {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(FrameFault)
  }
}

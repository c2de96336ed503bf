import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameDecoder, FrameFault, FrameType, maxFrameBytes } from '../../../src/replication/frame.ts'
import { PieceGatherer, piecesOf } from '../../../src/replication/piece.ts'

const pieceBytes = 128 * 1024

describe('frames in pieces', () => {
  test('a frame of any size, in any chunks, is the same when its pieces are put together', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 3 * pieceBytes }), { minLength: 1, maxLength: 4 }),
        (sizes) => {
          const chunks = sizes.map((size, place) => Buffer.alloc(size, 1 + place))
          const body = Buffer.concat(chunks)
          const pieces = piecesOf([head(FrameType.repairReply, body.length), ...chunks])
          const [frame, ...more] = gathered(pieces)
          expect([frame?.type, more.length, frame?.body.equals(body)]).toEqual([
            FrameType.repairReply,
            0,
            true,
          ])
          for (const piece of pieces) expect(Buffer.concat(piece).length).toBeLessThan(pieceBytes + 10)
        },
      ),
      { numRuns: 50 },
    )
  })

  test('a small frame is left as it is', () => {
    const frame = [head(FrameType.repairReply, 3), Buffer.from('abc')]
    expect(piecesOf(frame)).toEqual([frame])
  })

  test('one frame behind the other, each is whole', () => {
    const frames = [200_000, 10, 300_000].map((size) => [
      head(FrameType.repairReply, size),
      Buffer.alloc(size, 7),
    ])
    expect(gathered(frames.flatMap(piecesOf)).map(({ body }) => body.length)).toEqual([200_000, 10, 300_000])
  })

  test.each<[string, number, number]>([
    ['of a frame above the limit', 2 ** 31, 100],
    ['that is longer than its frame', 99, 100],
    ['with nothing in it', 100, 0],
    ['that is too long', 10 * pieceBytes, pieceBytes + 1],
    ['of a frame of no bytes', 0, 1],
  ])('X2: a piece %s is refused, before anything is allocated', (_name, remaining, size) => {
    const before = process.memoryUsage().arrayBuffers
    const gatherer = new PieceGatherer(1000 * pieceBytes)
    const body = Buffer.alloc(4 + size)
    body.writeUInt32LE(remaining)
    expect(() => gatherer.push(body)).toThrow(FrameFault)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  test('a piece left out, or one of another frame, is refused', () => {
    const [one, , three] = piecesOf([
      head(FrameType.repairReply, 3 * pieceBytes),
      Buffer.alloc(3 * pieceBytes),
    ])
    expect(() => gathered([one, three] as Uint8Array[][])).toThrow(FrameFault)
    expect(() => gathered([one, one] as Uint8Array[][])).toThrow(FrameFault)
  })

  test('pieces of a piece are refused', () => {
    const body = Buffer.alloc(5)
    body.writeUInt32LE(1)
    body.writeUInt8(FrameType.piece, 4)
    expect(() => new PieceGatherer(100).push(body)).toThrow(FrameFault)
  })
})

function head(type: number, bodyBytes: number): Buffer {
  const buffer = Buffer.alloc(5)
  buffer.writeUInt32LE(1 + bodyBytes)
  buffer.writeUInt8(type, 4)
  return buffer
}

/** Frames that a link would hand on. */
function gathered(pieces: readonly Uint8Array[][]): { readonly type: number; readonly body: Buffer }[] {
  const frames: { type: number; body: Buffer }[] = []
  const gatherer = new PieceGatherer(maxFrameBytes)
  const decoder = new FrameDecoder(maxFrameBytes)
  for (const piece of pieces) {
    decoder.push(Buffer.concat(piece), (type, body) => {
      const whole = type === FrameType.piece ? gatherer.push(body) : { type, body: Buffer.from(body) }
      if (whole !== undefined) frames.push(whole)
    })
  }
  return frames
}

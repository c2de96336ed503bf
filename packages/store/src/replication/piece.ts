import { FrameFault, FrameType, frameHeaderBytes } from './frame.ts'

/**
 * A large frame, cut into pieces between which other frames may go. Each piece says how much of the frame is still to
 * come, itself included; the frame is its type byte and its body. One frame at a time is on its way in pieces.
 */
const pieceBytes: number = 128 * 1024
const remainingBytes = 4

/** @param frame - One whole frame, in chunks. @returns What to write, piece by piece; a small frame is left as it is. */
export function piecesOf(frame: readonly Uint8Array[]): Uint8Array[][] {
  const total = frame.reduce((sum, { length }) => sum + length, 0) - frameHeaderBytes + 1
  if (total <= pieceBytes) return [[...frame]]
  const pieces: Uint8Array[][] = []
  // Without the length in front, which each piece has for itself.
  let rest = dropped(frame, frameHeaderBytes - 1)
  for (let remaining = total; remaining > 0; ) {
    const size = Math.min(pieceBytes, remaining)
    const head = Buffer.allocUnsafe(frameHeaderBytes + remainingBytes)
    head.writeUInt32LE(1 + remainingBytes + size, 0)
    head.writeUInt8(FrameType.piece, 4)
    head.writeUInt32LE(remaining, frameHeaderBytes)
    pieces.push([head, ...taken(rest, size)])
    rest = dropped(rest, size)
    remaining -= size
  }
  return pieces
}

function taken(chunks: readonly Uint8Array[], count: number): Uint8Array[] {
  const result: Uint8Array[] = []
  for (const chunk of chunks) {
    if (count === 0) break
    const part = chunk.subarray(0, count)
    result.push(part)
    count -= part.length
  }
  return result
}

function dropped(chunks: readonly Uint8Array[], count: number): Uint8Array[] {
  const result: Uint8Array[] = []
  for (const chunk of chunks) {
    const part = chunk.subarray(Math.min(count, chunk.length))
    count -= chunk.length - part.length
    if (part.length > 0) result.push(part)
  }
  return result
}

/** Puts the pieces of one frame after the other together again. */
export class PieceGatherer {
  readonly #limit: number
  #frame: Buffer | undefined
  #filled = 0

  /** @param limit - Bytes of a whole frame, at most. */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** @throws FrameFault for a piece that is not the next one of its frame, or of a frame above the limit. */
  push(body: Buffer): { readonly type: number; readonly body: Buffer } | undefined {
    if (body.length <= remainingBytes || body.length > remainingBytes + pieceBytes)
      throw new FrameFault(`a piece of ${body.length} bytes`)
    const remaining = body.readUInt32LE(0)
    const size = body.length - remainingBytes
    if (remaining > this.#limit)
      throw new FrameFault(`frame of ${remaining} bytes in pieces; the limit is ${this.#limit}`)
    if (size > remaining) throw new FrameFault(`a piece of ${size} bytes where ${remaining} are left`)
    this.#frame ??= Buffer.allocUnsafe(remaining)
    if (remaining !== this.#frame.length - this.#filled)
      throw new FrameFault(
        `a piece of a frame with ${remaining} bytes to come, not ${this.#frame.length - this.#filled}`,
      )
    body.copy(this.#frame, this.#filled, remainingBytes)
    this.#filled += size
    if (this.#filled < this.#frame.length) return undefined
    const frame = this.#frame
    this.#frame = undefined
    this.#filled = 0
    if (frame.readUInt8(0) === FrameType.piece) throw new FrameFault('pieces of a piece')
    return { type: frame.readUInt8(0), body: frame.subarray(1) }
  }
}

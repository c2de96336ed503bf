/**
 * Bytes to STOMP frames, for all three versions.
 *
 * Pure. `push` gives the same frames, and the same error, however the bytes are cut. A frame that lies whole in one
 * chunk is read where it lies; of one that does not, the bytes are gathered in a buffer that doubles.
 *
 * Invariants: nothing is allocated because of a length that a peer only claims, and what is held is less than twice
 * what has arrived of one frame; every limit is checked before more is held. After an error the decoder is spent.
 * Limits are ActiveMQ's. Source: STOMP 1.2 specification, "STOMP Frames" and "Augmented BNF".
 */
import { isUtf8 } from 'node:buffer'
import { StompFrame } from './frame.ts'
import { StompProtocolError } from './protocol-error.ts'
import { commandTable, StompCommand, StompHeader, type StompVersion } from './vocabulary.ts'

export const MAX_COMMAND_BYTES = 1024
export const MAX_HEADER_LINE_BYTES: number = 10 * 1024
export const MAX_HEADERS = 1000
/** Before CONNECT, when nothing is known of the peer. */
export const MAX_CONNECT_FRAME_BYTES: number = 64 * 1024

const LF = 10
const CR = 13
const COLON = 58
const BACKSLASH = 92

const State = { command: 0, headers: 1, sizedBody: 2, openBody: 3 } as const
type State = (typeof State)[keyof typeof State]

/** How much of a chunk is looked at to complete a head that began in the one before. */
const HEAD_STEP_BYTES = 512
/** A gathering buffer above this size is let go after its frame. */
const KEPT_BYTES = 64 * 1024

export class StompDecoder {
  readonly #maxFrameBytes: number
  readonly #onFrame: (frame: StompFrame) => void
  readonly #frame = new StompFrame()
  #version: StompVersion | undefined

  #held: Buffer = Buffer.alloc(0)
  #heldBytes = 0

  // Of the frame that is being read; offsets are relative to its start.
  #state: State = State.command
  #scanned = 0
  #lineStart = 0
  #colon = -1
  #escaped = false
  #seen = 0

  /**
   * @param maxFrameBytes - Largest frame, command and headers included.
   * @param onFrame - Called with each frame, in order; the frame is only good until it returns. What it throws comes
   *   out of `push`.
   */
  constructor(maxFrameBytes: number, onFrame: (frame: StompFrame) => void) {
    this.#maxFrameBytes = maxFrameBytes
    this.#onFrame = onFrame
  }

  /** Allows frames other than CONNECT, read by the rules of `version`. */
  accept(version: StompVersion): void {
    this.#version = version
  }

  /** Memory that a frame still incomplete takes. */
  get heldCapacity(): number {
    return this.#held.length
  }

  /**
   * Takes bytes as they came from the socket.
   *
   * @throws StompProtocolError after the frames before the fault were given out.
   */
  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#heldBytes > 0) {
        at = this.#pushToHeld(chunk, at)
        continue
      }
      const byte = chunk[at]
      if (byte === LF || byte === CR) {
        at++ // An end of line between frames is a heart-beat.
        continue
      }
      this.#begin()
      const end = this.#scan(chunk, at, chunk.length)
      if (end < 0) {
        this.#hold(chunk, at, chunk.length)
        return
      }
      this.#onFrame(this.#frame)
      at = end
    }
  }

  get #limit(): number {
    return this.#version === undefined
      ? Math.min(this.#maxFrameBytes, MAX_CONNECT_FRAME_BYTES)
      : this.#maxFrameBytes
  }

  #begin(): void {
    this.#frame.begin()
    this.#state = State.command
    this.#scanned = 0
    this.#lineStart = 0
    this.#colon = -1
    this.#escaped = false
    this.#seen = 0
  }

  /** Goes on with the frame that is held. @returns Offset in `chunk` up to which it was used. */
  #pushToHeld(chunk: Buffer, at: number): number {
    const used = Math.min(chunk.length, at + this.#wanted(chunk, at))
    this.#hold(chunk, at, used)
    const end = this.#scan(this.#held, 0, this.#heldBytes)
    if (end < 0) return used
    const beyond = this.#heldBytes - end
    this.#heldBytes = 0
    this.#onFrame(this.#frame)
    if (this.#held.length > KEPT_BYTES) this.#held = Buffer.alloc(0)
    return used - beyond
  }

  /** How many bytes of `chunk` belong to the held frame, as far as one can tell. */
  #wanted(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case State.sizedBody:
        return this.#frame.bodyEnd + 1 - this.#heldBytes
      case State.openBody: {
        const nul = chunk.indexOf(0, at)
        return nul < 0 ? chunk.length : nul + 1 - at
      }
      default:
        return HEAD_STEP_BYTES
    }
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const needed = this.#heldBytes + end - start
    if (needed > this.#held.length) {
      let capacity = Math.max(needed, Math.min(this.#held.length * 2, needed * 2))
      if (this.#state === State.sizedBody) {
        capacity = Math.max(needed, Math.min(capacity, this.#frame.bodyEnd + 1))
      }
      const grown = Buffer.allocUnsafeSlow(capacity)
      grown.set(this.#held.subarray(0, this.#heldBytes))
      this.#held = grown
    }
    this.#held.set(chunk.subarray(start, end), this.#heldBytes)
    this.#heldBytes = needed
  }

  /** Reads on in a frame that lies in `bytes[start, limit)`. @returns Where it ends, or -1 if more has to come. */
  #scan(bytes: Buffer, start: number, limit: number): number {
    const frame = this.#frame
    frame.bytes = bytes
    frame.start = start
    if (this.#state <= State.headers && !this.#scanHead(bytes, start, limit)) return -1
    return this.#state === State.sizedBody
      ? this.#scanSizedBody(bytes, start, limit)
      : this.#scanOpenBody(bytes, start, limit)
  }

  #scanSizedBody(bytes: Buffer, start: number, limit: number): number {
    const end = start + this.#frame.bodyEnd
    if (end >= limit) return -1
    if (bytes[end] !== 0) {
      throw new StompProtocolError(
        'no NUL after the body',
        'After as many bytes as content-length says, a NUL ends the frame; content-length counts bytes, not characters.',
      )
    }
    return end + 1
  }

  #scanOpenBody(bytes: Buffer, start: number, limit: number): number {
    const readable = limit === bytes.length ? bytes : bytes.subarray(0, limit)
    const nul = readable.indexOf(0, start + this.#scanned)
    const end = nul < 0 ? limit : nul
    if (end - start > this.#limit) throw this.#tooLarge()
    this.#scanned = end - start
    if (nul < 0) return -1
    this.#frame.bodyEnd = nul - start
    return nul + 1
  }

  /** Reads command and headers line by line. @returns Whether the blank line was reached. */
  #scanHead(bytes: Buffer, start: number, limit: number): boolean {
    const frameLimit = start + this.#limit
    let at = start + this.#scanned
    let seen = this.#seen
    for (;;) {
      const lineStart = start + this.#lineStart
      const lineLimit =
        lineStart + (this.#state === State.command ? MAX_COMMAND_BYTES : MAX_HEADER_LINE_BYTES) + 1
      const bound = Math.min(limit, lineLimit, frameLimit)
      let colon = this.#colon
      let escaped = this.#escaped
      let byte = -1
      for (; at < bound; at++) {
        byte = bytes[at] as number
        if (byte > BACKSLASH) seen |= byte
        else if (byte === LF) break
        else if (byte === COLON) {
          if (colon < 0) colon = at - start
        } else if (byte === BACKSLASH) escaped = true
        else if (byte === 0) throw nulInHead()
      }
      if (at === bound) {
        if (bound === frameLimit) throw this.#tooLarge()
        if (bound === lineLimit) throw this.#lineTooLong(bytes, lineStart)
        this.#scanned = at - start
        this.#colon = colon
        this.#escaped = escaped
        this.#seen = seen
        return false
      }
      let lineEnd = at
      if (lineEnd > lineStart && bytes[lineEnd - 1] === CR) lineEnd--
      at++
      if (this.#state === State.command) this.#command(bytes, lineStart, lineEnd)
      else if (lineEnd === lineStart) {
        this.#endOfHead(bytes, start, at, seen)
        return true
      } else this.#header(bytes, start, lineStart, lineEnd, colon, escaped)
      this.#lineStart = at - start
      this.#colon = -1
      this.#escaped = false
    }
  }

  #command(bytes: Buffer, start: number, end: number): void {
    const command = commandTable.find(bytes, start, end) as StompCommand | 0
    if (command === 0) {
      throw new StompProtocolError(
        `unknown command ${excerpt(bytes, start, end)}`,
        'A STOMP frame starts with a command in capital letters, such as CONNECT, on a line of its own.',
      )
    }
    const connects = command === StompCommand.CONNECT || command === StompCommand.STOMP
    if (this.#version === undefined && !connects) {
      throw new StompProtocolError('not connected', 'The first frame of a connection is CONNECT or STOMP.')
    }
    this.#frame.command = command
    this.#frame.unescapes =
      this.#version !== undefined &&
      this.#version !== '1.0' &&
      !connects &&
      command !== StompCommand.CONNECTED
    this.#state = State.headers
  }

  #header(
    bytes: Buffer,
    start: number,
    lineStart: number,
    lineEnd: number,
    colon: number,
    escaped: boolean,
  ): void {
    if (colon < 0 || colon === lineStart - start) {
      throw new StompProtocolError(
        `malformed header line ${excerpt(bytes, lineStart, lineEnd)}`,
        'A header is a name, a colon and a value; a blank line ends the headers.',
      )
    }
    if (this.#frame.headerCount === MAX_HEADERS) {
      throw new StompProtocolError('too many headers', `A frame has at most ${MAX_HEADERS} headers.`)
    }
    if (escaped && this.#frame.unescapes) this.#checkEscapes(bytes, lineStart, lineEnd)
    this.#frame.addHeader(lineStart - start, colon, colon + 1, lineEnd - start, escaped)
  }

  #checkEscapes(bytes: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at++) {
      if (bytes[at] !== BACKSLASH) continue
      const next = at + 1 < end ? bytes[++at] : -1
      const known =
        next === 110 || next === 99 || next === BACKSLASH || (next === 114 && this.#version === '1.2')
      if (!known) {
        throw new StompProtocolError(
          `undefined escape in ${excerpt(bytes, start, end)}`,
          `In a header of STOMP ${this.#version} a backslash is followed by n, c, \\${this.#version === '1.2' ? ' or r' : ''}.`,
        )
      }
    }
  }

  #endOfHead(bytes: Buffer, start: number, end: number, seen: number): void {
    const frame = this.#frame
    frame.ascii = (seen & 0x80) === 0
    if (!frame.ascii && !isUtf8(bytes.subarray(start, end))) {
      throw new StompProtocolError('headers are not UTF-8', 'Command and headers are encoded as UTF-8.')
    }
    frame.bodyStart = end - start
    this.#scanned = frame.bodyStart
    const length = frame.decimal(StompHeader.contentLength)
    if (length === undefined) {
      this.#state = State.openBody
      return
    }
    if (Number.isNaN(length)) {
      throw new StompProtocolError(
        'malformed content-length',
        'content-length is the number of bytes of the body, in decimal digits.',
      )
    }
    if (frame.bodyStart + length > this.#limit) throw this.#tooLarge()
    frame.bodyEnd = frame.bodyStart + length
    this.#state = State.sizedBody
  }

  #tooLarge(): StompProtocolError {
    return new StompProtocolError(
      'frame too large',
      this.#version === undefined
        ? `A CONNECT frame has at most ${this.#limit} bytes.`
        : `A frame has at most ${this.#limit} bytes, headers included (wireFormat.maxFrameSize).`,
    )
  }

  #lineTooLong(bytes: Buffer, lineStart: number): StompProtocolError {
    const command = this.#state === State.command
    const limit = command ? MAX_COMMAND_BYTES : MAX_HEADER_LINE_BYTES
    return new StompProtocolError(
      `${command ? 'command' : 'header'} line too long: ${excerpt(bytes, lineStart, lineStart + limit)}`,
      `A ${command ? 'command' : 'header'} line has at most ${limit} bytes.`,
    )
  }
}

function nulInHead(): StompProtocolError {
  return new StompProtocolError(
    'NUL among the headers',
    'A blank line ends the headers, even if the body is empty.',
  )
}

/** The first bytes of something refused, fit for a log and a header: everything but plain ASCII is shown as `.`. */
function excerpt(bytes: Buffer, start: number, end: number): string {
  const shown = bytes.toString('latin1', start, Math.min(end, start + 32))
  return `"${shown.replace(/[^\x20-\x7e]/g, '.')}${end - start > 32 ? '...' : ''}"`
}

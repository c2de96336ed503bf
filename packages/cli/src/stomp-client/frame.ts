/**
 * STOMP 1.2 frames, as a client writes and reads them. Pure.
 *
 * Invariants: no length is trusted before it is checked against a limit; the decoder gives the same frames however the
 * bytes were cut. Source: the STOMP 1.2 specification.
 */
export interface Frame {
  readonly command: string
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

const lineFeed = 10
const maxHeadBytes = 64 * 1024
const maxBodyBytes = 128 * 2 ** 20
const empty = Buffer.alloc(0)

/** The bytes of a frame; a body gets its `content-length`. */
export function encodeFrame(
  command: string,
  headers: Readonly<Record<string, string>>,
  body: Buffer = empty,
): Buffer {
  let head = `${command}\n`
  // CONNECT is never escaped, so that servers of every version understand it.
  const escaped = command === 'CONNECT' ? (value: string) => value : escapeHeader
  for (const [name, value] of Object.entries(headers)) head += `${escaped(name)}:${escaped(value)}\n`
  if (body.length > 0) head += `content-length:${body.length}\n`
  return joinFrame(`${head}\n`, body)
}

/** A frame from its head, ending with the empty line, and its body. */
export function joinFrame(head: string, body: Buffer): Buffer {
  const headBytes = Buffer.byteLength(head)
  const frame = Buffer.allocUnsafe(headBytes + body.length + 1)
  frame.write(head, 0)
  body.copy(frame, headBytes)
  frame[headBytes + body.length] = 0
  return frame
}

/** Escapes what would end a header or its name. */
export function escapeHeader(value: string): string {
  return /[\\\r\n:]/.test(value)
    ? value.replaceAll('\\', '\\\\').replaceAll('\r', '\\r').replaceAll('\n', '\\n').replaceAll(':', '\\c')
    : value
}

/** Cuts a stream of bytes into frames; heart-beats between them are skipped. */
export class FrameDecoder {
  #rest: Buffer = empty
  /** Bytes that the frame at the start of `#rest` needs at least: spares looking at a long body again and again. */
  #needed = 1

  /**
   * Takes the next bytes and returns the frames that they complete.
   * @throws Error if the bytes are not STOMP; the connection is then of no more use.
   */
  push(chunk: Buffer): Frame[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const frames: Frame[] = []
    while (this.#rest.length >= this.#needed) {
      const frame = this.#next()
      if (frame === undefined) break
      frames.push(frame)
    }
    return frames
  }

  #next(): Frame | undefined {
    let start = 0
    while (this.#rest[start] === lineFeed || this.#rest[start] === 13) start++
    if (start > 0) this.#rest = this.#rest.subarray(start)
    this.#needed = 1
    const head = readHead(this.#rest)
    if (head === undefined) {
      if (this.#rest.length > maxHeadBytes) throw new Error(`frame head of more than ${maxHeadBytes} bytes`)
      this.#needed = this.#rest.length + 1
      return undefined
    }
    const end = this.#bodyEnd(head)
    if (end === undefined) return undefined
    if (this.#rest[end] !== 0) throw new Error('frame body does not end where its content-length says')
    const body = this.#rest.subarray(head.end, end)
    this.#rest = this.#rest.subarray(end + 1)
    return { command: head.command, headers: head.headers, body }
  }

  #bodyEnd(head: Head): number | undefined {
    const declared = head.headers.get('content-length')
    if (declared !== undefined) {
      const length = /^\d{1,12}$/.test(declared) ? Number(declared) : Number.NaN
      if (!(length <= maxBodyBytes))
        throw new Error(`content-length ${declared} is not from 0 to ${maxBodyBytes}`)
      const end = head.end + length
      if (this.#rest.length > end) return end
      this.#needed = end + 1
      return undefined
    }
    const end = this.#rest.indexOf(0, head.end)
    if (end >= 0) return end
    if (this.#rest.length - head.end > maxBodyBytes)
      throw new Error(`frame body of more than ${maxBodyBytes} bytes`)
    this.#needed = this.#rest.length + 1
    return undefined
  }
}

interface Head {
  readonly command: string
  readonly headers: ReadonlyMap<string, string>
  /** Offset of the body. */
  readonly end: number
}

function readHead(bytes: Buffer): Head | undefined {
  const lines: string[] = []
  let start = 0
  for (;;) {
    const end = bytes.indexOf(lineFeed, start)
    if (end < 0 || end > maxHeadBytes) return undefined
    const line = bytes.toString('utf8', start, bytes[end - 1] === 13 && end > start ? end - 1 : end)
    start = end + 1
    if (line === '') break
    lines.push(line)
  }
  const [command = '', ...headerLines] = lines
  const headers = new Map<string, string>()
  const unescaped = command === 'CONNECTED' ? (value: string) => value : unescapeHeader
  for (const line of headerLines) {
    const colon = line.indexOf(':')
    if (colon < 1) throw new Error(`"${line.slice(0, 80)}" is no header`)
    const name = unescaped(line.slice(0, colon))
    // Of a header that is repeated, the first counts.
    if (!headers.has(name)) headers.set(name, unescaped(line.slice(colon + 1)))
  }
  return { command, headers, end: start }
}

const escapes: Readonly<Record<string, string>> = { '\\\\': '\\', '\\r': '\r', '\\n': '\n', '\\c': ':' }

function unescapeHeader(value: string): string {
  if (!value.includes('\\')) return value
  return value.replace(/\\[\s\S]?/g, (sequence) => {
    const character = escapes[sequence]
    if (character === undefined) throw new Error(`undefined escape ${sequence} in a header`)
    return character
  })
}

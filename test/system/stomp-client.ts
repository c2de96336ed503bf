import { connect, type Socket } from 'node:net'

/**
 * STOMP 1.2 as these tests speak it: written for them alone, so that a mistake in the product's codec is not made
 * twice.
 */
export interface Frame {
  readonly command: string
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

/** Where a broker listens; a port alone is one of this machine. */
export type Address = number | { readonly host: string; readonly port: number }

export const portOf = (address: Address): number => (typeof address === 'number' ? address : address.port)

const lineFeed = 10
const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', ':': '\\c' }
const unescapes: Readonly<Record<string, string>> = { '\\\\': '\\', '\\n': '\n', '\\r': '\r', '\\c': ':' }

function encodeFrame(
  command: string,
  headers: Readonly<Record<string, string | number>> = {},
  body: string | Buffer = '',
): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body
  let head = `${command}\n`
  for (const [name, value] of Object.entries(headers)) {
    head +=
      command === 'CONNECT' ? `${name}:${value}\n` : `${escapeHeader(name)}:${escapeHeader(`${value}`)}\n`
  }
  if (bytes.length > 0) head += `content-length:${bytes.length}\n`
  return Buffer.concat([Buffer.from(`${head}\n`), bytes, Buffer.of(0)])
}

/** Cuts a stream of bytes into frames. */
class FrameParser {
  #rest: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): Frame[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const frames: Frame[] = []
    let at = 0
    for (;;) {
      while (this.#rest[at] === lineFeed || this.#rest[at] === 13) at++
      const found = parseFrame(this.#rest, at)
      if (found === undefined) break
      frames.push(found.frame)
      at = found.end
    }
    this.#rest = this.#rest.subarray(at)
    return frames
  }
}

function parseFrame(bytes: Buffer, start: number): { frame: Frame; end: number } | undefined {
  const headEnd = bytes.indexOf('\n\n', start)
  if (headEnd < 0) return undefined
  const [command = '', ...lines] = bytes.toString('utf8', start, headEnd).split('\n')
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = unescapeHeader(line.slice(0, colon))
    if (!headers.has(name)) headers.set(name, unescapeHeader(line.slice(colon + 1)))
  }
  const bodyStart = headEnd + 2
  const length = headers.get('content-length')
  const bodyEnd = length === undefined ? bytes.indexOf(0, bodyStart) : bodyStart + Number(length)
  if (bodyEnd < 0 || bodyEnd >= bytes.length) return undefined
  if (bytes[bodyEnd] !== 0) throw new Error(`${command}: no NUL after ${length} bytes of body`)
  return {
    frame: { command, headers, body: Buffer.from(bytes.subarray(bodyStart, bodyEnd)) },
    end: bodyEnd + 1,
  }
}

function escapeHeader(text: string): string {
  return text.replace(/[\\\n\r:]/g, (char) => escapes[char] ?? char)
}

function unescapeHeader(text: string): string {
  return text.replace(/\\[\\nrc]/g, (pair) => unescapes[pair] ?? pair)
}

/** One connection to one broker, after CONNECTED. Frames that nobody asked for are kept in `received`. */
export class StompConnection {
  readonly port: number
  readonly socket: Socket
  /** Every frame after CONNECTED, in order, unless `onFrame` is set. */
  readonly received: Frame[] = []
  onFrame: ((frame: Frame) => void) | undefined
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>
  isClosed = false
  /** When it was begun; `performance.now()`. */
  readonly begunAt: number = performance.now()
  #waiting: { readonly matches: (frame: Frame) => boolean; readonly found: (frame: Frame) => void }[] = []
  #receipts = 0

  private constructor(socket: Socket, port: number) {
    this.socket = socket
    this.port = port
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.isClosed = true
        resolve()
      })
    })
  }

  /** Connects and logs in; rejects if the broker refuses, closes, or says nothing for `timeoutMs`. */
  static open(
    address: Address,
    options: { timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<StompConnection> {
    const { timeoutMs = 5_000, signal } = options
    const port = portOf(address)
    const host = typeof address === 'number' ? '127.0.0.1' : address.host
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host, noDelay: true })
      const connection = new StompConnection(socket, port)
      const parser = new FrameParser()
      let open = false
      const fail = (reason: string, cause?: unknown): void => {
        clearTimeout(timer)
        socket.destroy()
        if (!open) reject(new Error(`STOMP on port ${port}: ${reason}`, { cause }))
      }
      const timer = setTimeout(() => fail(`no CONNECTED within ${timeoutMs} ms`), timeoutMs)
      signal?.addEventListener('abort', () => open || fail('given up'), { once: true })
      socket.on('error', (error) => fail(error.message, error))
      socket.once('close', () => fail('closed before CONNECTED'))
      socket.once('connect', () => {
        socket.write(encodeFrame('CONNECT', { 'accept-version': '1.2', host: 'test', 'heart-beat': '0,0' }))
      })
      socket.on('data', (chunk: Buffer) => {
        for (const frame of parser.push(chunk)) {
          if (open) connection.#take(frame)
          else if (frame.command === 'CONNECTED') {
            open = true
            clearTimeout(timer)
            resolve(connection)
          } else fail(`${frame.command} ${frame.headers.get('message') ?? ''} ${frame.body}`)
        }
      })
    })
  }

  #take(frame: Frame): void {
    if (this.onFrame !== undefined) {
      this.onFrame(frame)
      return
    }
    this.received.push(frame)
    this.#waiting = this.#waiting.filter((waiter) => {
      if (!waiter.matches(frame)) return true
      waiter.found(frame)
      return false
    })
  }

  write(
    command: string,
    headers: Readonly<Record<string, string | number>> = {},
    body: string | Buffer = '',
  ): void {
    this.socket.write(encodeFrame(command, headers, body))
  }

  /** The first frame, received or to come, that `matches`. */
  frame(what: string, matches: (frame: Frame) => boolean, timeoutMs = 10_000): Promise<Frame> {
    const before = this.received.find(matches)
    if (before !== undefined) return Promise.resolve(before)
    return new Promise((resolve, reject) => {
      const lost = (reason: string): void => {
        clearTimeout(timer)
        const seen = this.received
          .slice(-3)
          .map((frame) => `${frame.command} ${frame.headers.get('message') ?? ''}`)
        reject(
          new Error(
            `STOMP on port ${this.port}: ${reason} while waiting for ${what}; last: ${seen.join(', ')}`,
          ),
        )
      }
      const timer = setTimeout(() => lost(`${timeoutMs} ms over`), timeoutMs)
      void this.closed.then(() => lost('closed'))
      this.#waiting.push({
        matches,
        found: (frame) => {
          clearTimeout(timer)
          resolve(frame)
        },
      })
    })
  }

  /** Writes a frame that asks for a receipt, and waits for it. */
  async confirmed(
    command: string,
    headers: Readonly<Record<string, string | number>>,
    body: string | Buffer = '',
    timeoutMs?: number,
  ): Promise<void> {
    const receipt = `confirmed-${++this.#receipts}`
    this.write(command, { ...headers, receipt }, body)
    await this.frame(
      `the receipt of ${command}`,
      (frame) => frame.command === 'RECEIPT' && frame.headers.get('receipt-id') === receipt,
      timeoutMs,
    )
  }

  /** Sends bodies to a queue, pipelined, and waits until all are confirmed. */
  async produce(queue: string, bodies: readonly string[], timeoutMs?: number): Promise<void> {
    const receipts = bodies.map((body) => {
      const receipt = `produce-${++this.#receipts}`
      this.write('SEND', { destination: `/queue/${queue}`, persistent: 'true', receipt }, body)
      return receipt
    })
    const last = receipts.at(-1)
    if (last === undefined) return
    await this.frame(`the receipt ${last}`, (frame) => frame.headers.get('receipt-id') === last, timeoutMs)
    const given = new Set(this.received.map((frame) => frame.headers.get('receipt-id')))
    const missing = receipts.filter((receipt) => !given.has(receipt))
    if (missing.length > 0) throw new Error(`no receipt for ${missing.length} of ${receipts.length} messages`)
  }

  /** Subscribes, and waits until that is in force. */
  async subscribe(
    queue: string,
    ack: 'auto' | 'client' | 'client-individual',
    headers: Readonly<Record<string, string | number>> = {},
  ): Promise<void> {
    await this.confirmed('SUBSCRIBE', { destination: `/queue/${queue}`, id: queue, ack, ...headers })
  }

  /** MESSAGE frames received so far. */
  messages(): Frame[] {
    return this.received.filter((frame) => frame.command === 'MESSAGE')
  }

  /** Cuts the connection as a killed client would: no DISCONNECT. */
  destroy(): void {
    this.socket.destroy()
  }
}

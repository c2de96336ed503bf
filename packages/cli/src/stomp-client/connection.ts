import { connect, type Socket } from 'node:net'
import type { BrokerAddress } from './broker-uri.ts'
import { encodeFrame, type Frame, FrameDecoder } from './frame.ts'

/** What a connection tells its owner: `connected`, then `frames` any number of times, then `closed`; or only `closed`. */
interface ConnectionListener {
  connected(): void
  /** Whole frames of one read; their bodies share its memory. */
  frames(frames: readonly Frame[]): void
  /** Once, and last. `silent`: it ended because nothing came, not because the other side closed it. */
  closed(reason: string, silent: boolean): void
}

/** Heart-beats asked of the server and offered to it. Twice this without a byte, and the broker is taken for lost. */
const heartBeatMs = 500

/** One TCP connection with STOMP's handshake and heart-beats. */
export class Connection {
  readonly #listener: ConnectionListener
  readonly #socket: Socket
  readonly #decoder = new FrameDecoder()
  #established = false
  #closed = false
  #heardAt = performance.now()
  #timer: NodeJS.Timeout
  #beat: NodeJS.Timeout | undefined

  constructor(address: BrokerAddress, timeoutMs: number, listener: ConnectionListener) {
    this.#listener = listener
    this.#socket = connect({ host: address.host, port: address.port, noDelay: true })
    this.#timer = setTimeout(() => this.#close(`no answer within ${timeoutMs} ms`, true), timeoutMs)
    this.#socket.on('connect', () => {
      const beat = `${heartBeatMs},${heartBeatMs}`
      this.#socket.write(
        encodeFrame('CONNECT', { 'accept-version': '1.2', host: address.host, 'heart-beat': beat }),
      )
    })
    this.#socket.on('data', (chunk) => this.#read(chunk))
    this.#socket.on('error', (error) => this.#close(error.message, false))
    this.#socket.on('close', () => this.#close('closed by the broker', false))
  }

  /** Queues bytes; false asks to wait for `whenDrained` before more. */
  write(bytes: Buffer): boolean {
    return !this.#closed && this.#socket.write(bytes)
  }

  whenDrained(callback: () => void): void {
    this.#socket.once('drain', callback)
  }

  /** Takes nothing more from the broker until `resume`. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#heardAt = performance.now()
    this.#socket.resume()
  }

  close(reason: string): void {
    this.#close(reason, false)
  }

  #read(chunk: Buffer): void {
    this.#heardAt = performance.now()
    let frames: Frame[]
    try {
      frames = this.#decoder.push(chunk)
    } catch (error) {
      this.#close(`not STOMP: ${error instanceof Error ? error.message : error}`, false)
      return
    }
    if (!this.#established) {
      const first = frames.shift()
      if (first === undefined) return
      if (first.command !== 'CONNECTED') {
        this.#close(`refused: ${describeError(first)}`, false)
        return
      }
      this.#establish(first)
    }
    if (frames.length > 0 && !this.#closed) this.#listener.frames(frames)
  }

  #establish(connected: Frame): void {
    this.#established = true
    clearTimeout(this.#timer)
    const [gives = 0, wants = 0] = (connected.headers.get('heart-beat') ?? '0,0').split(',').map(Number)
    if (gives > 0) this.#watch(2 * Math.max(gives, heartBeatMs))
    if (wants > 0) this.#beat = setInterval(() => this.#socket.write('\n'), Math.max(wants, heartBeatMs) / 2)
    this.#listener.connected()
  }

  #watch(limitMs: number): void {
    const isSilent = () => !this.#socket.isPaused() && performance.now() - this.#heardAt > limitMs
    const check = () => {
      // A busy process runs its timers before it reads: let it read first, then judge.
      if (isSilent()) setImmediate(() => isSilent() && this.#close(`silent for ${limitMs} ms`, true))
    }
    this.#timer = setInterval(check, limitMs / 10)
  }

  #close(reason: string, silent: boolean): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#timer)
    clearInterval(this.#beat)
    this.#socket.destroy()
    this.#listener.closed(reason, silent)
  }
}

/** What an ERROR frame says, in one line. */
export function describeError(frame: Frame): string {
  const said = [frame.headers.get('message'), frame.body.toString('utf8', 0, 500)]
  const text = said
    .filter((part) => part !== undefined && part.trim() !== '')
    .join(': ')
    .replace(/\s+/g, ' ')
    .trim()
  return text === '' ? frame.command : text
}

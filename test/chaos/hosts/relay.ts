import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Host } from './host-network.ts'

/** What happens to bytes on their way from one host to another. */
export interface Way {
  cut: boolean
  delayMs: number
  bytesPerSecond: number
}

const highWaterBytes = 65_536
const retryMs = 20

/** Relays connections to one port, and does to what passes what it is told of the way between caller and called. */
export class Relay {
  readonly #server: Server
  readonly #target: number
  readonly #callerOf: (port: number) => Host
  readonly #called: Host
  readonly #way: (from: Host, to: Host) => Way
  readonly #sockets = new Set<Socket>()
  #closed = false

  constructor(
    target: number,
    called: Host,
    callerOf: (port: number) => Host,
    way: (from: Host, to: Host) => Way,
  ) {
    this.#target = target
    this.#called = called
    this.#callerOf = callerOf
    this.#way = way
    this.#server = createServer({ pauseOnConnect: true }, (near) => this.#accept(near))
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, '127.0.0.1', () => resolve())
    })
  }

  close(): Promise<void> {
    this.#closed = true
    for (const socket of this.#sockets) socket.destroy()
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }

  #accept(near: Socket): void {
    this.#sockets.add(near)
    near.on('error', () => {}).on('close', () => this.#sockets.delete(near))
    const caller = this.#callerOf(near.remotePort ?? 0)
    const there = this.#way(caller, this.#called)
    const back = this.#way(this.#called, caller)
    const dial = (): void => {
      if (this.#closed || near.destroyed) return
      if (there.cut || back.cut) {
        // As if the first packet was lost: the caller waits.
        setTimeout(dial, retryMs)
        return
      }
      const far = connect({ port: this.#target, host: '127.0.0.1', noDelay: true })
      this.#sockets.add(far)
      far.on('error', () => {}).on('close', () => this.#sockets.delete(far))
      near.setNoDelay(true)
      new Direction(near, far, there, () => this.#closed).start()
      new Direction(far, near, back, () => this.#closed).start()
    }
    dial()
  }
}

/** Bytes from one socket to another. */
class Direction {
  readonly #from: Socket
  readonly #to: Socket
  readonly #way: Way
  readonly #closed: () => boolean
  readonly #queue: { readonly at: number; readonly chunk: Buffer }[] = []
  #bytes = 0
  #ended = false
  #freeAt = 0
  #timer: NodeJS.Timeout | undefined

  constructor(from: Socket, to: Socket, way: Way, closed: () => boolean) {
    this.#from = from
    this.#to = to
    this.#way = way
    this.#closed = closed
  }

  start(): void {
    this.#from.on('data', (chunk: Buffer) => {
      this.#queue.push({ at: performance.now() + this.#way.delayMs, chunk })
      this.#bytes += chunk.length
      if (this.#bytes > highWaterBytes) this.#from.pause()
      this.#pump()
    })
    this.#from.on('close', () => {
      this.#ended = true
      this.#pump()
    })
    this.#from.resume()
  }

  #pump(): void {
    if (this.#timer !== undefined || this.#closed()) return
    for (;;) {
      const wait = this.#waitMs()
      if (wait > 0) {
        this.#timer = setTimeout(() => {
          this.#timer = undefined
          this.#pump()
        }, wait)
        return
      }
      const next = this.#queue.shift()
      if (next === undefined) break
      this.#bytes -= next.chunk.length
      if (this.#way.bytesPerSecond < Number.POSITIVE_INFINITY)
        this.#freeAt = performance.now() + (next.chunk.length / this.#way.bytesPerSecond) * 1000
      this.#to.write(next.chunk)
    }
    if (this.#ended) this.#to.destroy()
    else if (this.#bytes <= highWaterBytes) this.#from.resume()
  }

  /** How long the next chunk, or the end, has to wait. */
  #waitMs(): number {
    if (this.#queue.length === 0 && !this.#ended) return 0
    if (this.#way.cut) return retryMs
    // A reader that does not read holds up the writer, as it would without a relay.
    if (this.#to.writableLength > highWaterBytes && !this.#to.destroyed) return retryMs
    const now = performance.now()
    return Math.max((this.#queue[0]?.at ?? 0) - now, this.#freeAt - now, 0)
  }
}

import { connect, createServer, type Server, type Socket } from 'node:net'

/** A TCP relay between a broker and one of its servers, which can be cut. */
export class TcpRelay {
  readonly #server: Server
  readonly #target: number
  readonly #sockets = new Set<Socket>()
  #cut = false

  private constructor(target: number) {
    this.#target = target
    this.#server = createServer((near) => this.#accept(near))
  }

  /** Relays from a port that the system chooses to `target` on this machine. */
  static start(target: number): Promise<TcpRelay> {
    const relay = new TcpRelay(target)
    return new Promise((resolve, reject) => {
      relay.#server.once('error', reject)
      relay.#server.listen(0, '127.0.0.1', () => resolve(relay))
    })
  }

  get port(): number {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the relay does not listen')
    return address.port
  }

  /** Closes every connection, and each new one at once. */
  cut(): void {
    this.#cut = true
    for (const socket of this.#sockets) socket.destroy()
  }

  heal(): void {
    this.#cut = false
  }

  stop(): Promise<void> {
    this.cut()
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }

  #accept(near: Socket): void {
    if (this.#cut) {
      near.destroy()
      return
    }
    const far = connect({ port: this.#target, host: '127.0.0.1', noDelay: true })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  }
}

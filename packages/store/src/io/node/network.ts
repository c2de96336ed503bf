import { createServer, connect as dial, type Server, type Socket } from 'node:net'
import type { Address, Connection, ConnectionHandler, Listener, Network } from '../network.ts'

/** Sockets of the operating system. Connections are TCP without Nagle's delay. */
export const nodeNetwork: Network = {
  listen: (bind, accept) =>
    new Promise<Listener>((resolve, reject) => {
      const server = createServer({ noDelay: true }, (socket) => accept(new SocketConnection(socket)))
      server.once('error', reject)
      server.listen({ host: bind.host, port: bind.port, exclusive: true }, () => {
        server.off('error', reject)
        // Later errors concern single connections that could not be accepted.
        server.on('error', () => {})
        resolve(new NodeListener(server))
      })
    }),

  connect: (to, timeoutMs) =>
    new Promise<Connection>((resolve, reject) => {
      const socket = dial({ host: to.host, port: to.port, noDelay: true })
      const timer = setTimeout(
        () => socket.destroy(new Error(`no connection within ${timeoutMs} ms`)),
        timeoutMs,
      )
      const failed = (error: Error) => {
        clearTimeout(timer)
        reject(error)
      }
      socket.once('error', failed)
      socket.once('connect', () => {
        clearTimeout(timer)
        socket.off('error', failed)
        resolve(new SocketConnection(socket))
      })
    }),
}

class NodeListener implements Listener {
  readonly #server: Server

  constructor(server: Server) {
    this.#server = server
  }

  get address(): Address {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('not listening')
    return { host: address.address, port: address.port }
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }
}

class SocketConnection implements Connection {
  readonly remoteAddress: string
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
    this.remoteAddress = `${socket.remoteAddress}:${socket.remotePort}`
    // Until `handle` is called nobody listens; an error then must not end the process.
    socket.on('error', () => {})
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength
  }

  handle(handler: ConnectionHandler): void {
    let cause: Error | undefined
    this.#socket.on('error', (error) => {
      cause = error
    })
    this.#socket.on('data', (chunk: Buffer) => handler.data(chunk))
    this.#socket.on('drain', () => handler.drained())
    this.#socket.on('end', () => this.#socket.destroy())
    this.#socket.on('close', () => handler.closed(cause))
    if (this.#socket.destroyed) queueMicrotask(() => handler.closed(undefined))
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.#socket.destroyed) return true
    if (chunks.length === 1 && chunks[0] !== undefined) return this.#socket.write(chunks[0])
    this.#socket.cork()
    let free = true
    for (const chunk of chunks) free = this.#socket.write(chunk)
    this.#socket.uncork()
    return free
  }

  end(): void {
    this.#socket.end()
    const timer = setTimeout(() => this.#socket.destroy(), 1000)
    timer.unref()
    this.#socket.once('close', () => clearTimeout(timer))
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

/**
 * Server sockets for the connectors: the only place where they touch TCP.
 *
 * Invariants: no more than `maximumConnections` clients at a time; after `close` no handler is called any more, except
 * to learn that its connection is closed; a fault in a handler costs its own connection only.
 */
import net from 'node:net'

/** What happens on one connection. */
export interface TcpHandler {
  data(chunk: Buffer): void
  /** The peer sends no more; the other direction stays open. */
  ended(): void
  /** All output was taken by the operating system, after more than a little had waited. */
  drained(): void
  /** Last call; also after a `destroy` of our own. */
  closed(): void
  /** One of the others threw; the connection is about to be destroyed. */
  faulted(error: unknown): void
}

export interface TcpServerOptions {
  readonly host: string
  readonly port: number
  readonly maximumConnections: number
  /** After `end`, how long the peer may take to read the rest and to close, in milliseconds. */
  readonly lingerMs: number
  accept(connection: TcpConnection): TcpHandler
  /** A client was turned away because there are too many. */
  refused(remoteAddress: string): void
  /** The server socket has a fault, such as no more file descriptors. */
  faulted(error: Error): void
}

/** One client's socket. */
export class TcpConnection {
  readonly remoteAddress: string
  readonly #socket: net.Socket
  readonly #lingerMs: number
  #linger: NodeJS.Timeout | undefined
  #ending = false

  constructor(socket: net.Socket, lingerMs: number) {
    this.#socket = socket
    this.#lingerMs = lingerMs
    this.remoteAddress = `${socket.remoteAddress}:${socket.remotePort}`
  }

  /** Bytes written that the operating system has not taken yet. */
  get bufferedBytes(): number {
    return this.#socket.writableLength
  }

  /** @param bytes - Not copied; leave them unchanged. */
  write(bytes: Buffer): void {
    if (!this.#ending && !this.#socket.destroyed) this.#socket.write(bytes)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /**
   * Closes our direction once everything is written, and throws away what still comes in: closing with unread input
   * would reset the connection, and the peer might never read our last words.
   */
  end(): void {
    if (this.#ending) return
    this.#ending = true
    this.#socket.end()
    this.#socket.resume()
    this.#linger = setTimeout(() => this.#socket.destroy(), this.#lingerMs)
  }

  destroy(): void {
    this.#ending = true
    this.#socket.destroy()
  }

  /** For the server: connects the socket's events to `handler`. */
  attach(handler: TcpHandler): void {
    const socket = this.#socket
    const guarded = (call: () => void): void => {
      try {
        call()
      } catch (error) {
        handler.faulted(error)
        this.destroy()
      }
    }
    socket.on('data', (chunk) => {
      if (!this.#ending) guarded(() => handler.data(chunk))
    })
    socket.on('end', () => {
      if (this.#ending) socket.destroy()
      else guarded(() => handler.ended())
    })
    socket.on('drain', () => {
      if (!this.#ending) guarded(() => handler.drained())
    })
    // A reset by the peer is its way of leaving; 'close' follows.
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(this.#linger)
      guarded(() => handler.closed())
    })
  }
}

/** One mastership's worth of listening. */
interface Listening {
  readonly server: net.Server
  readonly connections: Set<TcpConnection>
  /** Settles, without an error, when it is known whether the address was to be had. */
  readonly settled: Promise<void>
  closed: boolean
}

export class TcpServer {
  readonly #options: TcpServerOptions
  #current: Listening | undefined

  constructor(options: TcpServerOptions) {
    this.#options = options
  }

  /** @returns The port, or `undefined` if `close` came first. */
  async listen(): Promise<number | undefined> {
    if (this.#current !== undefined) throw new TypeError('listen: close comes first')
    const { host, port, maximumConnections } = this.#options
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true })
    const listening = Promise.withResolvers<void>()
    const current: Listening = {
      server,
      connections: new Set(),
      settled: listening.promise.catch(() => {}),
      closed: false,
    }
    this.#current = current
    server.maxConnections = maximumConnections
    server.on('connection', (socket) => this.#accepted(current, socket))
    server.on('drop', (dropped) => this.#options.refused(`${dropped?.remoteAddress}:${dropped?.remotePort}`))
    server.once('error', listening.reject)
    server.listen({ host, port }, listening.resolve)
    try {
      await listening.promise
    } catch (error) {
      if (this.#current === current) this.#current = undefined
      if (current.closed) return undefined
      throw error
    }
    server.on('error', (error) => this.#options.faulted(error))
    return current.closed ? undefined : (server.address() as net.AddressInfo).port
  }

  /** Drops everybody at once. @returns When the address is free. */
  async close(): Promise<void> {
    const current = this.#current
    if (current === undefined) return
    current.closed = true
    for (const connection of current.connections) connection.destroy()
    await current.settled
    if (current.server.listening) {
      await new Promise<void>((resolve) => current.server.close(() => resolve()))
    }
    if (this.#current === current) this.#current = undefined
  }

  #accepted(current: Listening, socket: net.Socket): void {
    if (current.closed) {
      socket.destroy()
      return
    }
    const connection = new TcpConnection(socket, this.#options.lingerMs)
    current.connections.add(connection)
    socket.once('close', () => current.connections.delete(connection))
    try {
      connection.attach(this.#options.accept(connection))
    } catch (error) {
      this.#options.faulted(error as Error)
      socket.on('error', () => {})
      socket.destroy()
    }
  }
}

/** Takes an address and lets it go again. @throws What the system says if the address is not to be had. */
export async function probeAddress(host: string, port: number): Promise<void> {
  const server = net.createServer((socket) => socket.on('error', () => {}).destroy())
  const listening = Promise.withResolvers<void>()
  server.once('error', listening.reject)
  server.listen({ host, port }, listening.resolve)
  await listening.promise
  await new Promise<void>((resolve) => server.close(() => resolve()))
}

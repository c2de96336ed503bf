import type { Address, Connection, ConnectionHandler, Listener, Network } from '../../store/src/io/network.ts'

/**
 * Byte streams in memory, for protocols that are tested without sockets: what is written arrives in a later microtask,
 * one chunk as one, unless a test keeps a connection from delivering.
 */
export class VirtualNetwork implements Network {
  readonly #listeners = new Map<string, (connection: Connection) => void>()
  readonly #connections = new Set<VirtualConnection>()

  /** Connections that have not been closed; each has two ends. */
  get openEnds(): number {
    return this.#connections.size
  }

  async listen(bind: Address, accept: (connection: Connection) => void): Promise<Listener> {
    const address = `${bind.host}:${bind.port}`
    if (this.#listeners.has(address)) throw new Error(`listen EADDRINUSE: address already in use ${address}`)
    this.#listeners.set(address, accept)
    return {
      address: bind,
      close: async () => {
        this.#listeners.delete(address)
      },
    }
  }

  async connect(to: Address): Promise<Connection> {
    const accept = this.#listeners.get(`${to.host}:${to.port}`)
    if (accept === undefined) throw new Error(`connect ECONNREFUSED ${to.host}:${to.port}`)
    const [near, far] = [new VirtualConnection(this.#connections), new VirtualConnection(this.#connections)]
    near.join(far)
    accept(far)
    return near
  }
}

class VirtualConnection implements Connection {
  readonly remoteAddress = 'virtual'
  readonly bufferedBytes = 0
  readonly #open: Set<VirtualConnection>
  #other: VirtualConnection | undefined
  #handler: ConnectionHandler | undefined
  #early: Buffer[] = []
  #closed = false

  constructor(open: Set<VirtualConnection>) {
    this.#open = open
    open.add(this)
  }

  join(other: VirtualConnection): void {
    this.#other = other
    other.#other = this
  }

  handle(handler: ConnectionHandler): void {
    this.#handler = handler
    queueMicrotask(() => {
      for (const chunk of this.#early.splice(0)) handler.data(chunk)
      if (this.#closed) handler.closed(undefined)
    })
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const bytes = Buffer.concat(chunks)
    const other = this.#other
    queueMicrotask(() => other?.receive(bytes))
    return true
  }

  end(): void {
    queueMicrotask(() => this.destroy())
  }

  destroy(): void {
    if (this.#closed) return
    this.close()
    const other = this.#other
    queueMicrotask(() => other?.close())
  }

  receive(bytes: Buffer): void {
    if (this.#closed) return
    if (this.#handler === undefined) this.#early.push(bytes)
    else this.#handler.data(bytes)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#open.delete(this)
    if (this.#handler !== undefined) this.#handler.closed(undefined)
  }
}

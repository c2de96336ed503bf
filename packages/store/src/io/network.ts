/** Where to reach a peer: a host name or address, and a port from 1 to 65535. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** What a {@link Connection} tells its owner. `closed` comes exactly once, last, also after `destroy`. */
export interface ConnectionHandler {
  data(chunk: Buffer): void
  /** The output buffer, once above the mark that made `write` return false, is empty again. */
  drained(): void
  closed(cause: Error | undefined): void
}

/** One byte stream to a peer. */
export interface Connection {
  readonly remoteAddress: string
  /** Bytes accepted by `write` and not yet given to the operating system. */
  readonly bufferedBytes: number
  /** Must be called once, at once after the connection was handed out. */
  handle(handler: ConnectionHandler): void
  /** Queues the chunks, without copying them. False means: wait for `drained` before writing much more. */
  write(chunks: readonly Uint8Array[]): boolean
  /** Closes after what was written has been sent, for at most a second. */
  end(): void
  /** Closes at once; what is buffered is dropped. */
  destroy(): void
}

export interface Listener {
  readonly address: Address
  close(): Promise<void>
}

/** Byte streams between nodes, as the store sees them. */
export interface Network {
  /** Rejects with the system's error (`EADDRINUSE`, …) if the address cannot be bound. Port 0 takes a free one. */
  listen(bind: Address, accept: (connection: Connection) => void): Promise<Listener>
  /** Rejects if the connection is not established within `timeoutMs`. */
  connect(to: Address, timeoutMs: number): Promise<Connection>
}

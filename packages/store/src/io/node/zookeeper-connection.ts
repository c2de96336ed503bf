import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Client, createClient } from 'node-zookeeper-client'
import { CoordinationError } from '../coordination.ts'
import type { Address } from '../network.ts'

export interface ZooKeeperConnectionOptions {
  readonly servers: readonly Address[]
  /** Asked for; the server decides. */
  readonly sessionTimeoutMs: number
  /** `user:password` for the digest scheme. */
  readonly credentials: string | undefined
  log(level: 'warn' | 'error', message: string, facts?: Readonly<Record<string, unknown>>): void
}

export interface ZooKeeperConnectionHandler {
  /** The session is established or resumed. */
  connected(): void
  disconnected(): void
  /** The session is over; nothing follows, and this connection is of no more use. */
  over(reason: 'expired' | 'denied'): void
}

/** What the client keeps to itself and is faulty; the names are its own. */
interface ConnectionManager {
  servers: { host: string; port: number }[]
  serverAttempts: number
  state: number
  sessionTimeout: number
  connectTimeout: number
  connectTimeoutHandler: NodeJS.Timeout | undefined
  pendingBuffer: Buffer | null
  /** Last transaction seen: servers that are behind it refuse the connection. */
  zxid: Buffer
  packetQueue: { shift(): unknown }
  socket: import('node:net').Socket | undefined
  updateTimeout(sessionTimeoutMs: number): void
  connect(): void
  findNextServer(use: (server: { host: string; port: number }) => void): void
  onSocketConnected(): void
  onSocketData(chunk: Buffer): void
  onSocketClosed(hadError: boolean): void
}

const managerState = { connected: 2, closing: -1 } as const
/** Pause after all servers were tried in vain: this, and as much again at random. */
const roundDelayMs = 250
const closeTimeoutMs = 700

/**
 * One session with ZooKeeper through node-zookeeper-client 1.1.3, and the guard that this client needs: it never
 * notices a silent server, waits for ever for a handshake, keeps the first half of a reply for the next connection,
 * throws at or hangs in `close`, loses requests made while disconnected, and lets exceptions out of socket handlers.
 * It reaches into that release: another one needs the tests against a real ensemble first.
 *
 * Invariants: at most one socket; every request settles within the session timeout; nothing is sent before the
 * server has accepted the session, so the credentials always go first; after `stop` no socket and no timer is left.
 */
export class ZooKeeperConnection {
  readonly #client: Client
  readonly #manager: ConnectionManager
  readonly #options: ZooKeeperConnectionOptions
  readonly #handler: ZooKeeperConnectionHandler
  readonly #rejecters = new Set<(error: CoordinationError) => void>()
  #watchdog: NodeJS.Timeout | undefined
  #nextServer: NodeJS.Timeout | undefined
  #serverIndex = 0
  #heardMs = 0
  #lookedMs = 0
  #connected = false
  #lostMs = 0
  #sessionId: Buffer | undefined
  #stopped = false

  constructor(options: ZooKeeperConnectionOptions, handler: ZooKeeperConnectionHandler) {
    this.#options = options
    this.#handler = handler
    // The client cannot parse IPv6 addresses and resolves nothing itself, so it gets the list already parsed, below.
    this.#client = createClient('replaced:2181', { sessionTimeout: options.sessionTimeoutMs, retries: 0 })
    this.#manager = (this.#client as unknown as { connectionManager: ConnectionManager }).connectionManager
    this.#manager.servers = shuffled(options.servers)
    this.#manager.updateTimeout(options.sessionTimeoutMs)
    if (options.credentials !== undefined)
      this.#client.addAuthInfo('digest', Buffer.from(options.credentials))
    this.#guard()
    this.#client.on('connected', () => this.#established())
    this.#client.on('disconnected', () => this.#lost())
    this.#client.on('expired', () => this.#over('expired'))
    this.#client.on('authenticationFailed', () => this.#over('denied'))
  }

  /** As negotiated; `undefined` before the first connect. */
  get sessionTimeoutMs(): number | undefined {
    return this.#sessionId === undefined ? undefined : this.#manager.sessionTimeout
  }

  get connected(): boolean {
    return this.#connected
  }

  open(): void {
    const intervalMs = Math.max(20, Math.min(100, this.#options.sessionTimeoutMs / 20))
    this.#lookedMs = performance.now()
    this.#watchdog = setInterval(() => this.#watch(intervalMs), intervalMs)
    this.#client.connect()
  }

  /** True if an ephemeral node with this owner belongs to this session. */
  owns(ephemeralOwner: Buffer): boolean {
    return this.#sessionId?.equals(ephemeralOwner) === true
  }

  /** Makes one request; `take` turns what the client calls back with into the result. */
  request<A extends unknown[], T>(
    run: (client: Client, callback: (error: unknown, ...values: A) => void) => void,
    take: (...values: A) => T,
  ): Promise<T> {
    if (!this.#connected)
      return Promise.reject(new CoordinationError('NOT_CONNECTED', 'not connected to ZooKeeper'))
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const timeoutMs = this.#manager.sessionTimeout
    const timer = setTimeout(
      () => reject(new CoordinationError('TIMEOUT', `ZooKeeper did not answer within ${timeoutMs} ms`)),
      timeoutMs,
    )
    this.#rejecters.add(reject)
    try {
      run(this.#client, (error: unknown, ...values: A) => {
        if (error) return reject(toCoordinationError(error))
        try {
          resolve(take(...values))
        } catch (cause) {
          reject(cause)
        }
      })
    } catch (cause) {
      reject(cause)
    }
    return promise.finally(() => {
      clearTimeout(timer)
      this.#rejecters.delete(reject)
    })
  }

  /** Ends the session if a server listens, for at most `closeTimeoutMs`, and everything else at once. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    this.#connected = false
    this.#rejectAll('the session is closed')
    clearTimeout(this.#nextServer)
    clearInterval(this.#watchdog)
    const manager = this.#manager
    manager.connect = () => {}
    const socket = manager.socket
    if (socket !== undefined && !socket.destroyed && manager.state === managerState.connected) {
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      const deadline = new AbortController()
      this.#client.close()
      await Promise.race([
        closed,
        sleep(closeTimeoutMs, undefined, { signal: deadline.signal }).catch(() => {}),
      ])
      deadline.abort()
    }
    clearTimeout(manager.connectTimeoutHandler)
    manager.socket?.setTimeout(0)
    manager.socket?.destroy()
  }

  // ---- The guard

  #guard(): void {
    const manager = this.#manager
    const original = Object.getPrototypeOf(manager) as ConnectionManager
    manager.findNextServer = (use) => this.#findNextServer(use)
    manager.onSocketConnected = () => {
      this.#heardMs = performance.now()
      original.onSocketConnected.call(manager)
    }
    manager.onSocketData = (chunk) => {
      this.#heardMs = performance.now()
      try {
        original.onSocketData.call(manager, chunk)
      } catch (error) {
        this.#options.log('warn', 'a reply of ZooKeeper could not be read', { error: String(error) })
        manager.socket?.destroy()
      }
    }
    manager.onSocketClosed = (hadError) => {
      clearTimeout(manager.connectTimeoutHandler)
      // Half a reply, and what was queued for this connection, would be taken for part of the next one.
      manager.pendingBuffer = null
      while (manager.packetQueue.shift() !== undefined) {}
      this.#forgetTransactions()
      original.onSocketClosed.call(manager, hadError)
    }
  }

  /**
   * A server whose data were lost, or restored from an old copy, is behind what this client has seen, and would refuse
   * it for ever. Once the session must be over anyway, it is worth more to be told so: a new one is made then.
   */
  #forgetTransactions(): void {
    if (this.#connected || performance.now() - this.#lostMs < this.#manager.sessionTimeout) return
    this.#manager.zxid = Buffer.alloc(8)
  }

  #findNextServer(use: (server: { host: string; port: number }) => void): void {
    const manager = this.#manager
    const allTried = manager.serverAttempts >= manager.servers.length
    manager.serverAttempts = allTried ? 1 : manager.serverAttempts + 1
    const server = manager.servers[this.#serverIndex % manager.servers.length]
    this.#serverIndex += 1
    clearTimeout(this.#nextServer)
    this.#nextServer = setTimeout(
      () => {
        if (!this.#stopped && server !== undefined) use(server)
      },
      allTried ? roundDelayMs * (1 + Math.random()) : 0,
    )
  }

  /** A server that has been silent for two thirds of the session timeout leaves just enough time to try another. */
  #watch(intervalMs: number): void {
    const nowMs = performance.now()
    const wasHeldUp = nowMs - this.#lookedMs > 3 * intervalMs
    this.#lookedMs = nowMs
    const { socket, state, sessionTimeout, connectTimeout } = this.#manager
    // After a pause of this process, what has arrived meanwhile is read before the next look.
    if (wasHeldUp || socket === undefined || socket.destroyed || socket.connecting) return
    const limitMs = state === managerState.connected ? (sessionTimeout * 2) / 3 : connectTimeout
    if (nowMs - this.#heardMs > limitMs) socket.destroy()
  }

  // ---- Events; told later than the client tells them, since it does so in the middle of its own work

  #established(): void {
    const id = this.#client.getSessionId()
    if (this.#sessionId !== undefined && !this.#sessionId.equals(id)) {
      this.#over('expired')
      return
    }
    this.#sessionId = id
    this.#connected = true
    this.#tell(() => this.#handler.connected())
  }

  #lost(): void {
    if (!this.#connected) return
    this.#connected = false
    this.#lostMs = performance.now()
    this.#rejectAll('the connection to ZooKeeper is lost')
    this.#tell(() => this.#handler.disconnected())
  }

  #over(reason: 'expired' | 'denied'): void {
    if (this.#stopped) return
    void this.stop()
    queueMicrotask(() => this.#call(() => this.#handler.over(reason)))
  }

  #tell(event: () => void): void {
    queueMicrotask(() => {
      if (!this.#stopped) this.#call(event)
    })
  }

  #call(event: () => void): void {
    try {
      event()
    } catch (error) {
      this.#options.log('error', 'a handler of ZooKeeper events failed', {
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      })
    }
  }

  #rejectAll(message: string): void {
    for (const reject of this.#rejecters) reject(new CoordinationError('CONNECTION_LOSS', message))
    this.#rejecters.clear()
  }
}

function toCoordinationError(error: unknown): CoordinationError {
  const name = error instanceof Error ? error.name : undefined
  return new CoordinationError(name ?? 'SYSTEM_ERROR', `ZooKeeper answered ${name ?? String(error)}`)
}

function shuffled(servers: readonly Address[]): { host: string; port: number }[] {
  return servers
    .map(({ host, port }) => ({ order: Math.random(), server: { host, port } }))
    .sort((a, b) => a.order - b.order)
    .map(({ server }) => server)
}

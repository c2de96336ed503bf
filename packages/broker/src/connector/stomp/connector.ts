/**
 * The STOMP connector: sockets on one side, sessions on the other, and a timer for each.
 *
 * A shell: what it decides is only how a fault is reported. Invariants: a fault in one session costs that client its
 * connection and nobody else anything; after `close` nothing of the engine is kept.
 */
import type { TransportConnectorOptions } from '../../broker-options.ts'
import type { Engine } from '../../engine.ts'
import { BrokerError } from '../../errors.ts'
import { probeAddress, type TcpConnection, type TcpHandler, TcpServer } from '../../transport/tcp.ts'
import type { Connector, ConnectorFactory, ConnectorHost } from '../connector.ts'
import { parseStompUri, type StompConnectorUri } from './connector-uri.ts'
import { NOT_MASTER, StompSession, type StompSink } from './session.ts'

/** Serves the schemes `stomp` and `stomp+nio`. */
export const createStompConnector: ConnectorFactory = (options, host) => new StompConnector(options, host)

/** The same on all brokers of a cluster, so that a message keeps its id through a failover. */
const MESSAGE_ID_PREFIX = 'levelmq'
const LINGER_MS = 2000
const MAX_PENDING_RECEIPTS = 65_536

class StompConnector implements Connector {
  readonly name: string
  readonly #configuredUri: string
  readonly #uri: StompConnectorUri
  readonly #host: ConnectorHost
  readonly #server: TcpServer
  readonly #clients = new Set<StompClient>()
  #engine: Engine | undefined
  #port: number
  #accepted = 0

  constructor(options: TransportConnectorOptions, host: ConnectorHost) {
    this.name = options.name
    this.#configuredUri = options.uri
    this.#uri = parseStompUri(options.name, options.uri)
    this.#host = host
    this.#port = this.#uri.port
    this.#server = this.#createServer()
  }

  get uri(): string {
    return this.#uri.port === this.#port
      ? this.#configuredUri
      : this.#configuredUri.replace(/:0(?=$|[/?])/, `:${this.#port}`)
  }

  async probe(): Promise<void> {
    await this.#explained(probeAddress(this.#uri.host, this.#uri.port))
  }

  async listen(engine: Engine): Promise<void> {
    this.#engine = engine
    const port = await this.#explained(this.#server.listen())
    if (port === undefined) return
    this.#port = port
    this.#host.log('info', `connector ${this.name} listens`, { connector: this.name, uri: this.uri })
  }

  async close(): Promise<void> {
    this.#engine = undefined
    for (const client of this.#clients) client.drop()
    this.#clients.clear()
    await this.#server.close()
  }

  #createServer(): TcpServer {
    const { maximumConnections } = this.#uri.options
    return new TcpServer({
      host: this.#uri.host,
      port: this.#uri.port,
      maximumConnections,
      lingerMs: LINGER_MS,
      accept: (connection) => this.#accept(connection),
      refused: (remote) =>
        this.#host.log('warn', `connector ${this.name}: client refused, maximumConnections is reached`, {
          connector: this.name,
          remote,
          maximumConnections,
        }),
      faulted: (error) =>
        this.#host.log('error', `connector ${this.name}: ${error.message}`, { connector: this.name, error }),
    })
  }

  #accept(connection: TcpConnection): TcpHandler {
    if (this.#engine === undefined) throw new Error('a client was accepted without an engine')
    const number = ++this.#accepted
    const client: StompClient = new StompClient({
      connection,
      engine: this.#engine,
      uri: this.#uri,
      host: this.#host,
      connector: this.name,
      sessionId: `${this.#host.brokerName}-${Date.now().toString(36)}-${number}`,
      gone: () => this.#clients.delete(client),
    })
    this.#clients.add(client)
    return client
  }

  /** Makes the fault of a server socket one that an operator understands. */
  async #explained<T>(listening: Promise<T>): Promise<T> {
    try {
      return await listening
    } catch (error) {
      const { host, port } = this.#uri
      const address = `${host.includes(':') ? `[${host}]` : host}:${port}`
      const code = (error as NodeJS.ErrnoException).code
      if (code === 'EADDRINUSE') {
        throw new BrokerError(
          { code: 'BROKER_ADDRESS_IN_USE', address },
          `transportConnector ${this.name}: ${address} is in use by another process`,
          { cause: error },
        )
      }
      throw new BrokerError(
        { code: 'BROKER_INVALID_CONFIGURATION', where: `transportConnector ${this.name}`, key: 'uri' },
        `transportConnector ${this.name}: cannot listen on ${address}: ${(error as Error).message}`,
        { cause: error },
      )
    }
  }
}

interface StompClientOptions {
  readonly connection: TcpConnection
  readonly engine: Engine
  readonly uri: StompConnectorUri
  readonly host: ConnectorHost
  readonly connector: string
  readonly sessionId: string
  gone(): void
}

/** One socket with its session and its timer. */
class StompClient implements TcpHandler, StompSink {
  readonly #options: StompClientOptions
  readonly #connection: TcpConnection
  readonly #session: StompSession
  #timer: NodeJS.Timeout | undefined
  #reported = false
  #done = false

  constructor(options: StompClientOptions) {
    this.#options = options
    this.#connection = options.connection
    const { connectTimeoutMs } = options.uri.options
    this.#session = new StompSession(
      options.engine,
      this,
      {
        ...options.uri.options,
        sessionId: options.sessionId,
        messageIdPrefix: MESSAGE_ID_PREFIX,
        version: options.host.version,
        maxPendingReceipts: MAX_PENDING_RECEIPTS,
      },
      performance.now(),
    )
    this.#timer = setTimeout(() => this.#tick(), connectTimeoutMs)
  }

  /** The broker is no longer master, or stops. */
  drop(): void {
    this.#session.disconnect(NOT_MASTER)
    this.#stop()
    this.#connection.destroy()
  }

  data(chunk: Buffer): void {
    this.#session.receive(chunk, performance.now(), Date.now())
  }

  ended(): void {
    this.#session.inputEnded()
  }

  drained(): void {
    this.#session.drained()
  }

  closed(): void {
    this.#stop()
    this.#session.closed()
    this.#options.gone()
  }

  faulted(error: unknown): void {
    this.failed('internal error', error)
  }

  get bufferedBytes(): number {
    return this.#connection.bufferedBytes
  }

  write(bytes: Buffer): void {
    this.#connection.write(bytes)
  }

  pauseInput(): void {
    this.#connection.pause()
  }

  resumeInput(): void {
    this.#connection.resume()
  }

  end(): void {
    this.#stop()
    this.#connection.end()
  }

  destroy(): void {
    this.#stop()
    this.#connection.destroy()
  }

  requestTick(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#tick(), 1)
  }

  failed(reason: string, cause?: unknown): void {
    if (this.#reported) return
    this.#reported = true
    const { host, connector } = this.#options
    const facts = { connector, remote: this.#connection.remoteAddress, reason }
    if (cause === undefined) host.log('warn', `stomp client disconnected: ${reason}`, facts)
    else host.log('error', `stomp client disconnected: ${reason}`, { ...facts, error: cause })
  }

  #tick(): void {
    if (this.#done) return
    try {
      const next = this.#session.tick(performance.now())
      if (next !== undefined && !this.#done) this.#timer = setTimeout(() => this.#tick(), Math.ceil(next))
    } catch (error) {
      this.faulted(error)
      this.destroy()
    }
  }

  #stop(): void {
    this.#done = true
    clearTimeout(this.#timer)
  }
}

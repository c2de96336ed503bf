import fastify, { type FastifyInstance } from 'fastify'
import { BrokerError } from '../errors.ts'
import { type HealthFacts, readinessOf } from './health.ts'

/** The broker, as far as its management server looks at it. */
export interface ManagedBroker {
  /** Plain data, ready for JSON. */
  status(): HealthFacts
  /** Whether clients are admitted: this broker is master and its connectors are open. */
  listening(): boolean
  /** Why the store cannot go on, once it cannot. */
  failure(): Error | undefined
}

/** Where the management server listens. */
interface ManagementOptions {
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
}

// Requests have no use for more than this: there is nothing to post, and no long path.
const limits = { bodyBytes: 1024, headerBytes: 16_384, requestMs: 5_000, connections: 256 }

/**
 * HTTP server for operators and their tools: `/status`, `/health/live`, `/health/ready`. It answers in every role, so
 * that a broker without a master can be asked what it waits for. It changes nothing and admits anybody who reaches it:
 * hence the loopback default.
 */
export class ManagementServer {
  readonly #options: ManagementOptions
  readonly #app: FastifyInstance

  constructor(options: ManagementOptions, broker: ManagedBroker) {
    this.#options = options
    this.#app = createManagementApp(broker)
  }

  /**
   * Starts to listen.
   *
   * @returns The address that it listens on, with its real port.
   * @throws {@link BrokerError} `BROKER_ADDRESS_IN_USE`.
   */
  async start(): Promise<ManagementOptions> {
    const { host, port } = this.#options
    try {
      await this.#app.listen({ host, port })
    } catch (cause) {
      const address = `${host}:${port}`
      const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
      if (code !== 'EADDRINUSE')
        throw new Error(`management: cannot listen on ${address}: ${String(cause)}`, { cause })
      const message = `management: ${address} is in use; stop its owner or set managementContext.port`
      throw new BrokerError({ code: 'BROKER_ADDRESS_IN_USE', address }, message, { cause })
    }
    const bound = this.#app.server.address()
    return { host, port: typeof bound === 'object' && bound !== null ? bound.port : port }
  }

  /** Closes the listener and every connection. May be called twice. */
  async stop(): Promise<void> {
    await this.#app.close()
  }
}

/** The routes, without a listener. */
export function createManagementApp(broker: ManagedBroker): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestMs,
    forceCloseConnections: true,
    http: { maxHeaderSize: limits.headerBytes, headersTimeout: limits.requestMs },
  })
  app.server.maxConnections = limits.connections
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
  })

  app.get('/status', async () => broker.status())

  app.get('/health/live', async (_request, reply) => {
    const failure = broker.failure()
    if (failure === undefined) return { live: true }
    return reply.code(503).send({ live: false, reason: failure.message })
  })

  app.get('/health/ready', async (_request, reply) => {
    const failure = broker.failure()
    const status = broker.status()
    const readiness =
      failure === undefined
        ? readinessOf(status, broker.listening())
        : { ready: false, role: status.role, reason: failure.message }
    return reply.code(readiness.ready ? 200 : 503).send(readiness)
  })

  app.setNotFoundHandler((request, reply) => {
    reply
      .code(404)
      .send({ error: 'not found', path: request.url, known: ['/status', '/health/live', '/health/ready'] })
  })
  app.setErrorHandler((error, _request, reply) => {
    const status = isClientError(error) ? error.statusCode : 500
    reply.code(status).send({ error: error instanceof Error ? error.message : String(error) })
  })
  return app
}

function isClientError(error: unknown): error is { statusCode: number } {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return false
  return typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500
}

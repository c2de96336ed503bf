import { StoreError } from '@levelmq/store'
import fastify, { type FastifyInstance } from 'fastify'
import type { ManagementOptions } from '../broker-options.ts'
import { BrokerError } from '../errors.ts'
import { AdminAccess } from './admin-access.ts'
import { type AdministeredBroker, type AdminLog, addAdminRoutes, statusOf } from './admin-routes.ts'
import { type HealthFacts, readinessOf } from './health.ts'

/** The broker, as far as its management server looks at it. */
export interface ManagedBroker extends AdministeredBroker {
  /** Plain data, ready for JSON. */
  status(): HealthFacts
  /** Whether clients are admitted: this broker is master and its connectors are open. */
  listening(): boolean
  /** Why the store cannot go on, once it cannot. */
  failure(): Error | undefined
}

// Requests have no use for more than this: what is posted is a name or two, and no path is long.
const limits = { bodyBytes: 4096, headerBytes: 16_384, requestMs: 5_000, connections: 256 }

const knownPaths: readonly string[] = [
  '/status',
  '/health/live',
  '/health/ready',
  '/admin/members',
  '/admin/transfer',
  '/admin/level',
  '/admin/queues',
  '/admin/backup',
]

/**
 * HTTP server for operators and their tools: `/status`, `/health/live`, `/health/ready`, and `/admin`. It answers in every
 * role, so that a broker without a master can be asked what it waits for. It shows its state to anybody who reaches it,
 * hence the loopback default; whom it lets change something, `AdminAccess` decides.
 */
export class ManagementServer {
  readonly #options: ManagementOptions
  readonly #app: FastifyInstance

  /** @param log - Told what administrators do. */
  constructor(options: ManagementOptions, broker: ManagedBroker, log: AdminLog = () => {}) {
    this.#options = options
    this.#app = createManagementApp(broker, options, log)
  }

  /**
   * Starts to listen.
   *
   * @returns The address that it listens on, with its real port.
   * @throws {@link BrokerError} `BROKER_ADDRESS_IN_USE`.
   */
  async start(): Promise<{ readonly host: string; readonly port: number }> {
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
export function createManagementApp(
  broker: ManagedBroker,
  options: Pick<ManagementOptions, 'host' | 'adminToken'>,
  log: AdminLog,
): FastifyInstance {
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
    const message = `no ${request.method} ${request.url}`
    reply.code(404).send({ code: 'NOT_FOUND', message, known: knownPaths })
  })
  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof BrokerError || error instanceof StoreError) {
      const status = statusOf(error)
      if (status === 401) reply.header('www-authenticate', 'Bearer')
      return reply.code(status).send({ code: error.code, message: error.message })
    }
    const message = error instanceof Error ? error.message : String(error)
    // The framework's own: a body too large, or no JSON.
    if (isClientError(error))
      return reply.code(error.statusCode).send({ code: 'BROKER_INVALID_REQUEST', message })
    return reply.code(500).send({ code: 'INTERNAL', message })
  })
  const access = new AdminAccess(options.host, options.adminToken)
  app.register(async (admin) => addAdminRoutes(admin, broker, access, log), { prefix: '/admin' })
  return app
}

function isClientError(error: unknown): error is { statusCode: number } {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return false
  return typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500
}

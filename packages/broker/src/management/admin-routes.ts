import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { type BackupReport, type StoreAdministration, StoreError } from '@levelmq/store'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { BrokerError } from '../errors.ts'
import type { AdminAccess } from './admin-access.ts'

/** The broker, as far as administrators change it. */
export interface AdministeredBroker {
  /** `undefined` if its store has none. */
  administration(): StoreAdministration | undefined
  /** Deletes a queue with everything in it; resolves once that is committed. */
  deleteQueue(name: string): Promise<void>
}

export type AdminLog = (
  level: 'info' | 'warn',
  message: string,
  facts: Readonly<Record<string, unknown>>,
) => void

/** Longest time that a backup waits for its reader: meanwhile the journal cannot be freed of what the backup still has to read. */
const stallMs = 60_000

/** Trailer with the report of a backup; what comes without it is not whole. */
const reportTrailer = 'levelmq-backup'

const nodeId = z.string().min(1).max(128)
const bodies = {
  members: z.strictObject({ action: z.enum(['add', 'remove']), nodeId }),
  transfer: z.strictObject({ to: nodeId.optional() }),
  level: z.strictObject({ level: z.int().min(1).max(65_535) }),
  queues: z.strictObject({ action: z.literal('delete'), name: z.string().min(1).max(1024) }),
}

/**
 * What is below `/admin`: everything that changes something, and the backup, which shows everything. Each request passes
 * `access` before its body is read; what is done is logged with the address of who asked for it.
 */
export function addAdminRoutes(
  app: FastifyInstance,
  broker: AdministeredBroker,
  access: AdminAccess,
  log: AdminLog,
): void {
  let backingUp = false
  const administration = (): StoreAdministration => {
    const found = broker.administration()
    if (found !== undefined) return found
    throw new BrokerError({ code: 'BROKER_UNSUPPORTED' }, 'the store of this broker cannot be administered')
  }
  const perform = async <T>(request: FastifyRequest, what: string, work: () => Promise<T>): Promise<T> => {
    const facts = { peer: request.ip }
    log('info', `administration: ${what}`, facts)
    try {
      const result = await work()
      log('info', `administration: ${what}: done`, facts)
      return result
    } catch (error) {
      log('warn', `administration: ${what}: failed`, { ...facts, reason: reasonOf(error) })
      throw error
    }
  }

  app.addHook('onRequest', async (request) => {
    const { method, headers, socket } = request
    try {
      access.check({ method, peerAddress: socket.remoteAddress, headers })
    } catch (error) {
      const path = request.routeOptions.url
      log('warn', 'administration: refused', { peer: request.ip, method, path, reason: reasonOf(error) })
      throw error
    }
  })

  app.get('/members', async () => administration().members())

  app.post('/members', async (request) => {
    const { action, nodeId } = bodyOf(bodies.members, request)
    await perform(request, `${action} member ${nodeId}`, () =>
      action === 'add' ? administration().addMember(nodeId) : administration().removeMember(nodeId),
    )
    return { action, nodeId }
  })

  app.post('/transfer', async (request) => {
    const { to } = bodyOf(bodies.transfer, request)
    return await perform(request, `transfer mastership to ${to ?? 'any other'}`, () =>
      administration().transfer(to),
    )
  })

  app.post('/level', async (request) => {
    const { level } = bodyOf(bodies.level, request)
    await perform(request, `finalise level ${level}`, () => administration().finaliseLevel(level))
    return { level }
  })

  app.post('/queues', async (request) => {
    const { action, name } = bodyOf(bodies.queues, request)
    await perform(request, `${action} queue ${name}`, () => broker.deleteQueue(name))
    return { action, name }
  })

  app.get('/backup', { exposeHeadRoute: false }, async (request, reply) => {
    const store = administration()
    if (backingUp) throw new BrokerError({ code: 'BROKER_BUSY' }, 'another backup is being made')
    backingUp = true
    const answer = new BackupAnswer(reply.raw, () => reply.hijack())
    try {
      const report = await perform(request, 'backup', () => store.backup((chunk) => answer.write(chunk)))
      answer.end(report)
    } catch (error) {
      // What was begun cannot become an error any more: the client sees it break off.
      if (!answer.begun) throw error
      reply.raw.destroy()
    } finally {
      backingUp = false
    }
    return reply
  })
}

/** The HTTP status that a failure is answered with. */
export function statusOf(error: unknown): number {
  if (error instanceof StoreError) return error.code === 'STORE_CLOSED' ? 503 : 409
  if (error instanceof BrokerError) {
    switch (error.detail.code) {
      case 'BROKER_INVALID_REQUEST':
        return error.detail.part === 'content-type' ? 415 : 400
      case 'BROKER_NOT_ALLOWED':
        return error.detail.reason === 'token' ? 401 : 403
      case 'BROKER_UNKNOWN_QUEUE':
        return 404
      case 'BROKER_UNSUPPORTED':
        return 501
      case 'BROKER_BUSY':
        return 409
    }
  }
  return 500
}

/** A backup on its way to a client, no faster than that reads. */
class BackupAnswer {
  begun = false
  readonly #response: ServerResponse
  readonly #hijack: () => void
  readonly #gone = new AbortController()

  constructor(response: ServerResponse, hijack: () => void) {
    this.#response = response
    this.#hijack = hijack
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#begin()
    this.#gone.signal.throwIfAborted()
    if (this.#response.write(chunk)) return
    const signal = AbortSignal.any([this.#gone.signal, AbortSignal.timeout(stallMs)])
    await once(this.#response, 'drain', { signal })
  }

  end(report: BackupReport): void {
    this.#begin()
    this.#response.addTrailers({ [reportTrailer]: JSON.stringify(report) })
    this.#response.end()
  }

  #begin(): void {
    if (this.begun) return
    this.begun = true
    this.#hijack()
    this.#response.once('close', () => this.#gone.abort(new Error('the client is gone')))
    this.#response.writeHead(200, {
      'content-type': 'application/octet-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      trailer: reportTrailer,
    })
  }
}

function bodyOf<T>(schema: z.ZodType<T>, request: FastifyRequest): T {
  const parsed = schema.safeParse(request.body)
  if (parsed.success) return parsed.data
  const words = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'the body'}: ${message}`)
  throw new BrokerError({ code: 'BROKER_INVALID_REQUEST', part: 'body' }, words.join('; '))
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

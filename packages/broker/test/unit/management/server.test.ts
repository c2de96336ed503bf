import { createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { HealthFacts } from '../../../src/management/health.ts'
import { createManagementApp, type ManagedBroker, ManagementServer } from '../../../src/management/server.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

function broker(facts: HealthFacts, more: { listening?: boolean; failure?: Error } = {}): ManagedBroker {
  return {
    status: () => facts,
    listening: () => more.listening ?? true,
    failure: () => more.failure,
    administration: () => undefined,
    deleteQueue: async () => undefined,
  }
}

async function get(managed: ManagedBroker, url: string) {
  const app = createManagementApp(managed, { host: '127.0.0.1' }, () => undefined)
  closing.push(() => app.close())
  const response = await app.inject({ method: 'GET', url })
  return { status: response.statusCode, body: response.json() }
}

test('management: /status shows what the broker says, in any role', async () => {
  const facts: HealthFacts = { nodeId: 'n1', role: 'electing', waitingFor: 'one more of three voters' }
  expect(await get(broker(facts), '/status')).toEqual({ status: 200, body: facts })
})

test('management: a broker without a master is alive but not ready, and says why', async () => {
  const managed = broker({ role: 'electing', waitingFor: 'one more of three voters' })
  expect((await get(managed, '/health/live')).status).toBe(200)
  const ready = await get(managed, '/health/ready')
  expect(ready.status).toBe(503)
  expect(ready.body.reason).toContain('one more of three voters')
})

test('management: a failed store is neither alive nor ready', async () => {
  const managed = broker({ role: 'master' }, { failure: new Error('fdatasync failed') })
  expect(await get(managed, '/health/live')).toEqual({
    status: 503,
    body: { live: false, reason: 'fdatasync failed' },
  })
  expect((await get(managed, '/health/ready')).status).toBe(503)
})

test.each<[string, HealthFacts, boolean, number]>([
  ['a master with open connectors', { role: 'master' }, true, 200],
  ['a master whose connectors are not open', { role: 'master' }, false, 503],
  [
    'a slave that follows',
    { role: 'slave', nodeId: 'b', members: [{ nodeId: 'b', state: 'self' }] },
    false,
    200,
  ],
  [
    'a slave that lags',
    { role: 'slave', nodeId: 'b', members: [{ nodeId: 'b', state: 'cannot catch up' }] },
    false,
    503,
  ],
])('management: readiness of %s', async (_name, facts, listening, status) => {
  expect((await get(broker(facts, { listening }), '/health/ready')).status).toBe(status)
})

test('management: an unknown path is a JSON 404 that names the known ones', async () => {
  const answer = await get(broker({ role: 'master' }), '/nowhere')
  expect(answer.status).toBe(404)
  expect(answer.body.known).toContain('/status')
})

test('management: a busy port is an error that names management and the address', async () => {
  const owner = createServer()
  const port = await new Promise<number>((resolve) => {
    owner.listen(0, '127.0.0.1', () => resolve((owner.address() as { port: number }).port))
  })
  closing.push(() => new Promise((resolve) => owner.close(resolve)))
  const server = new ManagementServer({ host: '127.0.0.1', port }, broker({ role: 'master' }))
  await expect(server.start()).rejects.toMatchObject({
    code: 'BROKER_ADDRESS_IN_USE',
    message: expect.stringMatching(new RegExp(`management.*127.0.0.1:${port}`)),
  })
  await server.stop()
})

import { get as httpGet, type IncomingMessage } from 'node:http'
import { type BackupReport, type MembersReport, type StoreAdministration, StoreError } from '@levelmq/store'
import { afterEach, expect, test } from 'vitest'
import { BrokerError } from '../../../src/errors.ts'
import { createManagementApp, type ManagedBroker, ManagementServer } from '../../../src/management/server.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

const members: MembersReport = { clusterUuid: 'c', level: 1, changeUnderWay: false, members: [] }
const report: BackupReport = { records: 3, bytes: 6, position: { epoch: 1, index: 3 }, clusterUuid: 'c' }

/** A broker that notes what it is told to do. */
class FakeBroker implements ManagedBroker {
  readonly calls: string[] = []
  fault: Error | undefined
  backup: StoreAdministration['backup'] = async () => report

  status() {
    return { role: 'master' as const }
  }
  listening() {
    return true
  }
  failure() {
    return undefined
  }
  async deleteQueue(name: string): Promise<void> {
    this.#call(`delete ${name}`)
  }
  administration(): StoreAdministration {
    return {
      members: () => members,
      addMember: async (nodeId) => this.#call(`add ${nodeId}`),
      removeMember: async (nodeId) => this.#call(`remove ${nodeId}`),
      transfer: async (nodeId) => {
        this.#call(`transfer ${nodeId}`)
        return { to: nodeId ?? 'n2' }
      },
      finaliseLevel: async (level) => this.#call(`level ${level}`),
      backup: (write) => this.backup(write),
    }
  }

  #call(what: string): void {
    if (this.fault !== undefined) throw this.fault
    this.calls.push(what)
  }
}

function app(broker: ManagedBroker, log: (line: string) => void = () => {}, adminToken?: string) {
  const options = adminToken === undefined ? { host: '127.0.0.1' } : { host: '127.0.0.1', adminToken }
  const made = createManagementApp(broker, options, (level, message, facts) =>
    log(`${level} ${message} ${JSON.stringify(facts)}`),
  )
  closing.push(() => made.close())
  return made
}

async function post(broker: ManagedBroker, url: string, body: unknown) {
  const answer = await app(broker).inject({
    method: 'POST',
    url,
    headers: { host: 'localhost' },
    payload: body as object,
  })
  return { status: answer.statusCode, body: answer.json() }
}

test.each<[string, object, string, object]>([
  ['/admin/members', { action: 'add', nodeId: 'n4' }, 'add n4', { action: 'add', nodeId: 'n4' }],
  ['/admin/members', { action: 'remove', nodeId: 'n1' }, 'remove n1', { action: 'remove', nodeId: 'n1' }],
  ['/admin/transfer', {}, 'transfer undefined', { to: 'n2' }],
  ['/admin/transfer', { to: 'n3' }, 'transfer n3', { to: 'n3' }],
  ['/admin/level', { level: 2 }, 'level 2', { level: 2 }],
  [
    '/admin/queues',
    { action: 'delete', name: 'orders' },
    'delete orders',
    { action: 'delete', name: 'orders' },
  ],
])('admin: POST %s %j is carried out', async (url, body, call, answer) => {
  const broker = new FakeBroker()
  expect(await post(broker, url, body)).toEqual({ status: 200, body: answer })
  expect(broker.calls).toEqual([call])
})

test('admin: GET /admin/members tells the members', async () => {
  const answer = await app(new FakeBroker()).inject({ url: '/admin/members', headers: { host: 'localhost' } })
  expect(answer.json()).toEqual(members)
})

test.each<[string, unknown]>([
  ['/admin/members', { action: 'promote', nodeId: 'n4' }],
  ['/admin/members', { action: 'add' }],
  ['/admin/members', { action: 'add', nodeId: 'n4', force: true }],
  ['/admin/transfer', { to: 3 }],
  ['/admin/level', { level: 1.5 }],
  ['/admin/queues', { action: 'delete', name: '' }],
  ['/admin/queues', []],
])('admin: POST %s %j is refused as it stands, and nothing is done', async (url, body) => {
  const broker = new FakeBroker()
  const answer = await post(broker, url, body)
  expect(answer).toMatchObject({ status: 400, body: { code: 'BROKER_INVALID_REQUEST' } })
  expect(answer.body.message.length).toBeGreaterThan(5)
  expect(broker.calls).toEqual([])
})

test('admin: a body that is too large is refused unread', async () => {
  const answer = await post(new FakeBroker(), '/admin/transfer', { to: 'x'.repeat(5000) })
  expect(answer).toMatchObject({ status: 413, body: { code: 'BROKER_INVALID_REQUEST' } })
})

test.each<[Error, number, string]>([
  [new StoreError({ code: 'STORE_NOT_MASTER' }, 'not here'), 409, 'STORE_NOT_MASTER'],
  [new StoreError({ code: 'STORE_CHANGE_REFUSED', change: 'add' }, 'no'), 409, 'STORE_CHANGE_REFUSED'],
  [new StoreError({ code: 'STORE_CLOSED' }, 'closed'), 503, 'STORE_CLOSED'],
  [new BrokerError({ code: 'BROKER_UNKNOWN_QUEUE', queue: 'q' }, 'no q'), 404, 'BROKER_UNKNOWN_QUEUE'],
  [new Error('surprise'), 500, 'INTERNAL'],
])('admin: %s is answered with %i and its code', async (fault, status, code) => {
  const broker = new FakeBroker()
  broker.fault = fault
  const answer = await post(broker, '/admin/queues', { action: 'delete', name: 'q' })
  expect(answer).toEqual({ status, body: { code, message: fault.message } })
})

test('admin: a store without administration says that it has none', async () => {
  const broker = Object.assign(new FakeBroker(), { administration: () => undefined })
  expect(await post(broker, '/admin/transfer', {})).toMatchObject({
    status: 501,
    body: { code: 'BROKER_UNSUPPORTED' },
  })
})

test('admin: without the token nothing is done, and the token is in no log', async () => {
  const adminToken = 'only-the-operator-knows'
  const broker = new FakeBroker()
  const lines: string[] = []
  const managed = app(broker, (line) => lines.push(line), adminToken)
  const ask = (authorization: string) =>
    managed.inject({ method: 'POST', url: '/admin/transfer', headers: { authorization }, payload: {} })
  const refused = await ask('Bearer something-else-entirely')
  expect(refused.statusCode).toBe(401)
  expect(refused.headers['www-authenticate']).toBe('Bearer')
  expect(refused.json()).toMatchObject({ code: 'BROKER_NOT_ALLOWED' })
  expect(broker.calls).toEqual([])
  expect(lines).toEqual([expect.stringMatching(/^warn administration: refused .*"path":"\/admin\/transfer"/)])
  expect((await ask(`Bearer ${adminToken}`)).statusCode).toBe(200)
  expect(lines.join('\n')).toContain('transfer mastership')
  expect(lines.join('\n')).not.toContain(adminToken)
})

/** A GET of the backup over a real connection: trailers and broken connections are what it is about. */
async function backup(
  broker: FakeBroker,
): Promise<{ status: number; bytes: string; trailer: unknown; whole: boolean }> {
  const server = new ManagementServer({ host: '127.0.0.1', port: 0 }, broker)
  closing.push(() => server.stop())
  const { port } = await server.start()
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    httpGet({ host: '127.0.0.1', port, path: '/admin/backup', agent: false }, resolve).on('error', reject)
  })
  const chunks: Buffer[] = []
  response.on('error', () => {})
  response.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise((resolve) => response.once('close', resolve))
  return {
    status: response.statusCode ?? 0,
    bytes: Buffer.concat(chunks).toString(),
    trailer: response.trailers['levelmq-backup'],
    whole: response.complete,
  }
}

test('S37: a backup is streamed, and its report comes at the end', async () => {
  const broker = new FakeBroker()
  broker.backup = async (write) => {
    for (const part of ['ab', 'cd', 'ef']) await write(Buffer.from(part))
    return report
  }
  const answer = await backup(broker)
  expect(answer).toMatchObject({ status: 200, bytes: 'abcdef', whole: true })
  expect(JSON.parse(String(answer.trailer))).toEqual(report)
})

test('S37: a backup that fails at once is an error, one that fails on the way breaks off', async () => {
  const broker = new FakeBroker()
  broker.backup = () =>
    Promise.reject(new StoreError({ code: 'STORE_CHANGE_REFUSED', change: 'backup' }, 'no'))
  expect(await backup(broker)).toMatchObject({ status: 409, whole: true })
  broker.backup = async (write) => {
    // Enough for the client to see the beginning.
    for (let part = 0; part < 20; part++) await write(Buffer.alloc(1 << 16))
    throw new Error('disk')
  }
  expect(await backup(broker)).toMatchObject({ status: 200, trailer: undefined, whole: false })
})

test('S37: a backup waits for a reader that is slow, and ends when the reader goes', async () => {
  const broker = new FakeBroker()
  const ended = Promise.withResolvers<unknown>()
  broker.backup = async (write) => {
    try {
      for (;;) await write(Buffer.alloc(1 << 16))
    } catch (error) {
      ended.resolve(error)
      throw error
    }
  }
  const server = new ManagementServer({ host: '127.0.0.1', port: 0 }, broker)
  closing.push(() => server.stop())
  const { port } = await server.start()
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    httpGet({ host: '127.0.0.1', port, path: '/admin/backup', agent: false }, resolve).on('error', reject)
  })
  response.on('error', () => {})
  const second = await fetch(`http://127.0.0.1:${port}/admin/backup`)
  expect([second.status, await second.json()]).toMatchObject([409, { code: 'BROKER_BUSY' }])
  response.destroy()
  expect(await ended.promise).toBeInstanceOf(Error)
})

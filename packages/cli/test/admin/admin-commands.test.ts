import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BrokerStatus, ManagementServer } from '@levelmq/broker'
import { type MembersReport, type StoreAdministration, StoreError } from '@levelmq/store'
import { afterEach, beforeEach, expect, test } from 'vitest'

const mainFile = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const report: MembersReport = {
  clusterUuid: 'c-1',
  level: 1,
  changeUnderWay: false,
  members: [
    member('broker-1', 'n1', 'voter'),
    member('broker-2', 'n2', 'voter'),
    { ...member('broker-4', 'n4', 'learner'), levels: { lowest: 1, highest: 2 } },
    { ...member('twin', 'n5', 'learner'), connected: false, position: undefined, lag: undefined },
    { ...member('twin', 'n6', 'learner') },
  ],
}

let directory = ''
let calls: string[] = []
let role: BrokerStatus['role'] = 'master'
let fault: Error | undefined
let backup: StoreAdministration['backup']
let server: ManagementServer | undefined

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'levelmq-cli-'))
  calls = []
  role = 'master'
  fault = undefined
  backup = async (write) => {
    for (const part of ['back', 'up']) await write(Buffer.from(part))
    return { records: 7, bytes: 6, position: { epoch: 2, index: 7 }, clusterUuid: 'c-1' }
  }
})

afterEach(async () => {
  await server?.stop()
  server = undefined
  rmSync(directory, { recursive: true })
})

test('members: shows them in an aligned table, or as JSON', async () => {
  const url = await broker()
  const { code, stdout } = await levelmq(['members', '--url', url])
  expect(code).toBe(0)
  expect(stdout).toContain('level    1')
  const rows = stdout.split('\n').filter((line) => /^(NAME|broker-|twin)/.test(line))
  expect(rows).toHaveLength(6)
  expect(new Set(rows.map((line) => line.search(/ROLE|voter|learner/))).size).toBe(1)
  expect(rows[3]).toContain('1-2')
  expect(JSON.parse((await levelmq(['members', 'list', '--json', '--url', url])).stdout)).toEqual(
    JSON.parse(JSON.stringify(report)),
  )
})

test.each<[string[], string, string]>([
  [['members', 'add', 'broker-4'], 'add n4', 'votes now'],
  [['members', 'remove', 'n1'], 'remove n1', 'votes no more'],
  [['transfer'], 'transfer undefined', 'broker-2 (n2) is master now'],
  [['transfer', '--to', 'broker-1'], 'transfer n1', 'broker-1 (n1) is master now'],
  [['finalise', '2'], 'level 2', 'level 2'],
  [['delete-queue', '/queue/orders'], 'delete orders', 'deleted'],
])('%j asks the master, and says what was done', async (args, call, words) => {
  const { code, stdout, stderr } = await levelmq([...args, '--url', await broker()])
  expect(stderr).toBe('')
  expect(stdout).toContain(words)
  expect(calls).toEqual([call])
  expect(code).toBe(0)
})

test.each<[string[], string]>([
  [['members', 'add', 'broker-9'], 'no member broker-9; there are broker-1 (n1), broker-2 (n2)'],
  [['members', 'add', 'twin'], 'several members are called twin'],
  [['finalise', 'two'], 'a whole number from 1'],
  [['members', 'promote', 'n4'], 'too many arguments'],
])('%j is wrong usage, and nothing is done', async (args, words) => {
  const { code, stderr } = await levelmq([...args, '--url', await broker()])
  expect(stderr).toContain(words)
  expect(code).toBe(2)
  expect(calls).toEqual([])
})

test('a refusal is exit code 1 with the broker’s code and reason', async () => {
  fault = new StoreError({ code: 'STORE_CHANGE_REFUSED', change: 'add' }, 'n4 lags 10000 records behind')
  const { code, stderr } = await levelmq(['members', 'add', 'n4', '--url', await broker()])
  expect(stderr).toContain('STORE_CHANGE_REFUSED: n4 lags 10000 records behind')
  expect(code).toBe(1)
})

test('a mastership that ends meanwhile is exit code 3, and so is a cluster without master', async () => {
  fault = new StoreError({ code: 'STORE_NOT_MASTER' }, 'no longer master')
  const url = await broker()
  expect((await levelmq(['transfer', '--url', url])).code).toBe(3)
  role = 'electing'
  const { code, stderr } = await levelmq(['transfer', '--url', url])
  expect(stderr).toContain('no master serves')
  expect(code).toBe(3)
})

test('the token comes from the environment or a file, and is never printed', async () => {
  const token = 'only-the-operator-knows'
  const url = await broker(token)
  const without = await levelmq(['transfer', '--url', url])
  expect(without.stderr).toContain('BROKER_NOT_ALLOWED')
  expect(without.stderr).toContain('LEVELMQ_ADMIN_TOKEN')
  expect(without.code).toBe(1)
  const wrong = await levelmq(['transfer', '--url', url], { LEVELMQ_ADMIN_TOKEN: `${token}x` })
  expect([wrong.code, wrong.stderr.includes(token)]).toEqual([1, false])
  expect((await levelmq(['transfer', '--url', url], { LEVELMQ_ADMIN_TOKEN: token })).code).toBe(0)
  const file = join(directory, 'token')
  writeFileSync(file, `${token}\n`)
  expect((await levelmq(['transfer', '--url', url, '--token-file', file])).code).toBe(0)
  expect(calls).toHaveLength(2)
})

test('S37: backup writes the file whole, tells what is in it, and replaces none unasked', async () => {
  const url = await broker()
  const file = join(directory, 'orders.levelmq')
  const first = await levelmq(['backup', file, '--url', url])
  expect(first.stdout).toContain('7 records, 6 bytes, up to position 2/7 of cluster c-1')
  expect(first.code).toBe(0)
  expect(readFileSync(file, 'utf8')).toBe('backup')
  const second = await levelmq(['backup', file, '--url', url])
  expect(second.stderr).toContain('--force')
  expect(second.code).toBe(2)
  const third = await levelmq(['backup', file, '--force', '--json', '--url', url])
  expect(JSON.parse(third.stdout)).toMatchObject({ file, records: 7, position: { epoch: 2, index: 7 } })
  expect(readdirSync(directory)).toEqual(['orders.levelmq'])
})

test('S37: a backup that breaks off leaves no file and is exit code 3', async () => {
  backup = async (write) => {
    for (let part = 0; part < 20; part++) await write(Buffer.alloc(1 << 16))
    throw new Error('the disk failed')
  }
  const file = join(directory, 'orders.levelmq')
  const { code, stderr } = await levelmq(['backup', file, '--url', await broker()])
  expect(stderr).toContain('broke off')
  expect(code).toBe(3)
  expect(readdirSync(directory)).toEqual([])
})

test('backup: a place that cannot be written is exit code 1', async () => {
  const { code, stderr } = await levelmq(['backup', join(directory, 'missing', 'x'), '--url', await broker()])
  expect(stderr).toContain('cannot be written')
  expect(code).toBe(1)
})

/** A broker's management server, in front of a broker that notes what it is told. */
async function broker(adminToken?: string): Promise<string> {
  const call = async (what: string) => {
    if (fault !== undefined) throw fault
    calls.push(what)
  }
  const administration: StoreAdministration = {
    members: () => report,
    addMember: (nodeId) => call(`add ${nodeId}`),
    removeMember: (nodeId) => call(`remove ${nodeId}`),
    transfer: async (nodeId) => {
      await call(`transfer ${nodeId}`)
      return { to: nodeId ?? 'n2' }
    },
    finaliseLevel: (level) => call(`level ${level}`),
    backup: (write) => backup(write),
  }
  const options = { host: '127.0.0.1', port: 0, ...(adminToken === undefined ? {} : { adminToken }) }
  server = new ManagementServer(options, {
    status: () => ({ brokerName: 'broker-1', epoch: 2, role }),
    listening: () => role === 'master',
    failure: () => undefined,
    administration: () => administration,
    deleteQueue: (name) => call(`delete ${name}`),
  })
  const { port } = await server.start()
  return `http://127.0.0.1:${port}`
}

function member(name: string, nodeId: string, role: 'voter' | 'learner'): MembersReport['members'][number] {
  return {
    name,
    nodeId,
    storeUuid: `store-${nodeId}`,
    address: '127.0.0.1:61619',
    role,
    connected: true,
    position: { epoch: 2, index: 7 },
    lag: 0,
    levels: { lowest: 1, highest: 1 },
  }
}

function levelmq(args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [mainFile, ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) =>
    child.on('close', (code) => resolve({ code, stdout, stderr })),
  )
}

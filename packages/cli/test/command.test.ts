import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FakeBroker } from './fake-broker.ts'

const mainFile = fileURLToPath(new URL('../src/main.ts', import.meta.url))
let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'levelmq-cli-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

function levelmq(args: readonly string[], input = '', env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [mainFile, ...args], {
    cwd: directory,
    env: { PATH: process.env.PATH, ...env },
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) =>
    child.on('close', (code) => resolve({ code, stdout, stderr })),
  )
}

test('levelmq --version prints a version', async () => {
  const { code, stdout } = await levelmq(['--version'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})

test.each(['', 'start', 'cluster', 'status', 'produce', 'consume'])(
  'levelmq %s --help explains exit codes with examples',
  async (command) => {
    const { code, stdout } = await levelmq([...command.split(' ').filter(Boolean), '--help'])
    expect(code).toBe(0)
    expect(stdout).toContain('Exit codes:')
    expect(stdout).toContain('Examples:')
    expect(stdout).not.toContain('\x1b[')
  },
)

test.each<[string[], string]>([
  [['stauts'], 'Did you mean status?'],
  [['status', '--jsno'], 'Did you mean --json?'],
  [['produce', '--count', 'many'], 'a whole number from 1'],
  [['produce', '--url', 'failover:(tcp://a:1)?randomise=true'], 'randomise'],
  [['produce', '--file', 'x', '--count', '1'], 'cannot be used with'],
  [['consume', '--ack', 'never'], 'client-individual'],
  [['status', '--url', 'nonsense'], 'is not a URL'],
  [['consume', 'too-much'], 'too many arguments'],
  [['cluster', '--brokers', '10'], 'from 1 to 9'],
])('levelmq %j is wrong usage: exit code 2', async (args, message) => {
  const { code, stderr } = await levelmq(args)
  expect(stderr).toContain(message)
  expect(code).toBe(2)
})

test('levelmq without a command shows its help and is wrong usage', async () => {
  const { code, stderr } = await levelmq([])
  expect(stderr).toContain('Usage: levelmq')
  expect(code).toBe(2)
})

test('start: a wrong configuration is exit code 2 with file, line and column', async () => {
  const file = join(directory, 'wrong.yaml')
  writeFileSync(file, 'brokerName: a\nlog:\n  level: loud\n')
  const { code, stderr } = await levelmq(['start', '--config', file])
  expect(stderr).toContain(`${file}:3:10: log.level: found "loud"`)
  expect(code).toBe(2)
})

test('start: an unknown variable is exit code 2 with the nearest one', async () => {
  const { code, stderr } = await levelmq(['start'], '', { LEVELMQ_BROKERNAME: 'x' })
  expect(stderr).toContain('did you mean LEVELMQ_BROKER_NAME?')
  expect(code).toBe(2)
})

test('cluster: a wrong --sync is exit code 2 before anything starts', async () => {
  const { code, stdout, stderr } = await levelmq([
    'cluster',
    '--sync',
    'fast',
    '--base-port-offset',
    '1900',
    '--data',
    'd',
  ])
  expect(stderr).toContain('quorum_disk')
  expect(stdout).toBe('')
  expect(code).toBe(2)
})

test('cluster: a port in use is exit code 1 and named before anything starts', async () => {
  const owner = createTcpServer()
  const listen = (port: number) =>
    new Promise<boolean>((resolve) => {
      owner.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
    })
  let offset = 2000
  while (!(await listen(8162 + offset))) offset++
  try {
    const { code, stdout, stderr } = await levelmq(['cluster', '--base-port-offset', String(offset)])
    expect(stderr).toContain(`127.0.0.1:${8162 + offset} (management of broker-2)`)
    expect(stdout).toBe('')
    expect(code).toBe(1)
  } finally {
    owner.close()
  }
})

test('produce and consume: lines come back byte for byte', async () => {
  const queue: Buffer[] = []
  const broker = new FakeBroker((frame, connection) => {
    if (frame.command === 'SEND') queue.push(Buffer.from(frame.body))
    if (frame.command === 'SUBSCRIBE') {
      for (const [index, body] of queue.entries()) {
        connection.send('MESSAGE', { 'message-id': `m${index}`, ack: `a${index}`, subscription: '0' }, body)
      }
    }
    const receipt = frame.headers.get('receipt')
    if (receipt !== undefined) connection.send('RECEIPT', { 'receipt-id': receipt })
  })
  const url = `failover:(tcp://127.0.0.1:${await broker.listen()})`
  try {
    const lines = 'first\n\nwith \ttab and ünïcödé\r\nlast\n'
    const produced = await levelmq(['produce', '--queue', 'q', '--json'], lines, { LEVELMQ_URL: url })
    expect(produced.code).toBe(0)
    expect(JSON.parse(produced.stdout)).toMatchObject({ outcome: 'done', confirmed: 4, inDoubt: 0 })
    const consumed = await levelmq(['consume', '--queue', 'q', '--count', '4', '--url', url])
    expect(consumed).toMatchObject({
      code: 0,
      stdout: lines,
      stderr: expect.stringContaining('4 consumed from q'),
    })
  } finally {
    await broker.close()
  }
})

test('produce: nothing confirmed in time is exit code 3 and tells what is in doubt', async () => {
  const broker = new FakeBroker(() => {})
  const url = `tcp://127.0.0.1:${await broker.listen()}`
  try {
    const { code, stderr } = await levelmq(['produce', '--url', url, '--count', '7', '--timeout', '0.2'])
    expect(stderr).toContain('0 confirmed, 7 in doubt')
    expect(code).toBe(3)
  } finally {
    await broker.close()
  }
})

const status = {
  brokerName: 'broker-2',
  nodeId: 'n2',
  pid: 1,
  role: 'master',
  epoch: 7,
  position: 120,
  positionEpoch: 7,
  commitIndex: 118,
  durableIndex: 120,
  elector: 'raft',
  sync: 'quorum_disk',
  syncWarning: null,
  replicas: 3,
  quorum: { needed: 2, present: 3 },
  waitingFor: null,
  masterNodeId: 'n2',
  master: { brokerName: 'broker-2', connectors: ['stomp://127.0.0.1:61623'] },
  electionReason: 'link lost',
  members: [
    {
      name: 'broker-2',
      nodeId: 'n2',
      role: 'master',
      voter: true,
      position: 120,
      lag: 0,
      state: 'self',
      reason: null,
      lastHeardMs: 0,
      address: '127.0.0.1:61629',
    },
    {
      name: 'broker-3',
      nodeId: 'n3',
      role: 'slave',
      voter: true,
      position: 110,
      lag: 10,
      state: 'catching up',
      reason: null,
      lastHeardMs: 41.7,
      address: '127.0.0.1:61639',
    },
  ],
  zookeeper: null,
  queues: 1,
  clients: 0,
  connectors: [],
  uptimeSeconds: 1,
  version: '0.1.0',
}

async function withManagement<T>(
  answer: object,
  ready: boolean,
  body: (url: string) => Promise<T>,
): Promise<T> {
  const server = createServer((request, response) => {
    response.statusCode = request.url === '/health/ready' && !ready ? 503 : 200
    response.end(JSON.stringify(answer))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    return await body(`http://127.0.0.1:${(server.address() as { port: number }).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

test('status: shows master, quorum and an aligned table; exit code 0', async () => {
  const { code, stdout } = await withManagement(status, true, (url) => levelmq(['status', '--url', url]))
  expect(stdout).toContain('broker-2')
  expect(stdout).toContain('epoch         7 (link lost)')
  expect(stdout).toContain('quorum        3 present, 2 of 3 needed')
  const rows = stdout.split('\n').filter((line) => /^(NAME|broker-)/.test(line))
  expect(new Set(rows.map((line) => line.search(/ADDRESS|127\.0\.0\.1/))).size).toBe(1)
  expect(stdout).toContain('42 ms ago')
  expect(code).toBe(0)
})

test('status --json: what the broker said, on one line', async () => {
  const { code, stdout } = await withManagement(status, true, (url) =>
    levelmq(['status', '--json', '--url', url]),
  )
  expect(JSON.parse(stdout)).toMatchObject({ ...status, serving: true })
  expect(code).toBe(0)
})

test('status: no master is exit code 3 and says what is waited for', async () => {
  const waiting = { ...status, role: 'electing', master: null, waitingFor: 'one more of three voters' }
  const { code, stdout } = await withManagement(waiting, false, (url) => levelmq(['status', '--url', url]))
  expect(stdout).toContain('no master')
  expect(stdout).toContain('one more of three voters')
  expect(code).toBe(3)
})

test('status: nobody answers is exit code 1 and names who was asked', async () => {
  const url = await withManagement(status, true, async (address) => address)
  const { code, stderr } = await levelmq(['status', '--url', url])
  expect(stderr).toContain(`${url}: connection refused`)
  expect(code).toBe(1)
})

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createStore } from '@levelmq/store'
import { afterAll, beforeAll, expect, test } from 'vitest'

const mainFile = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const messages = 200
let root = ''
let sound = ''

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'levelmq-inspect-test-'))
  sound = join(root, 'LevelDB')
  const store = createStore(
    { kind: 'levelDB', options: { directory: sound } },
    { memberInfo: {}, log: () => {} },
  )
  const { promise: done, resolve, reject } = Promise.withResolvers<void>()
  let last = Number.POSITIVE_INFINITY
  await store.open({
    promoted: (session) => {
      const queue = session.addQueue('orders')
      for (let count = 0; count < messages; count++)
        last = session.addMessage(queue, 0, 0, Buffer.from('head '), Buffer.alloc(2000, `${count} `))
    },
    confirmed: (index) => {
      if (index >= last) resolve()
    },
    demoted: () => {},
    committed: () => {},
    drained: () => {},
    leaseRenewed: () => {},
    changed: () => {},
    failed: reject,
  })
  await done
  await store.close()
})
afterAll(() => rm(root, { recursive: true, force: true }))

interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function levelmq(...args: string[]): Promise<Outcome> {
  return outcomeOf(process.execPath, [mainFile, ...args])
}

async function outcomeOf(command: string, args: readonly string[]): Promise<Outcome> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

/** A copy of the store with one bit of its first segment flipped. */
async function damaged(offset: number): Promise<{ directory: string; segment: string }> {
  const directory = join(root, `damaged-${offset}`)
  await cp(sound, directory, { recursive: true })
  const segment = join(directory, 'journal', '00000000000000000001.log')
  const content = await readFile(segment)
  content[offset] = (content[offset] ?? 0) ^ 1
  await writeFile(segment, content)
  return { directory, segment }
}

test.each(['verify', 'dump'])('levelmq %s --help explains exit codes with examples', async (command) => {
  const { code, stdout } = await levelmq(command, '--help')
  expect(code).toBe(0)
  expect(stdout).toContain('Exit codes:')
  expect(stdout).toContain('Examples:')
  expect(stdout).toContain('<directory>')
})

test.each<[string[], string]>([
  [['verify'], 'missing required argument'],
  [['dump'], 'missing required argument'],
  [['verify', '/nowhere/at/all'], 'holds no store'],
  [['dump', mainFile], 'holds no store'],
  [['dump', 'x', '--from', '0'], 'a whole number from 1'],
  [['dump', 'x', '--headers-only', '--bodies'], 'cannot be used with'],
])('levelmq %j is wrong usage: exit code 2', async (args, message) => {
  const { code, stdout, stderr } = await levelmq(...args)
  expect(stderr).toContain(message)
  expect(stdout).toBe('')
  expect(code).toBe(2)
})

test("verify: a broker's directory leads to the store in it", async () => {
  const { code, stderr } = await levelmq('verify', root)
  expect(stderr).toContain(`that is ${sound}`)
  expect(code).toBe(2)
})

test('verify: a sound store is exit code 0, with a summary', async () => {
  const { code, stdout, stderr } = await levelmq('verify', sound)
  expect(stdout).toMatch(/^orders +3 +200$/m)
  expect(stdout).toContain(`messageAdded ${messages}`)
  expect(stdout).toContain('epochs     1 at 1')
  expect(stdout.trimEnd()).toMatch(/\nsound$/)
  // No bar and no colour where there is no terminal.
  expect(stderr).toBe('')
  expect(stdout).not.toContain('\x1b[')
  expect(code).toBe(0)
})

test('verify: damage is exit code 1, with file, offset, record and meaning', async () => {
  const { directory, segment } = await damaged(32 + 64 + 20)
  const { code, stdout } = await levelmq('verify', directory)
  expect(stdout).toContain(`corrupt  ${segment} at 32 [record 1]: the payload of a batch is damaged`)
  expect(stdout).toContain('corrupt: was durable once')
  expect(stdout.trimEnd()).toMatch(/damaged: 1 problem$/)
  expect(code).toBe(1)
})

test('verify --json: everything on one line', async () => {
  const { directory, segment } = await damaged(32 + 64 + 21)
  const { code, stdout } = await levelmq('verify', directory, '--json')
  expect(JSON.parse(stdout)).toMatchObject({
    sound: false,
    findings: [{ meaning: 'corrupt', file: segment, offset: 32, index: 1 }, { meaning: 'note' }],
    journal: { segments: 1, recordsByKind: { messageAdded: messages } },
  })
  expect(code).toBe(1)
})

test('verify and dump: a store in use is exit code 3', async () => {
  const script = `
    const { createStore } = await import('@levelmq/store')
    const options = { directory: process.argv[1] }
    const store = createStore({ kind: 'levelDB', options }, { memberInfo: {}, log: () => {} })
    const nothing = () => {}
    await store.open({
      promoted: () => console.log('open'), demoted: nothing, confirmed: nothing, committed: nothing,
      drained: nothing, leaseRenewed: nothing, changed: nothing, failed: nothing,
    })
    process.stdin.resume().on('end', () => process.exit())`
  const directory = join(root, 'in-use')
  await cp(sound, directory, { recursive: true })
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script, directory], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  try {
    await once(owner.stdout, 'data')
    for (const command of ['verify', 'dump']) {
      const { code, stdout, stderr } = await levelmq(command, directory)
      expect(stderr).toContain('STORE_DIRECTORY_IN_USE')
      expect(stdout).toBe('')
      expect(code).toBe(3)
    }
  } finally {
    owner.stdin.end()
    await once(owner, 'exit')
  }
})

interface Line {
  readonly type: string
  readonly kind: string
  readonly index: number
  readonly count: number
  readonly records?: Line[]
  readonly envelope?: string
  readonly envelopeBytes?: number
}

function linesOf(stdout: string): Line[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

test('dump: batches with their records, and the same as lines of their own', async () => {
  const inside = linesOf((await levelmq('dump', sound)).stdout)
  expect(inside.every((line) => line.type === 'batch' && line.records?.length === line.count)).toBe(true)
  const apart = linesOf((await levelmq('dump', sound, '--records')).stdout)
  const records = apart.filter((line) => line.type === 'record')
  expect(records).toEqual(
    inside.flatMap((line) => line.records?.map((each) => ({ ...each, type: 'record' }))),
  )
  expect(records.map(({ index }) => index)).toEqual(records.map((_, place) => place + 1))
  expect(records[5]).toEqual({
    type: 'record',
    kind: 'messageAdded',
    index: 6,
    queue: 3,
    queueName: 'orders',
    producer: 0,
    producerId: null,
    sequence: 0,
    envelopeBytes: 2005,
  })
})

test('dump --bodies: envelopes come back byte for byte', async () => {
  const { code, stdout } = await levelmq(
    'dump',
    sound,
    '--bodies',
    '--records',
    '--queue',
    'orders',
    '--from',
    '4',
  )
  const added = linesOf(stdout).filter((line) => line.kind === 'messageAdded')
  expect(added).toHaveLength(messages)
  for (const [count, line] of added.entries()) {
    const envelope = Buffer.from(line.envelope ?? '', 'base64')
    expect(envelope.equals(Buffer.concat([Buffer.from('head '), Buffer.alloc(2000, `${count} `)]))).toBe(true)
  }
  expect(code).toBe(0)
})

test('dump --headers-only: no records', async () => {
  const { stdout } = await levelmq('dump', sound, '--headers-only')
  expect(linesOf(stdout).every((line) => line.type === 'batch' && !('records' in line))).toBe(true)
})

test('dump: damage is exit code 1, behind what is sound', async () => {
  const whole = linesOf((await levelmq('dump', sound, '--headers-only')).stdout) as (Line & {
    offset: number
  })[]
  const hit = whole[1]?.offset ?? 0
  const { directory, segment } = await damaged(hit + 60)
  const { code, stdout, stderr } = await levelmq('dump', directory, '--headers-only')
  expect(linesOf(stdout)).toHaveLength(1)
  expect(stderr).toContain(`${segment} at ${hit}: the header of a batch is damaged`)
  expect(code).toBe(1)
})

test('dump: a reader that has enough ends it quietly', async () => {
  const command = `"${process.execPath}" "${mainFile}" dump "${sound}" --bodies --records | head -n 1; echo "\${PIPESTATUS[0]}"`
  const { stdout, stderr } = await outcomeOf('bash', ['-c', command])
  expect(stderr).toBe('')
  expect(stdout).toMatch(/^\{"type":"batch".*\}\n0\n$/)
})

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { levelmq, root } from '../system/child-process.ts'

const patienceMs = 240_000
/** Records per digest: so many are named if two logs differ. */
const stretch = 256
/** The highest that `levelmq dump --to` takes. */
const highestIndex = 999_999_999_999_999

/** What one store says when its broker is stopped. */
export interface StoredLog {
  readonly name: string
  readonly firstIndex: number
  readonly lastIndex: number
  /** Digests of the content of records, by the number of their stretch; only of whole stretches. */
  digestOf(from: number, to: number): Promise<ReadonlyMap<number, string>>
  /** What `verify` found damaged. */
  readonly damage: readonly string[]
}

interface VerifyOutput {
  readonly sound: boolean
  readonly findings: readonly { readonly meaning: string; readonly file: string; readonly what: string }[]
  readonly journal: { readonly firstIndex: number; readonly lastIndex: number }
}

/** Reads a stopped store with `levelmq verify`; with {@link StoredLog.digestOf} its log as well. */
export async function readStore(name: string, directory: string): Promise<StoredLog> {
  const result = await levelmq(['verify', '--json', directory], { timeoutMs: patienceMs })
  let report: VerifyOutput
  try {
    report = JSON.parse(result.stdout) as VerifyOutput
  } catch {
    throw new Error(`levelmq verify ${directory}: exit code ${result.code}: ${result.stderr}`)
  }
  const damage = report.findings
    .filter(({ meaning }) => meaning !== 'note' && meaning !== 'mended')
    .map(({ meaning, file, what }) => `${meaning} ${file}: ${what}`)
  if (!report.sound && damage.length === 0) damage.push('not sound, and nothing is named')
  if (result.code !== 0 && damage.length === 0) damage.push(`exit code ${result.code}`)
  return {
    name,
    firstIndex: report.journal.firstIndex,
    lastIndex: report.journal.lastIndex,
    digestOf: (from, to) => digest(directory, from, to),
    damage,
  }
}

interface DumpedLine {
  readonly type: string
  readonly epoch?: number
  readonly kind?: string
  readonly index?: number
  readonly queue?: number
  /** Of a message that is stated again: the index it had. */
  readonly message?: number
  readonly messages?: readonly number[]
  queueName?: unknown
  producerId?: unknown
}

/** Messages that a log holds and that nobody has acknowledged. */
export async function liveMessages(directory: string): Promise<number> {
  const live = new Set<number>()
  for await (const line of dump(directory, 1, Number.MAX_SAFE_INTEGER)) {
    if (line.kind === 'messageAdded') live.add(line.index ?? 0)
    if (line.kind === 'messageKept') live.add(line.message ?? 0)
    if (line.kind === 'messagesRemoved') for (const message of line.messages ?? []) live.delete(message)
  }
  return live.size
}

/** W12: all stores hold the same records, from where all begin up to what is committed. */
export async function differences(logs: readonly StoredLog[], committed: number): Promise<string[]> {
  const from = Math.max(...logs.map((log) => log.firstIndex), 1)
  const wrong = logs
    .filter((log) => log.lastIndex < committed)
    .map((log) => `${log.name} ends at record ${log.lastIndex}, and ${committed} are committed`)
  const [first, ...others] = await Promise.all(
    logs.map(async (log) => ({ name: log.name, digests: await log.digestOf(from, committed) })),
  )
  for (const other of others) {
    for (const [number, digestThere] of first?.digests ?? []) {
      const digestHere = other.digests.get(number)
      if (digestHere === digestThere) continue
      const start = number * stretch
      wrong.push(`${first?.name} and ${other.name} differ in records ${start} to ${start + stretch - 1}`)
      break
    }
  }
  return wrong
}

async function digest(directory: string, from: number, to: number): Promise<Map<number, string>> {
  const hashes = new Map<number, ReturnType<typeof createHash>>()
  let epoch = 0
  for await (const line of dump(directory, from, to)) {
    if (line.type === 'batch') epoch = line.epoch ?? 0
    if (line.type !== 'record' || line.index === undefined || line.index < from || line.index > to) continue
    // Names that the record itself does not have: the dump knows them only if it has read where they were given.
    if (line.kind !== 'queueAdded' && line.kind !== 'queueKept') delete line.queueName
    if (line.kind !== 'producerAdded' && line.kind !== 'producerKept') delete line.producerId
    const number = Math.floor(line.index / stretch)
    let hash = hashes.get(number)
    if (hash === undefined) {
      hash = createHash('sha256')
      hashes.set(number, hash)
    }
    hash.update(`${epoch} ${JSON.stringify(line)}\n`)
  }
  return new Map([...hashes].map(([number, hash]) => [number, hash.digest('hex')]))
}

async function* dump(directory: string, from: number, to: number): AsyncGenerator<DumpedLine> {
  const range = ['--from', `${from}`, '--to', `${Math.min(to, highestIndex)}`]
  const args = ['dump', directory, '--records', '--bodies', ...range]
  const child = spawn(process.execPath, [`${root}/packages/cli/src/main.ts`, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const complaint: string[] = []
  child.stderr.setEncoding('utf8').on('data', (text: string) => complaint.push(text))
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
  for await (const line of createInterface({ input: child.stdout })) yield JSON.parse(line) as DumpedLine
  const code = await exit
  if (code !== 0) throw new Error(`levelmq dump ${directory}: exit code ${code}: ${complaint.join('')}`)
}

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { levelmq, root } from '../system/child-process.ts'

const patienceMs = 240_000
/** Records per digest: so many are named if two logs differ. */
const stretch = 256

/** What one store says when its broker is stopped. */
export interface StoredLog {
  readonly name: string
  readonly firstIndex: number
  readonly lastIndex: number
  /** Digests of the content of records, by the number of their stretch; only of whole stretches. */
  digestOf(from: number, to: number): Promise<ReadonlyMap<number, string>>
  /** Live messages by queue. */
  readonly live: ReadonlyMap<string, number>
  /** What `verify` found damaged. */
  readonly damage: readonly string[]
}

interface VerifyOutput {
  readonly sound: boolean
  readonly findings: readonly { readonly meaning: string; readonly file: string; readonly what: string }[]
  readonly journal: { readonly firstIndex: number; readonly lastIndex: number }
  readonly queues: readonly { readonly name: string; readonly messageCount: number }[]
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
    live: new Map(report.queues.map((queue) => [queue.name, queue.messageCount])),
    damage,
  }
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
  const args = ['dump', directory, '--records', '--bodies', '--from', `${from}`, '--to', `${to}`]
  const child = spawn(process.execPath, [`${root}/packages/cli/src/main.ts`, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const complaint: string[] = []
  child.stderr.setEncoding('utf8').on('data', (text: string) => complaint.push(text))
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
  const hashes = new Map<number, ReturnType<typeof createHash>>()
  let epoch = 0
  for await (const line of createInterface({ input: child.stdout })) {
    const item = JSON.parse(line) as { type: string; epoch?: number; index?: number }
    if (item.type === 'batch') {
      epoch = item.epoch ?? 0
      continue
    }
    if (item.index === undefined || item.index < from || item.index > to) continue
    const number = Math.floor(item.index / stretch)
    let hash = hashes.get(number)
    if (hash === undefined) {
      hash = createHash('sha256')
      hashes.set(number, hash)
    }
    hash.update(`${epoch} ${line}\n`)
  }
  const code = await exit
  if (code !== 0) throw new Error(`levelmq dump ${directory}: exit code ${code}: ${complaint.join('')}`)
  return new Map([...hashes].map(([number, hash]) => [number, hash.digest('hex')]))
}

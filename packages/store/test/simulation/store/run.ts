/**
 * Runs the simulation of whole stores over many seeds.
 *
 *   node packages/store/test/simulation/store/run.ts --seeds 10000 --from 1 --processes 2
 *   node packages/store/test/simulation/store/run.ts --seeds 500 --flavour rot   faults of one theme
 *   node packages/store/test/simulation/store/run.ts --seed 42 --trace           one run, told step by step
 *   node packages/store/test/simulation/store/run.ts --mutants                   how soon each planted fault is found
 */
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { flavoured, flavourNamed } from './flavours.ts'
import { huntMutant, mutants } from './mutants.ts'
import { type StoreSimulationResult, simulateStores } from './store-simulation.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    processes: { type: 'string', default: '1' },
    flavour: { type: 'string' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    /** Of the mutants: those whose rule or name begins so. */
    only: { type: 'string', default: '' },
    /** Of the mutants: those that are to be found within so many seeds. */
    within: { type: 'string', default: '1000000' },
    /** For programs: what each process has counted. */
    json: { type: 'boolean', default: false },
  },
})

const maxFailures = 50
const flavour = values.flavour === undefined ? undefined : flavourNamed(values.flavour)
const command = `node packages/store/test/simulation/store/run.ts${flavour === undefined ? '' : ` --flavour ${flavour}`}`

if (values.mutants) await hunt()
else if (values.seed !== undefined) await replay(Number(values.seed))
else if (Number(values.processes) > 1)
  await runProcesses(Number(values.from), Number(values.seeds), Number(values.processes))
else await runSeeds(Number(values.from), Number(values.seeds))

async function replay(seed: number): Promise<void> {
  try {
    const told = values.trace ? { trace: (line: string) => console.log(line) } : {}
    console.log(await simulateStores({ seed, ...flavoured(flavour), ...told }))
  } catch (error) {
    console.log(error instanceof Error ? error.message : error)
    process.exitCode = 1
  }
}

/** What many runs come to. */
interface Sums {
  seeds: number
  failures: number
  events: number
  virtualMs: number
  masters: number
  messages: number
  committed: number
  deaths: number
  chunks: number
  slowestMs: number
  faults: Record<string, number>
}

function noSums(): Sums {
  return {
    seeds: 0,
    failures: 0,
    events: 0,
    virtualMs: 0,
    masters: 0,
    messages: 0,
    committed: 0,
    deaths: 0,
    chunks: 0,
    slowestMs: 0,
    faults: {},
  }
}

async function runSeeds(from: number, count: number): Promise<void> {
  const began = performance.now()
  const sums = noSums()
  for (let seed = from; seed < from + count && sums.failures < maxFailures; seed++) {
    sums.seeds++
    try {
      add(sums, await simulateStores({ seed, ...flavoured(flavour) }))
    } catch (error) {
      sums.failures++
      console.log(error instanceof Error ? error.message.slice(0, 1500) : error)
      console.log(`  ${command} --seed ${seed} --trace`)
      process.exitCode = 1
    }
  }
  if (values.json) console.log(JSON.stringify(sums))
  else tell(from, sums, performance.now() - began)
}

function add(sums: Sums, run: StoreSimulationResult): void {
  for (const key of ['events', 'virtualMs', 'masters', 'messages', 'committed', 'deaths', 'chunks'] as const)
    sums[key] += run[key]
  sums.slowestMs = Math.max(sums.slowestMs, run.settledMs)
  for (const [kind, times] of Object.entries(run.faults)) sums.faults[kind] = (sums.faults[kind] ?? 0) + times
}

function tell(from: number, sums: Sums, ms: number): void {
  const faults = Object.entries(sums.faults).sort(([, left], [, right]) => right - left)
  console.log(
    `${sums.seeds} seeds from ${from}: ${sums.failures} failed; ${((sums.seeds * 1000) / ms).toFixed(1)} seeds/s, ` +
      `${(sums.virtualMs / ms).toFixed(1)} virtual s per s\n` +
      `${sums.events} events, ${(sums.virtualMs / 1000).toFixed(0)} virtual s, ${sums.masters} masterships, ` +
      `${sums.messages} messages, ${sums.committed} records, ${sums.deaths} deaths, ` +
      `${sums.chunks} chunks on the network, slowest to settle ${sums.slowestMs.toFixed(0)} ms\n` +
      `faults: ${faults.map(([kind, times]) => `${kind} ${times}`).join(', ')}`,
  )
}

/** Each process takes an equal share of the seeds. */
async function runProcesses(from: number, count: number, processes: number): Promise<void> {
  const began = performance.now()
  const share = Math.ceil(count / processes)
  const sums = noSums()
  const runs = Array.from({ length: processes }, (_, at) => {
    const first = from + at * share
    const seeds = Math.min(share, from + count - first)
    const args = [
      import.meta.filename,
      '--json',
      '--from',
      String(first),
      '--seeds',
      String(Math.max(0, seeds)),
    ]
    if (flavour !== undefined) args.push('--flavour', flavour)
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let last = ''
    child.stdout.on('data', (data: Buffer) => {
      const lines = `${last}${data}`.split('\n')
      last = lines.pop() ?? ''
      for (const line of lines) {
        if (line.startsWith('{')) merge(sums, JSON.parse(line) as Sums)
        else console.log(line)
      }
    })
    return new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1)))
  })
  const codes = await Promise.all(runs)
  if (codes.some((code) => code !== 0)) process.exitCode = 1
  tell(from, sums, performance.now() - began)
}

function merge(sums: Sums, { faults, slowestMs, ...others }: Sums): void {
  for (const [key, value] of Object.entries(others)) sums[key as keyof typeof others] += value
  sums.slowestMs = Math.max(sums.slowestMs, slowestMs)
  for (const [kind, times] of Object.entries(faults)) sums.faults[kind] = (sums.faults[kind] ?? 0) + times
}

/** One line for each mutant: rule, name, seed that found it of those within which it must be found, and what failed. */
async function hunt(): Promise<void> {
  for (const mutant of mutants) {
    const { rule, name, within } = mutant
    if (within > Number(values.within) || !(name.startsWith(values.only) || rule === values.only)) continue
    if (within === 0) {
      console.log(`${rule} | ${name} | - | ${mutant.note ?? ''}`)
      continue
    }
    const { seed, message, ms } = await huntMutant(mutant)
    if (seed === undefined) process.exitCode = 1
    const what = message.replace(/^seed \d+: /, '').split('\n')[0]
    console.log(
      `${rule} | ${name} | ${seed ?? 'NOT FOUND'} of ${within}${mutant.flavour === undefined ? '' : ` (${mutant.flavour})`} | ${what?.slice(0, 160)} | ${(ms / 1000).toFixed(1)} s`,
    )
  }
}

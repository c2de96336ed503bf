/**
 * Runs the simulation of whole stores over many seeds.
 *
 *   node packages/store/test/simulation/store/run.ts --seeds 10000 --from 1 --processes 2
 *   node packages/store/test/simulation/store/run.ts --seed 42 --trace     one run, told step by step
 */
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { simulateStores } from './store-simulation.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    processes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
})

const maxFailures = 50

if (values.seed !== undefined) await replay(Number(values.seed), values.trace)
else if (Number(values.processes) > 1)
  await runProcesses(Number(values.from), Number(values.seeds), Number(values.processes))
else await runSeeds(Number(values.from), Number(values.seeds))

async function replay(seed: number, trace: boolean): Promise<void> {
  try {
    const told = trace ? { trace: (line: string) => console.log(line) } : {}
    console.log(await simulateStores({ seed, ...told }))
  } catch (error) {
    console.log(error instanceof Error ? error.message : error)
    process.exitCode = 1
  }
}

async function runSeeds(from: number, count: number): Promise<void> {
  const began = performance.now()
  const sums = {
    seeds: 0,
    failures: 0,
    events: 0,
    virtualMs: 0,
    masters: 0,
    messages: 0,
    deaths: 0,
    slowestMs: 0,
  }
  for (let seed = from; seed < from + count && sums.failures < maxFailures; seed++) {
    sums.seeds++
    try {
      const result = await simulateStores({ seed })
      sums.events += result.events
      sums.virtualMs += result.virtualMs
      sums.masters += result.masters
      sums.messages += result.messages
      sums.deaths += result.deaths
      sums.slowestMs = Math.max(sums.slowestMs, result.settledMs)
    } catch (error) {
      sums.failures++
      console.log(error instanceof Error ? error.message.slice(0, 1500) : error)
      process.exitCode = 1
    }
  }
  const seconds = (performance.now() - began) / 1000
  console.log(
    `${sums.seeds} seeds from ${from}: ${sums.failures} failed, ${(sums.seeds / seconds).toFixed(1)} seeds/s; ` +
      `${sums.events} events, ${(sums.virtualMs / 1000).toFixed(0)} virtual s, ${sums.masters} masterships, ` +
      `${sums.messages} messages, ${sums.deaths} deaths, slowest to settle ${sums.slowestMs.toFixed(0)} ms`,
  )
}

/** Each process takes an equal share of the seeds. */
async function runProcesses(from: number, count: number, processes: number): Promise<void> {
  const share = Math.ceil(count / processes)
  const runs = Array.from({ length: processes }, (_, at) => {
    const first = from + at * share
    const seeds = Math.min(share, from + count - first)
    const args = [import.meta.filename, '--from', String(first), '--seeds', String(Math.max(0, seeds))]
    const child = spawn(process.execPath, args, { stdio: 'inherit' })
    return new Promise<number>((resolve) => child.on('exit', (code) => resolve(code ?? 1)))
  })
  const codes = await Promise.all(runs)
  if (codes.some((code) => code !== 0)) process.exitCode = 1
}

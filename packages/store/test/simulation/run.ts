/**
 * Runs the consensus simulation over many seeds.
 *
 *   node packages/store/test/simulation/run.ts --seeds 10000 --from 1
 *   node packages/store/test/simulation/run.ts --seed 42 --trace      one run, told step by step
 *   node packages/store/test/simulation/run.ts --mutants --seeds 2000  how soon each planted fault is found
 */
import { parseArgs } from 'node:util'
import { simulate } from './consensus-simulation.ts'
import { huntMutant, mutants } from './mutants.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
})

if (values.seed !== undefined) {
  const trace = values.trace ? { trace: (line: string) => console.log(line) } : {}
  console.log(simulate({ seed: Number(values.seed), ...trace }))
} else if (values.mutants) await hunt(Number(values.seeds), values.only ?? '')
else runSeeds(Number(values.from), Number(values.seeds))

function runSeeds(from: number, count: number): void {
  const began = performance.now()
  let failures = 0
  let events = 0
  let changes = 0
  let installs = 0
  let losses = 0
  let transfers = 0
  let inherited = 0
  let lost = 0
  let longestMs = 0
  for (let seed = from; seed < from + count; seed++) {
    try {
      const result = simulate({ seed })
      events += result.events
      changes += result.reconfigurations
      installs += result.installs
      losses += result.losses
      transfers += result.transfers
      inherited += result.inherited
      if (result.lost) lost++
      longestMs = Math.max(longestMs, result.settledMs)
    } catch (error) {
      failures++
      console.log(error instanceof Error ? error.message : error)
      process.exitCode = 1
      if (failures >= 20) break
    }
  }
  const seconds = (performance.now() - began) / 1000
  console.log(
    `${count} seeds from ${from}, ${failures} failed, ${(count / seconds).toFixed(0)} seeds/s, ` +
      `${(events / count).toFixed(0)} events and ${(changes / count).toFixed(1)} changes of voters each, ${installs} logs installed, ${transfers} masterships handed over, ${inherited} of them as asked, ${losses} stores that forgot, ${lost} runs with a loss that nobody knew of, slowest to settle ${longestMs.toFixed(0)} ms`,
  )
}

async function hunt(seeds: number, only: string): Promise<void> {
  for (const mutant of mutants) {
    if (!mutant.name.includes(only)) continue
    const began = performance.now()
    const found = await huntMutant(mutant, seeds)
    const ms = (performance.now() - began).toFixed(0)
    if (found === undefined) process.exitCode = 1
    console.log(
      `${mutant.rule} ${mutant.name}: ${found?.message ?? `not found in ${seeds} seeds`} (${ms} ms)`,
    )
  }
}

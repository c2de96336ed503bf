import { describe, expect, test } from 'vitest'
import { simulate } from './consensus-simulation.ts'
import { huntMutant, mutants } from './mutants.ts'

const only = process.env.LEVELMQ_SEED
const budgetMs = 6000

describe('simulation of consensus cores', () => {
  if (only !== undefined) {
    test(`seed ${only}`, () => {
      console.log(simulate({ seed: Number(only) }))
    })
    return
  }

  test('many seeds: every rule is kept under faults, and a healed cluster settles', {
    timeout: 60_000,
  }, () => {
    // The first ones always, so that every machine runs them; then as many as there is time for.
    const began = performance.now()
    let elections = 0
    let committed = 0
    let crashes = 0
    let reconfigurations = 0
    let installs = 0
    let losses = 0
    let transfers = 0
    let inherited = 0
    let lost = 0
    for (let seed = 1; seed <= 1000 || performance.now() - began < budgetMs; seed++) {
      const result = simulate({ seed })
      elections += result.elections
      committed += result.committedBatches
      crashes += result.crashes
      reconfigurations += result.reconfigurations
      installs += result.installs
      losses += result.losses
      transfers += result.transfers
      inherited += result.inherited
      if (result.lost) lost++
    }
    expect(elections).toBeGreaterThan(1000)
    expect(committed).toBeGreaterThan(10_000)
    expect(crashes).toBeGreaterThan(100)
    expect(reconfigurations).toBeGreaterThan(500)
    expect(installs).toBeGreaterThan(100)
    expect(transfers).toBeGreaterThan(500)
    expect(inherited).toBeGreaterThan(transfers * 0.8)
    // Most of what stores forget is remembered by somebody.
    expect(losses).toBeGreaterThan(10 * lost)
  })

  test('the same seed gives the same run', () => {
    const lines: string[][] = [[], []]
    for (const run of lines) simulate({ seed: 7, trace: (line) => run.push(line) })
    expect(lines[0]?.length).toBeGreaterThan(100)
    expect(lines[0]).toEqual(lines[1])
  })
})

describe.skipIf(only !== undefined)('simulation: a fault planted into the core is found', () => {
  for (const mutant of mutants) {
    // Those that need tens of thousands of seeds are left to `run.ts --mutants`.
    if (mutant.within > 5000) continue
    test(`${mutant.rule}: ${mutant.name}, within ${mutant.within} seeds`, { timeout: 30_000 }, async () => {
      const found = await huntMutant(mutant, mutant.within)
      expect(found?.message).toMatch(/seed \d+: /)
    })
  }
})

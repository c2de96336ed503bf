import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mutants as coreMutants } from '../mutants.ts'
import { mutants } from './mutants.ts'

/** Those that need more seeds are left to `run.ts --mutants`. */
const affordable = 60

test.concurrent.for(mutants.filter(({ within }) => within > 0 && within <= affordable))(
  'simulation of whole stores: $rule: "$name" is found within $within seeds',
  { timeout: 120_000 },
  async ({ name }) => {
    const { code, output } = await run('--mutants', '--only', name)
    expect(output).toMatch(/ \| \d+ of \d+/)
    expect(code).toBe(0)
  },
)

test('simulation of whole stores: what it cannot find, that of the core finds', () => {
  const left = mutants.filter(({ within }) => within === 0)
  const there = coreMutants.map(({ name }) => name)
  expect(left.map(({ name }) => name)).toEqual(['commits records of an older epoch by count'])
  for (const { name } of left) expect(there).toContain(name)
})

test('simulation of whole stores: every habit H1 to H8 of the design that this one follows is planted', () => {
  const rules = new Set(mutants.map(({ rule }) => rule))
  expect([...rules].filter((rule) => rule.startsWith('H')).sort()).toEqual([
    'H1',
    'H2',
    'H3',
    'H4',
    'H5',
    'H6',
    'H7',
    'H8',
  ])
  expect(mutants.length - 8).toBeGreaterThanOrEqual(12)
})

/** In a process of its own: faults are planted by Node's module loader, not by that of the tests. */
function run(...args: string[]): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'run.ts'), ...args])
  let output = ''
  child.stdout.on('data', (data: Buffer) => {
    output += data
  })
  child.stderr.on('data', (data: Buffer) => {
    output += data
  })
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })))
}

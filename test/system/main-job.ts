import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { LevelMqProcess, levelmq } from './child-process.ts'
import type { Cluster } from './cluster-fixture.ts'
import { waitFor } from './wait-for.ts'

const lineCount = 10_000
const words = 'the quick brown fox jumps over a lazy dog während der Mond scheint 月 🦊'.split(' ')

/** The same 10,000 lines each time; some empty, some long, some twice: a line is not told apart by its text. */
function longText(): string[] {
  let state = 42
  const next = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state % below
  }
  return Array.from({ length: lineCount }, (_, i) => {
    if (i % 97 === 0) return ''
    if (i % 101 === 0) return `  ${'-'.repeat(next(2_000))}\t`
    return Array.from({ length: 1 + next(20) }, () => words[next(words.length)]).join(' ')
  })
}

/**
 * The main job: `levelmq produce` writes a text, line by line, the master is killed in the middle, and `levelmq consume`
 * prints every line exactly once and in order.
 *
 * @returns How the new master came about, as it says itself.
 */
export async function produceKillConsume(cluster: Cluster): Promise<string | null> {
  const master = await cluster.waitForService()
  const before = await cluster.status(master)
  const lines = longText()

  // The second half is only handed over after the kill: so the kill is in the middle, however fast the machine is.
  const produce = new LevelMqProcess(
    ['produce', '--queue', 'text', '--url', cluster.failoverUri],
    join(cluster.directory, 'produce.log'),
    { stdin: 'pipe' },
  )
  try {
    produce.stdin.on('error', () => {}) // Told by the exit code.
    produce.stdin.write(`${lines.slice(0, lineCount / 2).join('\n')}\n`)
    await waitFor('a thousand lines to be committed', async () => {
      return (await cluster.status(master)).commitIndex > before.commitIndex + 1_000
    })
    await cluster.kill(master)
    produce.stdin.end(`${lines.slice(lineCount / 2).join('\n')}\n`)
    const exit = await waitFor('levelmq produce to end', () => produce.exited, { timeoutMs: 40_000 })
    expect(exit, produce.output()).toEqual({ code: 0, signal: null })
    expect(produce.output()).toMatch(/^10000 confirmed on text/m)
  } finally {
    await produce.end()
  }

  const successor = await cluster.waitForMaster({ except: master })
  const after = await cluster.status(successor)
  expect(after.epoch).toBeGreaterThan(before.epoch)

  const consumed = await levelmq(
    [
      'consume',
      '--queue',
      'text',
      '--count',
      `${lineCount}`,
      '--timeout',
      '20',
      '--url',
      cluster.failoverUri,
    ],
    { timeoutMs: 40_000 },
  )
  expect(consumed.code, consumed.stderr).toBe(0)
  const printed = consumed.stdout.replace(/\n$/, '').split('\n')
  writeFileSync(join(cluster.directory, 'consumed.txt'), consumed.stdout)
  expect(printed.length).toBe(lineCount)
  expect(printed.findIndex((line, i) => line !== lines[i])).toBe(-1)

  // The killed one comes back as a slave, with everything.
  cluster.start(master)
  expect(await cluster.waitForService()).toBe(successor)
  return after.electionReason
}

import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { journalFiles, writtenBytes } from '../../system/journal-files.ts'
import { waitFor } from '../../system/wait-for.ts'
import type { World } from '../world.ts'
import type { Fault, Struck } from './fault.ts'
import { allVote } from './operation.ts'

const storeFailed = 74
const patienceMs = 60_000

/** Damage to the store of one broker that is stopped; the others serve meanwhile. */
export const damageFaults: readonly Fault[] = [
  {
    id: 'N28',
    name: 'flipped bits',
    summary:
      "a few bits of one broker's journal or index flipped: it mends that from the others, or ends with exit code 74",
    kind: 'operation',
    strike: (world) =>
      damaged(world, (directory) => {
        const file = world.oneOf(world.random() < 0.7 ? journalFiles(directory) : indexFiles(directory))
        const bytes = readFileSync(file)
        const length = Math.max(writtenBytes(file).length, 1)
        const places = Array.from({ length: 1 + Math.floor(world.random() * 3) }, () =>
          Math.floor(world.random() * length),
        )
        for (const at of places) bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(world.random() * 8))
        writeFileSync(file, bytes)
        return `${file.slice(directory.length + 1)} at ${places.join(', ')}`
      }),
  },
  {
    id: 'N29',
    name: 'truncated file',
    summary: "the end of one broker's last journal file cut off, likewise",
    kind: 'operation',
    strike: (world) =>
      damaged(world, (directory) => {
        const file = journalFiles(directory).at(-1)
        if (file === undefined) return 'nothing: no journal'
        const length = Math.floor(writtenBytes(file).length * world.between(0.3, 1))
        truncateSync(file, length)
        return `${file.slice(directory.length + 1)} to ${length} bytes`
      }),
  },
]

function indexFiles(directory: string): string[] {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => /^index[^/]*\/./.test(path))
    .map((path) => join(directory, path))
    .filter((path) => statSync(path).isFile() && statSync(path).size > 0)
  return files.length > 0 ? files : journalFiles(directory)
}

async function damaged(world: World, damage: (directory: string) => string): Promise<Struck> {
  const [victim = 1] = await world.members(world.oneOf(['master', 'slave', 'slave']))
  const since = performance.now()
  await world.kill([victim])
  const what = damage(world.storeDirectory(victim))
  world.history.add('damage', { victim, what })
  const service = await world.service(since, [victim])
  world.start([victim])
  const process = world.cluster.process(victim)
  world.cluster.expectEnd(victim)
  const end = await waitFor(
    'the damaged broker to be back, or to refuse',
    async () => {
      if (process.exited !== undefined) return 'refused'
      return (await world.isInSync(victim)) && 'mended'
    },
    { timeoutMs: patienceMs, intervalMs: 100 },
  )
  let why = ''
  if (end === 'refused') {
    why = ` (${world.cluster.log(victim).trimEnd().split('\n').at(-1)?.slice(0, 300)})`
    const { code, signal } = process.exited ?? { code: null, signal: null }
    if (code !== storeFailed)
      world.violations.add('damaged store: exit code is not 74', `b${victim}: ${signal ?? code}, ${what}`)
    // What the manual says: begin with an empty directory.
    rmSync(world.storeDirectory(victim), { recursive: true, force: true })
    world.start([victim])
    await allVote(world)
  }
  return { target: `b${victim}`, outcome: `${what}: ${end}${why}; ${service}` }
}

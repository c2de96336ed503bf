import { electionTimeoutMs, zkSessionTimeoutMs } from '../../system/cluster-fixture.ts'
import type { Target, World } from '../world.ts'
import { inspectedEvaluation, inspectorOptions } from './event-loop.ts'
import { type Fault, list, type Struck } from './fault.ts'

const targets: readonly Target[] = ['master', 'master', 'slave', 'majority', 'all']
const longestPauseMs = 20_000
const outOfMemoryMs = 15_000

export const processFaults: readonly Fault[] = [
  {
    id: 'N1',
    name: 'kill',
    summary: 'SIGKILL: the master, a slave, a majority, all; started again after a while',
    kind: 'process',
    strike: (world) => end(world, 'SIGKILL'),
  },
  {
    id: 'N2',
    name: 'terminate',
    summary: 'SIGTERM, likewise; has to end with exit code 0',
    kind: 'process',
    strike: (world) => end(world, 'SIGTERM'),
  },
  {
    id: 'N3',
    name: 'pause',
    summary: 'SIGSTOP for 0.5, 1.5 or 10 of the timeouts that notice it, then SIGCONT',
    kind: 'process',
    strike: pause,
  },
  {
    id: 'N4',
    name: 'crash loop',
    summary: 'one broker killed and started again and again, at any stage of its start',
    kind: 'process',
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      const since = performance.now()
      const rounds = 3 + Math.floor(world.random() * 4)
      for (let i = 0; i < rounds; i++) {
        await world.kill([victim])
        world.start([victim])
        await world.pass(world.between(30, 1_500))
      }
      return { target: `b${victim}`, outcome: `${rounds} times; ${await world.service(since)}` }
    },
  },
  {
    id: 'N5',
    name: 'block',
    summary: "one broker's event loop kept busy for 0.3 to 8 s (through the inspector)",
    // Not with the network: the inspector has to be reached.
    kind: 'operation',
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      // The inspector listens only after the signal that asks for it.
      await world.kill([victim])
      world.start([victim], inspectorOptions(world.cluster, victim))
      await world.recovered(60_000)
      const ms = Math.round(world.oneOf([300, 1_500, 3_000, 8_000]))
      const since = performance.now()
      const blocked = inspectedEvaluation(
        world.cluster,
        victim,
        `{ const end = Date.now() + ${ms}; while (Date.now() < end); }`,
      )
      const [outcome] = await Promise.all([world.service(since), blocked])
      return { target: `b${victim}`, outcome: `for ${ms} ms; ${outcome}` }
    },
  },
  {
    id: 'N6',
    name: 'out of memory',
    summary: 'one broker started with hardly any heap, until it dies of it',
    kind: 'process',
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      await world.kill([victim])
      const megabytes = world.oneOf([10, 14, 18, 24])
      world.start([victim], [`--max-old-space-size=${megabytes}`, '--max-semi-space-size=1'])
      const ended = await world.endOf(victim, outOfMemoryMs)
      await world.kill([victim])
      const since = performance.now()
      return {
        target: `b${victim}`,
        outcome: `${megabytes} MB: ${ended ?? 'went on'}; ${await world.service(since, [victim])}`,
      }
    },
  },
]

async function end(world: World, signal: 'SIGKILL' | 'SIGTERM'): Promise<Struck> {
  const target = world.oneOf(targets)
  const victims = await world.members(target)
  await world.pass(world.between(0, 400))
  const since = performance.now()
  await world.kill(victims, signal)
  if (signal === 'SIGTERM') {
    for (const n of victims) {
      const exit = world.cluster.process(n).exited
      if (exit?.code !== 0)
        world.violations.add('SIGTERM: exit code is not 0', `b${n}: ${exit?.signal ?? exit?.code}`)
    }
  }
  const survive = world.cluster.size - victims.length >= world.quorum
  const outcome = survive ? await world.service(since, victims) : 'no majority left'
  await world.pass(world.between(0, 2_500))
  world.start(victims)
  return { target: `${target}: ${list(victims)}`, outcome }
}

async function pause(world: World): Promise<Struck> {
  const target = world.oneOf(targets)
  const victims = await world.members(target)
  await world.pass(world.between(0, 400))
  const unit = world.ensemble === undefined ? electionTimeoutMs : zkSessionTimeoutMs
  const factor = world.oneOf([0.5, 1.5, 1.5, 10])
  const ms = Math.min(factor * unit, longestPauseMs)
  const since = performance.now()
  for (const n of victims) if (world.isRunning(n)) world.pause(n)
  const survive = world.cluster.size - victims.length >= world.quorum
  const service = survive && factor > 1 ? world.service(since, victims) : undefined
  await world.pass(ms)
  const outcome = (await service) ?? (survive ? 'too short to notice' : 'no majority left')
  for (const n of victims) world.resume(n)
  return { target: `${target}: ${list(victims)}`, outcome: `for ${Math.round(ms)} ms; ${outcome}` }
}

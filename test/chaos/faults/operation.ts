import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { levelmq } from '../../system/child-process.ts'
import { addressOf, name } from '../../system/cluster-fixture.ts'
import { waitFor } from '../../system/wait-for.ts'
import type { World } from '../world.ts'
import { type Fault, list, type Struck } from './fault.ts'

/** Generous: a member may have to copy a whole store on a busy machine. */
const patienceMs = 60_000

export const operationFaults: readonly Fault[] = [
  {
    id: 'N36',
    name: 'emptied disk',
    summary:
      'the store of one broker lost (N43 too): it learns everything again, and takes its vote back by itself',
    kind: 'operation',
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      const since = performance.now()
      await world.kill([victim])
      rmSync(world.storeDirectory(victim), { recursive: true, force: true })
      const outcome = await world.service(since, [victim])
      await world.pass(world.between(0, 1_500))
      world.start([victim])
      const startedAt = performance.now()
      await allVote(world)
      return {
        target: `b${victim}`,
        outcome: `${outcome}; votes again after ${Math.round(performance.now() - startedAt)} ms`,
      }
    },
  },
  {
    id: 'N39',
    name: 'rolling restart',
    summary: 'every broker stopped and started in turn, the next once all are in sync',
    kind: 'operation',
    async strike(world) {
      const order = world.shuffled(world.cluster.numbers())
      for (const n of order) {
        await world.kill([n], 'SIGTERM')
        world.start([n])
        if ((await world.recovered(patienceMs)) === undefined) break
      }
      return { target: list(order), outcome: 'all restarted' }
    },
  },
  {
    id: 'N41',
    name: 'two more brokers',
    summary: 'two more brokers become voters, a minority is killed, and they leave again: 3, 5, 3',
    kind: 'operation',
    needs: ['spare brokers'],
    strike: growAndShrink,
  },
  {
    id: 'N42',
    name: 'member removed',
    summary:
      'the master or a slave loses its vote (levelmq members remove), and gets it back later (members add)',
    kind: 'operation',
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      const since = performance.now()
      const [outcome] = await Promise.all([
        world.service(since),
        administer(world, ['members', 'remove', name(victim)]),
      ])
      await world.pass(world.between(0, 2_000))
      await administer(world, ['members', 'add', name(victim)])
      await allVote(world)
      return { target: `b${victim}`, outcome }
    },
  },
  {
    id: 'N39b',
    name: 'transfer',
    summary: 'mastership handed to another broker on request (levelmq transfer)',
    kind: 'operation',
    async strike(world) {
      const master = await world.master()
      const [outcome] = await Promise.all([
        world.service(performance.now(), [master]),
        administer(world, ['transfer']),
      ])
      return { target: `from b${master}`, outcome }
    },
  },
  {
    id: 'N44',
    name: 'backup',
    summary: 'a backup of the running cluster is written (levelmq backup)',
    kind: 'operation',
    async strike(world) {
      const file = join(world.directory, 'backup.levelmq')
      const [outcome] = await Promise.all([
        world.service(performance.now()),
        administer(world, ['backup', '--force', file]),
      ])
      rmSync(file)
      return { target: 'all', outcome }
    },
  },
]

/** Runs a command against whoever is master, again and again until it is done: mastership may change meanwhile. */
async function administer(world: World, command: readonly string[]): Promise<string> {
  const { cluster, adminTokenFile } = world
  const urls = [...cluster.numbers(), ...cluster.spares()].map(
    (n) => `http://${cluster.host(n)}:${cluster.managementPort(n)}`,
  )
  const args = [...command, '--url', urls.join(','), '--token-file', adminTokenFile, '--json']
  return waitFor(
    `levelmq ${command.join(' ')}`,
    async () => {
      const result = await levelmq(args, { timeoutMs: patienceMs })
      world.history.add('command', { command: command.join(' '), code: result.code, stderr: result.stderr })
      if (result.code !== 0) throw new Error(`exit code ${result.code}: ${result.stderr}`)
      return result.stdout || 'done'
    },
    { timeoutMs: patienceMs, intervalMs: 200 },
  )
}

async function growAndShrink(world: World): Promise<Struck> {
  const { cluster } = world
  const spares = cluster.spares()
  const startedAt = performance.now()
  world.start(spares)
  for (const n of spares) await administer(world, ['members', 'add', name(n)])
  const everybody = [...cluster.numbers(), ...spares]
  await allVote(world, everybody)
  configure(world, everybody)
  const grownMs = Math.round(performance.now() - startedAt)
  const victims = world.shuffled(cluster.running()).slice(0, Math.floor(cluster.running().length / 2))
  const since = performance.now()
  const [outcome] = await Promise.all([world.service(since, victims), world.kill(victims)])
  world.start(victims)
  await world.recovered(patienceMs)
  configure(world, cluster.numbers())
  for (const n of spares) cluster.writeConfiguration(n, cluster.configuration(n))
  for (const n of world.shuffled(spares)) await administer(world, ['members', 'remove', name(n)])
  await world.kill(spares, 'SIGTERM')
  for (const n of spares) rmSync(world.storeDirectory(n), { recursive: true, force: true })
  await allVote(world)
  return { target: list(spares), outcome: `after ${grownMs} ms; ${list(victims)} killed: ${outcome}` }
}

/** What an operator has to do once the number of voters has changed: a broker refuses to start if its file says otherwise. */
function configure(world: World, members: readonly number[]): void {
  const { cluster } = world
  for (const n of members) {
    const configuration = cluster.configuration(n)
    const store = configuration.persistenceAdapter.replicatedLevelDB
    store.replicas = members.length
    if (store.peers !== undefined)
      store.peers = members.map((member) => addressOf(cluster.configuration(member)))
    cluster.writeConfiguration(n, configuration)
  }
}

interface Members {
  readonly members: readonly { readonly name: string; readonly role: string }[]
}

/** These and nobody else have a vote, and none is in the place of another. */
export async function allVote(
  world: World,
  numbers: readonly number[] = world.cluster.numbers(),
): Promise<void> {
  const wanted = numbers.map(name).sort().join()
  await waitFor(
    'all brokers to vote',
    async () => {
      const { members } = JSON.parse(await administer(world, ['members'])) as Members
      const voters = members.filter(({ role }) => role !== 'learner')
      return (
        voters.every(({ role }) => role === 'voter') &&
        voters
          .map((member) => member.name)
          .sort()
          .join() === wanted
      )
    },
    { timeoutMs: patienceMs, intervalMs: 100 },
  )
}

import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { levelmq } from './child-process.ts'
import { type BrokerConfiguration, type Cluster, withCluster } from './cluster-fixture.ts'
import { waitFor } from './wait-for.ts'

/** A `levelmq` command that is given all management addresses of the cluster. */
function admin(cluster: Cluster, ...args: string[]) {
  const urls = cluster.numbers().map((n) => `http://127.0.0.1:${cluster.managementPort(n)}`)
  return levelmq([...args, '--url', urls.join(',')])
}

interface Member {
  readonly name: string
  readonly role: string
  readonly connected: boolean
  readonly lag: number
  readonly levels: unknown
}

async function membersOf(cluster: Cluster): Promise<Member[]> {
  const { stdout } = await admin(cluster, 'members', '--json')
  return (JSON.parse(stdout) as { members: Member[] }).members
}

async function consumeAll(cluster: Cluster, queue: string): Promise<string[]> {
  const { stdout } = await levelmq([
    'consume',
    '--queue',
    queue,
    '--url',
    cluster.failoverUri,
    '--timeout',
    '2',
  ])
  return stdout.split('\n').slice(0, -1)
}

test('T27, W9: a deleted queue stays deleted on the next master, its consumer is told, and its name begins anew', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const producer = await cluster.connect(master)
    await producer.produce('orders', ['a', 'b', 'c'])
    await producer.produce('other', ['kept'])
    const consumer = await cluster.connect(master)
    await consumer.subscribe('orders', 'client-individual', { 'activemq.prefetchSize': 1 })
    const deleted = await admin(cluster, 'delete-queue', 'orders')
    expect(deleted.code, deleted.stderr).toBe(0)
    const error = await consumer.frame('its ERROR', ({ command }) => command === 'ERROR')
    expect(error.headers.get('message')).toBe('queue orders was deleted')
    expect((await admin(cluster, 'delete-queue', 'orders')).code).toBe(1)
    await producer.produce('orders', ['new'])

    await cluster.kill(master)
    await cluster.waitForMaster({ except: master })
    expect(await consumeAll(cluster, 'orders')).toEqual(['new'])
    expect(await consumeAll(cluster, 'other')).toEqual(['kept'])
  })
})

test('S25: with the majority lost, one store goes on after it was told to, with what it has, and others learn from it', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    await (await cluster.connect(master)).produce('orders', ['a', 'b', 'c'])
    await cluster.waitForService()
    await Promise.all(cluster.numbers().map((n) => cluster.kill(n)))
    const left = cluster.numbers().find((n) => n !== master) ?? 1
    const directory = cluster.storeDirectory(left)
    const asked = await levelmq(['recover', '--directory', directory])
    expect(asked.code).toBe(1)
    expect(asked.stdout).toContain('messages  3')
    expect(asked.stderr).toContain('nothing was changed')
    const done = await levelmq(['recover', '--directory', directory, '--yes'])
    expect(done.code, done.stderr).toBe(0)

    cluster.start(left)
    await cluster.waitForMaster()
    for (const n of cluster.numbers()) {
      if (n === left) continue
      rmSync(cluster.storeDirectory(n), { recursive: true })
      cluster.start(n)
    }
    await waitFor('three voters', async () => {
      const members = await membersOf(cluster)
      return members.filter(({ role, connected }) => role === 'voter' && connected).length === 3
    })
    await cluster.waitForService()
    await cluster.kill(left)
    await cluster.waitForMaster({ except: left })
    expect(await consumeAll(cluster, 'orders')).toEqual(['a', 'b', 'c'])
  })
})

test('S37: a backup of a running cluster is restored as a store that serves alone, with everything as of then', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const producer = await cluster.connect(master)
    const bodies = Array.from({ length: 1000 }, (_, i) => `m${i}`)
    await producer.produce('orders', bodies)
    const place = mkdtempSync(join(cluster.directory, 'backup-'))
    const file = join(place, 'orders.levelmq')
    const backup = await admin(cluster, 'backup', file)
    expect(backup.code, backup.stderr).toBe(0)
    await producer.produce('orders', ['after the backup'])

    await withCluster({ size: 1, start: [] }, async (single) => {
      const restored = await levelmq(['restore', file, '--directory', single.storeDirectory(1)])
      expect(restored.code, restored.stderr).toBe(0)
      expect((await levelmq(['restore', file, '--directory', single.storeDirectory(1)])).code).toBe(1)
      single.start(1)
      await single.waitForMaster()
      expect(await consumeAll(single, 'orders')).toEqual(bodies)
    })
  })
})

test('S35: a broker at another address takes the place of one that goes, while messages are sent', async () => {
  const founders = [1, 2, 3]
  const configure = (configuration: BrokerConfiguration, n: number) => {
    const store = configuration.persistenceAdapter.replicatedLevelDB
    const peers = store.peers as string[]
    Object.assign(store, { replicas: 3, peers: n === 4 ? peers.slice(1) : peers.slice(0, 3) })
  }
  await withCluster({ size: 4, start: founders, configure }, async (cluster) => {
    const master = await cluster.waitForService()
    const producer = await cluster.connect(master)
    await producer.produce('orders', ['a', 'b'])
    cluster.start(4)
    await waitFor('the newcomer to be a learner that is level', async () => {
      const members = await membersOf(cluster)
      return members.some(({ name, role, lag }) => name === 'broker-4' && role === 'learner' && lag === 0)
    })
    const added = await admin(cluster, 'members', 'add', 'broker-4')
    expect(added.code, added.stderr).toBe(0)
    await producer.produce('orders', ['c'])
    const removed = await admin(cluster, 'members', 'remove', `broker-${master}`)
    expect(removed.code, removed.stderr).toBe(0)
    await cluster.kill(master, 'SIGTERM')
    const successor = await cluster.waitForService()
    expect(successor).not.toBe(master)
    const voters = (await membersOf(cluster)).filter(({ role }) => role === 'voter')
    const left = [...founders.filter((n) => n !== master), 4]
    expect(voters.map(({ name }) => name).sort()).toEqual(left.map((n) => `broker-${n}`))
    expect((await cluster.status(successor)).quorum).toEqual({ needed: 2, present: 3 })
    expect(await consumeAll(cluster, 'orders')).toEqual(['a', 'b', 'c'])
  })
})

test('members: every broker is shown as a voter, with its position and levels', async () => {
  await withCluster({}, async (cluster) => {
    await cluster.waitForService()
    const members = await waitFor('lags of 0', async () => {
      const found = await membersOf(cluster)
      return found.every(({ lag }) => lag === 0) ? found : undefined
    })
    expect(members.map(({ name, role, connected }) => [name, role, connected]).sort()).toEqual([
      ['broker-1', 'voter', true],
      ['broker-2', 'voter', true],
      ['broker-3', 'voter', true],
    ])
    for (const { levels } of members) expect(levels).toBeDefined()
  })
})

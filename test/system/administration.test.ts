import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { levelmq } from './child-process.ts'
import { type Cluster, withCluster } from './cluster-fixture.ts'
import { waitFor } from './wait-for.ts'

/** A `levelmq` command that is given all management addresses of the cluster. */
function admin(cluster: Cluster, ...args: string[]) {
  const urls = cluster.numbers().map((n) => `http://127.0.0.1:${cluster.managementPort(n)}`)
  return levelmq([...args, '--url', urls.join(',')])
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

test('members: every broker is shown as a voter, with its position and levels', async () => {
  await withCluster({}, async (cluster) => {
    await cluster.waitForService()
    const { members, changeUnderWay } = await waitFor('lags of 0', async () => {
      const { stdout } = await admin(cluster, 'members', '--json')
      const report = JSON.parse(stdout) as {
        changeUnderWay: boolean
        members: { name: string; role: string; lag: number; connected: boolean; levels: unknown }[]
      }
      return report.members.every(({ lag }) => lag === 0) ? report : undefined
    })
    expect(changeUnderWay).toBe(false)
    expect(members.map(({ name, role, connected }) => [name, role, connected]).sort()).toEqual([
      ['broker-1', 'voter', true],
      ['broker-2', 'voter', true],
      ['broker-3', 'voter', true],
    ])
    for (const { levels } of members) expect(levels).toBeDefined()
  })
})

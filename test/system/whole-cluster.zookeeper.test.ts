import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Cluster, withCluster, zkSessionTimeoutMs } from './cluster-fixture.ts'
import { FailoverProducer } from './failover-client.ts'
import { produceKillConsume } from './main-job.ts'
import { TcpRelay } from './tcp-relay.ts'
import { holdsFor, waitFor } from './wait-for.ts'
import { ZooKeeperEnsemble } from './zookeeper-ensemble.ts'

/** How long ZooKeeper is away in the test of that; a longer time than any session lasts. */
const outageMs = Number(process.env.LEVELMQ_TEST_ZK_OUTAGE_MS ?? 15_000)

let zookeeper: ZooKeeperEnsemble
beforeAll(async () => {
  zookeeper = await ZooKeeperEnsemble.start()
})
afterAll(async () => {
  await zookeeper?.stop()
})

function withZooKeeper(body: (cluster: Cluster) => Promise<void>): Promise<void> {
  return withCluster({ elector: 'zookeeper', zkAddress: zookeeper.address }, body)
}

test('zookeeper: a text of 10,000 lines survives a SIGKILL of the master in the middle of it (W1)', async () => {
  await withZooKeeper(async (cluster) => {
    await produceKillConsume(cluster)
  })
})

test('zookeeper: a blip shorter than the session timeout costs no failover (W17)', async () => {
  await withZooKeeper(async (cluster) => {
    const { master, epoch } = await serving(cluster)
    const connection = await cluster.connect(master)
    await Promise.all(zookeeper.numbers().map((i) => zookeeper.pause(i)))
    try {
      await holdsFor(zkSessionTimeoutMs / 2, () => connection.produce('orders', ['during the blip']))
    } finally {
      await Promise.all(zookeeper.numbers().map((i) => zookeeper.resume(i)))
    }
    // Until every session that could have ended because of it would have ended.
    await holdsFor(1.5 * zkSessionTimeoutMs, async () => {
      await connection.produce('orders', ['after the blip'])
      expect((await cluster.status(master)).epoch).toBe(epoch)
    })
    await allConnected(cluster)
    expect(await serving(cluster)).toEqual({ master, epoch })
  })
})

test('zookeeper: the kill of its leader loses nothing, and service goes on', async () => {
  await withZooKeeper(async (cluster) => {
    await serving(cluster)
    await withLoad(cluster, async (producer) => {
      await zookeeper.kill(await zookeeper.leader())
      await moreConfirms(producer, 100)
      await zookeeper.up()
      await allConnected(cluster)
      await moreConfirms(producer, 100)
    })
    expect(cluster.running()).toEqual(cluster.numbers())
  })
})

test(
  'zookeeper: away for longer than every session, and back: no process ends, nothing is lost, nobody has to act (T19, W16, W18)',
  async () => {
    await withZooKeeper(async (cluster) => {
      await serving(cluster)
      const pids = await pidsOf(cluster)
      await withLoad(cluster, async (producer) => {
        await Promise.all(zookeeper.numbers().map((i) => zookeeper.kill(i)))
        await holdsFor(outageMs, async () => {
          expect(cluster.running()).toEqual(cluster.numbers())
          const masters = [...(await cluster.statuses()).values()].filter(
            (status) => status.role === 'master',
          )
          expect(masters.length).toBeLessThanOrEqual(1)
        })
        await zookeeper.up()
        await moreConfirms(producer, 500)
        await allConnected(cluster)
        expect(await pidsOf(cluster)).toEqual(pids)
        // And it can elect again.
        const { master } = await serving(cluster)
        await cluster.kill(master)
        await cluster.waitForMaster({ except: master })
        await moreConfirms(producer, 500)
      })
    })
  },
  outageMs + 150_000,
)

test('zookeeper: the master alone is cut off from it until its session expires: serves on, then hands over (S12)', async () => {
  const relays = await Promise.all(
    [1, 2, 3].map(() => Promise.all(zookeeper.numbers().map((i) => TcpRelay.start(zookeeper.port(i))))),
  )
  const relaysOf = (n: number): TcpRelay[] => relays[n - 1] ?? []
  const zkAddress = (n: number): string =>
    relaysOf(n)
      .map((relay) => `127.0.0.1:${relay.port}`)
      .join(',')
  try {
    await withCluster({ elector: 'zookeeper', zkAddress }, async (cluster) => {
      const { master, epoch } = await serving(cluster)
      await withLoad(cluster, async (producer) => {
        for (const relay of relaysOf(master)) relay.cut()
        const slave = cluster.numbers().find((n) => n !== master) ?? 0
        await waitFor(
          "ZooKeeper to end the master's session",
          async () => (await cluster.status(slave)).zookeeper?.members === 2,
          { timeoutMs: 5 * zkSessionTimeoutMs },
        )
        await moreConfirms(producer, 100)
        // A majority of the stores hears it, so it is the master: ZooKeeper is a hint.
        expect(await serving(cluster)).toEqual({ master, epoch })
        expect((await cluster.status(master)).zookeeper?.state).toBe('disconnected')
        for (const relay of relaysOf(master)) relay.heal()
        await waitFor(
          'a master of a later epoch, once the old one learns that its session is over',
          async () =>
            [...(await cluster.statuses()).values()].some((s) => s.role === 'master' && s.epoch > epoch),
          { timeoutMs: 5 * zkSessionTimeoutMs },
        )
        await allConnected(cluster)
        await moreConfirms(producer, 100)
      })
      expect(cluster.running()).toEqual(cluster.numbers())
    })
  } finally {
    await Promise.all(relays.flat().map((relay) => relay.stop()))
  }
})

test('zookeeper: a paused master: the next confirm comes within the session timeout and half a second', async () => {
  await withZooKeeper(async (cluster) => {
    const { master, epoch } = await serving(cluster)
    await withLoad(cluster, async (producer) => {
      await moreConfirms(producer, 100)
      const pausedAt = performance.now()
      cluster.pause(master)
      await waitFor(
        'a confirm of another master',
        () => producer.port !== cluster.stompPort(master) && producer.port,
      )
      const confirmed = producer.confirmed
      await waitFor('the next confirm', () => producer.confirmed > confirmed, { intervalMs: 5 })
      expect(performance.now() - pausedAt).toBeLessThan(zkSessionTimeoutMs + 500)
      await waitFor(
        'three session timeouts to pass',
        () => performance.now() - pausedAt > 3 * zkSessionTimeoutMs,
      )
      cluster.resume(master)
      await allConnected(cluster)
      await waitFor('the old master to be a slave', async () => {
        const status = await cluster.status(master)
        return status.role === 'slave' && status.epoch > epoch
      })
    })
  })
})

test('zookeeper: all its data lost: the master goes on, no epoch comes again, and it can elect again (T19)', async () => {
  await withZooKeeper(async (cluster) => {
    const { epoch } = await serving(cluster)
    await withLoad(cluster, async (producer) => {
      await Promise.all(zookeeper.numbers().map((i) => zookeeper.kill(i)))
      zookeeper.wipe()
      await moreConfirms(producer, 100)
      await zookeeper.up()
      await allConnected(cluster)
      const { master } = await serving(cluster)
      await cluster.kill(master)
      await cluster.waitForMaster({ except: master, aboveEpoch: epoch })
      await moreConfirms(producer, 100)
    })
  })
})

test('zookeeper: a second cluster pointed at the path of the first: both say so, neither touches the other (T19)', async () => {
  const zkPath = `/levelmq-test/shared-${process.pid}-${Date.now()}`
  const options = { elector: 'zookeeper', zkAddress: zookeeper.address } as const
  await withCluster({ ...options, store: { zkPath } }, async (first) => {
    const { master, epoch } = await serving(first)
    await withCluster(options, async (second) => {
      await serving(second)
      await Promise.all(second.numbers().map((n) => second.kill(n, 'SIGTERM')))
      await withLoad(first, async (producer) => {
        for (const n of second.numbers()) {
          const configuration = second.configuration(n)
          configuration.persistenceAdapter.replicatedLevelDB.zkPath = zkPath
          second.writeConfiguration(n, configuration)
          second.start(n)
        }
        await waitFor('the strangers to be told why', async () => {
          const statuses = [...(await second.statuses()).values()]
          const reasons = statuses.map((status) => `${status.waitingFor} ${status.zookeeper?.reason}`)
          return statuses.length === second.size && reasons.every((reason) => /cluster/.test(reason))
        })
        await holdsFor(2 * zkSessionTimeoutMs, async () => {
          expect(await first.status(master)).toMatchObject({ role: 'master', epoch })
        })
        await moreConfirms(producer, 100)
      })
      // Each is the cluster it was, with its own messages: the path is all that they share.
      const { master: other } = await serving(second)
      expect((await second.status(other)).queues).toBe(0)
    })
  })
})

async function serving(cluster: Cluster): Promise<{ master: number; epoch: number }> {
  const master = await cluster.waitForService(20_000)
  return { master, epoch: (await cluster.status(master)).epoch }
}

async function pidsOf(cluster: Cluster): Promise<number[]> {
  return [...(await cluster.statuses()).values()].map((status) => status.pid)
}

/** Every running broker has a session of its own, and its znode. */
async function allConnected(cluster: Cluster): Promise<void> {
  await waitFor(
    'every broker to be connected to ZooKeeper',
    async () => {
      const statuses = [...(await cluster.statuses()).values()]
      const present = cluster.running().length
      return (
        statuses.length === present &&
        statuses.every(({ zookeeper: seen }) => seen?.state === 'connected' && seen.members === present)
      )
    },
    { timeoutMs: 30_000 },
  )
}

async function moreConfirms(producer: FailoverProducer, count: number): Promise<void> {
  const goal = producer.confirmed + count
  await waitFor(`${count} more confirms`, () => producer.confirmed >= goal, { timeoutMs: 30_000 })
}

/** Keeps 20 messages under way while `body` runs, and sees to it that all that were sent are there, once, in order. */
async function withLoad(
  cluster: Cluster,
  body: (producer: FailoverProducer) => Promise<void>,
): Promise<void> {
  let loading = true
  const producer = new FailoverProducer(
    cluster.stompPorts(),
    'load',
    `load-${process.hrtime.bigint()}`,
    () => {
      if (loading) producer.send((sequence) => `${sequence}`)
    },
  )
  for (let i = 0; i < 20; i++) producer.send((sequence) => `${sequence}`)
  producer.start()
  try {
    await body(producer)
    loading = false
    await waitFor('the last confirms', () => producer.pending === 0, { timeoutMs: 30_000 })
  } finally {
    loading = false
    producer.stop()
  }
  const reader = await cluster.connect(await cluster.waitForMaster())
  await reader.subscribe('load', 'auto')
  // The cheap question first: it is asked again and again while many thousand messages come in.
  const allCame = () => reader.received.length >= producer.sent && reader.messages().length >= producer.sent
  await waitFor('all messages', allCame, { timeoutMs: 60_000 + outageMs })
  const wrong = reader.messages().findIndex((frame, i) => `${frame.body}` !== `${i + 1}`)
  expect(wrong).toBe(-1)
}

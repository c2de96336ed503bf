import { expect, test } from 'vitest'
import { type Cluster, electionTimeoutMs, withCluster } from './cluster-fixture.ts'
import { FailoverProducer } from './failover-client.ts'
import { StompConnection } from './stomp-client.ts'
import { holdsFor, waitFor } from './wait-for.ts'

/** How long after the loss a client may be left without a definite answer. */
const boundMs = 3 * electionTimeoutMs + 1_000

const bodies = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `m${from + i}`)

test('a master that lost both slaves: confirms nothing, closes its clients in bounded time, resumes with one back (S13, T20, W22)', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const slaves = cluster.numbers().filter((n) => n !== master)
    const client = await cluster.connect(master)
    await client.produce('orders', bodies(0, 100))

    await Promise.all(slaves.map((n) => cluster.kill(n)))
    client.write('SEND', { destination: '/queue/orders', persistent: 'true', receipt: 'lost' }, 'in doubt')
    await waitFor('the client to be closed', () => client.isClosed, { timeoutMs: boundMs })
    expect(client.received.some((frame) => frame.headers.get('receipt-id') === 'lost')).toBe(false)
    await expectRefused(cluster, master)

    // Nobody helps: one comes back, and the producer that waited all the time gets its confirms.
    const producer = new FailoverProducer(cluster.stompPorts(), 'orders', 'quorum-loss')
    producer.start()
    try {
      for (const body of bodies(100, 100)) producer.send(() => body)
      cluster.start(slaves[0] as number)
      await waitFor('the waiting messages to be confirmed', () => producer.confirmed === 100, {
        timeoutMs: 15_000,
      })
    } finally {
      producer.stop()
    }
    const expected = bodies(0, 200)
    expect((await allOf(cluster, 'orders', expected)).filter((body) => body !== 'in doubt')).toEqual(expected)
  })
})

test('a slave that lost the master and the other slave: never becomes master, says what it waits for', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const [other, left] = cluster.numbers().filter((n) => n !== master) as [number, number]
    const client = await cluster.connect(master)
    await client.produce('orders', bodies(0, 100))
    await Promise.all([cluster.kill(other), cluster.kill(master)])

    await expectRefused(cluster, left)
    await holdsFor(2 * electionTimeoutMs, async () => {
      expect((await cluster.status(left)).role).not.toBe('master')
    })
    cluster.start(other)
    const next = await cluster.waitForMaster()
    const consumer = await cluster.connect(next)
    await consumer.subscribe('orders', 'auto')
    await waitFor('all messages', () => consumer.messages().length === 100)
    expect(consumer.messages().map((frame) => `${frame.body}`)).toEqual(bodies(0, 100))
  })
})

/** The broker is alive, says that it lacks a quorum, and takes no clients. */
async function expectRefused(cluster: Cluster, n: number): Promise<void> {
  const status = await waitFor(
    'the broker to wait for a quorum',
    async () => {
      const seen = await cluster.status(n)
      return seen.role === 'electing' && seen.waitingFor ? seen : undefined
    },
    { timeoutMs: boundMs },
  )
  expect(status.quorum).toEqual({ needed: 2, present: 1 })
  await expect(StompConnection.open(cluster.stompPort(n))).rejects.toThrow(/STOMP on port/)
}

/** Bodies in a queue in their order; ends when the last of `expected` is there. */
async function allOf(cluster: Cluster, queue: string, expected: readonly string[]): Promise<string[]> {
  const consumer = await cluster.connect(await cluster.waitForMaster())
  await consumer.subscribe(queue, 'client')
  const last = expected.at(-1)
  await waitFor(`message ${last}`, () => consumer.messages().some((frame) => `${frame.body}` === last))
  return consumer.messages().map((frame) => `${frame.body}`)
}

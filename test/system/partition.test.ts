import { expect, test } from 'vitest'
import { memberOf } from './broker-status.ts'
import { type Cluster, electionTimeoutMs, name } from './cluster-fixture.ts'
import { FailoverProducer } from './failover-client.ts'
import { withPartitions } from './partition-fixture.ts'
import { holdsFor, waitFor } from './wait-for.ts'

const bodies = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}`)

async function allOf(cluster: Cluster, queue: string): Promise<string[]> {
  const reader = await cluster.connect(await cluster.waitForMaster())
  await reader.produce(queue, ['end'])
  await reader.subscribe(queue, 'auto')
  await waitFor('the last message', () => reader.messages().at(-1)?.body.toString() === 'end')
  return reader
    .messages()
    .slice(0, -1)
    .map((frame) => `${frame.body}`)
}

test('a longer tail that no majority has: loses against a short one that is committed (T3)', async () => {
  await withPartitions({}, async (cluster, partitions) => {
    const a = await cluster.waitForService()
    const { epoch } = await cluster.status(a)
    const client = await cluster.connect(a)
    await client.produce('orders', ['before'])

    await partitions.isolate(a)
    for (const body of bodies('alone ', 500))
      client.write('SEND', { destination: '/queue/orders', persistent: 'true', receipt: body }, body)
    const b = await cluster.waitForMaster({ except: a, aboveEpoch: epoch })
    const tail = (await cluster.status(a)).position
    const next = await cluster.connect(b)
    await next.produce('orders', bodies('with a majority ', 3))
    expect((await cluster.status(b)).position).toBeLessThan(tail)

    await cluster.kill(b)
    await partitions.heal()
    await cluster.waitForMaster({ except: b, aboveEpoch: epoch + 1 })
    expect(await allOf(cluster, 'orders')).toEqual(['before', ...bodies('with a majority ', 3)])
    expect(client.received.filter(({ headers }) => headers.get('receipt-id')?.startsWith('alone'))).toEqual(
      [],
    )
    cluster.start(b)
    await cluster.waitForService()
  })
})

test('a master that is heard and hears nobody: steps down, another one serves, and all is well when it hears again (T21)', async () => {
  await withPartitions({}, async (cluster, partitions) => {
    const deaf = await cluster.waitForService()
    const { epoch } = await cluster.status(deaf)
    const slaves = cluster.numbers().filter((n) => n !== deaf)
    for (const n of slaves) await partitions.silence(n, deaf)
    await waitFor('it to step down', async () => (await cluster.status(deaf)).role !== 'master', {
      timeoutMs: 3 * electionTimeoutMs,
    })
    const successor = await cluster.waitForMaster({ except: deaf, aboveEpoch: epoch })
    const client = await cluster.connect(successor)
    await client.produce('orders', bodies('m', 10))
    await partitions.heal()
    await cluster.waitForService()
    expect(await allOf(cluster, 'orders')).toEqual(bodies('m', 10))
  })
})

for (const direction of ['hears nobody', 'is not heard'] as const) {
  test(`a slave that ${direction}: neither unseats the master nor raises the epoch, not even when it is back (T21)`, async () => {
    await withPartitions({}, async (cluster, partitions) => {
      const master = await cluster.waitForService()
      const { epoch } = await cluster.status(master)
      const [victim = 0] = cluster.numbers().filter((n) => n !== master)
      const client = await cluster.connect(master)
      for (const n of cluster.numbers()) {
        if (n === victim) continue
        if (direction === 'hears nobody') await partitions.silence(n, victim)
        else await partitions.silence(victim, n)
      }
      await holdsFor(2 * electionTimeoutMs, () => client.produce('orders', ['meanwhile']))
      await partitions.heal()
      expect(await cluster.waitForService()).toBe(master)
      await holdsFor(electionTimeoutMs, () => client.produce('orders', ['afterwards']))
      expect(await cluster.status(master)).toMatchObject({ role: 'master', epoch })
    })
  })
}

test('a slave that takes nothing over an open connection: is not called in sync, and slows nobody down (T22)', async () => {
  await withPartitions({}, async (cluster, partitions) => {
    const master = await cluster.waitForService()
    const [stuck = 0] = cluster.numbers().filter((n) => n !== master)
    const stateOf = async (n: number) => memberOf(await cluster.status(master), name(n))?.state
    const producer = new FailoverProducer([cluster.stompPort(master)], 'orders', 'back-pressure', () => {
      producer.send((sequence) => `${sequence} ${'x'.repeat(10_000)}`)
    })
    producer.start()
    try {
      for (let i = 0; i < 20; i++) producer.send((sequence) => `${sequence}`)
      await waitFor('the load to flow', () => producer.confirmed > 200)
      await partitions.silence(master, stuck)
      await partitions.silence(stuck, master)
      await waitFor('it to be found out', async () => (await stateOf(stuck)) !== 'in sync')
      const confirmed = producer.confirmed
      await holdsFor(3 * electionTimeoutMs, async () => {
        expect(await stateOf(stuck)).not.toBe('in sync')
      })
      expect(producer.confirmed).toBeGreaterThan(confirmed)
      await partitions.heal()
      await waitFor('it to catch up', async () => (await stateOf(stuck)) === 'in sync', { timeoutMs: 20_000 })
    } finally {
      producer.stop()
    }
  })
})

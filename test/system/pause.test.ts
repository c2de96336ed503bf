import { expect, test } from 'vitest'
import { electionTimeoutMs, withCluster } from './cluster-fixture.ts'
import { waitFor } from './wait-for.ts'

test('a master that was stopped for three election timeouts: confirms nothing, drops its clients, returns as slave (S10, T1, W25)', async () => {
  await withCluster({}, async (cluster) => {
    const old = await cluster.waitForService()
    const before = await cluster.status(old)
    const client = await cluster.connect(old)
    await client.produce('orders', ['one', 'two'])
    const consumer = await cluster.connect(old)
    await consumer.subscribe('orders', 'client-individual')
    await waitFor('two deliveries', () => consumer.messages().length === 2)
    client.received.length = 0

    const pausedAt = performance.now()
    cluster.pause(old)
    // The kernel takes these, and the broker finds them when it wakes up.
    for (let i = 0; i < 50; i++) {
      client.write('SEND', { destination: '/queue/orders', persistent: 'true', receipt: i }, 'too late')
    }
    const successor = await cluster.waitForMaster({ except: old, aboveEpoch: before.epoch })
    const later = Array.from({ length: 1_000 }, (_, i) => `later ${i}`)
    const newClient = await cluster.connect(successor)
    await newClient.produce('orders', later)
    await waitFor(
      'three election timeouts to pass',
      () => performance.now() - pausedAt > 3 * electionTimeoutMs,
    )

    cluster.resume(old)
    await waitFor('both clients to be dropped', () => client.isClosed && consumer.isClosed, {
      timeoutMs: 2_000,
    })
    expect(client.received.filter((frame) => frame.command === 'RECEIPT')).toEqual([])
    expect(consumer.messages().length).toBe(2)

    expect(await cluster.waitForService()).toBe(successor)
    const after = await cluster.status(old)
    expect(after).toMatchObject({ role: 'slave', pid: before.pid })
    expect(after.epoch).toBeGreaterThan(before.epoch)

    // What was handed out and not acknowledged comes again; what was never confirmed is not there.
    const reader = await cluster.connect(successor)
    await reader.subscribe('orders', 'auto')
    await waitFor('all messages', () => reader.messages().length >= 2 + later.length)
    expect(reader.messages().map((frame) => `${frame.body}`)).toEqual(['one', 'two', ...later])
  })
})

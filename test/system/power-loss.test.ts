import { expect, test } from 'vitest'
import { withCluster } from './cluster-fixture.ts'
import { FailoverProducer } from './failover-client.ts'
import { waitFor } from './wait-for.ts'

test('the whole cluster killed at once and started again: everything that was confirmed is there, in order (S17, W10)', async () => {
  await withCluster({}, async (cluster) => {
    await cluster.waitForService()
    const confirmed = new Set<string>()
    const producer = new FailoverProducer(cluster.stompPorts(), 'orders', 'power-loss', ({ sequence }) => {
      confirmed.add(`m${sequence}`)
      // Keeps it busy, so that the kill meets messages in every stage of their way.
      producer.send((next) => `m${next}`)
    })
    producer.start()
    try {
      for (let i = 0; i < 200; i++) producer.send((sequence) => `m${sequence}`)
      await waitFor('2,000 confirms', () => confirmed.size >= 2_000)
      await Promise.all(cluster.numbers().map((n) => cluster.kill(n)))
    } finally {
      producer.stop()
    }

    for (const n of cluster.numbers()) cluster.start(n)
    const consumer = await cluster.connect(await cluster.waitForService())
    await consumer.produce('orders', ['end'])
    await consumer.subscribe('orders', 'auto')
    await waitFor('the last message', () => consumer.messages().at(-1)?.body.toString() === 'end')
    const found = consumer.messages().map((frame) => `${frame.body}`)
    expect([...confirmed].filter((body) => !found.includes(body))).toEqual([])
    // In order and without a gap, what was not confirmed included: the log is a prefix of what was sent.
    expect(found.slice(0, -1)).toEqual(found.slice(0, -1).map((_, i) => `m${i + 1}`))
  })
})

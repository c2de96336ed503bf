import { expect, test } from 'vitest'
import { electionTimeoutMs, withCluster } from './cluster-fixture.ts'
import { FailoverConsumer, FailoverProducer } from './failover-client.ts'
import { waitFor } from './wait-for.ts'

test('a rolling restart by SIGTERM: each master hands over, nobody has to stand for election, and nothing is lost', async () => {
  await withCluster({}, async (cluster) => {
    await cluster.waitForService()
    let lastConfirm = performance.now()
    let longestGapMs = 0
    const producer = new FailoverProducer(cluster.stompPorts(), 'orders', 'rolling', ({ at }) => {
      longestGapMs = Math.max(longestGapMs, at - lastConfirm)
      lastConfirm = at
    })
    producer.start()
    const sending = setInterval(() => producer.send((sequence) => `m${sequence}`), 5)
    try {
      // Twice round: every broker is master at least once when it is stopped.
      for (const n of [...cluster.numbers(), ...cluster.numbers()]) {
        const { confirmed } = producer
        const exit = await cluster.kill(n, 'SIGTERM')
        expect(exit).toEqual({ code: 0, signal: null })
        await cluster.waitForMaster({ except: n })
        await waitFor('more confirms', () => producer.confirmed > confirmed + 20)
        cluster.start(n)
        await cluster.waitForService()
      }
    } finally {
      clearInterval(sending)
    }
    await waitFor('the last confirm', () => producer.pending === 0)
    producer.stop()

    const handovers = cluster.numbers().flatMap((n) => cluster.log(n).match(/handed mastership over/g) ?? [])
    expect(handovers.length).toBeGreaterThanOrEqual(2)
    for (const n of cluster.numbers()) expect(cluster.log(n)).not.toContain('mastership is not handed over')
    expect(longestGapMs).toBeLessThan(electionTimeoutMs)

    const bodies: string[] = []
    const consumer = new FailoverConsumer(cluster.stompPorts(), 'orders', ({ body }) => bodies.push(body))
    consumer.start()
    await waitFor('all messages', () => bodies.length >= producer.sent)
    consumer.stop()
    expect(bodies).toEqual(Array.from({ length: producer.sent }, (_, i) => `m${i + 1}`))
  })
})

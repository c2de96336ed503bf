import { expect, test } from 'vitest'
import { withCluster } from './cluster-fixture.ts'
import type { Frame, StompConnection } from './stomp-client.ts'
import { waitFor } from './wait-for.ts'

const bodiesOf = (frames: readonly Frame[]): string[] => frames.map((frame) => `${frame.body}`)

test('a killed consumer: what it had not acknowledged comes again, what it had never, not even after a failover (S16, T15, W14)', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const producer = await cluster.connect(master)
    const bodies = Array.from({ length: 20 }, (_, i) => `m${i}`)
    await producer.produce('work', bodies)

    const first = await cluster.connect(master)
    await first.subscribe('work', 'client-individual')
    await waitFor('20 deliveries', () => first.messages().length === 20)
    // Every other one is acknowledged, and confirmed.
    const acknowledged = first.messages().filter((_, i) => i % 2 === 0)
    await acknowledge(first, acknowledged)
    first.destroy()

    const rest = bodies.filter((body) => !bodiesOf(acknowledged).includes(body))
    const second = await cluster.connect(master)
    await second.subscribe('work', 'client-individual')
    await waitFor('the redeliveries', () => second.messages().length >= rest.length)
    expect(bodiesOf(second.messages())).toEqual(rest)
    expect(second.messages().every((frame) => frame.headers.get('redelivered') === 'true')).toBe(true)
    await acknowledge(second, second.messages().slice(0, 4))

    await cluster.kill(master)
    const successor = await cluster.waitForMaster({ except: master })
    const third = await cluster.connect(successor)
    await third.subscribe('work', 'client-individual')
    await waitFor('the rest', () => third.messages().length >= rest.length - 4)
    // A message of now ends the list: had anything else been in the queue, it would have come before.
    const last = await cluster.connect(successor)
    await last.produce('work', ['end'])
    await waitFor('the last message', () => bodiesOf(third.messages()).includes('end'))
    expect(bodiesOf(third.messages())).toEqual([...rest.slice(4), 'end'])
  })
})

async function acknowledge(connection: StompConnection, frames: readonly Frame[]): Promise<void> {
  for (const frame of frames) await connection.confirmed('ACK', { id: frame.headers.get('ack') ?? '' })
}

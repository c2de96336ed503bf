import { Readable } from 'node:stream'
import { afterEach, expect, test } from 'vitest'
import { GeneratedSource, LineSource, type MessageSource } from '../../src/produce/message-source.ts'
import { Producer } from '../../src/produce/producer.ts'
import { parseBrokerUri } from '../../src/stomp-client/broker-uri.ts'
import { type Behaviour, FakeBroker } from '../fake-broker.ts'

const brokers: FakeBroker[] = []
afterEach(async () => {
  for (const broker of brokers.splice(0)) await broker.close()
})

async function serve(behaviour: Behaviour, heartBeat?: string) {
  const broker = new FakeBroker(behaviour, heartBeat)
  brokers.push(broker)
  return { broker, port: await broker.listen() }
}

function produce(
  port: number,
  source: MessageSource,
  more: { timeoutMs?: number; window?: number; query?: string } = {},
) {
  const { timeoutMs = 10_000, window = 1000, query = '' } = more
  const uri = parseBrokerUri(`failover:(tcp://127.0.0.1:${port})${query}`)
  return new Producer({ uri, queue: 'q', producerId: 'p1', window, timeoutMs }, source, {
    progress: () => {},
    note: () => {},
  }).run()
}

const receipt: Behaviour = (frame, connection) =>
  connection.send('RECEIPT', { 'receipt-id': frame.headers.get('receipt') ?? '' })

test('producer: each line is a persistent message with its sequence, and all are confirmed', async () => {
  const { broker, port } = await serve(receipt)
  const result = await produce(port, new LineSource(Readable.from([Buffer.from('a\n\nä')])))
  expect(result).toMatchObject({ outcome: 'done', confirmed: 3, inDoubt: 0 })
  const sends = broker.received.filter(({ frame }) => frame.command === 'SEND').map(({ frame }) => frame)
  expect(sends.map((frame) => frame.body.toString())).toEqual(['a', '', 'ä'])
  expect(sends.map((frame) => frame.headers.get('levelmq.producerSequenceId'))).toEqual(['1', '2', '3'])
  expect(Object.fromEntries(sends[0]?.headers ?? [])).toMatchObject({
    destination: '/queue/q',
    persistent: 'true',
    'levelmq.producerId': 'p1',
    receipt: '1',
  })
})

test('producer: after a lost connection the unconfirmed are sent again, in order, under the same ids', async () => {
  // The first connection confirms the first five of what it takes, then drops; the second confirms all.
  const { broker, port } = await serve((frame, connection, nth) => {
    if (connection.number > 1 || nth <= 5) receipt(frame, connection, nth)
    if (connection.number === 1 && nth === 12) connection.drop()
  })
  const result = await produce(port, new GeneratedSource(40, 20), { window: 10 })
  expect(result).toMatchObject({ outcome: 'done', confirmed: 40, inDoubt: 0 })
  const sequences = (number: number) =>
    broker.received
      .filter(({ connection, frame }) => connection === number && frame.command === 'SEND')
      .map(({ frame }) => Number(frame.headers.get('levelmq.producerSequenceId')))
  const again = sequences(2)
  expect(again).toEqual(Array.from({ length: again.length }, (_, index) => (again[0] ?? 0) + index))
  expect(again.at(-1)).toBe(40)
  // Nothing between the last confirmed and the first repeated is missing.
  expect(again[0]).toBeLessThanOrEqual(6)
  const bodies = new Map<number, string>()
  for (const { frame } of broker.received.filter((each) => each.frame.command === 'SEND')) {
    const sequence = Number(frame.headers.get('levelmq.producerSequenceId'))
    expect(bodies.get(sequence) ?? frame.body.toString()).toBe(frame.body.toString())
    bodies.set(sequence, frame.body.toString())
  }
})

test('producer: nothing confirmed in time is an outcome with counts', async () => {
  const { port } = await serve((frame, connection, nth) => {
    if (nth <= 2) receipt(frame, connection, nth)
  })
  const result = await produce(port, new GeneratedSource(5, 10), { timeoutMs: 150 })
  expect(result).toMatchObject({ outcome: 'timeout', confirmed: 2, inDoubt: 3 })
})

test('producer: a message that is refused twice ends it with the reason', async () => {
  const { port } = await serve((frame, connection) => {
    connection.send('ERROR', { message: 'too large', 'receipt-id': frame.headers.get('receipt') ?? '' })
    connection.drop()
  })
  const result = await produce(port, new GeneratedSource(1, 10))
  expect(result).toMatchObject({ outcome: 'refused', confirmed: 0, inDoubt: 1 })
  expect(result.reason).toContain('too large')
})

test('producer: a broker that goes silent is left for another', async () => {
  const silent = await serve(() => {}, '500,0')
  const good = await serve(receipt)
  const uri = parseBrokerUri(
    `failover:(tcp://127.0.0.1:${silent.port},tcp://127.0.0.1:${good.port})?randomize=false`,
  )
  const producer = new Producer(
    { uri, queue: 'q', producerId: 'p', window: 10, timeoutMs: 10_000 },
    new GeneratedSource(3, 10),
    {
      progress: () => {},
      note: () => {},
    },
  )
  expect(await producer.run()).toMatchObject({ outcome: 'done', confirmed: 3 })
  expect(good.broker.received.filter(({ frame }) => frame.command === 'SEND').length).toBe(3)
})

test('producer: gives up when the URI says so', async () => {
  const { broker, port } = await serve(receipt)
  await broker.close()
  brokers.splice(0)
  const result = await produce(port, new GeneratedSource(1, 10), { query: '?maxReconnectAttempts=2' })
  expect(result).toMatchObject({ outcome: 'unreachable', confirmed: 0 })
  expect(result.reason).toContain('ECONNREFUSED')
})

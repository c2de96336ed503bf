import { afterEach, expect, test } from 'vitest'
import { Consumer, type ConsumerOptions } from '../../src/consume/consumer.ts'
import { parseBrokerUri } from '../../src/stomp-client/broker-uri.ts'
import { type Behaviour, FakeBroker, type FakeConnection } from '../fake-broker.ts'

const brokers: FakeBroker[] = []
afterEach(async () => {
  for (const broker of brokers.splice(0)) await broker.close()
})

async function consume(behaviour: Behaviour, more: Partial<ConsumerOptions> = {}) {
  const broker = new FakeBroker(behaviour)
  brokers.push(broker)
  const uri = parseBrokerUri(`failover:(tcp://127.0.0.1:${await broker.listen()})`)
  const bodies: string[] = []
  const options: ConsumerOptions = {
    uri,
    queue: 'q',
    mode: 'client-individual',
    count: undefined,
    timeoutMs: 10_000,
    prefetch: 100,
    ...more,
  }
  const consumer = new Consumer(options, {
    note: () => {},
    write: (messages, done) => {
      bodies.push(...messages.map((message) => message.body.toString()))
      setImmediate(done, true)
    },
  })
  const result = await consumer.run()
  const acks = broker.received
    .filter(({ frame }) => frame.command === 'ACK')
    .map(({ connection, frame }) => `${connection}:${frame.headers.get('id')}`)
  return { result, bodies, acks }
}

function deliver(connection: FakeConnection, from: number, to: number): void {
  for (let id = from; id <= to; id++) {
    connection.send('MESSAGE', { 'message-id': `m${id}`, ack: `a${id}`, subscription: '0' }, `body ${id}`)
  }
}

const receipt: Behaviour = (frame, connection) =>
  connection.send('RECEIPT', { 'receipt-id': frame.headers.get('receipt') ?? '' })

const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `body ${from + index}`)

test('consumer: ends after count, with every acknowledgement confirmed and none beyond', async () => {
  const { result, bodies, acks } = await consume(
    (frame, connection, nth) => {
      if (frame.command === 'SUBSCRIBE') deliver(connection, 1, 8)
      else receipt(frame, connection, nth)
    },
    { count: 5 },
  )
  expect(result).toMatchObject({ outcome: 'done', consumed: 5, inDoubt: 0 })
  expect(bodies).toEqual(range(1, 5))
  expect(acks).toEqual(['1:a1', '1:a2', '1:a3', '1:a4', '1:a5'])
})

test('consumer: what is delivered again after a lost connection is acknowledged again and not shown again', async () => {
  const { result, bodies, acks } = await consume(
    (frame, connection, nth) => {
      if (frame.command === 'SUBSCRIBE') deliver(connection, 1, connection.number === 1 ? 3 : 6)
      else if (connection.number === 1) connection.drop()
      else receipt(frame, connection, nth)
    },
    { count: 6 },
  )
  expect(result).toMatchObject({ outcome: 'done', consumed: 6, inDoubt: 0 })
  expect(bodies).toEqual(range(1, 6))
  expect(acks.filter((ack) => ack.startsWith('2:'))).toEqual(['2:a1', '2:a2', '2:a3', '2:a4', '2:a5', '2:a6'])
})

test('consumer: an acknowledgement whose receipt was lost settles when nothing comes again', async () => {
  const { result, bodies } = await consume(
    (frame, connection) => {
      if (connection.number > 1) return
      if (frame.command === 'SUBSCRIBE') deliver(connection, 1, 1)
      else connection.drop()
    },
    { count: 1 },
  )
  expect(result).toMatchObject({ outcome: 'done', consumed: 1, inDoubt: 0 })
  expect(bodies).toEqual(['body 1'])
})

test('consumer: mode client acknowledges the last of what came, and nothing beyond the count', async () => {
  const { result, acks } = await consume(
    (frame, connection, nth) => {
      if (frame.command === 'SUBSCRIBE') deliver(connection, 1, 4)
      else receipt(frame, connection, nth)
    },
    { count: 3, mode: 'client' },
  )
  expect(result).toMatchObject({ outcome: 'done', consumed: 3 })
  expect(acks.at(-1)).toBe('1:a3')
})

test('consumer: mode auto acknowledges nothing', async () => {
  const { result, acks } = await consume(
    (frame, connection) => {
      if (frame.command === 'SUBSCRIBE') deliver(connection, 1, 2)
    },
    { count: 2, mode: 'auto' },
  )
  expect(result).toMatchObject({ outcome: 'done', consumed: 2 })
  expect(acks).toEqual([])
})

test('consumer: a quiet queue ends it after the timeout', async () => {
  const { result } = await consume(() => {}, { timeoutMs: 100 })
  expect(result).toMatchObject({ outcome: 'timeout', consumed: 0, connected: true })
})

test('consumer: a subscription that is refused again and again ends it with the reason', async () => {
  const { result } = await consume((_frame, connection) =>
    connection.send('ERROR', { message: 'no such thing' }),
  )
  expect(result.outcome).toBe('unreachable')
  expect(result.reason).toContain('no such thing')
})

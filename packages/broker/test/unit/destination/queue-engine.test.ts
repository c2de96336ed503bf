import { StoreError } from '@levelmq/store'
import { expect, test } from 'vitest'
import { EngineFixture } from './engine-fixture.ts'

test('S15: a message that is not committed is not delivered', async () => {
  const { store, client } = await opened()
  const consumer = client()
  consumer.subscribe('q')
  client().send('q', 'a', 'b')
  expect(consumer.texts).toEqual([])
  store.confirm()
  expect(consumer.texts).toEqual([])
  store.commit()
  expect(consumer.texts).toEqual(['a', 'b'])
})

test('queue: a commit in the middle of what was sent delivers up to there', async () => {
  const { store, client } = await opened()
  const consumer = client()
  consumer.subscribe('q')
  const [first = 0] = client().send('q', 'a', 'b')
  store.commit(first)
  expect(consumer.texts).toEqual(['a'])
})

test('S30, W21: without space messages are refused, and what is there is consumed; with space they are taken again', async () => {
  const { store, client } = await opened()
  const producer = client()
  const consumer = client()
  const mixed = consumer.subscribe('q')
  producer.send('q', 'a', 'b')
  store.commit()
  store.setFull(true)
  expect(() => producer.put('q', 'c')).toThrow(expect.objectContaining({ code: 'BROKER_STORE_FULL' }))
  producer.connection.endOfRead()
  for (const { index } of consumer.deliveries) expect(mixed.acknowledge(index)).toBeGreaterThan(0)
  consumer.connection.endOfRead()
  store.commit()
  expect(consumer.confirmedIndex).toBe(store.lastIndex)
  expect(store.queues()).toMatchObject([{ name: 'q', messageCount: 0 }])
  expect([producer.disconnects, consumer.disconnects]).toEqual([[], []])
  store.setFull(false)
  producer.send('q', 'c')
  store.commit()
  expect(consumer.texts).toEqual(['a', 'b', 'c'])
})

test('T27, W9: a deleted queue is gone with its messages once that is committed, and its name begins anew', async () => {
  const fixture = await opened()
  const { store, client, engine } = fixture
  const producer = client()
  producer.send('q', 'a', 'b')
  producer.send('other', 'c')
  store.commit()
  let done = false
  const deleted = engine.deleteQueue('q').then(() => {
    done = true
  })
  producer.send('q', 'new')
  await Promise.resolve()
  expect(done).toBe(false)
  store.commit()
  await deleted
  expect(store.queues().map(({ name, messageCount }) => [name, messageCount])).toEqual([
    ['other', 1],
    ['q', 1],
  ])
  const consumer = client()
  consumer.subscribe('q')
  await fixture.settle()
  expect(consumer.texts).toEqual(['new'])
  expect(fixture.failures).toEqual([])
})

test('T27: consumers of a deleted queue are disconnected, what they acknowledged before it is recorded, others go on', async () => {
  const fixture = await opened()
  const { store, client, engine } = fixture
  const [consumer, other, producer] = [client(), client(), client()]
  const subscription = consumer.subscribe('q')
  other.subscribe('other')
  producer.send('q', 'a', 'b')
  store.commit()
  subscription.acknowledge(consumer.deliveries[0]?.index ?? 0)
  const deleted = engine.deleteQueue('q')
  expect(consumer.disconnects).toEqual(['queue q was deleted'])
  expect(store.appendedRecords).toMatchObject({ removals: 1, counts: 0 })
  store.commit()
  await deleted
  producer.send('other', 'c')
  store.commit()
  expect(other.texts).toEqual(['c'])
  expect([other.disconnects, producer.disconnects, engine.clientCount]).toEqual([[], [], 2])
  expect(engine.memoryBytes).toBe(0)
})

test('T27: a queue that is deleted while a page of it is read ends nothing but that', async () => {
  const fixture = await opened({}, { queueMessages: 2 })
  const { store, client, engine } = fixture
  client().send('q', 'a', 'b', 'c', 'd')
  store.commit()
  const release = store.holdReads()
  client().subscribe('q')
  const deleted = engine.deleteQueue('q')
  store.commit()
  release()
  await deleted
  await fixture.settle()
  expect(fixture.failures).toEqual([])
  expect([engine.queueCount, engine.memoryBytes]).toEqual([0, 0])
})

test('T27: a queue that is not there is not deleted, and a lost mastership leaves the deletion in doubt', async () => {
  const { store, client, engine } = await opened()
  await expect(engine.deleteQueue('q')).rejects.toMatchObject({ code: 'BROKER_UNKNOWN_QUEUE' })
  client().send('q', 'a')
  const deleted = engine.deleteQueue('q')
  store.demote()
  await expect(deleted).rejects.toMatchObject({ code: 'STORE_NOT_MASTER' })
})

test('S9: nothing is delivered without the lease, and delivery goes on when it comes back', async () => {
  const { store, client } = await opened()
  const consumer = client()
  consumer.subscribe('q')
  store.loseLease()
  client().send('q', 'a', 'b')
  store.commit()
  expect(consumer.texts).toEqual([])
  store.renewLease()
  expect(consumer.texts).toEqual(['a', 'b'])
})

test('lease: lost between a delivery and its write, the client is asked to flush again when it is back (S9)', async () => {
  const { store, client } = await opened()
  const consumer = client()
  consumer.subscribe('q')
  client().send('q', 'a')
  store.commit()
  expect(consumer.connection.mayDeliver()).toBe(true)
  store.loseLease()
  expect(consumer.connection.mayDeliver()).toBe(false)
  const { flushes } = consumer
  store.renewLease()
  expect(consumer.flushes).toBe(flushes + 1)
  expect(consumer.connection.mayDeliver()).toBe(true)
})

test('lease: lost while a page is read, the page is not delivered', async () => {
  const fixture = await opened({}, { queueMessages: 2 })
  const { store, client } = fixture
  client().send('q', 'a', 'b', 'c', 'd')
  store.commit()
  const release = store.holdReads()
  const consumer = client()
  consumer.subscribe('q')
  expect(consumer.texts).toEqual(['a', 'b'])
  store.loseLease()
  release()
  await fixture.settle()
  expect(consumer.texts).toEqual(['a', 'b'])
  store.renewLease()
  await fixture.settle()
  expect(consumer.texts).toEqual(['a', 'b', 'c', 'd'])
})

test('confirm: a client is told only what the store confirmed, and only if it waits', async () => {
  const { store, client } = await opened()
  const producer = client()
  const idle = client()
  const [first = 0, second = 0] = producer.send('q', 'a', 'b')
  expect(producer.confirmations).toEqual([])
  store.commitOnly()
  expect(producer.confirmations).toEqual([])
  store.confirm(first)
  expect(producer.confirmations).toEqual([first])
  store.confirm(second)
  expect(producer.confirmations).toEqual([first, second])
  expect(idle.confirmations).toEqual([])
  client().send('q', 'c')
  store.commit()
  expect(producer.confirmations).toEqual([first, second])
})

test('confirm: an acknowledgement is not confirmed by a message that was sent before it in the same read', async () => {
  const { store, client } = await opened()
  const worker = client()
  const consumer = worker.subscribe('in')
  const [index = 0] = client().send('in', 'job')
  store.commit()
  const acknowledged = consumer.acknowledge(index)
  const results = ['x', 'y', 'z'].map((text) => worker.put('out', text))
  worker.connection.endOfRead()
  const removal = store.lastIndex
  expect(removal).toBeGreaterThan(Math.max(...results))
  store.commit(removal - 1)
  expect(worker.confirmedIndex).toBeLessThan(acknowledged)
  store.commit(removal)
  expect(worker.confirmedIndex).toBe(removal)
})

test('confirm: an acknowledgement alone in its read waits for its own record', async () => {
  const { store, client } = await opened()
  const worker = client()
  const consumer = worker.subscribe('q')
  const indices = client().send('q', 'a', 'b', 'c')
  store.commit()
  const promises = indices.map((index) => consumer.acknowledge(index))
  worker.connection.endOfRead()
  expect(store.appendedRecords.removals).toBe(1)
  expect(promises).toEqual([store.lastIndex, store.lastIndex, store.lastIndex])
  expect(worker.confirmations).toEqual([])
  store.commit()
  expect(worker.confirmations).toEqual([store.lastIndex])
})

test('confirm: an acknowledgement behind records of the store itself is confirmed with its own record, nothing else needed', async () => {
  const fixture = await new EngineFixture().open()
  const client = fixture.client()
  client.send('q', 'a', 'b')
  const consumer = client.subscribe('q')
  await fixture.settle()
  for (const name of ['kept', 'kept too']) fixture.session?.addQueue(name)
  await fixture.settle()

  for (const { index } of client.deliveries) {
    const promised = consumer.acknowledge(index)
    client.connection.endOfRead()
    expect(client.confirmedIndex).toBeLessThan(promised)
    fixture.store.commit()
    expect(client.confirmedIndex).toBeGreaterThanOrEqual(promised)
  }
})

test('S16: an acknowledgement is not taken for confirmed by records of the store itself that the client was told of', async () => {
  const fixture = await new EngineFixture().open()
  const client = fixture.client()
  const consumer = client.subscribe('q')
  client.send('q', 'a')
  for (const name of ['kept', 'kept too']) fixture.session?.addQueue(name)
  await fixture.settle()

  const promised = consumer.acknowledge(client.deliveries[0]?.index ?? 0)
  client.connection.endOfRead()
  expect(promised).toBeGreaterThan(client.confirmedIndex)
  fixture.store.commit()
  expect(client.confirmedIndex).toBeGreaterThanOrEqual(promised)
})

test('S22: a repeated message is not stored, and waits for the index of the first', async () => {
  const { store, client } = await opened()
  const producer = client()
  const consumer = client()
  consumer.subscribe('q')
  const first = producer.put('q', 'a', 'p', 1)
  producer.connection.endOfRead()
  const again = client()
  expect(again.put('q', 'a', 'p', 1)).toBe(first)
  again.connection.endOfRead()
  expect(again.confirmations).toEqual([])
  store.commit()
  expect(again.confirmedIndex).toBeGreaterThanOrEqual(first)
  expect(consumer.texts).toEqual(['a'])
})

test('duplicate: of a message that is confirmed already is confirmed at the end of the read', async () => {
  const { store, client } = await opened()
  const producer = client()
  const first = producer.put('q', 'a', 'p', 1)
  producer.connection.endOfRead()
  store.commit()
  const again = client()
  expect(again.put('q', 'a', 'p', 1)).toBe(first)
  again.connection.endOfRead()
  expect(again.confirmedIndex).toBeGreaterThanOrEqual(first)
  expect(again.flushes).toBe(1)
})

test('S22, T14: after a failover a repeated message is known, and what was not committed is taken again', async () => {
  const { store, client, fixture } = await opened()
  client().put('q', 'a', 'p', 1)
  store.commit()
  client().put('q', 'b', 'p', 2)
  store.demote()
  store.promote()
  const producer = client()
  producer.put('q', 'a', 'p', 1)
  producer.put('q', 'b', 'p', 2)
  producer.connection.endOfRead()
  const consumer = client()
  consumer.subscribe('q')
  await fixture.settle()
  expect(consumer.texts).toEqual(['a', 'b'])
})

test('consumers: two share a queue in turn, each up to its prefetch', async () => {
  const { store, client } = await opened()
  const one = client()
  const two = client()
  one.subscribe('q', 'individual', 2)
  two.subscribe('q', 'individual', 3)
  client().send('q', 'a', 'b', 'c', 'd', 'e', 'f', 'g')
  store.commit()
  expect(one.texts).toEqual(['a', 'c'])
  expect(two.texts).toEqual(['b', 'd', 'e'])
})

test('consumers: an acknowledgement gives credit for the next message', async () => {
  const { store, client } = await opened()
  const worker = client()
  const consumer = worker.subscribe('q', 'individual', 1)
  const [first = 0] = client().send('q', 'a', 'b')
  store.commit()
  expect(worker.texts).toEqual(['a'])
  expect(consumer.acknowledge(first)).toBeGreaterThan(first)
  worker.connection.endOfRead()
  expect(worker.texts).toEqual(['a', 'b'])
  expect(consumer.acknowledge(first)).toBe(0)
})

test('consumers: in client mode one acknowledgement covers all delivered before', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const worker = client()
  const consumer = worker.subscribe('q', 'client', 3)
  const [, second = 0] = client().send('q', 'a', 'b', 'c', 'd', 'e')
  store.commit()
  consumer.acknowledge(second)
  worker.connection.endOfRead()
  expect(worker.texts).toEqual(['a', 'b', 'c', 'd', 'e'])
  await fixture.settle()
  expect(store.queues()[0]?.messageCount).toBe(3)
})

test('consumers: in auto mode a delivery is an acknowledgement', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  client().subscribe('q', 'auto', 1)
  client().send('q', 'a', 'b', 'c')
  store.commit()
  expect(store.appendedRecords.removals).toBe(1)
  await fixture.settle()
  expect(store.queues()[0]?.messageCount).toBe(0)
})

test('S17: messages of a dead consumer go to another in their old order, with a count that is recorded', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const dead = client()
  dead.subscribe('q', 'individual', 3)
  const indices = client().send('q', 'a', 'b', 'c', 'd')
  store.commit()
  const heir = client()
  const consumer = heir.subscribe('q', 'individual', 1)
  expect(heir.texts).toEqual(['d'])
  dead.connection.close()
  consumer.acknowledge(indices[3] ?? 0)
  heir.connection.endOfRead()
  await fixture.settle()
  for (const index of indices.slice(0, 3)) {
    expect(heir.deliveries.at(-1)).toMatchObject({ index, redeliveryCount: 1 })
    consumer.acknowledge(index)
    heir.connection.endOfRead()
    await fixture.settle()
  }
  expect(heir.texts).toEqual(['d', 'a', 'b', 'c'])
  expect(store.appendedRecords.counts).toBe(1)
  expect(store.queues()[0]?.messageCount).toBe(0)
})

test('S16: the redelivery count outlives a failover', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  for (let death = 1; death <= 3; death++) {
    const dead = client()
    dead.subscribe('q')
    if (death === 1) client().send('q', 'a')
    await fixture.settle()
    expect(dead.deliveries).toMatchObject([{ redeliveryCount: death - 1 }])
    dead.connection.close()
    store.commit()
  }
  store.demote()
  store.promote()
  const next = client()
  next.subscribe('q')
  await fixture.settle()
  expect(next.deliveries).toMatchObject([{ text: 'a', redeliveryCount: 3 }])
})

test('reject: the message comes first again, before newer ones', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const worker = client()
  const consumer = worker.subscribe('q', 'individual', 1)
  const [first = 0] = client().send('q', 'a', 'b')
  store.commit()
  const index = consumer.reject(first)
  worker.connection.endOfRead()
  expect(index).toBe(store.lastIndex)
  await fixture.settle()
  expect(worker.deliveries.map(({ text, redeliveryCount }) => [text, redeliveryCount])).toEqual([
    ['a', 0],
    ['a', 1],
  ])
})

test('S16: a message whose removal is not committed is not delivered again', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const worker = client()
  const consumer = worker.subscribe('q')
  const [first = 0] = client().send('q', 'a')
  store.commit()
  consumer.acknowledge(first)
  worker.connection.close()
  const next = client()
  next.subscribe('q')
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
  expect(next.texts).toEqual([])
})

test('S10: on demotion all clients are disconnected at once, and later calls have no effect', async () => {
  const { store, client } = await opened()
  const clients = [client(), client(), client()]
  const [worker = client()] = clients
  const consumer = worker.subscribe('q')
  const [first = 0] = worker.send('q', 'a')
  store.commit()
  store.demote('lost')
  for (const one of clients) expect(one.disconnects).toEqual(['lost'])
  expect(consumer.acknowledge(first)).toBe(0)
  consumer.close()
  worker.connection.endOfRead()
  worker.connection.close()
  expect(() => worker.put('q', 'b')).toThrow(StoreError)
  expect(() => worker.subscribe('q')).toThrow(StoreError)
})

test('demotion: a page that is being read then is not delivered by the next mastership twice', async () => {
  const fixture = await opened({}, { queueMessages: 2 })
  const { store, client } = fixture
  client().send('q', 'a', 'b', 'c')
  store.commit()
  const release = store.holdReads()
  const before = client()
  before.subscribe('q')
  store.demote()
  store.promote()
  const after = client()
  after.subscribe('q')
  release()
  await fixture.settle()
  expect(before.texts).toEqual(['a', 'b'])
  expect(after.texts).toEqual(['a', 'b', 'c'])
})

test('back-pressure: a clogged client gets nothing until its output is free', async () => {
  const { store, client } = await opened()
  const clogged = client()
  clogged.subscribe('q')
  clogged.writable = false
  client().send('q', 'a')
  store.commit()
  expect(clogged.texts).toEqual([])
  clogged.writableAgain()
  expect(clogged.texts).toEqual(['a'])
})

test('back-pressure: a producer without room is told when there is some', async () => {
  const { store, client } = await opened()
  const producer = client()
  const other = client()
  store.setRoom(false)
  expect(producer.connection.hasRoom()).toBe(false)
  store.setRoom(true)
  expect(producer.roomCalls).toBe(1)
  expect(other.roomCalls).toBe(0)
})

test('message: above the limit is refused, and the connection stays usable', async () => {
  const { client } = await opened({ maxRecordBytes: 3 })
  const producer = client()
  expect(() => producer.put('q', 'four')).toThrow(
    expect.objectContaining({ detail: { code: 'BROKER_MESSAGE_TOO_LARGE', bytes: 4, limit: 3 } }),
  )
  expect(producer.put('q', 'abc')).toBeGreaterThan(0)
})

test('session: one that throws is disconnected, its messages go to others', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const broken = client()
  broken.deliver = () => {
    throw new Error('broken')
  }
  broken.subscribe('q', 'individual', 1)
  const sound = client()
  sound.subscribe('q', 'individual', 10)
  client().send('q', 'a', 'b')
  store.commit()
  await fixture.settle()
  expect(broken.disconnects).toHaveLength(1)
  expect(sound.texts.toSorted()).toEqual(['a', 'b'])
  expect(fixture.sessionFailures).toHaveLength(1)
})

test('memory: fast producer and consumer never read from the store', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const producer = client()
  client().subscribe('q', 'auto')
  for (let round = 0; round < 100; round++) {
    producer.send('q', ...Array.from({ length: 100 }, (_, place) => `${round}.${place}`))
    store.commit()
  }
  expect(store.pagesRead).toBe(0)
  expect(store.messagesRead).toBe(0)
  expect(fixture.engine.memoryBytes).toBe(0)
})

test('memory: a queue of 100,000 messages keeps within its window, and is delivered whole', async () => {
  const limits = { queueMessages: 1000, queueBytes: 100_000 }
  const fixture = await opened({}, limits)
  const { store, client } = fixture
  const producer = client()
  const count = 100_000
  for (let sent = 0; sent < count; sent += 1000) {
    producer.send('q', ...Array.from({ length: 1000 }, (_, place) => `message ${sent + place}`))
    store.commit()
    expect(fixture.engine.memoryBytes).toBeLessThanOrEqual(limits.queueBytes)
  }
  const worker = client()
  const consumer = worker.subscribe('q', 'client', 500)
  let seen = 0
  while (seen < count) {
    await fixture.settle()
    expect(fixture.engine.memoryBytes).toBeLessThanOrEqual(limits.queueBytes)
    const last = worker.deliveries.at(-1)
    if (last === undefined || worker.deliveries.length === 0) throw new Error(`stuck at ${seen}`)
    for (const { text } of worker.deliveries.splice(0)) {
      expect(text).toBe(`message ${seen}`)
      seen += 1
    }
    consumer.acknowledge(last.index)
    worker.connection.endOfRead()
  }
  await fixture.settle()
  expect(store.queues()[0]?.messageCount).toBe(0)
  // Caught up: back on the fast path.
  const pagesRead = store.pagesRead
  producer.send('q', 'x')
  store.commit()
  expect(worker.texts).toEqual(['x'])
  expect(store.pagesRead).toBe(pagesRead)
})

test('memory: a message in the store that is not committed is paged in after its commit, and not looked for before', async () => {
  const { store, client } = await opened({}, { queueMessages: 2 })
  const [, , third = 0, fourth = 0] = client().send('q', 'a', 'b', 'c', 'd')
  store.commit(third)
  const worker = client()
  worker.subscribe('q', 'individual')
  for (let turn = 0; turn < 50; turn++) await Promise.resolve()
  expect(worker.texts).toEqual(['a', 'b', 'c'])
  expect(store.pagesRead).toBe(1)
  store.commit(fourth)
  for (let turn = 0; turn < 50; turn++) await Promise.resolve()
  expect(worker.texts).toEqual(['a', 'b', 'c', 'd'])
  expect(store.pagesRead).toBe(2)
})

test('memory: queues that nobody consumes make room for one that is', async () => {
  const limits = { queueMessages: 100, queueBytes: 1000, totalBytes: 3000, pageMessages: 50 }
  const fixture = await opened({}, limits)
  const { store, client } = fixture
  const producer = client()
  const texts = Array.from({ length: 100 }, (_, place) => `message ${place}`)
  for (const queue of ['a', 'b', 'c', 'd']) producer.send(queue, ...texts)
  store.commit()
  const worker = client()
  worker.subscribe('d', 'auto')
  await fixture.settle()
  expect(worker.texts).toEqual(texts)
  const other = client()
  other.subscribe('a', 'auto')
  await fixture.settle()
  expect(other.texts).toEqual(texts)
  expect(fixture.engine.memoryBytes).toBeLessThanOrEqual(limits.totalBytes)
})

test('stop: what clients hold is counted as delivered before mastership is given up', async () => {
  const fixture = await opened()
  const { store, client } = fixture
  const worker = client()
  worker.subscribe('q')
  const [index = 0] = client().send('q', 'a')
  store.commit()
  fixture.engine.retire('stopped')
  expect(worker.disconnects).toEqual(['stopped'])
  store.commit()
  expect(store.redeliveryCount(index)).toBe(1)
})

async function opened(
  ...options: ConstructorParameters<typeof EngineFixture>
): Promise<EngineFixture & { fixture: EngineFixture }> {
  const fixture = await new EngineFixture(...options).open()
  return Object.assign(fixture, { fixture, client: fixture.client.bind(fixture) })
}

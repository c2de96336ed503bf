import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DumpedBatch, type DumpOptions, type DumpTrouble, dumpStore } from '../../../src/index.ts'
import { batchHeaderBytes, lastIndexOf } from '../../../src/journal/batch.ts'
import { messagesPerQueue, removed, StoreFixture } from './store-fixture.ts'

let fixture: StoreFixture
beforeAll(async () => {
  fixture = await StoreFixture.create()
})
afterAll(() => fixture.dispose())

async function dumped(directory: string, options?: DumpOptions) {
  const parts: (DumpedBatch | DumpTrouble)[] = []
  for await (const part of dumpStore(directory, options)) parts.push(part)
  const batches = parts.filter((part) => part.type === 'batch')
  return {
    batches,
    records: batches.flatMap((batch) => batch.records),
    trouble: parts.filter((part) => part.type !== 'batch'),
  }
}

function middle() {
  const batch = fixture.batches[Math.floor(fixture.batches.length / 2)]
  if (batch === undefined) throw new Error('no batch')
  return { ...batch, file: fixture.nameOf(batch.segment.path), lastIndex: lastIndexOf(batch.header) }
}

test('dump: every batch and record of a real run, in order, with its place', async () => {
  const { batches, records, trouble } = await dumped(fixture.directory)
  expect(trouble).toEqual([])
  expect(batches.map(({ file, offset, header }) => [file, offset, header])).toEqual(
    fixture.batches.map(({ segment, offset, header }) => [segment.path, offset, header]),
  )
  expect(records.map(({ index }) => index)).toEqual(records.map((_, place) => place + 1))
  const ofOrders = records.filter((record) => record.kind === 'messageAdded' && record.queueName === 'orders')
  expect(ofOrders).toHaveLength(messagesPerQueue)
  expect(ofOrders[6]).toMatchObject({ producerId: 'producer-1', sequence: 7 })
  const body = Buffer.concat([Buffer.from('head 7'), Buffer.alloc(4000, 'x')])
  expect(records.filter((record) => 'queueName' in record && record.queueName === 'other')[7]).toMatchObject({
    kind: 'messageAdded',
    producer: 0,
    envelope: body,
  })
  expect(records.find((record) => record.kind === 'messagesRemoved')?.messages).toHaveLength(removed)
  expect(records.find((record) => record.kind === 'redeliveryCounted')).toMatchObject({
    count: 2,
    queueName: 'orders',
  })
})

test('dump: from and to cut within batches, and names from before are known', async () => {
  const { header } = middle()
  const { batches, records } = await dumped(fixture.directory, {
    from: header.firstIndex + 1,
    to: header.firstIndex + 5,
  })
  expect(batches.at(0)?.header.firstIndex).toBe(header.firstIndex)
  expect(records.map(({ index }) => index - header.firstIndex)).toEqual([1, 2, 3, 4, 5])
  for (const record of records)
    expect(record).toMatchObject({ queueName: expect.stringMatching(/orders|other/) })
})

test('dump: of one queue only its records, and only batches with such', async () => {
  const { batches, records } = await dumped(fixture.directory, { queue: 'orders' })
  expect(new Set(records.map((record) => 'queueName' in record && record.queueName))).toEqual(
    new Set(['orders']),
  )
  expect(records).toHaveLength(1 + messagesPerQueue + 2)
  expect(batches.every((batch) => batch.records.length > 0)).toBe(true)
  expect((await dumped(fixture.directory, { queue: 'none' })).batches).toEqual([])
})

test('dump: only headers', async () => {
  const { batches, records } = await dumped(fixture.directory, { headersOnly: true })
  expect(batches).toHaveLength(fixture.batches.length)
  expect(records).toEqual([])
})

test('dump: stops at damage, and tells where it goes on', async () => {
  const { file, offset, header, lastIndex } = middle()
  const copy = await fixture.copy()
  await copy.flip(file, offset + batchHeaderBytes + 5)
  const before = await copy.digest()
  const { batches, trouble } = await dumped(copy.directory)
  expect(trouble).toMatchObject([{ type: 'damage', file: copy.path(file), offset, goesOnAt: lastIndex + 1 }])
  expect(batches.at(-1)?.header.firstIndex).toBeLessThan(header.firstIndex)
  const rest = await dumped(copy.directory, { from: lastIndex + 1 })
  expect(rest.trouble).toMatchObject([{ type: 'passed', offset }])
  expect(batches.length + 1 + rest.batches.length).toBe(fixture.batches.length)
  expect((await dumped(copy.directory, { to: header.firstIndex - 1 })).trouble).toEqual([])
  expect(await copy.digest()).toBe(before)
})

test('dump: a torn tail is where the log ends, and no damage', async () => {
  const copy = await fixture.copy()
  const mark = fixture.marks.at(-1)
  await copy.flip(fixture.segments.at(-1) ?? '', (mark?.offset ?? 0) + 50)
  const { batches, trouble } = await dumped(copy.directory)
  expect(trouble).toMatchObject([{ type: 'torn' }])
  expect(batches).toHaveLength(fixture.batches.length)
})

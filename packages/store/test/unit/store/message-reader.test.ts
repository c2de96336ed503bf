import { BatchChain, type BuiltBatch, SeededRandom } from '@levelmq/testkit'
import { beforeEach, describe, expect, test } from 'vitest'
import { StoreError } from '../../../src/errors.ts'
import type { Log } from '../../../src/journal/log.ts'
import { MessageReader } from '../../../src/message-reader.ts'

describe('message reader', () => {
  const texts = new Map<number, string>()
  let batches: BuiltBatch[]
  let opened: number[]
  let reader: MessageReader

  beforeEach(() => {
    const random = new SeededRandom(7)
    const chain = new BatchChain(10)
    texts.clear()
    opened = []
    batches = []
    for (let count = 0; count < 40; count++) {
      const first = chain.nextIndex
      const records = Array.from({ length: random.between(1, 30) }, (_, place) => {
        const text = `message ${first + place} ${'x'.repeat(random.between(0, 60))}`
        texts.set(first + place, text)
        return { kind: 'messageAdded' as const, queue: 1, envelope: Buffer.from(text) }
      })
      // A record of another kind at the end of each.
      batches.push(chain.next(...records, { kind: 'queueAdded', name: 'q' }))
    }
    const log: Pick<Log, 'batchWith'> = {
      batchWith: async (index) => {
        opened.push(index)
        const found = batches.find(({ firstIndex, lastIndex }) => firstIndex <= index && index <= lastIndex)
        if (found === undefined) throw new StoreError({ code: 'STORE_LOG_GONE', index }, `no ${index}`)
        return found.bytes
      },
    }
    reader = new MessageReader(log as Log)
  })

  const read = async (indices: readonly number[]) =>
    (await reader.read(indices)).map((envelope) => envelope.toString())
  const expected = (indices: readonly number[]) => indices.map((index) => texts.get(index))

  test('rising: envelopes are the originals, and each batch is opened once', async () => {
    const indices = [...texts.keys()]
    expect(await read(indices)).toEqual(expected(indices))
    expect(opened).toHaveLength(batches.length)
  })

  test('pages: a batch that spans two calls is opened once', async () => {
    const indices = [...texts.keys()]
    for (let at = 0; at < indices.length; at += 7) await read(indices.slice(at, at + 7))
    expect(opened).toHaveLength(batches.length)
  })

  test('falling, random and repeated indices give the originals as well', async () => {
    const indices = [...texts.keys()]
    expect(await read(indices.toReversed())).toEqual(expected(indices.toReversed()))
    const random = new SeededRandom(1)
    const drawn = Array.from({ length: 500 }, () => indices[random.between(0, indices.length - 1)] ?? 0)
    expect(await read(drawn)).toEqual(expected(drawn))
    const [one = 0] = indices
    expect(await read([one, one, one])).toEqual(expected([one, one, one]))
  })

  test('readers at the same time do not disturb each other', async () => {
    const indices = [...texts.keys()]
    const [up, down] = await Promise.all([read(indices), read(indices.toReversed())])
    expect(up).toEqual(expected(indices))
    expect(down).toEqual(expected(indices.toReversed()))
  })

  test('nothing asked for is nothing read', async () => {
    expect(await read([])).toEqual([])
  })

  test('a record that is no message is an error, and names it', async () => {
    const index = batches[3]?.lastIndex ?? 0
    await expect(reader.read([index])).rejects.toThrow(`record ${index} is no message`)
    const before = index - 1
    expect(await read([before])).toEqual(expected([before]))
  })

  test('a record that the log no longer has is STORE_LOG_GONE', async () => {
    await expect(reader.read([5])).rejects.toMatchObject({ code: 'STORE_LOG_GONE', detail: { index: 5 } })
  })
})

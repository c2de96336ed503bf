import { BatchChain, type BuiltBatch, MemoryIndex, SeededRandom } from '@levelmq/testkit'
import { beforeEach, describe, expect, test } from 'vitest'
import { StoreError } from '../../../src/errors.ts'
import type { Log } from '../../../src/journal/log.ts'
import { MessageReader } from '../../../src/message-reader.ts'

describe('message reader', () => {
  const texts = new Map<number, string>()
  let batches: BuiltBatch[]
  let next: BatchChain
  let opened: number[]
  let index: MemoryIndex
  let log: Pick<Log, 'firstIndex' | 'batchWith'> & { firstIndex: number }
  let reader: MessageReader

  beforeEach(() => {
    const random = new SeededRandom(7)
    const chain = new BatchChain(0)
    index = new MemoryIndex({ maxProducers: 1, maxGaps: 1 })
    index.apply(chain.next({ kind: 'queueAdded', name: 'q' }).bytes)
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
      batches.push(chain.next(...records, { kind: 'configuration', json: '{}' }))
    }
    for (const { bytes } of batches) index.apply(bytes)
    next = chain
    log = {
      firstIndex: 2,
      batchWith: async (index) => {
        opened.push(index)
        const found = batches.find(({ firstIndex, lastIndex }) => firstIndex <= index && index <= lastIndex)
        if (found === undefined) throw new StoreError({ code: 'STORE_LOG_GONE', index }, `no ${index}`)
        return found.bytes
      },
    }
    reader = new MessageReader(log as Log, index)
  })

  /** Appends records that keep these messages, and deletes the log below them. */
  function keepOnly(messages: readonly number[]): void {
    const kept = next.next(
      ...messages.map((message) => {
        const envelope = Buffer.from(texts.get(message) ?? '')
        return { kind: 'messageKept' as const, queue: 1, message, envelope }
      }),
    )
    index.apply(kept.bytes)
    batches = [kept]
  }

  const read = async (indices: readonly number[]) =>
    (await reader.read(1, indices)).map((envelope) => envelope.toString())
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
    const other = batches[3]?.lastIndex ?? 0
    await expect(reader.read(1, [other])).rejects.toMatchObject({ detail: { index: other } })
    const before = other - 1
    expect(await read([before])).toEqual(expected([before]))
  })

  test('a message below the log is read where it was kept', async () => {
    const kept = [...texts.keys()].slice(0, 30)
    keepOnly(kept)
    log.firstIndex = batches[0]?.firstIndex ?? 0
    expect(await read(kept.toReversed())).toEqual(expected(kept.toReversed()))
    expect(opened, 'straight away').toEqual([log.firstIndex + 29])
  })

  test('S34: a message whose segment goes while it is being read is looked up once more', async () => {
    const kept = [...texts.keys()].slice(0, 30)
    const { batchWith } = log
    log.batchWith = (index) => {
      keepOnly(kept)
      log.batchWith = batchWith
      return batchWith(index)
    }
    expect(await read(kept)).toEqual(expected(kept))
  })

  test('a message that is neither in the log nor alive is STORE_LOG_GONE', async () => {
    const [gone = 0] = texts.keys()
    index.apply(next.next({ kind: 'messagesRemoved', queue: 1, messages: [gone] }).bytes)
    batches = []
    const failure = { code: 'STORE_LOG_GONE', detail: { index: gone } }
    await expect(reader.read(1, [gone])).rejects.toMatchObject(failure)
    log.firstIndex = next.nextIndex
    await expect(reader.read(1, [gone])).rejects.toMatchObject(failure)
  })

  test('a message that lives, in a log that has lost it, is STORE_LOG_GONE', async () => {
    const [lost = 0] = texts.keys()
    batches = []
    await expect(reader.read(1, [lost])).rejects.toMatchObject({
      code: 'STORE_LOG_GONE',
      detail: { index: lost },
    })
  })
})

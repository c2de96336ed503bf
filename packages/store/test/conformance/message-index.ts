import { BatchChain } from '@levelmq/testkit'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RecordFault } from '../../src/journal/record.ts'
import type { MessageIndex } from '../../src/message-index/message-index.ts'
import { GapWindow } from '../../src/message-index/sequence-window.ts'

/** An index under test: empty, with room for 3 producers and 2 gaps each. */
export interface IndexUnderTest {
  readonly index: MessageIndex
  dispose(): Promise<void>
}

/** What every implementation of {@link MessageIndex} does, whether checkpoints are taken or not. */
export function conformsToMessageIndex(name: string, open: () => Promise<IndexUnderTest>): void {
  describe.each([
    { when: 'without checkpoints', checkpoints: false },
    { when: 'with a checkpoint behind each batch', checkpoints: true },
  ])(`${name} $when`, ({ checkpoints }) => {
    let subject: IndexUnderTest
    let index: MessageIndex
    let log: BatchChain

    beforeEach(async () => {
      subject = await open()
      index = subject.index
      log = new BatchChain()
    })
    afterEach(() => subject.dispose())

    async function apply(...records: Parameters<BatchChain['next']>): Promise<void> {
      index.apply(log.next(...records).bytes)
      if (checkpoints) await index.checkpoint()
    }

    test('index: is empty at first', async () => {
      expect(index.appliedIndex).toBe(0)
      expect(index.queues()).toEqual([])
      expect(index.epochStarts).toEqual([])
      expect(index.configuration).toBeUndefined()
      expect(await index.page(1, 0, 10)).toEqual([])
    })

    test('index: keeps epoch starts and the last configuration', async () => {
      log.epoch = 3
      await apply({ kind: 'epochStart', nodeId: 'a' }, { kind: 'configuration', json: '{"voters":[]}' })
      log.epoch = 7
      await apply({ kind: 'epochStart', nodeId: 'b' })
      await apply({ kind: 'configuration', json: '{"voters":[1]}' })
      expect(index.epochStarts).toEqual([
        { epoch: 3, index: 1 },
        { epoch: 7, index: 3 },
      ])
      expect(index.configuration).toEqual({ index: 4, json: '{"voters":[1]}' })
      expect(index.appliedIndex).toBe(4)
    })

    test('queue: is known by name, and counts its messages', async () => {
      await apply({ kind: 'queueAdded', name: 'orders' }, { kind: 'queueAdded', name: 'größe' })
      await apply(
        { kind: 'messageAdded', queue: 2, envelope: 5 },
        { kind: 'messageAdded', queue: 2, envelope: 5 },
      )
      await apply({ kind: 'messagesRemoved', queue: 2, messages: [3] })
      expect(index.queues()).toEqual([
        { id: 1, name: 'orders', messageCount: 0 },
        { id: 2, name: 'größe', messageCount: 1 },
      ])
      expect(index.queueNamed('größe')).toEqual({ id: 2, name: 'größe', messageCount: 1 })
      expect(index.queueNamed('none')).toBeUndefined()
    })

    test('page: gives messages in order, from behind `after`, no more than the limit', async () => {
      await apply({ kind: 'queueAdded', name: 'a' }, { kind: 'queueAdded', name: 'b' })
      for (let round = 0; round < 5; round++) {
        await apply(
          { kind: 'messageAdded', queue: 1, envelope: 10 + round },
          { kind: 'messageAdded', queue: 2, envelope: 1 },
        )
      }
      expect(await index.page(1, 0, 2)).toEqual([
        { index: 3, bytes: 10, redeliveryCount: 0 },
        { index: 5, bytes: 11, redeliveryCount: 0 },
      ])
      expect((await index.page(1, 5, 10)).map((entry) => entry.index)).toEqual([7, 9, 11])
      expect((await index.page(1, 6, 1)).map((entry) => entry.index)).toEqual([7])
      expect(await index.page(1, 11, 10)).toEqual([])
      expect((await index.page(2, 0, 10)).map((entry) => entry.index)).toEqual([4, 6, 8, 10, 12])
    })

    test('page: leaves out what was removed, in any order', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      await apply(
        ...Array.from({ length: 9 }, () => ({ kind: 'messageAdded', queue: 1, envelope: 1 }) as const),
      )
      await apply({ kind: 'messagesRemoved', queue: 1, messages: [6, 2, 10] })
      expect((await index.page(1, 0, 3)).map((entry) => entry.index)).toEqual([3, 4, 5])
      expect((await index.page(1, 5, 9)).map((entry) => entry.index)).toEqual([7, 8, 9])
    })

    test('page: shows the redelivery count last set', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      await apply(
        { kind: 'messageAdded', queue: 1, envelope: 4 },
        { kind: 'messageAdded', queue: 1, envelope: 4 },
      )
      await apply({ kind: 'redeliveryCounted', queue: 1, count: 1, messages: [2, 3] })
      await apply({ kind: 'redeliveryCounted', queue: 1, count: 4_000_000_000, messages: [3] })
      expect(await index.page(1, 0, 9)).toEqual([
        { index: 2, bytes: 4, redeliveryCount: 1 },
        { index: 3, bytes: 4, redeliveryCount: 4_000_000_000 },
      ])
    })

    test('removal: repeated in the same batch counts once, and never below zero', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      await apply(
        { kind: 'messageAdded', queue: 1, envelope: 1 },
        { kind: 'messageAdded', queue: 1, envelope: 1 },
      )
      await apply(
        { kind: 'messagesRemoved', queue: 1, messages: [2, 2] },
        { kind: 'messagesRemoved', queue: 1, messages: [2] },
      )
      expect(index.queues()[0]?.messageCount).toBe(1)
      await apply({ kind: 'messagesRemoved', queue: 1, messages: [3] })
      await apply({ kind: 'messagesRemoved', queue: 1, messages: [2, 3, 99] })
      expect(index.queues()[0]?.messageCount).toBe(0)
      expect(await index.page(1, 0, 9)).toEqual([])
    })

    test('redelivery: of a message that is gone brings nothing back', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      await apply({ kind: 'messageAdded', queue: 1, envelope: 1 })
      await apply({ kind: 'messagesRemoved', queue: 1, messages: [2] })
      await apply({ kind: 'redeliveryCounted', queue: 1, count: 2, messages: [2] })
      expect(await index.page(1, 0, 9)).toEqual([])
      expect(index.queues()[0]?.messageCount).toBe(0)
    })

    test('producer: is known by its id, with what was seen of it', async () => {
      await apply({ kind: 'queueAdded', name: 'a' }, { kind: 'producerAdded', id: 'ID:host-1' })
      for (const sequence of [10, 11, 14]) {
        await apply({ kind: 'messageAdded', queue: 1, producer: 2, sequence, envelope: 1 })
      }
      expect(index.producerNamed('ID:host-1')).toBe(2)
      expect(index.producerNamed('ID:host-2')).toBeUndefined()
      const window = index.producerWindow(2)
      expect([9, 10, 11, 12, 13, 14, 15].filter((sequence) => window?.has(sequence))).toEqual([9, 10, 11, 14])
      window?.add(15)
      expect(index.producerWindow(2)?.has(15), 'a window handed out is a copy').toBe(false)
    })

    test('producer: the one unused for longest in the log is forgotten, and registers anew', async () => {
      await apply(
        { kind: 'queueAdded', name: 'a' },
        { kind: 'producerAdded', id: 'p2' },
        { kind: 'producerAdded', id: 'p3' },
        { kind: 'producerAdded', id: 'p4' },
      )
      await apply({ kind: 'messageAdded', queue: 1, producer: 2, sequence: 1, envelope: 1 })
      await apply({ kind: 'producerAdded', id: 'p6' })
      expect(['p2', 'p3', 'p4', 'p6'].map((id) => index.producerNamed(id))).toEqual([2, undefined, 4, 6])
      expect(index.producerWindow(3)).toBeUndefined()
      await apply({ kind: 'messageAdded', queue: 1, producer: 3, sequence: 8, envelope: 1 })
      expect(index.producerWindow(3), 'a message of a forgotten producer brings it not back').toBeUndefined()
      await apply({ kind: 'producerAdded', id: 'p3' })
      expect(index.producerNamed('p3')).toBe(8)
      expect(index.producerWindow(8)?.has(8)).toBe(false)
      expect(index.producerNamed('p4')).toBeUndefined()
    })

    test('kept: a message lives on at another place, with its index, order and redelivery count', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      await apply(
        { kind: 'messageAdded', queue: 1, envelope: 4 },
        { kind: 'messageAdded', queue: 1, envelope: 5 },
        { kind: 'redeliveryCounted', queue: 1, count: 2, messages: [2] },
      )
      const page = await index.page(1, 0, 9)
      await apply(
        { kind: 'messageKept', queue: 1, message: 2, redeliveryCount: 2, envelope: 4 },
        { kind: 'messageKept', queue: 1, message: 3, envelope: 5 },
      )
      await apply({ kind: 'redeliveryCounted', queue: 1, count: 1, messages: [3] })
      expect(await index.page(1, 0, 9)).toEqual([page[0], { index: 3, bytes: 5, redeliveryCount: 1 }])
      expect(index.queues()[0]?.messageCount).toBe(2)
      expect(await index.locate(1, [3, 2, 4])).toEqual([
        { location: 6, bytes: 5, redeliveryCount: 1 },
        { location: 5, bytes: 4, redeliveryCount: 2 },
        undefined,
      ])
      await apply({ kind: 'messagesRemoved', queue: 1, messages: [2] })
      expect(await index.locate(1, [2, 3])).toMatchObject([undefined, { location: 6 }])
      expect(index.queues()[0]?.messageCount).toBe(1)
    })

    test('kept: a message that is gone stays gone, and no log may begin before the record', async () => {
      await apply({ kind: 'queueAdded', name: 'a' }, { kind: 'messageAdded', queue: 1, envelope: 4 })
      await apply({ kind: 'messagesRemoved', queue: 1, messages: [2] })
      await apply({ kind: 'messageKept', queue: 1, message: 2, envelope: 4 })
      expect(await index.page(1, 0, 9)).toEqual([])
      expect(await index.locate(1, [2])).toEqual([undefined])
      await apply({ kind: 'configuration', json: '{}' })
      await index.checkpoint()
      await apply({ kind: 'configuration', json: '{}' })
      await index.checkpoint()
      expect(index.retained.strayAt).toBe(4)
    })

    test('live bytes: are where the messages are, as of the last checkpoint', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      const add = { kind: 'messageAdded', queue: 1, envelope: 100 } as const
      for (let round = 0; round < 20; round++) await apply(...Array.from({ length: 10 }, () => add))
      await index.checkpoint()
      const each = index.liveBytes(64, 127) / 64
      expect(each, 'what surrounds an envelope counts, too').toBeGreaterThan(100)
      expect(index.liveBytes(1, 201)).toBe(200 * each)
      expect(index.liveBytes(100, 100), 'counted by 64').toBe(64 * each)
      index.apply(log.next({ kind: 'messagesRemoved', queue: 1, messages: [64, 65, 2] }).bytes)
      index.apply(log.next({ kind: 'messageKept', queue: 1, message: 66, envelope: 100 }).bytes)
      expect(index.liveBytes(64, 127), 'not yet').toBe(64 * each)
      await index.checkpoint()
      expect(index.liveBytes(64, 127)).toBe(61 * each)
      expect(index.liveBytes(192, 255)).toBe(11 * each)
      expect(index.liveBytes(1, 1000)).toBe(197 * each)
    })

    test('retained: from the oldest that is live or was stated, and nothing before that', async () => {
      expect(index.retained).toEqual({ position: 0, neededFrom: 1, strayAt: 0 })
      await apply({ kind: 'queueAdded', name: 'a' }, { kind: 'producerAdded', id: 'p' })
      const add = { kind: 'messageAdded', queue: 1, producer: 2, sequence: 1, envelope: 1 } as const
      await apply(...Array.from({ length: 200 }, () => add))
      await apply({ kind: 'configuration', json: '{}' })
      await index.checkpoint()
      expect(index.retained).toEqual({ position: 203, neededFrom: 1, strayAt: 0 })
      const [, producer] = index.statedBelow(100, 9)
      if (producer?.kind !== 'producer') throw new Error('no producer')
      expect(producer).toMatchObject({ id: 2, name: 'p', lastUsed: 202 })
      expect(index.statedBelow(1000, 9)).toEqual([
        { kind: 'queue', id: 1, name: 'a' },
        producer,
        { kind: 'configuration', json: '{}' },
      ])
      expect(index.statedBelow(203, 9)).toHaveLength(2)
      expect(index.statedBelow(1000, 1)).toHaveLength(1)
      const { id, name, lastUsed, window } = producer
      await apply(
        { kind: 'producerKept', producer: id, lastUsed, id: name, window },
        { kind: 'queueKept', queue: 1, name: 'a' },
      )
      expect(index.statedBelow(1000, 9).map(({ kind }) => kind)).toEqual([
        'configuration',
        'producer',
        'queue',
      ])
      const messages = Array.from({ length: 150 }, (_, place) => place + 3)
      await apply({ kind: 'messagesRemoved', queue: 1, messages })
      await index.checkpoint()
      expect(index.retained, 'message 153 is in the bucket from 128 on').toMatchObject({ neededFrom: 128 })
      await apply({ kind: 'queueRemoved', queue: 1 })
      await index.checkpoint()
      expect(index.retained).toEqual({ position: 207, neededFrom: 203, strayAt: 0 })
    })

    test('retained: a message of a producer that is forgotten is a stray', async () => {
      const add = (id: string) => ({ kind: 'producerAdded', id }) as const
      await apply({ kind: 'queueAdded', name: 'a' }, add('p2'), add('p3'), add('p4'), add('p5'))
      await apply({ kind: 'messageAdded', queue: 1, producer: 2, sequence: 1, envelope: 1 })
      await apply({ kind: 'messageAdded', queue: 1, producer: 3, sequence: 1, envelope: 1 })
      await index.checkpoint()
      expect(index.retained.strayAt).toBe(6)
    })

    test('queue: removed, it goes with all that is in it, and its name is free', async () => {
      await apply({ kind: 'queueAdded', name: 'a' }, { kind: 'queueAdded', name: 'b' })
      await apply(
        { kind: 'messageAdded', queue: 1, envelope: 1 },
        { kind: 'messageAdded', queue: 2, envelope: 1 },
      )
      await apply({ kind: 'queueRemoved', queue: 1 })
      expect(index.queues()).toEqual([{ id: 2, name: 'b', messageCount: 1 }])
      expect(index.queueNamed('a')).toBeUndefined()
      expect(await index.page(1, 0, 9)).toEqual([])
      expect(await index.locate(1, [3])).toEqual([undefined])
      await apply({ kind: 'queueAdded', name: 'a' })
      await apply({ kind: 'messageAdded', queue: 6, envelope: 1 })
      expect(index.queueNamed('a')).toEqual({ id: 6, name: 'a', messageCount: 1 })
      expect((await index.page(6, 0, 9)).map((entry) => entry.index)).toEqual([7])
      await index.checkpoint()
      const before = index.liveBytes(1, 100)
      await apply({ kind: 'queueRemoved', queue: 6 })
      await index.checkpoint()
      expect(index.liveBytes(1, 100)).toBe(before / 2)
    })

    test('queue: what a late acknowledgement changes in a removed one is nothing, a new message is a fault', async () => {
      await apply({ kind: 'queueAdded', name: 'a' }, { kind: 'messageAdded', queue: 1, envelope: 1 })
      await apply({ kind: 'queueRemoved', queue: 1 })
      await apply(
        { kind: 'redeliveryCounted', queue: 1, count: 1, messages: [2] },
        { kind: 'messagesRemoved', queue: 1, messages: [2] },
      )
      expect(index.queues()).toEqual([])
      const orphan = log.next({ kind: 'messageAdded', queue: 1, envelope: 1 })
      expect(() => index.apply(orphan.bytes)).toThrow(RecordFault)
    })

    test('rebuild: takes what a log says again, and ignores what it cannot know', async () => {
      const producer = new GapWindow(2)
      producer.add(7)
      const window = Buffer.alloc(producer.encodedBytes)
      producer.encode(window, 0)
      log = new BatchChain(999)
      index.rebuildFrom(1000)
      await apply(
        { kind: 'messagesRemoved', queue: 3, messages: [20, 21] },
        { kind: 'redeliveryCounted', queue: 3, count: 9, messages: [22] },
        { kind: 'messageAdded', queue: 3, producer: 5, sequence: 9, envelope: 1 },
        { kind: 'queueRemoved', queue: 1 },
      )
      expect(index.retained.neededFrom).toBe(1)
      await apply(
        { kind: 'messageKept', queue: 3, message: 30, redeliveryCount: 2, envelope: 6 },
        { kind: 'messageKept', queue: 3, message: 25, envelope: 6 },
        { kind: 'messageKept', queue: 3, message: 26, envelope: 6 },
      )
      await apply(
        { kind: 'messagesRemoved', queue: 3, messages: [26] },
        { kind: 'redeliveryCounted', queue: 3, count: 3, messages: [25] },
        { kind: 'producerKept', producer: 5, lastUsed: 1002, id: 'p', window },
        { kind: 'queueKept', queue: 3, name: 'c' },
        { kind: 'queueKept', queue: 2, name: 'b' },
      )
      await index.rebuilt()
      expect(index.queues()).toEqual([
        { id: 2, name: 'b', messageCount: 0 },
        { id: 3, name: 'c', messageCount: 3 },
      ])
      expect(await index.page(3, 0, 9)).toEqual([
        { index: 25, bytes: 6, redeliveryCount: 3 },
        { index: 30, bytes: 6, redeliveryCount: 2 },
        { index: 1002, bytes: 1, redeliveryCount: 0 },
      ])
      expect(await index.locate(3, [25, 30])).toMatchObject([{ location: 1005 }, { location: 1004 }])
      expect(index.producerNamed('p')).toBe(5)
      expect(index.producerWindow(5)?.has(8)).toBe(false)
      expect(index.retained).toEqual({ position: 1011, neededFrom: 960, strayAt: 0 })
      await apply({ kind: 'messagesRemoved', queue: 3, messages: [25, 30, 1002] })
      expect(index.queues()[1]?.messageCount).toBe(0)
      expect(await index.page(3, 0, 9)).toEqual([])
    })

    test('rebuild: a log that does not name a queue is refused', async () => {
      log = new BatchChain(999)
      index.rebuildFrom(1000)
      await apply({ kind: 'messageAdded', queue: 3, envelope: 1 })
      await expect(index.rebuilt()).rejects.toThrow(RecordFault)
    })

    test('rebuild: begins only with an empty index', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      expect(() => index.rebuildFrom(1000)).toThrow(TypeError)
    })

    test('apply: skips batches that it has, and takes several at once', async () => {
      const first = log.next({ kind: 'queueAdded', name: 'a' })
      const second = log.next({ kind: 'messageAdded', queue: 1, envelope: 1 })
      const third = log.next({ kind: 'messageAdded', queue: 1, envelope: 1 })
      index.apply(Buffer.concat([first.bytes, second.bytes]))
      index.apply(Buffer.concat([first.bytes, second.bytes, third.bytes]))
      expect(index.appliedIndex).toBe(3)
      expect(index.queues()[0]?.messageCount).toBe(2)
    })

    test('apply: a gap, or a batch that overlaps in part, is a mistake of the caller', async () => {
      await apply({ kind: 'queueAdded', name: 'a' })
      const beyond = new BatchChain(2).next({ kind: 'queueAdded', name: 'b' })
      expect(() => index.apply(beyond.bytes)).toThrow(TypeError)
      const overlapping = new BatchChain(0).next(
        { kind: 'queueAdded', name: 'a' },
        { kind: 'queueAdded', name: 'b' },
      )
      expect(() => index.apply(overlapping.bytes)).toThrow(TypeError)
      expect(index.appliedIndex).toBe(1)
    })

    test('apply: a message for a queue that does not exist stops it', async () => {
      const orphan = log.next({ kind: 'messageAdded', queue: 9, envelope: 1 })
      expect(() => index.apply(orphan.bytes)).toThrow(RecordFault)
    })

    test('apply: the bytes may be changed afterwards', async () => {
      const { bytes } = log.next({ kind: 'queueAdded', name: 'orders' })
      index.apply(bytes)
      bytes.fill(0)
      expect(index.queueNamed('orders')?.id).toBe(1)
    })
  })
}

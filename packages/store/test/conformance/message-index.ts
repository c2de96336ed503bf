import { BatchChain } from '@levelmq/testkit'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RecordFault } from '../../src/journal/record.ts'
import type { MessageIndex } from '../../src/message-index/message-index.ts'

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

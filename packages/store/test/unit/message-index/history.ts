import { BatchChain, type BuiltBatch, MemoryIndex, type RecordContent } from '@levelmq/testkit'
import fc from 'fast-check'
import { expect } from 'vitest'
import type { MessageIndex } from '../../../src/message-index/message-index.ts'

export const indexOptions = { maxProducers: 3, maxGaps: 2 }
const producerNames = ['p0', 'p1', 'p2', 'p3', 'p4']

/** Something that a master appends, or a mistake of one that is tolerated. */
export type Action =
  | { readonly do: 'addMessages'; readonly queue: number; readonly count: number; readonly producer: number }
  | { readonly do: 'removeMessages'; readonly queue: number; readonly picks: readonly number[] }
  | { readonly do: 'removeHead'; readonly queue: number; readonly count: number }
  | { readonly do: 'removeAgain'; readonly queue: number }
  | { readonly do: 'countRedelivery'; readonly queue: number; readonly picks: readonly number[] }
  | { readonly do: 'addQueue'; readonly again: boolean }
  | { readonly do: 'removeQueue'; readonly queue: number }
  | { readonly do: 'acknowledgeLate' }
  | { readonly do: 'addProducer'; readonly name: string }
  | { readonly do: 'startEpoch' }
  | { readonly do: 'configure' }
  /** Says again everything below a point, or some messages. */
  | { readonly do: 'clean'; readonly share: number }
  | { readonly do: 'keepMessages'; readonly queue: number; readonly picks: readonly number[] }
  | { readonly do: 'keepDead'; readonly queue: number }

const small = fc.nat({ max: 40 })
const picks = fc.array(small, { minLength: 1, maxLength: 6 })
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ do: fc.constant('addMessages'), queue: small, count: small, producer: small }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('removeMessages'), queue: small, picks }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('removeHead'), queue: small, count: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('removeAgain'), queue: small }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('countRedelivery'), queue: small, picks }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('addQueue'), again: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('removeQueue'), queue: small }) },
  { weight: 1, arbitrary: fc.constant<Action>({ do: 'acknowledgeLate' }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('addProducer'), name: fc.constantFrom(...producerNames) }),
  },
  { weight: 2, arbitrary: fc.constant<Action>({ do: 'startEpoch' }) },
  { weight: 2, arbitrary: fc.constant<Action>({ do: 'configure' }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('clean'), share: fc.integer({ min: 1, max: 10 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('keepMessages'), queue: small, picks }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('keepDead'), queue: small }) },
)

/** What goes into one batch. */
export const actions: fc.Arbitrary<Action[]> = fc.array(action, { minLength: 1, maxLength: 6 })

interface Queue {
  id: number
  readonly name: string
  /** Indices of messages, in order. */
  readonly live: number[]
  readonly dead: number[]
}

/** A log as a master writes it, together with the plain model of the index after all of it. */
export class History {
  readonly model: MemoryIndex = new MemoryIndex(indexOptions)
  readonly batches: BuiltBatch[] = []
  readonly #chain = new BatchChain()
  readonly #queues: Queue[] = []
  readonly #removedQueues: Queue[] = []
  #names = 0
  #sequence = 0

  constructor() {
    this.append([
      { do: 'addQueue', again: false },
      { do: 'addQueue', again: false },
    ])
  }

  /** @returns The batch, if the actions come to any record. */
  append(all: readonly Action[]): BuiltBatch | undefined {
    const first = this.#chain.nextIndex
    const records: RecordContent[] = []
    for (const each of all) this.#addRecords(each, first, records)
    if (records.length === 0) return undefined
    const batch = this.#chain.next(...records)
    this.batches.push(batch)
    this.model.apply(batch.bytes)
    return batch
  }

  queueAt(pick: number): number | undefined {
    return this.#queues[pick % this.#queues.length]?.id
  }

  #addRecords(action: Action, first: number, records: RecordContent[]): void {
    const index = first + records.length
    switch (action.do) {
      case 'addQueue': {
        const again = action.again ? this.#removedQueues.at(-1)?.name : undefined
        const isFree = this.#queues.every(({ name }) => name !== again)
        const name = again !== undefined && isFree ? again : `q${++this.#names}`
        this.#queues.push({ id: index, name, live: [], dead: [] })
        records.push({ kind: 'queueAdded', name })
        return
      }
      case 'acknowledgeLate': {
        const queue = this.#removedQueues.at(-1)
        if (queue === undefined || queue.live.length === 0) return
        records.push({ kind: 'messagesRemoved', queue: queue.id, messages: queue.live })
        records.push({ kind: 'redeliveryCounted', queue: queue.id, messages: queue.live, count: 3 })
        return
      }
      case 'addProducer':
        records.push({ kind: 'producerAdded', id: action.name })
        return
      case 'startEpoch':
        this.#chain.epoch++
        records.push({ kind: 'epochStart', nodeId: 'n' })
        return
      case 'configure':
        records.push({ kind: 'configuration', json: `{"at":${index}}` })
        return
      case 'clean':
        // What is kept is kept as it is applied: nothing may be in flight.
        if (records.length === 0) this.#clean(Math.ceil((first * action.share) / 10), records)
        return
      default: {
        const queue = this.#queues[action.queue % this.#queues.length]
        if (queue !== undefined) this.#addQueueRecords(action, queue, first, records)
      }
    }
  }

  #addQueueRecords(
    action: Extract<Action, { queue: number }>,
    queue: Queue,
    first: number,
    records: RecordContent[],
  ): void {
    const { id, live, dead } = queue
    switch (action.do) {
      case 'addMessages': {
        const name = producerNames[action.producer % 8]
        const producer = name === undefined ? 0 : (this.model.producerNamed(name) ?? 0)
        for (let count = 0; count <= action.count % 12; count++) {
          this.#sequence += 1 + ((action.producer + count) % 5 === 0 ? 2 : 0)
          const sequence = producer === 0 ? 0 : Math.max(1, this.#sequence - (action.count % 7))
          live.push(first + records.length)
          records.push({ kind: 'messageAdded', queue: id, producer, sequence, envelope: action.count })
        }
        return
      }
      case 'countRedelivery': {
        const messages = action.picks.map((pick) => live[pick % live.length] ?? pick + 1)
        records.push({ kind: 'redeliveryCounted', queue: id, count: 1 + (first % 9), messages })
        return
      }
      case 'removeAgain': {
        // A repetition is tolerated as long as memory knows of the first: here, within one batch.
        const messages = records.flatMap((record) => {
          return record.kind === 'messagesRemoved' && record.queue === id ? record.messages : []
        })
        if (messages.length > 0) records.push({ kind: 'messagesRemoved', queue: id, messages })
        return
      }
      case 'removeQueue':
        this.#queues.splice(this.#queues.indexOf(queue), 1)
        this.#removedQueues.push(queue)
        records.push({ kind: 'queueRemoved', queue: id })
        return
      case 'keepMessages': {
        if (records.length > 0 || live.length === 0) return
        const some = new Set(action.picks.map((pick) => live[pick % live.length] as number))
        for (const message of some) this.#keep(id, message, records)
        return
      }
      case 'keepDead': {
        const message = dead.at(-1)
        if (records.length > 0 || message === undefined) return
        records.push({ kind: 'messageKept', queue: id, message, envelope: 9 })
        return
      }
      default: {
        const messages =
          action.do === 'removeHead'
            ? live.splice(0, 1 + action.count)
            : action.picks.flatMap((pick) => live.splice(pick % Math.max(1, live.length), 1))
        if (messages.length > 0) records.push({ kind: 'messagesRemoved', queue: id, messages })
        dead.push(...messages)
      }
    }
  }

  #clean(below: number, records: RecordContent[]): void {
    for (const statement of this.model.statedBelow(below, Number.POSITIVE_INFINITY)) {
      switch (statement.kind) {
        case 'queue':
          records.push({ kind: 'queueKept', queue: statement.id, name: statement.name })
          break
        case 'producer': {
          const { id, lastUsed, name, window } = statement
          records.push({ kind: 'producerKept', producer: id, lastUsed, id: name, window })
          break
        }
        case 'configuration':
          records.push({ kind: 'configuration', json: statement.json })
      }
    }
    for (const { id, live } of this.#queues)
      for (const message of live)
        if (this.#locate(id, message).location < below) this.#keep(id, message, records)
  }

  #keep(queue: number, message: number, records: RecordContent[]): void {
    const { bytes, redeliveryCount } = this.#locate(queue, message)
    records.push({ kind: 'messageKept', queue, message, redeliveryCount, envelope: bytes })
  }

  #locate(queue: number, message: number) {
    const located = this.model.located(queue, message)
    if (located === undefined) throw new Error(`message ${message} is not in the model`)
    return located
  }
}

/** Everything that can be read of two indices after the same records is the same; liveBytes, if both have a checkpoint. */
export async function expectSame(
  actual: MessageIndex,
  expected: MessageIndex,
  checkpointed: boolean,
): Promise<void> {
  expect(actual.appliedIndex).toBe(expected.appliedIndex)
  expect(actual.queues()).toEqual(expected.queues())
  expect(actual.configuration).toEqual(expected.configuration)
  // With the windows, and the order of use, which is that of eviction.
  const all = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] as const
  expect(actual.statedBelow(...all)).toEqual(expected.statedBelow(...all))
  for (const { id, name } of expected.queues()) {
    expect(actual.queueNamed(name)).toEqual(expected.queueNamed(name))
    const page = await expected.page(id, 0, 10_000)
    expect(await actual.page(id, 0, 10_000)).toEqual(page)
    const indices = [...page.map(({ index }) => index), 1, 2, 40, 10 ** 9]
    expect(await actual.locate(id, indices)).toEqual(await expected.locate(id, indices))
  }
  for (const name of producerNames) {
    const id = expected.producerNamed(name)
    expect(actual.producerNamed(name)).toBe(id)
    if (id !== undefined) expect(actual.hasProducer(id)).toBe(true)
  }
  if (!checkpointed) return
  for (let record = 0; record <= expected.appliedIndex; record += 64)
    expect(actual.liveBytes(record, record)).toBe(expected.liveBytes(record, record))
}

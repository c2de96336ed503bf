import { BatchChain, type BuiltBatch, MemoryIndex, type RecordContent } from '@levelmq/testkit'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { LevelIndex } from '../../../src/message-index/level-index.ts'
import type { MessageIndex } from '../../../src/message-index/message-index.ts'
import { IndexDirectory } from './index-directory.ts'

/**
 * The index is a fold of the log: whatever checkpoints, pages and crashes come in between, it holds what the plain
 * model holds after the same records.
 */
const options = { maxProducers: 3, maxGaps: 2 }
const producerNames = ['p0', 'p1', 'p2', 'p3', 'p4']

type Action =
  | { readonly do: 'addMessages'; readonly queue: number; readonly count: number; readonly producer: number }
  | { readonly do: 'removeMessages'; readonly queue: number; readonly picks: readonly number[] }
  | { readonly do: 'removeHead'; readonly queue: number; readonly count: number }
  | { readonly do: 'removeAgain'; readonly queue: number }
  | { readonly do: 'countRedelivery'; readonly queue: number; readonly picks: readonly number[] }
  | { readonly do: 'addQueue' }
  | { readonly do: 'addProducer'; readonly name: string }
  | { readonly do: 'startEpoch' }
  | { readonly do: 'configure' }
type Step =
  | { readonly do: 'apply'; readonly actions: readonly Action[] }
  | { readonly do: 'checkpoint'; readonly wait: boolean }
  | { readonly do: 'crash'; readonly replayFrom: number }
  | { readonly do: 'page'; readonly queue: number; readonly after: number; readonly limit: number }

const small = fc.nat({ max: 40 })
const picks = fc.array(small, { minLength: 1, maxLength: 6 })
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('addMessages'), queue: small, count: small, producer: small }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('removeMessages'), queue: small, picks }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('removeHead'), queue: small, count: small }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('removeAgain'), queue: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('countRedelivery'), queue: small, picks }) },
  { weight: 1, arbitrary: fc.constant<Action>({ do: 'addQueue' }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('addProducer'), name: fc.constantFrom(...producerNames) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('startEpoch') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('configure') }) },
)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('apply'),
      actions: fc.array(action, { minLength: 1, maxLength: 6 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('checkpoint'), wait: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash'), replayFrom: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('page'), queue: small, after: small, limit: small }) },
)

test('level index: holds what the model holds, whatever checkpoints and crashes come in between', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
      const directory = await IndexDirectory.create()
      try {
        await new Run(directory).play(steps)
      } finally {
        await directory.dispose()
      }
    }),
    { numRuns: 300 },
  )
}, 60_000)

class Run {
  readonly #directory: IndexDirectory
  readonly #model = new MemoryIndex(options)
  readonly #log: BuiltBatch[] = []
  readonly #chain = new BatchChain()
  readonly #queues: number[] = []
  readonly #live = new Map<number, number[]>()
  readonly #waiting: Promise<unknown>[] = []
  #sequence = 0

  constructor(directory: IndexDirectory) {
    this.#directory = directory
  }

  async play(steps: readonly Step[]): Promise<void> {
    let index = await this.#directory.reopen(options)
    await this.#step({ do: 'apply', actions: [{ do: 'addQueue' }, { do: 'addQueue' }] }, index)
    for (const step of steps) {
      if (step.do === 'crash') {
        await Promise.all(this.#waiting.splice(0))
        index = await this.#crash(step.replayFrom)
      } else {
        await this.#step(step, index)
      }
      expect(index.queues()).toEqual(this.#model.queues())
    }
    await Promise.all(this.#waiting)
    await this.#compare(index)
    await index.checkpoint()
    await this.#compare(await this.#crash(0))
  }

  async #step(step: Exclude<Step, { do: 'crash' }>, index: LevelIndex): Promise<void> {
    switch (step.do) {
      case 'apply': {
        const batch = this.#batch(step.actions)
        if (batch === undefined) return
        this.#log.push(batch)
        this.#model.apply(batch.bytes)
        index.apply(batch.bytes)
        return
      }
      case 'checkpoint': {
        const checkpoint = index.checkpoint()
        if (step.wait) await checkpoint
        else this.#waiting.push(checkpoint)
        return
      }
      case 'page': {
        const queue = this.#queueAt(step.queue)
        if (queue === undefined) return
        const after = step.after * 5
        // Both as of now; compared when the next crash, or the end, comes.
        const pages = [
          index.page(queue, after, step.limit + 1),
          this.#model.page(queue, after, step.limit + 1),
        ]
        this.#waiting.push(Promise.all(pages).then(([actual, expected]) => expect(actual).toEqual(expected)))
        return
      }
    }
  }

  async #crash(replayFrom: number): Promise<LevelIndex> {
    const index = await this.#directory.reopen(options)
    expect(index.begunAnew).toBeUndefined()
    const missing = this.#log.findIndex((batch) => batch.firstIndex > index.appliedIndex)
    const from = missing < 0 ? this.#log.length : missing
    // Replay may begin with whole batches that were applied before.
    const batches = this.#log.slice(Math.max(0, from - (replayFrom % 3)))
    index.apply(Buffer.concat(batches.map((batch) => batch.bytes)))
    return index
  }

  /** Turns actions into records as a master would: only live messages are removed, apart from repetitions. */
  #batch(actions: readonly Action[]): BuiltBatch | undefined {
    const first = this.#chain.nextIndex
    const records: RecordContent[] = []
    for (const action of actions) this.#addRecords(action, first, records)
    return records.length === 0 ? undefined : this.#chain.next(...records)
  }

  #addRecords(action: Action, first: number, records: RecordContent[]): void {
    if (action.do === 'addQueue') {
      this.#queues.push(first + records.length)
      records.push({ kind: 'queueAdded', name: `q${this.#queues.length}` })
    } else if (action.do === 'addProducer') {
      records.push({ kind: 'producerAdded', id: action.name })
    } else if (action.do === 'startEpoch') {
      this.#chain.epoch++
      records.push({ kind: 'epochStart', nodeId: 'n' })
    } else if (action.do === 'configure') {
      records.push({ kind: 'configuration', json: `{"at":${first + records.length}}` })
    } else {
      const queue = this.#queueAt(action.queue)
      if (queue !== undefined) this.#addQueueRecords(action, queue, first, records)
    }
  }

  #addQueueRecords(
    action: Extract<Action, { queue: number }>,
    queue: number,
    first: number,
    records: RecordContent[],
  ): void {
    const live = this.#live.get(queue) ?? []
    this.#live.set(queue, live)
    switch (action.do) {
      case 'addMessages': {
        const name = producerNames[action.producer % 8]
        const producer = name === undefined ? 0 : (this.#model.producerNamed(name) ?? 0)
        for (let count = 0; count <= action.count % 12; count++) {
          this.#sequence += 1 + ((action.producer + count) % 5 === 0 ? 2 : 0)
          const sequence = producer === 0 ? 0 : Math.max(1, this.#sequence - (action.count % 7))
          live.push(first + records.length)
          records.push({ kind: 'messageAdded', queue, producer, sequence, envelope: action.count })
        }
        return
      }
      case 'countRedelivery': {
        const messages = action.picks.map((pick) => live[pick % live.length] ?? pick)
        records.push({ kind: 'redeliveryCounted', queue, count: 1 + (first % 9), messages })
        return
      }
      case 'removeAgain': {
        // A repetition is tolerated as long as memory knows of the first: here, within one batch.
        const messages = records.flatMap((record) => {
          return record.kind === 'messagesRemoved' && record.queue === queue ? record.messages : []
        })
        if (messages.length > 0) records.push({ kind: 'messagesRemoved', queue, messages })
        return
      }
      default: {
        const messages =
          action.do === 'removeHead'
            ? live.splice(0, 1 + action.count)
            : action.picks.flatMap((pick) => live.splice(pick % Math.max(1, live.length), 1))
        if (messages.length > 0) records.push({ kind: 'messagesRemoved', queue, messages })
      }
    }
  }

  #queueAt(pick: number): number | undefined {
    return this.#queues[pick % this.#queues.length]
  }

  async #compare(index: MessageIndex): Promise<void> {
    const model = this.#model
    expect(index.appliedIndex).toBe(model.appliedIndex)
    expect(index.queues()).toEqual(model.queues())
    expect(index.epochStarts).toEqual(model.epochStarts)
    expect(index.configuration).toEqual(model.configuration)
    for (const queue of this.#queues) {
      expect(await index.page(queue, 0, 10_000)).toEqual(await model.page(queue, 0, 10_000))
    }
    for (const name of producerNames) {
      const id = model.producerNamed(name)
      expect(index.producerNamed(name)).toBe(id)
      if (id === undefined) continue
      expect(this.#seen(index, id)).toEqual(this.#seen(model, id))
    }
  }

  #seen(index: MessageIndex, producer: number): number[] {
    const window = index.producerWindow(producer)
    const sequences = Array.from({ length: this.#sequence + 2 }, (_, place) => place + 1)
    return sequences.filter((sequence) => window?.has(sequence))
  }
}

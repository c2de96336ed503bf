import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { AcknowledgeMode, Consumer } from '../../../src/engine.ts'
import { EngineFixture, type TestClient } from './engine-fixture.ts'

type Step =
  | { readonly type: 'send'; readonly count: number; readonly bytes: number }
  | { readonly type: 'subscribe'; readonly mode: AcknowledgeMode; readonly prefetch: number }
  | { readonly type: 'acknowledge' | 'reject'; readonly who: number; readonly place: number }
  | { readonly type: 'close' | 'clog' | 'unclog'; readonly who: number }
  | { readonly type: 'commit'; readonly part: number }
  | { readonly type: 'reads' | 'hold' | 'release' | 'lapse' | 'renew' | 'failover' | 'other' }

const who = fc.nat(5)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('send' as const),
      count: fc.integer({ min: 1, max: 8 }),
      bytes: fc.constantFrom(4, 20, 300),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('subscribe' as const),
      mode: fc.constantFrom<AcknowledgeMode>('auto', 'client', 'individual'),
      prefetch: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 8, arbitrary: fc.record({ type: fc.constant('acknowledge' as const), who, place: fc.nat(5) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('reject' as const), who, place: fc.nat(5) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constantFrom('close', 'clog', 'unclog'), who }) },
  {
    weight: 8,
    arbitrary: fc.record({ type: fc.constant('commit' as const), part: fc.constantFrom(0.3, 1, 1) }),
  },
  { weight: 6, arbitrary: fc.record({ type: fc.constant('reads' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constantFrom('hold', 'release', 'lapse', 'renew', 'other') }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('failover' as const) }) },
)

/** What one consumer must see: kept beside the engine, which knows nothing of it. */
interface ModelConsumer {
  readonly client: TestClient
  readonly consumer: Consumer
  readonly mode: AcknowledgeMode
  readonly prefetch: number
  /** Deliveries already looked at. */
  seen: number
  held: number[]
}

/** The rules of one queue, checked at each step. */
class QueueModel {
  readonly fixture: EngineFixture
  readonly #sent = new Map<number, string>()
  /** Index to number of times given back in this mastership and, as committed, before. */
  readonly #counts = new Map<number, number>()
  readonly #gone = new Set<number>()
  #consumers: ModelConsumer[] = []
  #producer: TestClient
  #release: (() => void) | undefined
  #number = 0

  constructor(fixture: EngineFixture) {
    this.fixture = fixture
    this.#producer = fixture.client()
  }

  async perform(step: Step): Promise<void> {
    const { store } = this.fixture
    this.#look()
    const one = 'who' in step ? this.#consumers[step.who % this.#consumers.length] : undefined
    switch (step.type) {
      case 'send':
        this.#send(step.count, step.bytes)
        break
      case 'subscribe':
        this.#subscribe(step.mode, step.prefetch)
        break
      case 'acknowledge':
      case 'reject':
        if (one !== undefined) this.#answer(one, step.type, step.place)
        break
      case 'close':
        if (one !== undefined) this.#close(one)
        break
      case 'clog':
        if (one !== undefined) one.client.writable = false
        break
      case 'unclog':
        one?.client.writableAgain()
        break
      case 'commit':
        store.commit(store.commitIndex + Math.ceil((store.lastIndex - store.commitIndex) * step.part))
        break
      case 'reads':
        await turns()
        break
      case 'hold':
        if (this.#release === undefined) this.#release = store.holdReads()
        break
      case 'release':
        this.#letReadsGo()
        break
      case 'lapse':
        store.loseLease()
        break
      case 'renew':
        store.renewLease()
        break
      case 'other':
        this.#producer.send('other', 'x')
        break
      case 'failover':
        this.#failover()
        break
      default:
        step satisfies never
    }
    this.#look()
  }

  /** Everything goes well again: then one consumer gets all that is left, in order. */
  async finish(): Promise<void> {
    this.fixture.store.renewLease()
    this.#letReadsGo()
    for (const one of [...this.#consumers]) this.#close(one)
    await this.fixture.settle()
    this.#look()
    this.#subscribe('individual', 1000)
    await this.fixture.settle()
    this.#look()
    const [last] = this.#consumers
    const left = [...this.#sent.keys()].filter((index) => !this.#gone.has(index))
    expect(last?.held).toEqual(left)
    expect(this.fixture.failures).toEqual([])
    expect(this.fixture.sessionFailures).toEqual([])
  }

  #send(count: number, bytes: number): void {
    const texts = Array.from({ length: count }, () => `${this.#number++}`.padEnd(bytes, '.'))
    const indices = this.#producer.send('q', ...texts)
    for (const [place, index] of indices.entries()) this.#sent.set(index, texts[place] ?? '')
  }

  #subscribe(mode: AcknowledgeMode, prefetch: number): void {
    const client = this.fixture.client()
    const one: ModelConsumer = {
      client,
      consumer: client.subscribe('q', mode, prefetch),
      mode,
      prefetch,
      seen: 0,
      held: [],
    }
    this.#consumers.push(one)
  }

  #answer(one: ModelConsumer, type: 'acknowledge' | 'reject', place: number): void {
    const index = one.held[place % one.held.length]
    if (index === undefined) return
    const at = one.held.indexOf(index)
    const answered = one.mode === 'client' ? one.held.splice(0, at + 1) : one.held.splice(at, 1)
    for (const each of answered) {
      if (type === 'acknowledge') this.#gone.add(each)
      else this.#counts.set(each, (this.#counts.get(each) ?? 0) + 1)
    }
    expect(one.consumer[type](index)).toBeGreaterThan(0)
    one.client.connection.endOfRead()
  }

  #close(one: ModelConsumer): void {
    this.#look()
    for (const index of one.held) this.#counts.set(index, (this.#counts.get(index) ?? 0) + 1)
    this.#consumers = this.#consumers.filter((other) => other !== one)
    one.client.connection.close()
  }

  /** What is committed stays; that nothing else is in doubt here keeps the model simple. */
  #failover(): void {
    const { store } = this.fixture
    // A commit may deliver, and an automatic acknowledgement is a record again.
    while (store.commitIndex < store.lastIndex) store.commit()
    this.#look()
    store.demote()
    this.#consumers = []
    store.promote()
    this.#producer = this.fixture.client()
  }

  #letReadsGo(): void {
    this.#release?.()
    this.#release = undefined
  }

  /** Looks at what was delivered since: each message is at one consumer at a time, committed, with the right count. */
  #look(): void {
    for (const one of this.#consumers) {
      const news = one.client.deliveries.slice(one.seen)
      one.seen += news.length
      let before = 0
      for (const { index, redeliveryCount, text } of news) {
        expect(text).toBe(this.#sent.get(index))
        expect(index).toBeLessThanOrEqual(this.fixture.store.commitIndex)
        expect(this.#gone.has(index)).toBe(false)
        expect(this.#consumers.some((other) => other.held.includes(index))).toBe(false)
        expect(redeliveryCount).toBe(this.#counts.get(index) ?? 0)
        // A single consumer to which nothing was given back sees the order of the log.
        if (redeliveryCount === 0 && before !== 0 && this.#counts.size === 0)
          expect(index).toBeGreaterThan(before)
        before = index
        if (one.mode === 'auto') this.#gone.add(index)
        else one.held.push(index)
      }
      expect(one.held.length).toBeLessThanOrEqual(one.prefetch)
    }
  }
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}

test('queue: under any mix of sends, answers, deaths and pages each message is delivered, none twice unless given back', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120 }), async (steps) => {
      const limits = { queueMessages: 8, queueBytes: 600, totalBytes: 900, pageMessages: 3 }
      const model = new QueueModel(await new EngineFixture({}, limits).open())
      for (const each of steps) await model.perform(each)
      await model.finish()
    }),
    { numRuns: 500 },
  )
})

test('queue: a single consumer sees the order of the log, however slow it is', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 12 }), fc.nat(6), fc.boolean()), { maxLength: 60 }),
      fc.integer({ min: 1, max: 7 }),
      async (rounds, prefetch) => {
        const fixture = await new EngineFixture({}, { queueMessages: 8, pageMessages: 3 }).open()
        const producer = fixture.client()
        const worker = fixture.client()
        const consumer = worker.subscribe('q', 'client', prefetch)
        let sent = 0
        let acknowledged = 0
        for (const [sends, acknowledges, reads] of rounds) {
          producer.send('q', ...Array.from({ length: sends }, () => `${sent++}`))
          if (reads) fixture.store.commit()
          if (reads) await turns()
          const last = worker.deliveries[Math.min(acknowledged + acknowledges, worker.deliveries.length) - 1]
          if (last !== undefined && worker.deliveries.indexOf(last) >= acknowledged) {
            consumer.acknowledge(last.index)
            acknowledged = worker.deliveries.indexOf(last) + 1
            worker.connection.endOfRead()
          }
        }
        while (acknowledged < sent) {
          await fixture.settle()
          const last = worker.deliveries.at(-1)
          if (last === undefined || worker.deliveries.length === acknowledged) break
          consumer.acknowledge(last.index)
          acknowledged = worker.deliveries.length
          worker.connection.endOfRead()
        }
        expect(worker.texts).toEqual(Array.from({ length: sent }, (_, place) => `${place}`))
      },
    ),
    { numRuns: 300 },
  )
})

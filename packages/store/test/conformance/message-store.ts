import { afterEach, describe, expect, test } from 'vitest'
import { StoreError } from '../../src/errors.ts'
import type { MasterSession, MessageEntry, MessageStore, StoreListener } from '../../src/message-store.ts'

/** A store of one voter, and its data. */
export interface StoreUnderTest {
  /** Not open yet; becomes master by itself once it is. */
  readonly store: MessageStore
  /** Another store on the same data, after the first is closed. */
  reopen(): MessageStore
  /** Removes the data; the stores are closed. */
  dispose(): Promise<void>
}

export interface ConformanceLimits {
  /** What the store under test was given as `maxRecordBytes`. */
  readonly maxRecordBytes: number
}

/** What every message store has to do, whatever it keeps the messages in. */
export function messageStoreConformance(
  name: string,
  makeStore: (limits: ConformanceLimits) => Promise<StoreUnderTest> | StoreUnderTest,
): void {
  const limits: ConformanceLimits = { maxRecordBytes: 64 * 1024 }

  describe(`message store: ${name}`, () => {
    const cleanups: (() => Promise<void>)[] = []

    afterEach(async () => {
      for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
    })

    async function opened(): Promise<{ master: MasterProbe; reopen(): Promise<MasterProbe> }> {
      const under = await makeStore(limits)
      cleanups.push(() => under.dispose())
      let master = await MasterProbe.open(under.store)
      cleanups.push(() => master.store.close())
      const reopen = async (): Promise<MasterProbe> => {
        await master.store.close()
        master = await MasterProbe.open(under.reopen())
        return master
      }
      return { master, reopen }
    }

    test('promotion: the session is given before anything is reported', async () => {
      const { master } = await opened()
      expect(master.events[0]).toBe('promoted')
      expect(master.store.role).toBe('master')
      expect(master.session.epoch).toBe(master.store.status().epoch)
      expect(master.session.mayDispatch()).toBe(true)
    })

    test('append: indices rise, and each is confirmed and committed', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const first = master.add(queue, 'a')
      const second = master.add(queue, 'b')
      expect(first).toBeGreaterThan(queue)
      expect(second).toBeGreaterThan(first)
      await master.until(() => master.confirmed >= second && master.committed >= second)
      expect(master.store.status().commitIndex).toBeGreaterThanOrEqual(second)
      expect(rises(master.confirmations)).toBe(true)
      expect(rises(master.commits)).toBe(true)
    })

    test('append: nothing is confirmed or committed within the call', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      master.add(queue, 'a')
      expect(master.committed).toBeLessThan(queue)
      expect(master.confirmed).toBeLessThan(queue)
    })

    test('append: the bytes belong to the caller again when the call returns', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const bytes = Buffer.from('before')
      const index = master.session.addMessage(queue, 0, 0, bytes, bytes)
      bytes.fill('x')
      await master.until(() => master.committed >= index)
      expect(await master.texts(queue, [index])).toEqual(['beforebefore'])
    })

    test('append: the given indices belong to the caller again when the call returns', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const indices = [master.add(queue, 'a'), master.add(queue, 'b')]
      const kept = master.add(queue, 'c')
      await master.until(() => master.committed >= kept)
      const removed = [...indices]
      const removal = master.session.removeMessages(queue, removed)
      removed.length = 0
      await master.until(() => master.committed >= removal)
      expect(await master.indices(queue)).toEqual([kept])
    })

    test('append: a record above the limit is refused, and the session goes on', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const body = Buffer.alloc(limits.maxRecordBytes * 2)
      expect(() => master.session.addMessage(queue, 0, 0, Buffer.alloc(1), body)).toThrow(
        expect.objectContaining({ code: 'STORE_RECORD_TOO_LARGE' }),
      )
      const index = master.add(queue, 'a')
      await master.until(() => master.committed >= index)
      expect(await master.indices(queue)).toEqual([index])
    })

    test('append: an empty head, and an empty body, are stored as such', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const one = master.session.addMessage(queue, 0, 0, Buffer.alloc(0), Buffer.from('body'))
      const other = master.session.addMessage(queue, 0, 0, Buffer.from('head'), Buffer.alloc(0))
      await master.until(() => master.committed >= other)
      expect(await master.texts(queue, [one, other])).toEqual(['body', 'head'])
    })

    test('queues: are listed in the order of their creation, with what is live in them', async () => {
      const { master } = await opened()
      const one = master.session.addQueue('one')
      const two = master.session.addQueue('zwei/\u00fc "2"')
      const indices = [master.add(one, 'a'), master.add(one, 'b')]
      const removal = master.session.removeMessages(one, indices.slice(0, 1))
      await master.until(() => master.committed >= removal)
      expect(master.store.queues()).toEqual([
        { id: one, name: 'one', messageCount: 1 },
        { id: two, name: 'zwei/\u00fc "2"', messageCount: 0 },
      ])
    })

    test('page: gives committed messages above an index, in order, up to the limit', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const other = master.session.addQueue('other')
      const indices: number[] = []
      for (let message = 0; message < 25; message++) {
        indices.push(master.add(queue, `message ${message}`))
        master.add(other, 'x')
      }
      await master.until(() => master.committed >= (indices.at(-1) ?? 0))
      const paged: number[] = []
      for (;;) {
        const page = await master.store.page(queue, paged.at(-1) ?? 0, 10)
        paged.push(...page.map(({ index }) => index))
        if (page.length < 10) break
      }
      expect(paged).toEqual(indices)
      const [first] = await master.store.page(queue, 0, 1)
      expect(first).toEqual({ index: indices[0], bytes: 'message 0'.length, redeliveryCount: 0 })
      expect(await master.store.page(queue, indices.at(-1) ?? 0, 10)).toEqual([])
    })

    test('page: leaves out what is removed', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const indices = Array.from({ length: 6 }, () => master.add(queue, 'a'))
      await master.until(() => master.committed >= (indices.at(-1) ?? 0))
      const odd = indices.filter((_, place) => place % 2 === 1)
      const removal = master.session.removeMessages(queue, odd.toReversed())
      await master.until(() => master.committed >= removal)
      expect(await master.indices(queue)).toEqual(indices.filter((index) => !odd.includes(index)))
    })

    test('read: gives envelopes in the order asked for', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const indices = ['a', 'bb', 'ccc', 'dddd'].map((text) => master.add(queue, text))
      await master.until(() => master.committed >= (indices.at(-1) ?? 0))
      expect(await master.texts(queue, indices.toReversed())).toEqual(['dddd', 'ccc', 'bb', 'a'])
      expect(await master.store.read(queue, [])).toEqual([])
    })

    test('redelivery: a committed count is in the page', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const indices = ['a', 'b', 'c'].map((text) => master.add(queue, text))
      await master.until(() => master.committed >= (indices.at(-1) ?? 0))
      const counted = master.session.countRedelivery(queue, indices.slice(0, 2), 3)
      await master.until(() => master.committed >= counted)
      const page = await master.store.page(queue, 0, 10)
      expect(page.map(({ redeliveryCount }) => redeliveryCount)).toEqual([3, 3, 0])
    })

    test('producer: the same id gives the same producer, another id another', async () => {
      const { master } = await opened()
      const one = master.session.producer('one')
      expect(master.session.producer('one')).toBe(one)
      expect(master.session.producer('two')).not.toBe(one)
    })

    test('duplicate: is not appended, and waits for the first, committed or not', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const producer = master.session.producer('p')
      const first = master.add(queue, 'a', producer, 1)
      const again = master.add(queue, 'a', producer, 1)
      expect(again).toBeLessThan(0)
      expect(-again).toBeGreaterThanOrEqual(first)
      const second = master.add(queue, 'b', producer, 2)
      await master.until(() => master.confirmed >= second && master.committed >= second)
      const late = master.add(queue, 'a', producer, 1)
      expect(late).toBeLessThan(0)
      expect(-late).toBeLessThanOrEqual(master.confirmed)
      expect(await master.indices(queue)).toEqual([first, second])
    })

    test('duplicate: of a message that was removed is still one', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const producer = master.session.producer('p')
      const first = master.add(queue, 'a', producer, 1)
      await master.until(() => master.committed >= first)
      const removal = master.session.removeMessages(queue, [first])
      await master.until(() => master.committed >= removal)
      expect(master.add(queue, 'a', producer, 1)).toBeLessThan(0)
    })

    test('duplicate: the same sequence of another producer, or of none, is not one', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      const [one, two] = [master.session.producer('one'), master.session.producer('two')]
      expect(master.add(queue, 'a', one, 1)).toBeGreaterThan(0)
      expect(master.add(queue, 'a', two, 1)).toBeGreaterThan(0)
      expect(master.add(queue, 'a')).toBeGreaterThan(0)
      expect(master.add(queue, 'a')).toBeGreaterThan(0)
    })

    test('reopen: everything committed is there, in a higher epoch', async () => {
      const { master, reopen } = await opened()
      const queue = master.session.addQueue('q')
      const producer = master.session.producer('p')
      const indices = ['a', 'b', 'c'].map((text, place) => master.add(queue, text, producer, place + 1))
      await master.until(() => master.committed >= (indices.at(-1) ?? 0))
      const removal = master.session.removeMessages(queue, indices.slice(0, 1))
      const counted = master.session.countRedelivery(queue, indices.slice(1, 2), 2)
      await master.until(() => master.committed >= Math.max(removal, counted))

      const next = await reopen()
      expect(next.session.epoch).toBeGreaterThan(master.session.epoch)
      expect(next.store.queues()).toEqual([{ id: queue, name: 'q', messageCount: 2 }])
      expect(await next.store.page(queue, 0, 10)).toEqual([
        { index: indices[1], bytes: 1, redeliveryCount: 2 },
        { index: indices[2], bytes: 1, redeliveryCount: 0 },
      ])
      expect(await next.texts(queue, indices.slice(1))).toEqual(['b', 'c'])
      expect(next.session.producer('p')).toBe(producer)
      expect(next.add(queue, 'b', producer, 2)).toBeLessThan(0)
      expect(next.add(queue, 'd', producer, 4)).toBeGreaterThan(indices.at(-1) ?? 0)
    })

    test('close: the session is over, and says so', async () => {
      const { master } = await opened()
      const queue = master.session.addQueue('q')
      await master.until(() => master.committed >= queue)
      await master.store.close()
      await master.store.close()
      expect(master.events.at(-1)).toBe('demoted')
      for (const call of [
        () => master.session.addQueue('r'),
        () => master.add(queue, 'a'),
        () => master.session.removeMessages(queue, []),
        () => master.session.producer('p'),
        () => master.session.mayDispatch(),
      ]) {
        expect(call).toThrow(StoreError)
        expect(call).toThrow(expect.objectContaining({ code: 'STORE_NOT_MASTER' }))
      }
    })
  })
}

/** Opens a store, waits for its mastership, and notes what it reports. */
class MasterProbe {
  readonly store: MessageStore
  readonly events: string[] = []
  readonly confirmations: number[] = []
  readonly commits: number[] = []
  #session: MasterSession | undefined
  #failure: Error | undefined
  #happened: PromiseWithResolvers<void> = Promise.withResolvers()

  private constructor(store: MessageStore) {
    this.store = store
  }

  static async open(store: MessageStore): Promise<MasterProbe> {
    const probe = new MasterProbe(store)
    await store.open(probe.#listener())
    await probe.until(() => probe.#session !== undefined)
    return probe
  }

  get session(): MasterSession {
    if (this.#session === undefined) throw new Error('not master')
    return this.#session
  }

  get confirmed(): number {
    return this.confirmations.at(-1) ?? 0
  }

  get committed(): number {
    return this.commits.at(-1) ?? 0
  }

  add(queue: number, text: string, producer = 0, sequence = 0): number {
    const bytes = Buffer.from(text)
    return this.session.addMessage(queue, producer, sequence, bytes.subarray(0, 1), bytes.subarray(1))
  }

  async indices(queue: number): Promise<number[]> {
    const entries: MessageEntry[] = await this.store.page(queue, 0, 1000)
    return entries.map(({ index }) => index)
  }

  async texts(queue: number, indices: readonly number[]): Promise<string[]> {
    return (await this.store.read(queue, indices)).map((envelope) => envelope.toString())
  }

  /** Waits until it is so; looks again at each report of the store. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure !== undefined) throw this.#failure
      await this.#happened.promise
    }
  }

  #listener(): StoreListener {
    return {
      promoted: (session) => {
        this.#session = session
        this.#note('promoted')
      },
      demoted: () => this.#note('demoted'),
      confirmed: (index) => {
        this.confirmations.push(index)
        this.#note('confirmed')
      },
      committed: (index) => {
        this.commits.push(index)
        this.#note('committed')
      },
      drained: () => this.#note('drained'),
      leaseRenewed: () => undefined,
      changed: () => undefined,
      failed: (error) => {
        this.#failure = error
        this.#note('failed')
      },
    }
  }

  #note(event: string): void {
    this.events.push(event)
    this.#happened.resolve()
    this.#happened = Promise.withResolvers()
  }
}

function rises(numbers: readonly number[]): boolean {
  return numbers.every((number, place) => place === 0 || number > (numbers[place - 1] ?? 0))
}

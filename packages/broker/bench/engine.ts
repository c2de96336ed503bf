/**
 * What does the engine cost per message? Send, commit, deliver and acknowledge, in batches of 100, on the store in
 * memory, whose own work is measured alone and shown beside it.
 *
 * Run: `node packages/broker/bench/engine.ts [rounds]`
 */
import { MemoryStore } from '@levelmq/testkit'
import { QueueEngine } from '../src/destination/queue-engine.ts'
import type { AcknowledgeMode, Client, Consumer, Receiver } from '../src/engine.ts'

const batch = 100
const batchesPerRound = 5_000
const rounds = Number(process.argv[2] ?? 7)
const head = Buffer.alloc(100, 'h')
const body = Buffer.alloc(1024, 'b')

class SilentClient implements Client, Receiver {
  readonly writable = true
  delivered = 0
  last = 0
  readonly indices: number[] = []

  deliver(index: number): void {
    this.delivered += 1
    this.last = index
    this.indices.push(index)
  }

  confirmed(): void {}
  flush(): void {}
  roomAgain(): void {}
  disconnect(): void {}
}

async function open(): Promise<{ store: MemoryStore; engine: QueueEngine }> {
  const store = new MemoryStore({ commit: 'manual' })
  let engine: QueueEngine | undefined
  await store.open({
    promoted: (session) => {
      engine = new QueueEngine(store, session, {
        failed: (error) => {
          throw error
        },
        sessionFailed: (error) => {
          throw error
        },
      })
    },
    demoted: () => undefined,
    confirmed: (index) => engine?.confirmed(index),
    committed: (index) => engine?.committed(index),
    drained: () => undefined,
    leaseRenewed: () => undefined,
    changed: () => undefined,
    failed: (error) => {
      throw error
    },
  })
  store.promote()
  if (engine === undefined) throw new Error('not promoted')
  return { store, engine }
}

/** Nanoseconds per message through engine and store. */
async function measure(mode: AcknowledgeMode): Promise<number> {
  const { store, engine } = await open()
  const client = new SilentClient()
  const producer = engine.connect(new SilentClient())
  const connection = engine.connect(client)
  const consumer: Consumer = connection.subscribe({ queue: 'bench', mode, prefetch: 1000 }, client)
  connection.endOfRead()
  const started = process.hrtime.bigint()
  for (let round = 0; round < batchesPerRound; round++) {
    for (let message = 0; message < batch; message++) producer.send('bench', head, body, undefined, 0)
    producer.endOfRead()
    store.commit()
    if (mode === 'client') consumer.acknowledge(client.last)
    if (mode === 'individual') for (const index of client.indices) consumer.acknowledge(index)
    client.indices.length = 0
    connection.endOfRead()
  }
  const elapsed = Number(process.hrtime.bigint() - started)
  if (client.delivered !== batch * batchesPerRound) throw new Error(`delivered ${client.delivered}`)
  if (store.pagesRead !== 0) throw new Error('the fast path read from the store')
  return elapsed / (batch * batchesPerRound)
}

/** Nanoseconds per message of the store in memory alone, with the same calls. */
async function measureStore(): Promise<number> {
  const store = new MemoryStore({ commit: 'manual' })
  let session: Parameters<Parameters<MemoryStore['open']>[0]['promoted']>[0] | undefined
  const nothing = (): void => undefined
  await store.open({
    promoted: (promoted) => {
      session = promoted
    },
    demoted: nothing,
    confirmed: nothing,
    committed: nothing,
    drained: nothing,
    leaseRenewed: nothing,
    changed: nothing,
    failed: nothing,
  })
  store.promote()
  if (session === undefined) throw new Error('not promoted')
  const queue = session.addQueue('bench')
  const indices: number[] = []
  const started = process.hrtime.bigint()
  for (let round = 0; round < batchesPerRound; round++) {
    indices.length = 0
    for (let message = 0; message < batch; message++)
      indices.push(session.addMessage(queue, 0, 0, head, body))
    store.commit()
    session.removeMessages(queue, indices)
  }
  return Number(process.hrtime.bigint() - started) / (batch * batchesPerRound)
}

async function report(name: string, run: () => Promise<number>): Promise<void> {
  const results: number[] = []
  for (let round = 0; round < rounds; round++) results.push(await run())
  results.sort((a, b) => a - b)
  const median = results[results.length >> 1] ?? 0
  const range = `${results[0]?.toFixed(0)}..${results.at(-1)?.toFixed(0)}`
  const perSecond = Math.round(1e9 / median).toLocaleString('en')
  process.stdout.write(
    `${name.padEnd(28)} ${median.toFixed(0).padStart(6)} ns/message (${range})  ${perSecond}/s\n`,
  )
}

await report('store in memory alone', measureStore)
for (const mode of ['auto', 'client', 'individual'] as const)
  await report(`engine + store, ${mode}`, () => measure(mode))

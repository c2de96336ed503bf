/**
 * How fast is the message index? Apply rates, the time of a checkpoint and the rate of pages.
 *
 * Run: `npx node packages/store/bench/index.ts [rounds]`. The directory is made below `BENCH_DIRECTORY`, or the system's
 * temporary one: put it on a real disk for figures that include its sync.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { BatchChain, type RecordContent } from '@levelmq/testkit'
import { type LevelIndex, openLevelIndex } from '../src/message-index/level-index.ts'

const rounds = Number(process.argv[2] ?? 5)
const recordsPerBatch = 1000
const queueCount = 4

interface Subject {
  readonly index: LevelIndex
  readonly log: BatchChain
  readonly queues: readonly number[]
}

function report(name: string, unit: string, figures: readonly number[]): void {
  const sorted = figures.toSorted((one, other) => one - other)
  const [lowest, median, highest] = [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)].map((figure) =>
    Math.round(figure ?? 0).toLocaleString('en'),
  )
  process.stdout.write(`${name.padEnd(52)} ${median} ${unit} (${lowest} to ${highest})\n`)
}

async function withIndex(run: (subject: Subject) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(process.env.BENCH_DIRECTORY ?? tmpdir(), 'levelmq-bench-'))
  const index = await openLevelIndex({
    directory,
    maxProducers: 100_000,
    maxGaps: 2048,
    indexCacheSize: 2 ** 24,
  })
  try {
    const log = new BatchChain()
    const queues = Array.from({ length: queueCount }, (_, place) => place + 1)
    index.apply(
      log.next(...queues.map((id): RecordContent => ({ kind: 'queueAdded', name: `q${id}` }))).bytes,
    )
    index.apply(log.next({ kind: 'producerAdded', id: 'ID:bench' }).bytes)
    await run({ index, log, queues })
  } finally {
    await index.close()
    await rm(directory, { recursive: true })
  }
}

/**
 * Batches of messages. Given `lag`, every other record removes the message added so many records before: an even number
 * less one, so that it is one.
 */
function batches(subject: Subject, count: number, lag: number | undefined): Buffer[] {
  const { log, queues } = subject
  const producer = queueCount + 1
  const begin = log.nextIndex
  let sequence = 0
  return Array.from({ length: count }, () => {
    const first = log.nextIndex
    const records = Array.from({ length: recordsPerBatch }, (_, place): RecordContent => {
      const index = first + place
      if (lag !== undefined && place % 2 === 1) {
        // The first removals come before what they remove; they are no-ops.
        const message = Math.max(begin, index - lag)
        return { kind: 'messagesRemoved', queue: queueOf(message, begin, queues), messages: [message] }
      }
      const queue = queueOf(index, begin, queues)
      return { kind: 'messageAdded', queue, producer, sequence: ++sequence, envelope: 100 }
    })
    return log.next(...records).bytes
  })
}

function queueOf(message: number, begin: number, queues: readonly number[]): number {
  return queues[((message - begin) >> 1) % queues.length] as number
}

function applyRate(index: LevelIndex, bytes: readonly Buffer[]): number {
  const start = performance.now()
  for (const batch of bytes) index.apply(batch)
  return (bytes.length * recordsPerBatch * 1000) / (performance.now() - start)
}

async function benchApply(): Promise<void> {
  for (const [name, lag] of [
    ['apply: messages added', undefined],
    ['apply: messages added, each removed at once', 1],
    ['apply: messages added, each removed 20,000 later', 19_999],
  ] as const) {
    const figures: number[] = []
    await withIndex(async (subject) => {
      applyRate(subject.index, batches(subject, 100, lag)) // Warms the compiler up.
      for (let round = 0; round < rounds; round++) {
        await subject.index.checkpoint()
        figures.push(applyRate(subject.index, batches(subject, 500, lag)))
      }
    })
    report(name, 'records/s', figures)
  }
}

async function benchCheckpoint(): Promise<void> {
  const added: number[] = []
  const removed: number[] = []
  const longestTurns: number[] = []
  await withIndex(async ({ index, log }) => {
    for (let round = 0; round < rounds; round++) {
      const first = log.nextIndex
      for (let batch = 0; batch < 100; batch++) {
        index.apply(
          log.next(...Array<RecordContent>(1000).fill({ kind: 'messageAdded', queue: 1, envelope: 100 }))
            .bytes,
        )
      }
      const longest = longestTurn()
      added.push(await milliseconds(() => index.checkpoint()))
      longestTurns.push(longest())
      const messages = Array.from({ length: 100_000 }, (_, place) => first + place)
      index.apply(log.next({ kind: 'messagesRemoved', queue: 1, messages }).bytes)
      removed.push(await milliseconds(() => index.checkpoint()))
    }
  })
  report('checkpoint: 100,000 messages added', 'ms', added)
  report('  longest turn of the event loop meanwhile', 'ms', longestTurns)
  report('checkpoint: 100,000 messages removed', 'ms', removed)
}

async function benchPage(): Promise<void> {
  const pageSize = 1000
  const rates: number[] = []
  await withIndex(async (subject) => {
    const { index, log } = subject
    for (let batch = 0; batch < 1000; batch++) {
      index.apply(
        log.next(...Array<RecordContent>(1000).fill({ kind: 'messageAdded', queue: 1, envelope: 100 })).bytes,
      )
      if (batch % 100 === 99) await index.checkpoint()
    }
    for (let round = 0; round < rounds; round++) {
      let count = 0
      const elapsed = await milliseconds(async () => {
        for (let after = 0; ; ) {
          const entries = await index.page(1, after, pageSize)
          count += entries.length
          if (entries.length < pageSize) break
          after = entries.at(-1)?.index ?? 0
        }
      })
      rates.push((count * 1000) / elapsed)
    }
  })
  report(`page: 1,000,000 stored messages, ${pageSize} each`, 'messages/s', rates)
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

/** Watches the event loop until the returned function is called, which gives the longest turn in milliseconds. */
function longestTurn(): () => number {
  let longest = 0
  let last = performance.now()
  let watching = true
  const look = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (watching) setImmediate(look)
  }
  setImmediate(look)
  return () => {
    watching = false
    return longest
  }
}

process.stdout.write(
  `node ${process.version}, ${availableParallelism()} x ${cpus()[0]?.model}, ${rounds} rounds\n`,
)
await benchApply()
await benchCheckpoint()
await benchPage()

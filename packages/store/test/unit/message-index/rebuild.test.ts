import { type BuiltBatch, MemoryIndex } from '@levelmq/testkit'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { MessageIndex } from '../../../src/message-index/message-index.ts'
import { actions, expectSame, History, indexOptions } from './history.ts'
import { IndexDirectory } from './index-directory.ts'

/**
 * The rule by which log is deleted: of a log that holds everything from `neededFrom` on, where `retained` says so as of
 * some position, the fold is the same as that of the whole log, at that position and ever after.
 */
const history = fc.record({
  before: fc.array(actions, { minLength: 10, maxLength: 40 }),
  after: fc.array(actions, { maxLength: 10 }),
  /** Where the log begins, among all batches that it may begin with; 0 for the last of them. */
  slack: fc.oneof(fc.constant(0), fc.nat({ max: 20 })),
  /** Before which batches of the rebuild checkpoints are taken. */
  checkpoints: fc.array(fc.boolean(), { maxLength: 40 }),
})

interface CutLog {
  readonly full: MemoryIndex
  readonly history: History
  /** From the beginning of the cut log up to `replayTo`. */
  readonly replayed: readonly BuiltBatch[]
}

/** Plays the first part, and cuts the log as far as it may be; undefined if it may not. */
async function cut(before: Parameters<History['append']>[0][], slack: number): Promise<CutLog | undefined> {
  const history = new History()
  for (const each of before) history.append(each)
  const full = history.model
  await full.checkpoint()
  const { position, neededFrom, strayAt } = full.retained
  expect(position).toBe(full.appliedIndex)
  const last = history.batches.findLastIndex(({ firstIndex }) => firstIndex <= neededFrom)
  const place = Math.max(0, last - slack)
  const firstIndex = history.batches[place]?.firstIndex ?? 1
  if (firstIndex === 1 || firstIndex <= strayAt) return undefined
  return { full, history, replayed: history.batches.slice(place) }
}

async function rebuild(
  index: MessageIndex,
  replayed: readonly BuiltBatch[],
  checkpoints: readonly boolean[],
): Promise<void> {
  index.rebuildFrom(replayed[0]?.firstIndex ?? 0)
  for (const [place, { bytes }] of replayed.entries()) {
    if (checkpoints[place]) await index.checkpoint()
    index.apply(bytes)
  }
  await index.rebuilt()
}

test('rebuild: a log cut as its index allows folds to the same as the whole log, at once and ever after', async () => {
  let cuts = 0
  await fc.assert(
    fc.asyncProperty(history, async ({ before, after, slack, checkpoints }) => {
      const log = await cut(before, slack)
      if (log === undefined) return
      cuts++
      const { full, replayed } = log
      const directory = await IndexDirectory.create()
      try {
        const memory = new MemoryIndex(indexOptions)
        const level = await directory.reopen(indexOptions)
        for (const index of [memory, level]) {
          await rebuild(index, replayed, checkpoints)
          await expectSame(index, full, true)
        }
        for (const each of after) {
          const batch = log.history.append(each)
          if (batch === undefined) continue
          memory.apply(batch.bytes)
          level.apply(batch.bytes)
          if (batch.firstIndex % 3 === 0) await level.checkpoint()
        }
        await Promise.all([full, memory, level].map((index) => index.checkpoint()))
        await expectSame(memory, full, true)
        await expectSame(level, full, true)
        const reopened = await directory.reopen(indexOptions)
        expect(reopened.begunAnew).toBeUndefined()
        await expectSame(reopened, full, true)
      } finally {
        await directory.dispose()
      }
    }),
    { numRuns: 300 },
  )
  expect(cuts, 'histories that could be cut').toBeGreaterThan(60)
}, 60_000)

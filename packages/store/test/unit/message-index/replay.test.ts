import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { CheckpointWriter } from '../../../src/message-index/checkpoint.ts'
import type { LevelIndex } from '../../../src/message-index/level-index.ts'
import { type Action, actions, expectSame, History, indexOptions } from './history.ts'
import { IndexDirectory } from './index-directory.ts'

/**
 * The index is a fold of the log: whatever checkpoints, pages and crashes come in between, it holds what the plain
 * model holds after the same records.
 */
type Step =
  | { readonly do: 'apply'; readonly actions: readonly Action[] }
  | { readonly do: 'checkpoint'; readonly wait: boolean }
  /** A checkpoint for which the disk is full; or seems to be, and what was written is there all the same. */
  | { readonly do: 'fullDisk'; readonly landed: boolean }
  | { readonly do: 'crash'; readonly replayFrom: number }
  | { readonly do: 'page'; readonly queue: number; readonly after: number; readonly limit: number }

const small = fc.nat({ max: 40 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('apply'), actions }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('checkpoint'), wait: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fullDisk'), landed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('crash'), replayFrom: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('page'), queue: small, after: small, limit: small }) },
)

test('level index: holds what the model holds, whatever checkpoints, crashes and full disks come in between', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
      const directory = await IndexDirectory.create()
      try {
        await new Run(directory).play(steps)
      } finally {
        await directory.dispose()
      }
    }),
    { numRuns: 200 },
  )
}, 60_000)

class Run {
  readonly #directory: IndexDirectory
  readonly #history = new History()
  readonly #waiting: Promise<unknown>[] = []

  constructor(directory: IndexDirectory) {
    this.#directory = directory
  }

  async play(steps: readonly Step[]): Promise<void> {
    const { model } = this.#history
    let index = await this.#crash(0)
    for (const step of steps) {
      if (step.do === 'crash') {
        await Promise.all(this.#waiting.splice(0))
        index = await this.#crash(step.replayFrom)
      } else {
        await this.#step(step, index)
      }
      expect(index.queues()).toEqual(model.queues())
    }
    await Promise.all(this.#waiting)
    await expectSame(index, model, false)
    await index.checkpoint()
    await model.checkpoint()
    await expectSame(index, model, true)
    const reopened = await this.#crash(0)
    await expectSame(reopened, model, true)
    expect(reopened.epochStarts).toEqual(model.epochStarts)
    expect(reopened.retained).toEqual(model.retained)
  }

  async #step(step: Exclude<Step, { do: 'crash' }>, index: LevelIndex): Promise<void> {
    const { model } = this.#history
    switch (step.do) {
      case 'apply': {
        const batch = this.#history.append(step.actions)
        if (batch !== undefined) index.apply(batch.bytes)
        return
      }
      case 'checkpoint': {
        const checkpoint = index.checkpoint()
        if (step.wait) await checkpoint
        else this.#waiting.push(checkpoint)
        return
      }
      case 'fullDisk': {
        await Promise.all(this.#waiting.splice(0))
        const { write } = CheckpointWriter.prototype
        vi.spyOn(CheckpointWriter.prototype, 'write').mockImplementationOnce(async function (
          this: CheckpointWriter,
          ...args
        ) {
          if (step.landed) await write.apply(this, args)
          throw new Error('No space left on device')
        })
        // There may be nothing to write.
        const failure = await index.checkpoint().catch((error: unknown) => error)
        vi.restoreAllMocks()
        if (failure !== undefined) expect(failure).toMatchObject({ code: 'STORE_DISK_FULL' })
        return
      }
      case 'page': {
        const queue = this.#history.queueAt(step.queue)
        if (queue === undefined) return
        const after = step.after * 5
        const some = Array.from({ length: step.limit }, (_, place) => after + place)
        // As of now; compared when the next crash, or the end, comes.
        const pages = [index.page(queue, after, step.limit + 1), model.page(queue, after, step.limit + 1)]
        const places = [index.locate(queue, some), model.locate(queue, some)]
        for (const pair of [pages, places])
          this.#waiting.push(Promise.all(pair).then(([actual, expected]) => expect(actual).toEqual(expected)))
        return
      }
    }
  }

  async #crash(replayFrom: number): Promise<LevelIndex> {
    const index = await this.#directory.reopen(indexOptions)
    expect(index.begunAnew).toBeUndefined()
    const { batches } = this.#history
    const missing = batches.findIndex((batch) => batch.firstIndex > index.appliedIndex)
    const from = missing < 0 ? batches.length : missing
    // Replay may begin with whole batches that were applied before.
    const replayed = batches.slice(Math.max(0, from - (replayFrom % 3)))
    index.apply(Buffer.concat(replayed.map((batch) => batch.bytes)))
    return index
  }
}

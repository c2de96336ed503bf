import { symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { BatchChain, MemoryIndex, type RecordContent } from '@levelmq/testkit'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { LevelIndex } from '../../../src/message-index/level-index.ts'
import { expectSame } from './history.ts'
import { IndexDirectory } from './index-directory.ts'

/** LevelDB begins a new log file after this, and a table. */
const options = { maxProducers: 3, maxGaps: 2, indexWriteBufferSize: 65_536 }

/** What the file system says is free; the truth if undefined. */
let freeBlocks: number | undefined
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>()
  const statfs = async (path: string) => {
    const found = await real.statfs(path)
    return { ...found, bavail: freeBlocks ?? found.bavail }
  }
  return { ...real, statfs }
})

let directory: IndexDirectory
let index: LevelIndex
let log: BatchChain
let model: MemoryIndex

beforeEach(async () => {
  directory = await IndexDirectory.create()
  index = await directory.reopen(options)
  log = new BatchChain()
  model = new MemoryIndex(options)
  apply({ kind: 'queueAdded', name: 'a' })
})
afterEach(() => directory.dispose())

function apply(...records: RecordContent[]): void {
  const { bytes } = log.next(...records)
  index.apply(bytes)
  model.apply(bytes)
}

function addMessages(count: number): void {
  apply(...Array.from({ length: count }, () => ({ kind: 'messageAdded', queue: 1, envelope: 7 }) as const))
}

/**
 * Lets every log and table that LevelDB begins from now on have no space, until a checkpoint has failed. What LevelDB
 * has open goes on for a while.
 */
async function fillDisk(): Promise<void> {
  const paths: string[] = []
  for (let number = 1; number < 100; number++) {
    for (const ending of ['log', 'ldb']) {
      const path = join(directory.path, `${number.toString().padStart(6, '0')}.${ending}`)
      // Those that exist stay.
      await symlink('/dev/full', path).then(
        () => paths.push(path),
        () => undefined,
      )
    }
  }
  let failure: unknown
  for (let attempt = 0; attempt < 20 && failure === undefined; attempt++) {
    addMessages(500)
    failure = await index.checkpoint().catch((error: unknown) => error)
  }
  expect(failure).toMatchObject({ code: 'STORE_DISK_FULL', detail: { directory: directory.path } })
  for (const path of paths) await unlink(path).catch(() => undefined)
}

async function expectWhole(): Promise<void> {
  await index.checkpoint()
  await model.checkpoint()
  await expectSame(index, model, true)
  index = await directory.reopen(options)
  expect(index.begunAnew).toBeUndefined()
  expect(index.appliedIndex).toBe(model.appliedIndex)
  await expectSame(index, model, true)
}

test('disk full: a checkpoint that failed is made up for when there is space, and nothing is lost or doubled (S29)', async () => {
  addMessages(2000)
  await index.checkpoint()
  await fillDisk()
  const retained = index.retained
  apply({ kind: 'messagesRemoved', queue: 1, messages: [2, 3, 4, 1000, 2400] })
  apply({ kind: 'messageKept', queue: 1, message: 7, envelope: 7 })
  freeBlocks = 10
  await expect(index.checkpoint()).rejects.toMatchObject({ code: 'STORE_DISK_FULL' })
  expect(index.pendingChanges).toBeGreaterThan(0)
  expect(index.retained, 'as of the last one that was written').toEqual(retained)
  await expectSame(index, model, false)
  freeBlocks = undefined
  const page = index.page(1, 0, 10_000)
  await expectWhole()
  expect(await page, 'read while the database was opened again').toEqual(await model.page(1, 0, 10_000))
})

test('disk full: a process that ends meanwhile begins with the last checkpoint', async () => {
  addMessages(2000)
  await index.checkpoint()
  await fillDisk()
  const { position } = index.retained
  index = await directory.reopen(options)
  expect(index.begunAnew).toBeUndefined()
  // What was written in spite of the error may be there.
  expect(index.appliedIndex).toBeGreaterThanOrEqual(position)
})

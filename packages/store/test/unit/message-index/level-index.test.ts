import { execFile } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BatchChain, type RecordContent } from '@levelmq/testkit'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { RecordFault } from '../../../src/journal/record.ts'
import { CheckpointWriter } from '../../../src/message-index/checkpoint.ts'
import {
  damagedKey,
  formatKey,
  messageKey,
  messagesStart,
  numberedKey,
  RowKind,
} from '../../../src/message-index/keys.ts'
import { openLevelIndex } from '../../../src/message-index/level-index.ts'
import { conformsToMessageIndex } from '../../conformance/message-index.ts'
import { IndexDirectory } from './index-directory.ts'

conformsToMessageIndex('level index', async () => {
  const directory = await IndexDirectory.create()
  return { index: await directory.reopen(), dispose: () => directory.dispose() }
})

let directory: IndexDirectory
let log: BatchChain
const addQueue: RecordContent = { kind: 'queueAdded', name: 'a' }
const addMessage: RecordContent = { kind: 'messageAdded', queue: 1, envelope: 7 }

beforeEach(async () => {
  directory = await IndexDirectory.create()
  log = new BatchChain()
})
afterEach(() => {
  vi.restoreAllMocks()
  return directory.dispose()
})

function addMessages(count: number): Buffer {
  return log.next(...Array.from({ length: count }, () => addMessage)).bytes
}

function removeMessages(from: number, to: number): Buffer {
  const messages = Array.from({ length: to - from + 1 }, (_, place) => from + place)
  return log.next({ kind: 'messagesRemoved', queue: 1, messages }).bytes
}

/** Indices of the messages in the database. */
function storedMessages(): Promise<number[]> {
  return directory.look(async (db) => {
    const keys = await db.keys({ gte: messagesStart }).all()
    return keys.map((key) => key.readUInt32BE(13))
  })
}

function storedLowMark(): Promise<number | undefined> {
  return directory.look(async (db) => (await db.get(numberedKey(RowKind.queue, 1)))?.readUInt32LE(8))
}

test('checkpoint: what was added and removed since the last one never reaches LevelDB', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  index.apply(addMessages(5))
  index.apply(removeMessages(2, 5))
  await index.checkpoint()
  expect(index.statistics).toMatchObject({ cancelledMessages: 4, flushedEntries: 1, checkpoints: 1 })
  expect(index.pendingChanges).toBe(0)
  expect(await storedMessages()).toEqual([6])
})

test('checkpoint: what is not in one is gone after a crash, what is in one is not', async () => {
  let index = await directory.reopen()
  index.apply(log.next({ kind: 'epochStart', nodeId: 'n' }, { ...addQueue }).bytes)
  index.apply(log.next({ ...addMessage, queue: 2 }, { kind: 'configuration', json: '{}' }).bytes)
  await index.checkpoint()
  const lost = log.next({ ...addMessage, queue: 2 })
  index.apply(lost.bytes)
  index = await directory.reopen()
  expect(index.begunAnew).toBeUndefined()
  expect(index.appliedIndex).toBe(4)
  expect(index.epochStarts).toEqual([{ epoch: 1, index: 1 }])
  expect(index.configuration).toEqual({ index: 4, json: '{}' })
  expect(index.queues()).toEqual([{ id: 2, name: 'a', messageCount: 1 }])
  index.apply(lost.bytes)
  expect((await index.page(2, 0, 9)).map((entry) => entry.index)).toEqual([3, 5])
})

test('checkpoint: one that follows takes in what was applied while another ran', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue, addMessage).bytes)
  const first = index.checkpoint()
  index.apply(addMessages(1))
  const second = index.checkpoint()
  expect(index.checkpoint(), 'later callers share it').toBe(second)
  await Promise.all([first, second])
  expect(index.statistics.checkpoints).toBe(2)
  expect(await storedMessages()).toEqual([2, 3])
})

test('checkpoint: nothing is written if nothing was applied', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  await index.checkpoint()
  await index.checkpoint()
  expect(index.statistics.checkpoints).toBe(1)
})

test('checkpoint: a batch that was applied in part never gets into one', async () => {
  const index = await directory.reopen()
  const broken = log.next(addQueue, { ...addMessage, queue: 99 })
  expect(() => index.apply(broken.bytes)).toThrow(RecordFault)
  await expect(index.checkpoint()).rejects.toThrow(RecordFault)
  expect(() => index.apply(broken.bytes)).toThrow(RecordFault)
})

test('page: is as of its call, whatever is applied and written while it reads', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  index.apply(addMessages(6)) // 2 to 7, stored.
  await index.checkpoint()
  index.apply(addMessages(2)) // 9 is removed again below.
  index.apply(log.next({ kind: 'redeliveryCounted', queue: 1, count: 3, messages: [4, 8] }).bytes)
  index.apply(removeMessages(2, 2))
  const checkpoint = index.checkpoint()
  index.apply(removeMessages(9, 9))
  const before = index.page(1, 0, 100)
  index.apply(removeMessages(3, 3))
  index.apply(log.next({ kind: 'redeliveryCounted', queue: 1, count: 4, messages: [4, 8] }).bytes)
  index.apply(addMessages(1))
  await checkpoint
  const expected = [3, 4, 5, 6, 7, 8].map((message) => {
    return { index: message, bytes: 7, redeliveryCount: message === 4 || message === 8 ? 3 : 0 }
  })
  expect(await before).toEqual(expected)
  await index.checkpoint()
  const after = await index.page(1, 0, 100)
  expect(after.map((entry) => [entry.index, entry.redeliveryCount])).toEqual([
    [4, 4],
    [5, 0],
    [6, 0],
    [7, 0],
    [8, 4],
    [15, 0],
  ])
})

test('page: reads on where the first read from LevelDB was mostly removed messages', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  index.apply(addMessages(5000)) // 2 to 5001.
  await index.checkpoint()
  index.apply(removeMessages(3, 4990))
  expect((await index.page(1, 0, 5)).map((entry) => entry.index)).toEqual([2, 4991, 4992, 4993, 4994])
})

test('redelivery: counted and then removed before the same checkpoint, a message stays removed', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  index.apply(addMessages(3)) // 2 to 4.
  await index.checkpoint()
  index.apply(log.next({ kind: 'redeliveryCounted', queue: 1, count: 1, messages: [3] }).bytes)
  index.apply(removeMessages(3, 3))
  await index.checkpoint()
  expect(await storedMessages()).toEqual([2, 4])
})

test('producer: the order of use survives a restart', async () => {
  let index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  for (const id of ['p2', 'p3', 'p4']) index.apply(log.next({ kind: 'producerAdded', id }).bytes)
  index.apply(log.next({ ...addMessage, producer: 2, sequence: 1 }).bytes)
  await index.checkpoint()
  index = await directory.reopen()
  index.apply(log.next({ kind: 'producerAdded', id: 'p6' }).bytes)
  expect(['p2', 'p3', 'p4', 'p6'].map((id) => index.producerNamed(id))).toEqual([2, undefined, 4, 6])
})

test('producer: a lower bound on the next opening forgets the oldest for good', async () => {
  let index = await directory.reopen()
  for (const id of ['p1', 'p2', 'p3']) index.apply(log.next({ kind: 'producerAdded', id }).bytes)
  await index.checkpoint()
  index = await directory.reopen({ maxProducers: 1 })
  expect(['p1', 'p2', 'p3'].map((id) => index.producerNamed(id))).toEqual([undefined, undefined, 3])
  index.apply(log.next(addQueue).bytes)
  await index.checkpoint()
  index = await directory.reopen()
  expect(['p1', 'p2', 'p3'].map((id) => index.producerNamed(id))).toEqual([undefined, undefined, 3])
})

test('low mark: a consumed head costs the next page nothing', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  index.apply(addMessages(5000)) // 2 to 5001.
  await index.checkpoint()
  index.apply(removeMessages(2, 4001))
  await index.checkpoint()
  const scanned = index.statistics.scannedEntries
  expect((await index.page(1, 0, 3)).map((entry) => entry.index)).toEqual([4002, 4003, 4004])
  expect(index.statistics.scannedEntries - scanned).toBe(3)
  expect(await storedLowMark()).toBe(4002)
})

test('low mark: stays while the head lives, moves to new messages when all stored ones go', async () => {
  let index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  await index.checkpoint()
  expect(await storedLowMark(), 'nothing stored').toBe(0)
  index = await directory.reopen()
  index.apply(addMessages(3)) // 2 to 4.
  await index.checkpoint()
  index.apply(removeMessages(3, 4))
  await index.checkpoint()
  expect(await storedLowMark()).toBe(2)
  index = await directory.reopen()
  index.apply(removeMessages(2, 2))
  index.apply(addMessages(1)) // 7.
  await index.checkpoint()
  expect(await storedLowMark()).toBe(7)
  index = await directory.reopen()
  index.apply(removeMessages(7, 7))
  await index.checkpoint()
  expect(await storedLowMark()).toBe(0)
  index = await directory.reopen()
  expect(index.queues()).toEqual([{ id: 1, name: 'a', messageCount: 0 }])
  const scanned = index.statistics.scannedEntries
  expect(await index.page(1, 0, 9)).toEqual([])
  expect(index.statistics.scannedEntries).toBe(scanned)
})

test('queue removed: its entries go, also where that is interrupted', async () => {
  let index = await directory.reopen()
  index.apply(log.next(addQueue, { kind: 'queueAdded', name: 'b' }).bytes)
  for (let round = 0; round < 5; round++) index.apply(addMessages(5000))
  index.apply(log.next({ ...addMessage, queue: 2 }).bytes)
  await index.checkpoint()
  expect(index.liveBytes(1, 30_000)).toBeGreaterThan(25_000)
  index.apply(log.next({ kind: 'queueRemoved', queue: 1 }).bytes)
  vi.spyOn(CheckpointWriter.prototype, 'purge').mockRejectedValueOnce(new Error('No space left on device'))
  await expect(index.checkpoint()).rejects.toMatchObject({ code: 'STORE_DISK_FULL' })
  index = await directory.reopen()
  expect(index.appliedIndex, 'that it was removed is there').toBe(25_004)
  expect(index.queues()).toEqual([{ id: 2, name: 'b', messageCount: 1 }])
  expect(index.pendingChanges).toBeGreaterThan(0)
  await index.checkpoint()
  expect(index.pendingChanges).toBe(0)
  expect(index.liveBytes(1, 24_959)).toBe(0)
  expect(index.retained.neededFrom, 'the other queue was added there').toBe(2)
  expect(await storedMessages()).toEqual([25_003])
  expect((await directory.reopen()).pendingChanges).toBe(0)
})

test('rebuild: one that was left is begun anew, one that was ended is not', async () => {
  let index = await directory.reopen()
  const later = new BatchChain(999)
  const kept = later.next({ kind: 'queueKept', queue: 1, name: 'a' })
  const message = later.next({ kind: 'messageKept', queue: 1, message: 5, envelope: 7 })
  index.rebuildFrom(1000)
  index.apply(kept.bytes)
  await index.checkpoint()
  index = await directory.reopen()
  expect(index.begunAnew).toMatch(/before it was rebuilt/)
  expect(index.appliedIndex).toBe(0)
  index.rebuildFrom(1000)
  index.apply(Buffer.concat([kept.bytes, message.bytes]))
  const rebuilt = index.rebuilt()
  index.apply(later.next({ kind: 'messagesRemoved', queue: 1, messages: [5] }).bytes)
  await rebuilt
  index = await directory.reopen()
  expect(index.begunAnew).toBeUndefined()
  expect(await index.page(1, 0, 9)).toEqual([{ index: 5, bytes: 7, redeliveryCount: 0 }])
})

test('live bytes: an index that counts less than nothing is damaged', async () => {
  let index = await directory.reopen()
  index.apply(log.next(addQueue, addMessage).bytes)
  await index.checkpoint()
  await directory.look((db) => db.del(numberedKey(RowKind.liveBytes, 0)))
  index = await directory.reopen()
  index.apply(removeMessages(2, 2))
  await expect(index.checkpoint()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
  expect((await directory.reopen()).begunAnew).toMatch(/live bytes/)
})

test('open: a directory that is open is refused', async () => {
  await directory.reopen()
  const second = openLevelIndex({ directory: directory.path, maxProducers: 3, maxGaps: 2 })
  await expect(second).rejects.toMatchObject({ code: 'STORE_DIRECTORY_IN_USE' })
})

test('open: another process is kept out, too', async () => {
  await directory.reopen()
  const script = `
    import { openLevelIndex } from ${JSON.stringify(new URL('../../../src/message-index/level-index.ts', import.meta.url).href)}
    await openLevelIndex({ directory: ${JSON.stringify(directory.path)}, maxProducers: 3, maxGaps: 2 })
      .then(() => console.log('opened'), (error) => console.log(error.code))`
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, ['--input-type=module', '-e', script], (error, stdout) => {
      if (error) reject(error)
      else resolve(stdout.trim())
    })
  })
  expect(output).toBe('STORE_DIRECTORY_IN_USE')
})

test('open: a path that cannot be a directory is a fault of the disk, not damage', async () => {
  const path = join(directory.path, 'file')
  await writeFile(path, '')
  const open = openLevelIndex({ directory: path, maxProducers: 3, maxGaps: 2 })
  await expect(open).rejects.toMatchObject({ code: 'STORE_DISK_FAILED' })
})

test('close: what is called afterwards is told so', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  await index.close()
  await index.close()
  expect(() => index.apply(addMessages(1))).toThrow(expect.objectContaining({ code: 'STORE_CLOSED' }))
  await expect(index.checkpoint()).rejects.toMatchObject({ code: 'STORE_CLOSED' })
  await expect(index.page(1, 0, 1)).rejects.toMatchObject({ code: 'STORE_CLOSED' })
})

/** Fills a database over several checkpoints, some of them larger than a block of LevelDB's log. */
async function fill(): Promise<void> {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  for (let round = 0; round < 4; round++) {
    index.apply(addMessages(2000))
    await index.checkpoint()
  }
  await index.close()
}

async function filesNamed(pattern: RegExp): Promise<string[]> {
  const names = await readdir(directory.path)
  return names.filter((name) => pattern.test(name)).map((name) => join(directory.path, name))
}

async function flipByte(file: string, at: (bytes: Buffer) => number): Promise<void> {
  const bytes = await readFile(file)
  const place = at(bytes)
  bytes.writeUInt8(bytes.readUInt8(place) ^ 0xff, place)
  await writeFile(file, bytes)
}

async function expectRebuilt(reason: RegExp): Promise<void> {
  const index = await directory.reopen()
  expect(index.begunAnew).toMatch(reason)
  expect(index.appliedIndex).toBe(0)
  expect(index.queues()).toEqual([])
  index.apply(new BatchChain().next(addQueue, addMessage).bytes)
  await index.checkpoint()
  expect(await storedMessages(), 'nothing of the old content is left').toEqual([2])
  expect((await directory.reopen()).begunAnew).toBeUndefined()
}

test('damage: a checkpoint lost in the middle of LevelDB’s log is noticed', async () => {
  await fill()
  const [file] = await filesNamed(/\.log$/)
  // The second checkpoint; LevelDB goes on with the third behind it.
  await flipByte(file as string, (bytes) => Math.floor(bytes.length * 0.3))
  await expectRebuilt(/checkpoint before number \d+ is missing/)
})

test('damage: a manifest that cannot be read begins the database anew', async () => {
  await fill()
  const [file] = await filesNamed(/^MANIFEST/)
  await writeFile(file as string, 'no manifest')
  await expectRebuilt(/orrupt/)
})

test('damage: a missing manifest begins the database anew (S28)', async () => {
  await fill()
  for (const file of await filesNamed(/^MANIFEST/)) await rm(file)
  await expectRebuilt(/No such file/)
})

test('damage: a missing table file begins the database anew', async () => {
  await fill()
  await directory.look((db) => db.compactRange(Buffer.from([0]), Buffer.from([255])))
  for (const file of await filesNamed(/\.ldb$/)) await rm(file)
  await expectRebuilt(/missing files/)
})

test('damage: an entry that is not what was written stops the page, and the next opening begins anew', async () => {
  await fill()
  await directory.look(async (db) => {
    const value = await db.get(messageKey(1, 50))
    value?.writeUInt8(99, 8)
    await db.put(messageKey(1, 50), value ?? Buffer.alloc(0))
  })
  const index = await directory.reopen()
  expect(await index.page(1, 0, 40)).toHaveLength(40)
  await expect(index.page(1, 40, 40)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
  expect(await directory.look((db) => db.get(damagedKey))).toBeDefined()
  await expectRebuilt(/fails its check/)
})

test('open: an unknown format is begun anew', async () => {
  await fill()
  await directory.look((db) => db.put(formatKey, Buffer.from([99, 0, 0, 0])))
  await expectRebuilt(/format version 99/)
})

test('open: messages without anything else are not continued', async () => {
  await directory.look((db) => db.put(messageKey(1, 5), Buffer.alloc(20)))
  await expectRebuilt(/without a position/)
})

test('checkpoint: the chain of stamps closes over many checkpoints and restarts', async () => {
  let index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  for (let round = 1; round <= 1100; round++) {
    index.apply(addMessages(1))
    await index.checkpoint()
    if (round % 300 === 0) index = await directory.reopen()
    expect(index.begunAnew).toBeUndefined()
  }
  index = await directory.reopen()
  expect(index.begunAnew).toBeUndefined()
  expect(index.queues()[0]?.messageCount).toBe(1100)
})

test('checkpoint: LevelDB’s log is emptied before the ring of stamps comes round', async () => {
  const index = await directory.reopen()
  index.apply(log.next(addQueue).bytes)
  let largest = 0
  for (let round = 1; round <= 520; round++) {
    index.apply(addMessages(1))
    await index.checkpoint()
    if (round === 511) largest = await logBytes()
  }
  expect(await logBytes()).toBeLessThan(largest / 10)
})

async function logBytes(): Promise<number> {
  const sizes = (await filesNamed(/\.log$/)).map(async (file) => (await readFile(file)).length)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

import { describe, expect, test, vi } from 'vitest'
import { StoreError } from '../../../src/errors.ts'
import {
  appendDurably,
  appendTo,
  directory,
  Ear,
  everyBatch,
  newDisk,
  nextBatch,
  open,
  settle,
} from './journal-rig.ts'

const segmentOne = `${directory}/00000000000000000001.log`

describe('journal: group commit', () => {
  test('appends of one turn go out as one write and one sync', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { segmentBytes: 65536 })
    const [writes, syncs] = [disk.count('write'), disk.count('sync')]
    for (let made = 0; made < 10; made++) appendTo(log)
    await ear.hearsDurable(10)
    expect([disk.count('write') - writes, disk.count('sync') - syncs]).toEqual([1, 1])
    expect(ear.durableIndices).toEqual([10])
  })

  test('appends that arrive during a sync wait for it and share the next one', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { segmentBytes: 65536 })
    const release = disk.hold('sync')
    appendTo(log)
    await settle()
    const [writes, syncs] = [disk.count('write'), disk.count('sync')]
    for (let made = 0; made < 5; made++) appendTo(log)
    await settle()
    expect(disk.count('write')).toBe(writes)
    release()
    await ear.hearsDurable(6)
    expect([disk.count('write') - writes, disk.count('sync') - syncs]).toEqual([1, 1])
    expect(ear.durableIndices).toEqual([1, 6])
  })

  test('what is written but not synced is not reported durable', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    const release = disk.hold('sync')
    const { bytes } = appendTo(log)
    await settle()
    expect([ear.writtenIndices, ear.durableIndices, log.durableIndex]).toEqual([[1], [], 0])
    expect(log.pendingBytes).toBe(bytes.length)
    release()
    await ear.hearsDurable(1)
    await settle()
    expect([ear.durableIndices, log.durableIndex, log.pendingBytes]).toEqual([[1], 1, 0])
  })

  test('nothing is pending any more when the last append is reported durable', async () => {
    const disk = newDisk()
    const ear = new Ear()
    const pending: number[] = []
    const listener = {
      written: (index: number) => ear.written(index),
      durable: (index: number) => {
        pending.push(log.pendingBytes)
        ear.durable(index)
      },
      damaged: () => undefined,
      spaceChanged: () => undefined,
      failed: (error: Error) => ear.failed(error),
    }
    const { log } = await open(disk, { listener })
    appendTo(log)
    await ear.hearsDurable(1)
    expect(pending).toEqual([0])
  })

  test('a batch can be read before it is written', async () => {
    const disk = newDisk()
    const { log } = await open(disk)
    disk.hold('write')
    const batch = appendTo(log)
    expect(await log.batchWith(1)).toEqual(batch.bytes)
  })

  test('close waits for everything appended, and the next open finds a clean journal', async () => {
    const disk = newDisk()
    const first = await open(disk)
    for (let made = 0; made < 50; made++) appendTo(first.log)
    await first.log.close()
    expect(first.log.durableIndex).toBe(50)
    expect(() => appendTo(first.log)).toThrow(StoreError)
    const { log, report } = await open(disk)
    expect(report).toMatchObject({ clean: true, tornBytes: 0, records: 50 })
    expect(log.lastIndex).toBe(50)
  })
})

describe('journal: segments', () => {
  test('a full segment is followed by the next, and reads cross from one to the other', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const batches = await appendDurably(log, ear, 100)
    expect(disk.paths().filter((path) => path.endsWith('.log')).length).toBeGreaterThan(3)
    expect(await log.read(1, 1e9)).toEqual(Buffer.concat(batches.map((batch) => batch.bytes)))
    expect(await everyBatch(log)).toEqual(batches.map((batch) => batch.bytes))
  })

  test('one group larger than a segment is divided between batches', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const batches = Array.from({ length: 60 }, () => appendTo(log, { bytes: 300 }))
    await ear.hearsDurable(60)
    expect(await everyBatch(log)).toEqual(batches.map((batch) => batch.bytes))
    disk.crash()
    expect((await open(disk)).log.lastIndex).toBe(60)
  })

  test('several batches given as one piece are divided as well', async () => {
    const disk = newDisk()
    const { log, ear } = await open(newDisk(), { segmentBytes: 65536 })
    const batches = await appendDurably(log, ear, 40, 300)
    const other = await open(disk, { windowBytes: 0 })
    other.log.append(Buffer.concat(batches.map((batch) => batch.bytes)), 1, 40)
    await other.ear.hearsDurable(40)
    expect(await everyBatch(other.log)).toEqual(batches.map((batch) => batch.bytes))
    expect(other.log.lastChecksum).toBe(log.lastChecksum)
  })

  test('a batch larger than a segment gets one of its own size, also as the first of a log', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const sizes = [10_000, 100, 20_000, 20_000, 100]
    const batches = sizes.map((bytes) => appendTo(log, { bytes }))
    await ear.hearsDurable(5)
    expect(await everyBatch(log)).toEqual(batches.map((batch) => batch.bytes))
    disk.crash()
    const again = await open(disk)
    expect(await everyBatch(again.log)).toEqual(batches.map((batch) => batch.bytes))
  })

  test('reads stop at the limit but give at least one batch', async () => {
    const { log, ear } = await open(newDisk(), { windowBytes: 0 })
    const batches = await appendDurably(log, ear, 20)
    const size = batches[0]?.bytes.length ?? 0
    expect((await log.read(3, size * 2 + 1)).length).toBe(size * 2)
    expect(await log.read(3, 1)).toEqual(batches[2]?.bytes)
    expect(await log.read(21, 1e6)).toHaveLength(0)
    await expect(log.batchWith(21)).rejects.toMatchObject({ code: 'STORE_LOG_GONE' })
    await expect(log.read(0, 1)).rejects.toMatchObject({ code: 'STORE_LOG_GONE' })
  })

  test('a record inside a batch leads to the whole batch, in memory and on disk', async () => {
    for (const windowBytes of [0, 1e6]) {
      const { log, ear } = await open(newDisk(), { windowBytes })
      appendTo(log, { records: 4 })
      const second = appendTo(log, { records: 4 })
      await ear.hearsDurable(8)
      expect(await log.batchWith(7)).toEqual(second.bytes)
    }
  })

  test('the next segment is made ahead', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 10)
    await settle()
    expect(disk.paths()).toContain(`${directory}/spare`)
  })

  test('old segments are not read at open, and checked when somebody reads them', async () => {
    const disk = newDisk()
    const first = await open(disk)
    const batches = await appendDurably(first.log, first.ear, 100)
    await first.log.close()
    const options = { verifiedTo: 100, epochStarts: [{ epoch: 1, index: 1 }], windowBytes: 0 }
    const { log, report } = await open(disk, options)
    expect(report.scannedSegments).toBe(1)
    expect(await log.read(1, 1e9)).toEqual(Buffer.concat(batches.map((batch) => batch.bytes)))
    await log.close()
    disk.flipBit(segmentOne, 900 * 8)
    const damaged = await open(disk, options)
    const intact = Buffer.concat(batches.slice(0, 3).map((batch) => batch.bytes))
    expect(await damaged.log.read(1, 1e9)).toEqual(intact)
    await expect(damaged.log.read(4, 1e9)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    expect(damaged.ear.damages).toMatchObject([{ fromIndex: 4, toIndex: 4 }])
    expect(await damaged.log.batchWith(100)).toEqual(batches[99]?.bytes)
  })

  test('epoch starts below the checkpoint are taken over and those above are found', async () => {
    const disk = newDisk()
    const first = await open(disk)
    for (const epoch of [1, 1, 3, 3, 7]) appendTo(first.log, { epoch })
    await first.log.close()
    const expected = [
      { epoch: 1, index: 1 },
      { epoch: 3, index: 3 },
      { epoch: 7, index: 5 },
    ]
    expect((await open(disk)).epochStarts).toEqual(expected)
    expect((await open(disk, { verifiedTo: 4, epochStarts: expected })).epochStarts).toEqual(expected)
    await expect(open(disk, { verifiedTo: 4, epochStarts: [{ epoch: 2, index: 1 }] })).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
    })
  })
})

describe('journal: failing disks', () => {
  for (const [operation, code] of [
    ['sync', 'EIO'],
    ['write', 'EIO'],
    ['write', 'ENOSPC'],
  ] as const) {
    test(`a ${operation} that fails with ${code} is reported once and nothing is after it (S29)`, async () => {
      const disk = newDisk()
      const { log, ear } = await open(disk)
      await appendDurably(log, ear, 3)
      disk.failNext({ operation, code })
      appendTo(log)
      await ear.hearsFailure()
      const counts = [disk.count('write'), disk.count('sync')]
      appendTo(log)
      await settle()
      expect(ear.failures).toMatchObject([{ code: 'STORE_DISK_FAILED', detail: { operation } }])
      expect(ear.durableIndices).toEqual([1, 2, 3])
      expect(log.durableIndex).toBe(3)
      expect([disk.count('write'), disk.count('sync')]).toEqual(counts)
      await expect(log.close()).rejects.toMatchObject({ code: 'STORE_DISK_FAILED' })
    })
  }

  test('no space for the next segment is a failure only once it is needed (S30)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    disk.failNext({ operation: 'allocate', code: 'ENOSPC' })
    await appendDurably(log, ear, 12)
    expect(ear.failures).toEqual([])
    const batches = await appendDurably(log, ear, 30)
    expect(batches).toHaveLength(30)
    expect(ear.failures).toEqual([])
  })

  test('when the spare fails during a group of several parts, no segment follows a part without sync (S29)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 15)
    const makeSpare = disk.hold('allocate')
    // A quarter of the second segment is full: the third is being made.
    await appendDurably(log, ear, 5)
    await vi.waitFor(() => expect(disk.waiting('allocate')).toBe(1))
    const segments = () => disk.paths().filter((path) => /\d\.log$/.test(path))
    expect(segments()).toHaveLength(2)
    const write = disk.hold('write')
    for (let made = 0; made < 40; made++) appendTo(log, { bytes: 300 })
    await vi.waitFor(() => expect(disk.waiting('write')).toBe(1))
    disk.failNext({ operation: 'allocate', code: 'EIO' })
    makeSpare()
    await ear.hearsFailure()
    write()
    await settle()
    expect(segments()).toHaveLength(2)
    expect(log.durableIndex).toBe(20)
  })

  test('a failing close is a failure', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 1)
    disk.failNext({ operation: 'close', code: 'EIO' })
    await expect(log.close()).rejects.toMatchObject({ code: 'STORE_DISK_FAILED' })
    expect(ear.failures).toHaveLength(1)
  })
})

describe('journal: truncation', () => {
  test('the fields follow at once, and reads see nothing above', async () => {
    const { log, ear } = await open(newDisk(), { windowBytes: 0 })
    const batches = await appendDurably(log, ear, 5)
    const third = { checksum: 0 }
    third.checksum = batches[2]?.bytes.readUInt32LE(60) ?? 0
    log.truncate(3)
    expect([log.lastIndex, log.durableIndex, log.lastChecksum, log.lastEpoch]).toEqual([
      3,
      3,
      third.checksum,
      1,
    ])
    expect(await log.read(4, 1000)).toHaveLength(0)
    expect(await log.read(2, 1e6)).toEqual(Buffer.concat(batches.slice(1, 3).map((batch) => batch.bytes)))
    const other = appendTo(log, { epoch: 2, bytes: 50 })
    expect(await log.batchWith(4)).toEqual(other.bytes)
    await log.close()
    expect(await log.batchWith(4)).toEqual(other.bytes)
  })

  test('records that are dropped before their sync are never reported durable', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 2)
    const release = disk.hold('sync')
    appendTo(log)
    appendTo(log)
    await settle()
    log.truncate(3)
    release()
    await log.close()
    expect(ear.durableIndices).toEqual([1, 2, 3])
  })

  test('only waiting appends: they are dropped and the disk never sees them', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 2)
    const [writes, removes] = [disk.count('write'), disk.count('remove')]
    appendTo(log)
    log.truncate(2)
    await log.close()
    expect([disk.count('write') - writes, disk.count('remove') - removes]).toEqual([1, 0])
    expect(ear.durableIndices).toEqual([1, 2])
  })

  test('a truncation to nothing leaves an empty log that can be filled again', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 80)
    log.truncate(0)
    expect([log.lastIndex, log.lastChecksum, log.lastEpoch, log.lastTimeMs]).toEqual([0, 0, 0, 0])
    const batch = appendTo(log, { epoch: 5 })
    await log.close()
    disk.crash()
    const again = await open(disk)
    expect(await everyBatch(again.log)).toEqual([batch.bytes])
  })

  test('below the commit index or inside a batch it is refused', async () => {
    const { log } = await open(newDisk())
    appendTo(log, { records: 3 })
    appendTo(log, { records: 3 })
    appendTo(log, { records: 3, commitIndex: 6 })
    expect(() => log.truncate(8)).toThrow(RangeError)
    expect(() => log.truncate(3)).toThrow(RangeError)
    log.truncate(6)
    expect(log.lastIndex).toBe(6)
  })

  test('a reader under whom the log is cut gets what is left', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const batches = await appendDurably(log, ear, 60)
    const release = disk.hold('read')
    const reading = log.read(10, 1e6)
    await settle()
    log.truncate(20)
    release()
    expect(await reading).toEqual(Buffer.concat(batches.slice(9, 20).map((batch) => batch.bytes)))
  })
})

test('journal: refuses bytes that do not follow the last batch', async () => {
  const { log } = await open(newDisk())
  const batch = appendTo(log)
  expect(() => log.append(batch.bytes, 1, 1)).toThrow(RangeError)
  const next = nextBatch(log)
  expect(() => log.append(next.bytes, 2, 3)).toThrow(RangeError)
  next.bytes[20] = 1
  expect(() => log.append(next.bytes, 2, 2)).toThrow(RangeError)
})

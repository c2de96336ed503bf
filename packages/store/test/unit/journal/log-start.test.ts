import { buildBatch } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import type { LogStart } from '../../../src/journal/log.ts'
import { appendDurably, appendTo, directory, everyBatch, newDisk, open, settle } from './journal-rig.ts'

const startFile = `${directory}/start`

type Disk = ReturnType<typeof newDisk>

function segmentsOf(disk: Disk): number[] {
  return disk.paths().flatMap((path) => (path.endsWith('.log') ? [Number(path.slice(-24, -4))] : []))
}

function openFiles(disk: Disk): number {
  return disk.count('open') + disk.count('create') - disk.count('close')
}

/** The batch after the beginning `start`, of a log that is not here. */
function batchAt(index: number, epoch: number, previousChecksum = 77) {
  return buildBatch([{ kind: 'messageAdded', queue: 1, envelope: 50 }], {
    epoch,
    firstIndex: index,
    previousChecksum,
  })
}

describe('log start: discarding', () => {
  test('whole segments below go, and the log begins there also after a restart (S34)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const batches = await appendDurably(log, ear, 80)
    const before = segmentsOf(disk)
    expect(log.segments().map(({ firstIndex }) => firstIndex)).toEqual(before)
    const [, , third = 0, fourth = 0] = before
    await log.discardBelow(fourth - 1, 79)
    expect(segmentsOf(disk)).toEqual(before.slice(2))
    const start = { firstIndex: third, replayTo: 79, epochStarts: [{ epoch: 1, index: 1 }] }
    expect([log.firstIndex, log.start]).toEqual([third, start])
    await expect(log.read(third - 1, 1)).rejects.toMatchObject({
      code: 'STORE_LOG_GONE',
      detail: { index: third - 1 },
    })
    expect(await log.batchWith(third)).toEqual(batches[third - 1]?.bytes)
    disk.crash()
    const again = await open(disk)
    expect([again.log.start, again.log.lastIndex, again.epochStarts]).toEqual([start, 80, start.epochStarts])
    expect(await everyBatch(again.log)).toEqual(batches.slice(third - 1).map(({ bytes }) => bytes))
  })

  test('nothing is removed that is not wholly below, nor the last segment', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 40)
    const before = segmentsOf(disk)
    await log.discardBelow((before[1] ?? 0) - 1, 40)
    expect(segmentsOf(disk)).toEqual(before)
    expect(disk.paths()).not.toContain(startFile)
    await log.discardBelow(41, 40)
    expect(segmentsOf(disk)).toEqual(before.slice(-1))
    expect(() => log.discardBelow(41, 39)).toThrow(RangeError)
    expect(() => log.discardBelow(43, 42)).toThrow(RangeError)
  })

  test('an empty last segment, left by a crash, does not become the beginning', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 15)
    disk.hold('write')
    appendTo(log, { bytes: 3000 })
    await settle()
    disk.exit()
    const again = await open(disk)
    expect(segmentsOf(disk)).toEqual([1, 16])
    await again.log.discardBelow(16, 15)
    expect(segmentsOf(disk)).toEqual([1, 16])
    const { lastChecksum } = again.log
    await again.log.close()
    expect((await open(disk)).log.lastChecksum).toBe(lastChecksum)
  })

  test('a reader of what goes finishes or is told that it is gone, and leaves no file open (W29)', async () => {
    for (let steps = 0; steps < 12; steps++) {
      const disk = newDisk()
      const { log, ear } = await open(disk, { windowBytes: 0 })
      const batches = await appendDurably(log, ear, 80)
      await log.batchWith(80)
      await settle()
      const open0 = openFiles(disk)
      const reads = [log.read(1, 1e6), log.read(20, 1e6)]
      const outcomes = Promise.allSettled(reads)
      for (let step = 0; step < steps; step++) await undefined
      await log.discardBelow(70, 80)
      for (const outcome of await outcomes) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'STORE_LOG_GONE' })
        else expect(Buffer.concat(batches.map(({ bytes }) => bytes)).includes(outcome.value)).toBe(true)
      }
      await settle()
      // One reader for each of the segments that are left, at most.
      expect(openFiles(disk)).toBeLessThanOrEqual(open0 + 1)
    }
  })

  test('appends, reads and truncations go on while segments go', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const batches = await appendDurably(log, ear, 60)
    const discarded = log.discardBelow(30, 50)
    batches.push(appendTo(log), appendTo(log))
    log.truncate(55)
    expect(() => log.truncate(49)).toThrow(RangeError)
    const next = appendTo(log, { epoch: 2 })
    await discarded
    await log.close()
    const again = await open(disk)
    const kept = batches.slice(again.log.firstIndex - 1, 55).map(({ bytes }) => bytes)
    expect(await everyBatch(again.log)).toEqual([...kept, next.bytes])
    expect(again.log.firstIndex).toBeGreaterThan(1)
    expect(again.epochStarts.at(-1)).toEqual({ epoch: 2, index: 56 })
  })

  test('a crash at any step leaves the log as it was or as it should be, and no file too many (S34)', async () => {
    const outcomes = new Set<number>()
    for (let step = 1; step <= 12; step++) {
      for (let seed = 0; seed < 12; seed++) {
        const disk = newDisk(seed)
        const { log, ear } = await open(disk)
        const batches = await appendDurably(log, ear, 70)
        await settle()
        const stopped = disk.stopAfter(step)
        const done = log.discardBelow(60, 70).then(() => 'done')
        if ((await Promise.race([stopped, done])) === 'done') continue
        if (seed % 3 === 0) disk.exit()
        else disk.crash()
        const again = await open(disk)
        const { firstIndex } = again.log
        outcomes.add(firstIndex)
        expect(segmentsOf(disk)[0]).toBe(firstIndex)
        expect(again.log.start.replayTo).toBe(firstIndex === 1 ? 0 : 70)
        expect(await everyBatch(again.log)).toEqual(batches.slice(firstIndex - 1).map(({ bytes }) => bytes))
        expect(disk.paths().filter((path) => path.endsWith('.new'))).toEqual([])
      }
    }
    expect(outcomes.size).toBe(2)
  })

  test('a failure on the way is reported, and the caller hears of it (S29)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 60)
    disk.failNext({ operation: 'remove', code: 'EIO' })
    await expect(log.discardBelow(60, 60)).rejects.toMatchObject({ code: 'STORE_DISK_FAILED' })
    expect(ear.failures).toHaveLength(1)
  })

  test('epochs that lie behind are forgotten, but never the one before the beginning', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    for (let epoch = 1; epoch <= 40; epoch++) appendTo(log, { epoch, bytes: 300 })
    await ear.hearsDurable(40)
    await log.discardBelow(40, 40)
    const { firstIndex, epochStarts } = log.start
    expect(epochStarts).toEqual([
      { epoch: firstIndex - 1, index: firstIndex - 1 },
      { epoch: firstIndex, index: firstIndex },
    ])
    await log.close()
    const again = await open(disk)
    expect(again.epochStarts[0]).toEqual(epochStarts[0])
    expect(again.epochStarts.at(-1)).toEqual({ epoch: 40, index: 40 })
    const known = Array.from({ length: 40 }, (_, place) => ({ epoch: place + 1, index: place + 1 }))
    expect((await open(disk, { verifiedTo: 40, epochStarts: known })).epochStarts).toEqual(known)
  })
})

describe('log start: a journal that begins elsewhere', () => {
  const start: LogStart = {
    firstIndex: 1000,
    replayTo: 1100,
    epochStarts: [
      { epoch: 3, index: 400 },
      { epoch: 5, index: 900 },
    ],
  }

  test('takes the first batch as it is, and those behind it by the chain', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { start })
    expect([log.start, log.firstIndex, log.lastIndex, log.lastEpoch]).toEqual([start, 1000, 999, 5])
    const first = batchAt(1000, 5)
    expect(() => log.append(batchAt(1001, 5).bytes, 1001, 1001)).toThrow(RangeError)
    expect(() => log.append(batchAt(1000, 4).bytes, 1000, 1000)).toThrow(RangeError)
    log.append(first.bytes, 1000, 1000)
    expect(() => log.append(batchAt(1001, 5).bytes, 1001, 1001)).toThrow(RangeError)
    const more = await appendDurably(log, ear, 40)
    expect(() => log.truncate(999)).toThrow(RangeError)
    disk.crash()
    const again = await open(disk)
    expect(again.log.start).toEqual(start)
    expect(again.epochStarts).toEqual(start.epochStarts)
    expect(await everyBatch(again.log)).toEqual([first, ...more].map(({ bytes }) => bytes))
  })

  test('is never truncated to nothing, however little of it is committed', async () => {
    const { log } = await open(newDisk(), { start: { ...start, replayTo: 999 } })
    log.append(batchAt(1000, 5).bytes, 1000, 1000)
    appendTo(log)
    expect(() => log.truncate(999)).toThrow(RangeError)
    log.truncate(1000)
    expect(log.lastIndex).toBe(1000)
  })

  test('an epoch that begins with its first record is listed once', async () => {
    const epochStarts = [...start.epochStarts, { epoch: 6, index: 1000 }]
    const { log } = await open(newDisk(), { start: { ...start, epochStarts } })
    expect(() => log.append(batchAt(1000, 5).bytes, 1000, 1000)).toThrow(RangeError)
    log.append(batchAt(1000, 6).bytes, 1000, 1000)
    await log.close()
    expect(log.start.epochStarts).toEqual(epochStarts)
  })

  test('what is found in the directory stands', async () => {
    const disk = newDisk()
    const { log } = await open(disk, { start })
    await log.close()
    const again = await open(disk, { start: { ...start, firstIndex: 2000 } })
    expect(again.log.start).toEqual(start)
    await again.log.close()
    const other = newDisk()
    await (await open(other)).log.close()
    expect((await open(other, { start })).log.start.firstIndex).toBe(1)
  })

  test('a crash at any step of its making or of its first batch is no damage (S33)', async () => {
    for (let step = 1; step <= 14; step++) {
      for (let seed = 0; seed < 10; seed++) {
        const disk = newDisk(seed)
        const stopped = disk.stopAfter(step)
        const filled = open(disk, { start }).then(({ log, ear }) => {
          log.append(batchAt(1000, 5).bytes, 1000, 1000)
          return ear.hearsDurable(1000).then(() => 'done')
        })
        if ((await Promise.race([stopped, filled])) === 'done') continue
        disk.crash()
        const again = await open(disk, { start })
        expect(again.log.start).toEqual(start)
        if (again.log.lastIndex < 1000) again.log.append(batchAt(1000, 5).bytes, 1000, 1000)
        await again.log.close()
        expect((await open(disk)).log.lastIndex).toBe(1000)
      }
    }
  })

  test('a beginning that contradicts itself is refused', async () => {
    for (const epochStarts of [[], [{ epoch: 1, index: 1000 }], [{ epoch: 1, index: 1001 }]]) {
      await expect(open(newDisk(), { start: { ...start, epochStarts } })).rejects.toThrow(RangeError)
    }
  })
})

describe('log start: damage', () => {
  async function discarded(): Promise<Disk> {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 60)
    await log.discardBelow(40, 60)
    await log.close()
    return disk
  }

  test('any bit of what says the beginning may be wrong (S1)', async () => {
    const disk = await discarded()
    const { start } = (await open(disk)).log
    disk.exit()
    for (let bit = 0; bit < disk.content(startFile).length * 8; bit += 5) {
      disk.flipBit(startFile, bit)
      expect((await open(disk)).log.start).toEqual(start)
      disk.exit()
      disk.flipBit(startFile, bit)
    }
  })

  test('both copies damaged, a newer version, or the file missing: refused, nothing is removed (S27, S36)', async () => {
    const disk = await discarded()
    const content = disk.content(startFile)
    const segments = segmentsOf(disk)
    const half = content.length / 2
    disk.flipBit(startFile, 70)
    disk.flipBit(startFile, half * 8 + 70)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT', detail: { file: startFile } })
    const { crc32 } = await import('node:zlib')
    const newer = Buffer.from(content.subarray(0, half))
    newer.writeUInt16LE(2, 6)
    newer.writeUInt32LE(crc32(newer.subarray(0, -4)), half - 4)
    disk.place(startFile, Buffer.concat([newer, newer]))
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_UNKNOWN_FORMAT' })
    disk.lose(startFile)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    expect(segmentsOf(disk)).toEqual(segments)
  })

  test('the first segment missing is corruption, also with the segments before it still there', async () => {
    const disk = await discarded()
    const [first = 0] = segmentsOf(disk)
    const path = `${directory}/${String(first).padStart(20, '0')}.log`
    const content = disk.content(path)
    disk.lose(path)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    const leftover = `${directory}/00000000000000000001.log`
    disk.place(leftover, content)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    expect(disk.paths()).toContain(leftover)
    disk.place(path, content)
    expect((await open(disk)).report.discardedSegments).toBe(1)
    expect(disk.paths()).not.toContain(leftover)
  })

  test('what was replayed is known to have been durable, without an index (S27)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 60)
    await log.discardBelow(40, 60)
    disk.exit()
    const path = disk.paths().findLast((each) => each.endsWith('.log')) ?? ''
    const at = disk.content(path).lastIndexOf('LMQB')
    disk.flipBit(path, (at + 70) * 8)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    for (const segment of disk.paths().filter((each) => each.endsWith('.log'))) disk.lose(segment)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
  })
})

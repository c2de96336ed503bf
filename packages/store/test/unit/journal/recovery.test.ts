import { SeededRandom, VirtualDisk } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import { StoreError } from '../../../src/errors.ts'
import { appendDurably, appendTo, directory, everyBatch, newDisk, open, settle } from './journal-rig.ts'

const segmentOne = `${directory}/00000000000000000001.log`
const payloadOffset = 32 + 64
/** Sync mark before and end mark behind. */
const marksBytes = 64

describe('recovery: torn tails', () => {
  test('a torn last batch is cut and the one before it kept (S27)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    const batches = await appendDurably(log, ear, 3)
    const size = (batches[0]?.bytes.length ?? 0) + marksBytes
    disk.exit()
    // Clears the second half of the third batch, as if its sector had never arrived.
    const content = disk.content(segmentOne)
    content.fill(0, 3 * size - 92, 3 * size)
    disk.place(segmentOne, content)
    const again = await open(disk)
    expect(again.report).toMatchObject({ batches: 2, records: 2, clean: false })
    expect(again.report.tornBytes).toBeGreaterThan(0)
    expect(again.log.lastIndex).toBe(2)
    expect(again.log.lastChecksum).toBe(batches[1]?.bytes.readUInt32LE(60))
    expect(
      disk
        .content(segmentOne)
        .subarray(2 * size + 64)
        .every((byte) => byte === 0),
    ).toBe(true)
  })

  test('what follows a torn batch in the same group is cut with it, and never comes back (S27)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 2)
    const torn = [appendTo(log), appendTo(log), appendTo(log)]
    await ear.hearsDurable(5)
    disk.exit()
    const at = disk.content(segmentOne).indexOf(torn[0]?.bytes ?? '')
    disk.flipBit(segmentOne, (at + 80) * 8)
    const again = await open(disk)
    expect(again.log.lastIndex).toBe(2)
    // A batch of the same length as the torn one: the old ones would follow it.
    const [other] = await appendDurably(again.log, again.ear, 1)
    disk.exit()
    const last = await open(disk)
    expect(await last.log.batchWith(3)).toEqual(other?.bytes)
    expect(last.log.lastIndex).toBe(3)
  })

  test('what was read back from a page cache is written and synced before it counts, not cut at the durable mark (S29, T10)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    const durable = await appendDurably(log, ear, 2)
    disk.failNext({ operation: 'sync', code: 'EIO' })
    const doubtful = appendTo(log)
    await ear.hearsFailure()
    disk.exit()
    // The failed sync left batch 3 readable but not on disk.
    const again = await open(disk)
    expect(again.log.durableIndex).toBe(3)
    disk.crash()
    const last = await open(disk)
    expect(await everyBatch(last.log)).toEqual([...durable, doubtful].map((batch) => batch.bytes))
  })

  test('a crash in the middle of that leaves a torn tail, never corruption (S27, S29)', async () => {
    for (let seed = 0; seed < 100; seed++) {
      const disk = newDisk(seed)
      const { log, ear } = await open(disk)
      const durable = await appendDurably(log, ear, 2)
      disk.failNext({ operation: 'sync', code: 'EIO' })
      appendTo(log, { bytes: 1000 })
      appendTo(log, { bytes: 1000 })
      await ear.hearsFailure()
      disk.exit()
      const stopped = disk.stopAfter(1 + (seed % 6))
      void open(disk)
      await stopped
      disk.crash()
      const again = await open(disk)
      expect((await everyBatch(again.log)).slice(0, 2)).toEqual(durable.map((batch) => batch.bytes))
    }
  })

  test('the name of a segment that was seen is made durable before anything goes in (S29, seed 213)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 15)
    disk.hold('syncDirectory')
    appendTo(log, { bytes: 3000 })
    await settle()
    expect(disk.waiting('syncDirectory')).toBe(1)
    disk.exit()
    const again = await open(disk)
    const [batch] = await appendDurably(again.log, again.ear, 1, 3000)
    disk.crash()
    expect(await (await open(disk)).log.batchWith(16)).toEqual(batch?.bytes)
  })

  test('a disk that fails during recovery keeps the journal closed (S29)', async () => {
    for (const operation of ['write', 'sync', 'read'] as const) {
      const disk = newDisk()
      const { log, ear } = await open(disk)
      await appendDurably(log, ear, 2)
      disk.exit()
      disk.failNext({ operation, code: 'EIO' })
      await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_DISK_FAILED' })
    }
  })
})

describe('recovery: a last group that was whole once (S27, class c)', () => {
  /** Three groups, of which the last has two batches of two records each, in epoch 4. */
  async function written(): Promise<{ disk: VirtualDisk; batches: Buffer[]; lastGroup: number }> {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    const batches = await appendDurably(log, ear, 2, 20)
    const lastGroup = disk.content(segmentOne).lastIndexOf('LMQE') + 32
    batches.push(appendTo(log, { bytes: 20, records: 2, epoch: 4 }))
    batches.push(appendTo(log, { bytes: 20, records: 2, epoch: 4 }))
    await ear.hearsDurable(6)
    disk.exit()
    return { disk, batches: batches.map(({ bytes }) => bytes), lastGroup }
  }

  test('any bit flipped: damage is never accepted, never hidden, and marks cost nothing (S1, S27 a, c)', async () => {
    const { disk, batches, lastGroup } = await written()
    const whole = disk.content(segmentOne)
    const first = lastGroup + 32
    const second = first + (batches[2]?.length ?? 0)
    const end = second + (batches[3]?.length ?? 0)
    for (let bit = lastGroup * 8; bit < (end + 32) * 8; bit += 17) {
      disk.place(segmentOne, whole)
      disk.flipBit(segmentOne, bit)
      const owed: unknown[] = []
      const { log, report } = await open(disk, { owed: async (position) => void owed.push(position) })
      const isMark = bit < first * 8 || bit >= end * 8
      const kept = isMark ? batches : bit < second * 8 ? batches.slice(0, 2) : batches.slice(0, 3)
      expect(await everyBatch(log), `bit ${bit}`).toEqual(kept)
      expect(owed, `bit ${bit}`).toEqual(isMark ? [] : [{ epoch: 4, index: 6 }])
      expect(report.owed).toEqual(owed[0])
      disk.exit()
      // What was cut or mended is so for good.
      const again = await open(disk)
      expect(again.report).toMatchObject({ tornBytes: 0, owed: undefined, mendedMarks: 0, clean: true })
      expect(await everyBatch(again.log)).toEqual(kept)
      disk.exit()
    }
  })

  test('nothing is cut before the debt is durable, and a failure to note it keeps the journal closed (S24)', async () => {
    const { disk, lastGroup } = await written()
    disk.flipBit(segmentOne, (lastGroup + 100) * 8)
    const before = disk.content(segmentOne)
    const noted = Promise.withResolvers<void>()
    const opening = open(disk, { owed: () => noted.promise })
    await settle()
    expect(disk.content(segmentOne).equals(before)).toBe(true)
    noted.reject(new Error('no'))
    await expect(opening).rejects.toThrow('no')
    expect(disk.content(segmentOne).equals(before)).toBe(true)
  })

  test('a crash at any step of the cut: it is owed, or was owed before (S24, S27)', async () => {
    for (let step = 1; step <= 12; step++) {
      for (let seed = 0; seed < 8; seed++) {
        const { disk, batches, lastGroup } = await written()
        disk.flipBit(segmentOne, (lastGroup + 100) * 8)
        const owed: unknown[] = []
        const note = async (position: unknown) => void owed.push(position)
        const stopped = disk.stopAfter(step)
        const done = open(disk, { owed: note }).then(() => 'done')
        if ((await Promise.race([stopped, done])) === 'done') continue
        disk.crash()
        const { log } = await open(disk, { owed: note })
        expect(await everyBatch(log)).toEqual(batches.slice(0, 2))
        expect(owed[0]).toEqual({ epoch: 4, index: 6 })
      }
    }
  })

  test('the bytes that are cut are kept for a human, of the last four times', async () => {
    const { disk, lastGroup } = await written()
    const whole = disk.content(segmentOne)
    for (let round = 1; round <= 6; round++) {
      disk.place(segmentOne, whole)
      disk.flipBit(segmentOne, (lastGroup + 100) * 8 + round)
      const damaged = disk.content(segmentOne)
      const { report } = await open(disk)
      expect(report.keptIn).toBe(`${directory}/cut-${round}`)
      const kept = disk.content(report.keptIn ?? '')
      const line = kept.indexOf('\n')
      const place = JSON.parse(kept.toString('utf8', 0, line))
      expect(place).toMatchObject({ segment: segmentOne, behindIndex: 2, owed: { epoch: 4, index: 6 } })
      expect(kept.subarray(line + 1)).toEqual(damaged.subarray(place.offset, place.offset + place.bytes))
      disk.exit()
    }
    const names = disk.paths().filter((path) => path.includes('cut'))
    expect(names).toEqual([3, 4, 5, 6].map((number) => `${directory}/cut-${number}`))
  })

  test('no space to keep them does not keep the store down (S30)', async () => {
    for (const operation of ['create', 'write', 'sync'] as const) {
      const { disk, lastGroup } = await written()
      disk.flipBit(segmentOne, (lastGroup + 100) * 8)
      disk.failNext({ operation, path: 'cut.new', code: 'ENOSPC' })
      const { log, report } = await open(disk)
      expect([log.lastIndex, report.keptIn]).toEqual([2, undefined])
      expect(disk.paths().filter((path) => path.includes('cut'))).toEqual([])
    }
  })

  test('with the end of a later group behind it the damage was durable, even if its sync mark is gone (S27 b)', async () => {
    const { disk, batches, lastGroup } = await written()
    const content = disk.content(segmentOne)
    const second = content.indexOf(batches[1] ?? '')
    disk.flipBit(segmentOne, (second + 70) * 8)
    disk.flipBit(segmentOne, (lastGroup + 5) * 8)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT', detail: { offset: second } })
  })

  test('what a truncation kept is proven, and damage to it is no torn tail (S27 b)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    appendTo(log)
    const kept = appendTo(log)
    appendTo(log)
    await ear.hearsDurable(3)
    log.truncate(2)
    await log.close()
    const last = disk.content(segmentOne).lastIndexOf('LMQS')
    const content = disk.content(segmentOne)
    // As if it had not been closed in order.
    content.fill(0, last, last + 32)
    disk.place(segmentOne, content)
    disk.flipBit(segmentOne, (content.indexOf(kept.bytes) + 70) * 8)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
  })
})

describe('recovery: corruption', () => {
  test('a durable batch with any bit flipped is refused, and nothing is changed (S1, S27)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    const batches = await appendDurably(log, ear, 4, 20)
    disk.exit()
    const whole = disk.content(segmentOne)
    const at = whole.indexOf(batches[1]?.bytes ?? '')
    for (let bit = at * 8; bit < (at + (batches[1]?.bytes.length ?? 0)) * 8; bit++) {
      disk.flipBit(segmentOne, bit)
      const before = disk.content(segmentOne)
      const error: unknown = await open(disk).catch((cause: unknown) => cause)
      expect(error, `bit ${bit}`).toBeInstanceOf(StoreError)
      expect(error, `bit ${bit}`).toMatchObject({
        detail: { code: 'STORE_CORRUPT', file: segmentOne, offset: at },
      })
      expect(disk.content(segmentOne).equals(before)).toBe(true)
      disk.flipBit(segmentOne, bit)
    }
  })

  test('after a clean close no bit of any batch may be wrong, the last one included (S1)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    const [, last] = await appendDurably(log, ear, 2)
    await log.close()
    const at = disk.content(segmentOne).indexOf(last?.bytes ?? '')
    for (const offset of [0, 10, 63, 64, 100]) {
      disk.flipBit(segmentOne, (at + offset) * 8)
      await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      disk.flipBit(segmentOne, (at + offset) * 8)
    }
    expect((await open(disk)).log.lastIndex).toBe(2)
  })

  test('damage at or below the checkpoint is corruption even in the last group (S27)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 1)
    disk.exit()
    disk.flipBit(segmentOne, payloadOffset * 8)
    await expect(open(disk, { verifiedTo: 1 })).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    expect((await open(disk)).log.lastIndex).toBe(0)
  })

  test('damage in a segment that has a successor is corruption, even without a mark behind it (S27)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 30)
    disk.exit()
    const content = disk.content(segmentOne)
    const lastBatch = content.lastIndexOf('LMQB')
    disk.flipBit(segmentOne, (lastBatch + 70) * 8)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT', detail: { offset: lastBatch } })
  })

  test('a durable sector that reads as zeroes is corruption, not the end', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk, { segmentBytes: 65536 })
    await appendDurably(log, ear, 30)
    disk.exit()
    const content = disk.content(segmentOne)
    content.fill(0, 512, 1024)
    disk.place(segmentOne, content)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
  })

  test('a valid segment of another time in the place of one is refused (S1)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 60)
    await log.close()
    const second = disk.paths().filter((path) => path.endsWith('.log'))[1] ?? ''
    const other = newDisk()
    const foreign = await open(other)
    appendTo(foreign.log, { epoch: 2 })
    await foreign.ear.hearsDurable(1)
    await appendDurably(foreign.log, foreign.ear, 59)
    expect(other.paths()).toContain(second)
    disk.place(second, other.content(second))
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT', detail: { file: second } })
  })

  test('a segment that is missing is refused: in the middle, and the one with the checkpoint (W13)', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 60)
    await log.close()
    const [first = '', second = '', ...rest] = disk.paths().filter((path) => path.endsWith('.log'))
    const content = disk.content(second)
    disk.lose(second)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT', detail: { file: first } })
    disk.place(second, content)
    for (const path of rest) disk.lose(path)
    const epochStarts = [{ epoch: 1, index: 1 }]
    await expect(open(disk, { verifiedTo: 60, epochStarts })).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    await expect(open(newDisk(), { verifiedTo: 60, epochStarts })).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
    })
  })

  test('a batch or mark of an unknown format version is refused', async () => {
    const { crc32 } = await import('node:zlib')
    for (const [at, length] of [
      [0, 28],
      [32, 60],
    ] as const) {
      const disk = newDisk()
      const { log, ear } = await open(disk)
      await appendDurably(log, ear, 2)
      disk.exit()
      const content = disk.content(segmentOne)
      content.writeUInt16LE(9, at + 4)
      content.writeUInt32LE(crc32(content.subarray(at, at + length)), at + length)
      disk.place(segmentOne, content)
      await expect(open(disk)).rejects.toMatchObject({
        code: 'STORE_UNKNOWN_FORMAT',
        detail: { file: segmentOne },
      })
    }
  })

  test('a sync mark inside the body of a torn message proves nothing', async () => {
    const disk = newDisk()
    const { log, ear } = await open(disk)
    await appendDurably(log, ear, 2)
    disk.exit()
    const content = disk.content(segmentOne)
    const end = content.lastIndexOf('LMQB')
    // The journal's own bytes travel in a message: here the mark before the torn batch, at another place.
    content.copy(content, end + 64, end - 32, end)
    content.fill(0xff, end, end + 64)
    disk.place(segmentOne, content)
    expect((await open(disk)).log.lastIndex).toBe(1)
  })
})

test('recovery: crash, restart, append, crash, restart loses nothing (T17)', async () => {
  const disk = newDisk(17)
  const first = await open(disk)
  const batches = await appendDurably(first.log, first.ear, 5)
  appendTo(first.log)
  await settle()
  disk.crash()
  const second = await open(disk)
  const kept = await everyBatch(second.log)
  expect(kept.slice(0, 5)).toEqual(batches.map((batch) => batch.bytes))
  const more = await appendDurably(second.log, second.ear, 40)
  disk.crash()
  const third = await open(disk)
  expect(await everyBatch(third.log)).toEqual([...kept, ...more.map((batch) => batch.bytes)])
})

describe('recovery: seeded crashes', () => {
  for (let block = 0; block < 20; block++) {
    test(`nothing durable is lost and the rest is a prefix (S1, S27, S29, T17, W10; seeds ${block * 20} to ${block * 20 + 19})`, async () => {
      for (let seed = block * 20; seed < block * 20 + 20; seed++) await survivesCrashes(seed)
    })
  }
})

/**
 * Appends, truncates, crashes and reopens as the seed says, and compares with a list of what was appended: after each
 * crash the log is that list, or a beginning of it that holds everything reported durable.
 */
async function survivesCrashes(seed: number): Promise<void> {
  const random = new SeededRandom(seed)
  const disk = new VirtualDisk(random)
  const windowBytes = random.fraction() < 0.5 ? 0 : 4096
  let epoch = 1
  let verifiedTo = 0
  let model: Buffer[] = []
  for (let life = 0; life < 6; life++) {
    const epochStarts = startsUpTo(model, verifiedTo)
    const label = `seed ${seed}, life ${life}`
    // Some lives end inside recovery.
    const early = random.fraction() < 0.3 ? disk.stopAfter(random.between(1, 6)) : undefined
    const opening = open(disk, { windowBytes, verifiedTo, epochStarts })
    const opened = await (early === undefined ? opening : Promise.race([opening, early]))
    if (opened === undefined) {
      disk.crash()
      continue
    }
    disk.exit()
    const { log, ear } = await open(disk, { windowBytes, verifiedTo, epochStarts })
    const found = await everyBatch(log)
    // A discard that was under way may have been carried out.
    model = model.filter((batch) => batch.readUInt32LE(16) >= log.firstIndex)
    expect(found.length, label).toBeLessThanOrEqual(model.length)
    found.forEach((batch, place) => {
      expect(batch.equals(model[place] ?? Buffer.alloc(0)), `${label}, batch ${place}`).toBe(true)
    })
    expect(log.lastIndex, label).toBeGreaterThanOrEqual(verifiedTo)
    model = found
    // Shorter logs can come from a truncation that was not finished, or from losing what was not durable.
    epoch++
    const stopped = disk.stopAfter(random.between(1, 60))
    const candidates = await liveUntil(stopped, log, random, epoch, verifiedTo, model)
    const durable = ear.durableIndices.length > 0 || log.durableIndex > 0 ? log.durableIndex : 0
    if (random.fraction() < 0.2) disk.exit()
    else disk.crash()
    const after = await open(disk, { windowBytes, verifiedTo, epochStarts: startsUpTo(model, verifiedTo) })
    const kept = await everyBatch(after.log)
    expect(after.log.firstIndex, label).toBeLessThanOrEqual(Math.max(1, durable))
    expect(
      candidates.some((candidate) => isPrefix(kept, candidate, after.log.firstIndex)),
      `${label}: is a prefix of one of ${candidates.length} logs`,
    ).toBe(true)
    expect(after.log.lastIndex, label).toBeGreaterThanOrEqual(durable)
    model = kept
    verifiedTo = random.fraction() < 0.5 ? verifiedTo : after.log.lastIndex
    if (random.fraction() < 0.5) await after.log.close()
    disk.exit()
  }
}

/** Appends and truncates until the disk stops; returns the log before and after each truncation. */
async function liveUntil(
  stopped: Promise<void>,
  log: Awaited<ReturnType<typeof open>>['log'],
  random: SeededRandom,
  epoch: number,
  verifiedTo: number,
  model: readonly Buffer[],
): Promise<Buffer[][]> {
  let running = true
  void stopped.then(() => {
    running = false
  })
  let present = [...model]
  let discardedTo = log.start.replayTo
  const candidates: Buffer[][] = []
  for (let turn = 0; running && turn < 200; turn++) {
    for (let made = random.between(1, 6); made > 0; made--) {
      const size = random.fraction() < 0.05 ? random.between(3000, 9000) : random.between(1, 700)
      const batch = appendTo(log, { bytes: size, records: random.between(1, 3), epoch })
      present.push(batch.bytes)
    }
    if (random.fraction() < 0.06) {
      candidates.push(present)
      const ends = present.map((batch) => batch.readUInt32LE(16) + batch.readUInt32LE(24) - 1)
      const least = Math.max(verifiedTo, discardedTo)
      const floor = ends.findIndex((end) => end >= least)
      const keep = random.between(Math.max(0, floor), ends.length)
      if ((ends[keep - 1] ?? 0) >= least) {
        log.truncate(ends[keep - 1] ?? 0)
        present = present.slice(0, keep)
      }
    }
    if (random.fraction() < 0.05 && log.durableIndex > discardedTo) {
      discardedTo = log.durableIndex
      void log.discardBelow(random.between(1, discardedTo + 1), discardedTo)
    }
    if (random.fraction() < 0.8) await settle()
  }
  candidates.push(present)
  return candidates
}

/** Whether `found` is the beginning of `log` from `firstIndex` on. */
function isPrefix(found: readonly Buffer[], log: readonly Buffer[], firstIndex: number): boolean {
  const from = log.filter((batch) => batch.readUInt32LE(16) >= firstIndex)
  return (
    found.length <= from.length && found.every((batch, place) => batch.equals(from[place] ?? Buffer.alloc(0)))
  )
}

function startsUpTo(batches: readonly Buffer[], index: number): { epoch: number; index: number }[] {
  const starts: { epoch: number; index: number }[] = []
  for (const batch of batches) {
    const start = { epoch: batch.readUInt32LE(8), index: batch.readUInt32LE(16) }
    if (start.index <= index && start.epoch !== starts.at(-1)?.epoch) starts.push(start)
  }
  return starts
}

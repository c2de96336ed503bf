import { SeededRandom, VirtualClock, VirtualDisk } from '@levelmq/testkit'
import { describe, expect, test, vi } from 'vitest'
import type { DiskFile } from '../../../src/io/disk.ts'
import type { Damage } from '../../../src/journal/damage.ts'
import type { Journal } from '../../../src/journal/journal.ts'
import { Scrubber } from '../../../src/journal/scrubber.ts'
import { appendDurably, appendTo, directory, everyBatch, newDisk, open, settle } from './journal-rig.ts'

type Disk = ReturnType<typeof newDisk>

interface Written {
  readonly disk: Disk
  /** A journal with the same batches on another disk. */
  readonly peer: Journal
  readonly batches: Buffer[]
}

/** Six segments or so, written in groups of several sizes and closed, and a peer that holds the same. */
async function written(count = 70): Promise<Written> {
  const disk = newDisk()
  const other = newDisk()
  const [own, peer] = [await open(disk), await open(other, { windowBytes: 0 })]
  const batches: Buffer[] = []
  for (let made = 0; made < count; made++) {
    const batch = appendTo(own.log, {
      bytes: made % 9 === 0 ? 700 : 90,
      records: 1 + (made % 3),
      epoch: 1 + (made >> 4),
    })
    peer.log.append(batch.bytes, batch.firstIndex, batch.lastIndex)
    batches.push(batch.bytes)
    if (made % 2 === 0) await own.ear.hearsDurable(batch.lastIndex)
  }
  await own.log.close()
  await peer.ear.hearsDurable(peer.log.lastIndex)
  return { disk, peer: peer.log, batches }
}

function segmentsOf(disk: Disk): string[] {
  return disk.paths().filter((path) => path.endsWith('.log'))
}

/** What a peer gives for damage: pieces of at most `maxBytes`. */
async function pieceFrom(peer: Journal, damage: Damage, maxBytes: number): Promise<Buffer> {
  const bytes = await peer.read(damage.fromIndex, maxBytes)
  let end = 0
  while (end < bytes.length) {
    const last = bytes.readUInt32LE(end + 16) + bytes.readUInt32LE(end + 24) - 1
    if (last > damage.toIndex) break
    end += 64 + bytes.readUInt32LE(end + 28)
  }
  return bytes.subarray(0, end)
}

async function repairAll(log: Journal, peer: Journal, maxBytes = 1e6): Promise<number> {
  let rounds = 0
  for (let damage = log.damage; damage !== undefined; rounds++) {
    if (rounds > 500) throw new Error('no end of damage')
    damage = await log.repair(damage, await pieceFrom(peer, damage, maxBytes))
  }
  return rounds
}

/** Damages a disk in one of many ways. */
function harm(disk: Disk, random: SeededRandom): string {
  const segments = segmentsOf(disk).slice(0, -1)
  const path = segments[random.between(0, segments.length - 1)] ?? ''
  const content = disk.content(path)
  const kind = random.between(0, 4)
  if (kind === 0) disk.lose(path)
  else if (kind === 1) disk.place(path, content.subarray(0, random.between(0, content.length - 1)))
  else if (kind === 2) disk.place(path, content.fill(0, random.between(0, 4000)))
  else if (kind === 3) {
    const from = random.between(0, content.length - 1)
    disk.place(
      path,
      content.fill(random.between(0, 255), from, Math.min(content.length, from + random.between(1, 1500))),
    )
  } else disk.flipBit(path, random.between(0, content.length * 8 - 1))
  return `${['lost', 'cut short', 'zeroed', 'overwritten', 'bit'][kind]} ${path}`
}

describe('damage at open', () => {
  test('is refused, or tolerated: readable where intact, not to be appended to (S27 b)', async () => {
    const { disk, batches } = await written()
    const [, second = ''] = segmentsOf(disk)
    const at = disk.content(second).indexOf('LMQB') + 70
    disk.flipBit(second, at * 8)
    const before = disk.content(second)
    await expect(open(disk)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    const { log, damage } = await open(disk, { tolerate: true })
    const first = Number(second.slice(-24, -4))
    expect(damage).toMatchObject({ fromIndex: first, file: second })
    expect(log.damage).toEqual(damage)
    if (damage === undefined) return
    await expect(log.read(damage.fromIndex, 1)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    const whole = Buffer.concat(batches)
    expect(whole.subarray(0, (await log.read(1, 1e6)).length)).toEqual(await log.read(1, 1e6))
    const behind = await log.read(damage.toIndex + 1, 1e6)
    expect(whole.subarray(-behind.length)).toEqual(behind)
    expect(() => appendTo(log)).toThrow(expect.objectContaining({ code: 'STORE_CORRUPT' }))
    expect(() => log.truncate(1)).toThrow(expect.objectContaining({ code: 'STORE_CORRUPT' }))
    await log.close()
    expect(disk.content(second)).toEqual(before)
  })

  test('of any kind is repaired from a peer, piece by piece, to the same log (S27, T9, W8, W11, W13)', async () => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 60; seed++) {
      const random = new SeededRandom(seed)
      const { disk, peer, batches } = await written()
      const harms: string[] = []
      for (let count = random.between(1, 3); count > 0; count--) harms.push(harm(disk, random))
      const label = `seed ${seed}: ${harms.join(', ')}`
      const verifiedTo = random.fraction() < 0.5 ? 0 : 60
      const epochStarts = epochStartsOf(batches, verifiedTo)
      const opened = await open(disk, { tolerate: true, verifiedTo, epochStarts })
      seen.add(opened.damage === undefined ? 'harmless' : 'damaged')
      await repairAll(opened.log, peer, random.fraction() < 0.5 ? 1 : 1e6)
      await opened.log.close()
      if (verifiedTo > 0) {
        // Segments below the checkpoint were not read.
        const rest = await open(disk, { tolerate: true })
        await repairAll(rest.log, peer)
        await rest.log.close()
      }
      const again = await open(disk, { windowBytes: 0 }).catch((error) => {
        throw new Error(`${label}: ${error.message}`)
      })
      expect(again.damage, label).toBeUndefined()
      const found = await everyBatch(again.log)
      expect(Buffer.concat(found).equals(Buffer.concat(batches)), label).toBe(true)
      const [next] = await appendDurably(again.log, again.ear, 1)
      expect(await again.log.batchWith(again.log.lastIndex)).toEqual(next?.bytes)
    }
    expect(seen.size).toBe(2)
  })

  test('a crash at any step of the repair leaves something to repair, or nothing (S27)', async () => {
    for (let step = 1; step < 24; step += 2) {
      for (let seed = 0; seed < 6; seed++) {
        const random = new SeededRandom(100 * step + seed)
        const { disk, peer, batches } = await written(40)
        const done = harm(disk, random)
        const first = await open(disk, { tolerate: true })
        const stopped = disk.stopAfter(step)
        const repaired = repairAll(first.log, peer, 400).then(() => 'done')
        await Promise.race([stopped, repaired])
        disk.crash()
        const second = await open(disk, { tolerate: true })
        await repairAll(second.log, peer)
        await second.log.close()
        const found = await everyBatch((await open(disk)).log)
        expect(Buffer.concat(found).equals(Buffer.concat(batches)), `step ${step}: ${done}`).toBe(true)
      }
    }
  })

  test('at the end of the log, up to what was durable (S27 b, T9)', async () => {
    for (const harmed of ['flip', 'zero', 'lose', 'lose all']) {
      const { disk, peer, batches } = await written()
      const paths = segmentsOf(disk)
      const path = paths.at(-1) ?? ''
      const content = disk.content(path)
      if (harmed === 'flip') disk.flipBit(path, 8 * (content.lastIndexOf('LMQB') + 70))
      if (harmed === 'zero') disk.place(path, content.fill(0, 40))
      if (harmed === 'lose') disk.lose(path)
      if (harmed === 'lose all') for (const each of paths) disk.lose(each)
      const verifiedTo = peer.lastIndex
      const epochStarts = epochStartsOf(batches, verifiedTo)
      await expect(open(disk, { verifiedTo, epochStarts })).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      const { log, damage } = await open(disk, { verifiedTo, epochStarts, tolerate: true })
      expect(damage?.toIndex, harmed).toBe(verifiedTo)
      await repairAll(log, peer, 500)
      await log.close()
      const again = await open(disk, { verifiedTo, epochStarts })
      expect(await everyBatch(again.log), harmed).toEqual(batches)
      await appendDurably(again.log, again.ear, 3)
    }
  })

  test('a log that begins later is repaired from its beginning on', async () => {
    const { disk, peer } = await written()
    const opened = await open(disk)
    await opened.log.discardBelow(60, 100)
    const { start, firstIndex, lastIndex } = opened.log
    const kept = await everyBatch(opened.log)
    await opened.log.close()
    disk.lose(segmentsOf(disk)[0] ?? '')
    const { log, damage } = await open(disk, { tolerate: true })
    expect(damage?.fromIndex).toBe(firstIndex)
    await repairAll(log, peer, 300)
    await log.close()
    const again = await open(disk)
    expect([again.log.start, again.log.lastIndex]).toEqual([start, lastIndex])
    expect(await everyBatch(again.log)).toEqual(kept)
  })

  test('what does not belong there is refused, and nothing is written (S1)', async () => {
    const { disk, peer } = await written()
    const [, second = ''] = segmentsOf(disk)
    disk.flipBit(second, 8 * (disk.content(second).indexOf('LMQB') + 70))
    const { log, damage } = await open(disk, { tolerate: true })
    if (damage === undefined) throw new Error('no damage')
    const right = await pieceFrom(peer, damage, 1e6)
    const wrong = (change: (bytes: Buffer) => void) => {
      const bytes = Buffer.from(right)
      change(bytes)
      return bytes
    }
    const other = await open(newDisk())
    await appendDurably(other.log, other.ear, 70)
    const writes = disk.count('write')
    const tries = [
      wrong((bytes) => bytes.writeUInt8(9, 70)),
      wrong((bytes) => bytes.writeUInt8(9, 20)),
      right.subarray(0, right.length - 1),
      right.subarray(0, 40),
      await peer.batchWith(damage.toIndex + 1),
      Buffer.concat([right, await peer.batchWith(damage.toIndex + 1)]),
      await other.log.batchWith(damage.fromIndex),
    ]
    for (const bytes of tries) await expect(log.repair(damage, bytes)).rejects.toThrow(RangeError)
    expect(disk.count('write')).toBe(writes)
    expect(await log.repair(damage, Buffer.alloc(0))).toEqual(damage)
    expect(await log.repair(damage, right)).toBeUndefined()
  })

  test('a disk that fails in a repair is a failure (S29)', async () => {
    for (const operation of ['write', 'sync'] as const) {
      const { disk, peer } = await written()
      const [, second = ''] = segmentsOf(disk)
      disk.flipBit(second, 8 * (disk.content(second).indexOf('LMQB') + 70))
      const { log, ear, damage } = await open(disk, { tolerate: true })
      if (damage === undefined) throw new Error('no damage')
      disk.failNext({ operation, code: 'EIO' })
      const repaired = log.repair(damage, await pieceFrom(peer, damage, 1e6))
      await expect(repaired).rejects.toMatchObject({ code: 'STORE_DISK_FAILED' })
      expect(ear.failures).toHaveLength(1)
    }
  })
})

describe('damage online', () => {
  test('met by a reader is told, and repaired while appends go on (S27, T9, W11)', async () => {
    for (const verifiedTo of [0, 100]) {
      const { disk, peer, batches } = await written()
      const epochStarts = epochStartsOf(batches, verifiedTo)
      const { log, ear } = await open(disk, { windowBytes: 0, verifiedTo, epochStarts })
      const [, second = ''] = segmentsOf(disk)
      const at = disk.content(second).indexOf('LMQB')
      disk.flipBit(second, 8 * (at + 70))
      const first = Number(second.slice(-24, -4))
      await expect(log.read(first, 1e6)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      expect(ear.damages).toMatchObject([{ fromIndex: first, file: second, offset: at }])
      await expect(log.read(first, 1)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      expect(ear.damages).toHaveLength(1)
      // What is before and behind can be read.
      expect(Buffer.concat(batches).includes(await log.read(first - 3, 1e6))).toBe(true)
      const more = appendTo(log)
      expect(await repairAll(log, peer)).toBe(1)
      await ear.hearsDurable(more.lastIndex)
      expect(await everyBatch(log)).toEqual([...batches, more.bytes])
      await log.close()
      expect(await everyBatch((await open(disk)).log)).toEqual([...batches, more.bytes])
    }
  })

  test('in the segment that is being written is repaired in place (T9)', async () => {
    for (const bit of [8 * 4, 8 * 70]) {
      const { disk, peer, batches } = await written()
      const { log, ear } = await open(disk, { windowBytes: 0 })
      const path = segmentsOf(disk).at(-1) ?? ''
      const at = disk.content(path).indexOf(batches[67] ?? '')
      disk.flipBit(path, 8 * at + bit)
      const index = batches[67]?.readUInt32LE(16) ?? 0
      await expect(log.batchWith(index)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      expect(ear.damages).toHaveLength(1)
      const more = await appendDurably(log, ear, 5)
      await repairAll(log, peer, 1)
      await log.close()
      const all = [...batches, ...more.map(({ bytes }) => bytes)]
      expect(await everyBatch((await open(disk)).log)).toEqual(all)
    }
  })

  test('of marks alone is mended without anybody (S27)', async () => {
    const { disk, batches } = await written()
    const { log, ear } = await open(disk, { windowBytes: 0 })
    const [first = ''] = segmentsOf(disk)
    const content = disk.content(first)
    const marks = [content.indexOf('LMQS', 100), content.indexOf('LMQE', 600), content.indexOf('LMQS', 900)]
    for (const mark of marks) disk.flipBit(first, 8 * (mark + 9))
    expect(await log.read(1, 1e6)).toEqual(Buffer.concat(batches))
    await log.close()
    expect(ear.damages).toEqual([])
    for (const mark of marks) expect(disk.content(first).toString('latin1', mark, mark + 4)).toBe('LMQS')
    expect((await open(disk)).report.mendedMarks).toBe(0)
  })

  test('everywhere and of any kind, on the same running journal (T9; seeds)', async () => {
    for (let seed = 0; seed < 25; seed++) {
      const random = new SeededRandom(seed)
      const { disk, peer, batches } = await written()
      const { log } = await open(disk, { windowBytes: 0, openFiles: 1 })
      for (let round = 0; round < 3; round++) {
        const path = segmentsOf(disk)[random.between(0, segmentsOf(disk).length - 2)] ?? ''
        const content = disk.content(path)
        const end = content.lastIndexOf('LMQE') + 32
        const from = random.between(0, end - 1)
        for (let at = from; at < Math.min(end, from + random.between(1, 900)); at++)
          disk.flipBit(path, 8 * at + 3)
        for (let next = 1, tries = 0; next <= log.lastIndex; tries++) {
          if (tries > 500)
            throw new Error(
              `seed ${seed}: no end at ${next} of ${log.lastIndex}, ${JSON.stringify(log.damage)}`,
            )
          const read = await log.read(next, 2000).catch((error) => {
            expect(error).toMatchObject({ code: 'STORE_CORRUPT' })
          })
          if (read === undefined) await repairAll(log, peer, random.fraction() < 0.5 ? 1 : 1e6)
          else next += countOf(read)
        }
        expect(await everyBatch(log), `seed ${seed}`).toEqual(batches)
      }
      await log.close()
      expect(await everyBatch((await open(disk)).log), `seed ${seed}`).toEqual(batches)
    }
  })
})

function fail(error: unknown): void {
  throw error
}

function epochStartsOf(batches: readonly Buffer[], upTo: number): { epoch: number; index: number }[] {
  const starts: { epoch: number; index: number }[] = []
  for (const batch of batches) {
    const start = { epoch: batch.readUInt32LE(8), index: batch.readUInt32LE(16) }
    if (start.index <= upTo && start.epoch !== starts.at(-1)?.epoch) starts.push(start)
  }
  return starts
}

/** A disk with a sector of one file that cannot be read until it is written. */
class ScratchedDisk extends VirtualDisk {
  scratch: { readonly path: string; readonly offset: number } | undefined

  override async open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile> {
    const file = await super.open(path, mode)
    const hits = (from: number, length: number): boolean =>
      this.scratch?.path === path && from < this.scratch.offset + 512 && from + length > this.scratch.offset
    return {
      read: async (into, at, length, position) => {
        if (hits(position, length)) throw Object.assign(new Error('EIO'), { code: 'EIO' })
        return await file.read(into, at, length, position)
      },
      write: async (chunks, position) => {
        if (hits(position, Buffer.concat(chunks).length)) this.scratch = undefined
        await file.write(chunks, position)
      },
      allocate: (bytes) => file.allocate(bytes),
      sync: () => file.sync(),
      size: () => file.size(),
      close: () => file.close(),
    }
  }
}

function countOf(bytes: Buffer): number {
  let count = 0
  for (let at = 0; at < bytes.length; at += 64 + bytes.readUInt32LE(at + 28))
    count += bytes.readUInt32LE(at + 24)
  return count
}

describe('unreadable sectors', () => {
  for (const found of ['at open', 'by a reader', 'by the scrubber']) {
    test(`found ${found}: repaired like other damage (S27, S32, T9)`, async () => {
      const { disk: plain, peer, batches } = await written()
      const disk = new ScratchedDisk(new SeededRandom(1))
      for (const path of plain.paths()) disk.place(path, plain.content(path))
      const [, second = ''] = segmentsOf(disk)
      if (found === 'at open') disk.scratch = { path: second, offset: 1024 }
      const { log, ear, damage } = await open(disk, { tolerate: true, windowBytes: 0 })
      disk.scratch ??= { path: second, offset: 1024 }
      if (found === 'by a reader')
        await expect(everyBatch(log)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      if (found === 'by the scrubber') {
        const clock = new VirtualClock()
        const parts = { bytesPerSecond: 1e6, pieceBytes: 700, restMs: 1000, troubled: fail }
        const scrubber = new Scrubber({ journal: log, clock, ...parts })
        scrubber.start()
        while (scrubber.lastPassMs === undefined) await clock.run(100)
        await scrubber.stop()
      }
      expect([damage, ...ear.damages].find((each) => each !== undefined)?.file).toBe(second)
      await repairAll(log, peer)
      expect(disk.scratch).toBeUndefined()
      await log.close()
      expect(await everyBatch((await open(disk)).log)).toEqual(batches)
    })
  }
})

describe('scrubber (S32)', () => {
  test('reads everything at its rate, piece by piece, and tells when a pass ended', async () => {
    const { disk, batches } = await written()
    const { log, ear } = await open(disk, { verifiedTo: 60, epochStarts: epochStartsOf(batches, 60) })
    const clock = new VirtualClock()
    const passed = vi.fn()
    const scrubber = new Scrubber({
      journal: log,
      clock,
      bytesPerSecond: 1000,
      pieceBytes: 512,
      restMs: 60_000,
      passed,
      troubled: fail,
    })
    scrubber.start()
    await clock.run(5_000)
    expect(passed).not.toHaveBeenCalled()
    expect(scrubber.lastPassMs).toBeUndefined()
    while (passed.mock.calls.length === 0) await clock.run(1_000)
    const seconds = clock.monotonicMs() / 1000
    const bytes = log.segments().reduce((sum, segment) => sum + segment.bytes, 0)
    expect(seconds).toBeGreaterThan((bytes * 0.8) / 1000)
    expect(seconds).toBeLessThan((bytes * 1.3) / 1000)
    expect(scrubber.lastPassMs).toBeLessThanOrEqual(clock.wallMs())
    await clock.run(60_000 + seconds * 1100)
    expect(passed).toHaveBeenCalledTimes(2)
    await scrubber.stop()
    expect(clock.pendingTimers).toBe(0)
    expect(ear.damages).toEqual([])
    await log.close()
  })

  test('finds damage anywhere, also where nobody reads, and it is repaired (T9)', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const random = new SeededRandom(seed)
      const { disk, peer, batches } = await written()
      const { log, ear } = await open(disk, { windowBytes: 1e6 })
      const paths = segmentsOf(disk)
      const path = paths[random.between(0, paths.length - 1)] ?? ''
      const starts = [...disk.content(path).toString('latin1').matchAll(/LMQB/g)].map(({ index }) => index)
      const at = (starts[random.between(0, starts.length - 1)] ?? 0) + random.between(0, 80)
      disk.flipBit(path, 8 * at)
      const clock = new VirtualClock()
      const parts = { bytesPerSecond: 1e6, pieceBytes: 700, restMs: 1000, troubled: fail }
      const scrubber = new Scrubber({ journal: log, clock, ...parts })
      scrubber.start()
      while (scrubber.lastPassMs === undefined) await clock.run(100)
      expect(ear.damages.length, `seed ${seed}`).toBe(1)
      await repairAll(log, peer)
      await clock.run(3000)
      expect(ear.damages.length).toBe(1)
      await scrubber.stop()
      await log.close()
      const again = await open(disk, { windowBytes: 0 })
      expect(await everyBatch(again.log)).toEqual(batches)
    }
  })

  test('goes on while the log is appended to, truncated and freed', async () => {
    const { disk } = await written()
    const { log, ear } = await open(disk)
    const clock = new VirtualClock()
    const parts = { bytesPerSecond: 1e6, pieceBytes: 300, restMs: 10, troubled: fail }
    const scrubber = new Scrubber({ journal: log, clock, ...parts })
    scrubber.start()
    for (let round = 0; round < 60; round++) {
      const kept = log.lastIndex
      await appendDurably(log, ear, 3, 400)
      if (round % 7 === 3) log.truncate(kept)
      if (round % 11 === 5) await log.discardBelow(log.durableIndex - 10, log.durableIndex)
      await clock.run(7)
      await settle()
    }
    expect(ear.damages).toEqual([])
    expect(scrubber.lastPassMs).toBeDefined()
    await scrubber.stop()
    expect(disk.paths()).toContain(`${directory}/start`)
  })

  test('a file that cannot be opened is told, and tried again', async () => {
    const { disk } = await written()
    const { log } = await open(disk)
    const clock = new VirtualClock()
    const troubled = vi.fn()
    const scrubber = new Scrubber({ journal: log, clock, bytesPerSecond: 1e6, restMs: 1000, troubled })
    disk.failNext({ operation: 'open', path: '.log', code: 'EIO' })
    scrubber.start()
    await clock.run(100)
    expect(troubled).toHaveBeenCalledWith(expect.objectContaining({ code: 'STORE_DISK_FAILED' }))
    await clock.run(3000)
    expect(scrubber.lastPassMs).toBeDefined()
    await scrubber.stop()
  })
})

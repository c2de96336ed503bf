import { SeededRandom, VirtualClock, VirtualDisk } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import type { Disk, DiskFile } from '../../../src/io/disk.ts'
import { appendDurably, appendTo, directory, everyBatch, newDisk, open, settle } from './journal-rig.ts'

/** A disk with room for so many bytes, which files take as they grow; as one process has it. */
class SmallDisk implements Disk {
  readonly disk: VirtualDisk
  room: number
  #ended = false

  constructor(disk: VirtualDisk, room: number) {
    this.disk = disk
    this.room = room
  }

  /** What the process still has under way does not go on. */
  end(): void {
    this.#ended = true
  }

  get #left(): number {
    const used = this.disk.paths().reduce((sum, path) => sum + this.disk.content(path).length, 0)
    return Math.max(0, this.room - used)
  }

  async open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile> {
    if (mode === 'create' && this.#left === 0) throw noSpace()
    const file = await this.#alive(() => this.disk.open(path, mode))
    const size = () => this.#alive(() => file.size())
    return {
      read: (into, at, length, position) => this.#alive(() => file.read(into, at, length, position)),
      size,
      sync: () => this.#alive(() => file.sync()),
      close: () => this.#alive(() => file.close()),
      write: async (chunks, position) => {
        const end = position + chunks.reduce((sum, chunk) => sum + chunk.length, 0)
        if (end - (await size()) > this.#left) throw noSpace()
        await this.#alive(() => file.write(chunks, position))
      },
      allocate: async (bytes) => {
        const there = await size()
        // As much of it as there is room for.
        const possible = Math.min(bytes, there + this.#left)
        await this.#alive(() => file.allocate(possible))
        if (possible < bytes) throw noSpace()
      },
    }
  }

  list(path: string): Promise<string[]> {
    return this.#alive(() => this.disk.list(path))
  }
  makeDirectory(): Promise<void> {
    return this.#alive(() => this.disk.makeDirectory())
  }
  removeDirectory(path: string): Promise<void> {
    return this.#alive(() => this.disk.removeDirectory(path))
  }
  readWhole(path: string, maxBytes: number): Promise<Buffer | undefined> {
    return this.#alive(() => this.disk.readWhole(path, maxBytes))
  }
  rename(from: string, to: string): Promise<void> {
    return this.#alive(() => this.disk.rename(from, to))
  }
  remove(path: string): Promise<void> {
    return this.#alive(() => this.disk.remove(path))
  }
  syncDirectory(path: string): Promise<void> {
    return this.#alive(() => this.disk.syncDirectory(path))
  }

  #alive<T>(operation: () => Promise<T>): Promise<T> {
    return this.#ended ? new Promise(() => undefined) : operation()
  }
}

function noSpace(): Error {
  return Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
}

const reserve = 65536
const segmentBytes = 4096

/** A journal on a disk with room for so many segments besides the reserve. */
async function opened(segments: number) {
  const disk = new SmallDisk(newDisk(), reserve + segments * segmentBytes)
  const clock = new VirtualClock()
  return { disk, clock, ...(await open(disk, { clock, windowBytes: 0 })) }
}

/** Appends until nothing becomes durable any more; returns what was appended. */
async function fill(log: Awaited<ReturnType<typeof opened>>['log']): Promise<Buffer[]> {
  const batches: Buffer[] = []
  for (let turn = 0; turn < 200; turn++) {
    batches.push(appendTo(log, { bytes: 300 }).bytes)
    await settle()
    if (log.durableIndex < log.lastIndex) return batches
  }
  throw new Error('the disk is not full')
}

describe('journal: space (S30)', () => {
  test('is kept for one segment more, and told when that cannot be made any more (T11)', async () => {
    const { disk, clock, log, ear } = await opened(3)
    expect(disk.disk.paths()).toContain(`${directory}/spare`)
    expect([log.space, ear.spaces]).toEqual(['enough', []])
    // The second segment takes the spare, the third the last room there is.
    await appendDurably(log, ear, 20, 300)
    expect([log.space, ear.spaces]).toEqual(['low', ['low']])
    disk.room += segmentBytes
    await clock.run(1000)
    expect([log.space, ear.spaces]).toEqual(['enough', ['low', 'enough']])
    expect(ear.failures).toEqual([])
    await log.close()
    expect(clock.pendingTimers).toBe(0)
  })

  test('used up: appends wait, nothing fails, and they go on by themselves when there is space (T11)', async () => {
    const { disk, clock, log, ear } = await opened(3)
    const batches = await fill(log)
    batches.push(appendTo(log).bytes, appendTo(log, { bytes: 9000 }).bytes)
    const durable = log.durableIndex
    await clock.run(60_000)
    expect([log.durableIndex, ear.failures, log.space]).toEqual([durable, [], 'low'])
    expect(log.pendingBytes).toBe(Buffer.concat(batches.slice(durable)).length)
    // Half of a segment that could not be made would keep room from others.
    expect(disk.disk.paths().filter((path) => path.endsWith('.new'))).toEqual([])
    expect(await everyBatch(log)).toEqual(batches)
    disk.room += 10 * segmentBytes
    await clock.run(1000)
    await ear.hearsDurable(log.lastIndex)
    await clock.run(1000)
    expect(log.space).toBe('enough')
    await log.close()
    disk.disk.crash()
    expect(await everyBatch((await open(disk)).log)).toEqual(batches)
  })

  test('what frees space needs none: segments go while appends wait for them (S34, T11)', async () => {
    const { disk, log, ear } = await opened(4)
    const batches = await fill(log)
    const kept = log.durableIndex
    // Not a byte is left for a new file.
    disk.room = disk.disk.paths().reduce((sum, path) => sum + disk.disk.content(path).length, 0)
    await log.discardBelow(kept, kept)
    await ear.hearsDurable(log.lastIndex)
    expect(log.firstIndex).toBeGreaterThan(1)
    expect(await everyBatch(log)).toEqual(batches.slice(log.firstIndex - 1))
  })

  test('a truncation while appends wait is carried out, and what it drops is not written (T11)', async () => {
    const { disk, clock, log, ear } = await opened(3)
    const batches = await fill(log)
    const durable = log.durableIndex
    appendTo(log)
    log.truncate(durable - 2)
    await clock.run(2000)
    const next = appendTo(log, { epoch: 2, bytes: 10 })
    await ear.hearsDurable(next.lastIndex)
    expect(ear.failures).toEqual([])
    await log.close()
    const again = await open(disk)
    expect(await everyBatch(again.log)).toEqual([...batches.slice(0, durable - 2), next.bytes])
  })

  test('a close gives up what waits; nobody was told that it is durable', async () => {
    const { disk, clock, log, ear } = await opened(3)
    const batches = await fill(log)
    const durable = log.durableIndex
    await log.close()
    expect(ear.failures).toEqual([])
    expect(clock.pendingTimers).toBe(0)
    const again = await open(disk)
    expect(await everyBatch(again.log)).toEqual(batches.slice(0, durable))
    expect(again.report.clean).toBe(true)
  })

  test('a write that runs out of space is rolled back to the record before, and done again (T11)', async () => {
    const { disk, clock, log, ear } = await opened(20)
    const batches = await appendDurably(log, ear, 3)
    disk.disk.failNext({ operation: 'write', path: '.log', code: 'ENOSPC' })
    batches.push(appendTo(log), appendTo(log))
    await settle()
    expect([log.durableIndex, log.space, ear.failures]).toEqual([3, 'low', []])
    disk.disk.exit()
    const crashed = await open(disk)
    expect(crashed.report).toMatchObject({ tornBytes: 0, records: 3 })
    disk.disk.exit()
    expect(clock.pendingTimers).toBeGreaterThan(0)
  })

  test('and goes on where it was', async () => {
    const { disk, clock, log, ear } = await opened(20)
    const batches = await appendDurably(log, ear, 3)
    disk.disk.failNext({ operation: 'write', path: '.log', code: 'ENOSPC' })
    batches.push(appendTo(log), appendTo(log))
    await clock.run(1000)
    await ear.hearsDurable(5)
    await clock.run(1000)
    expect(log.space).toBe('enough')
    await log.close()
    expect(await everyBatch((await open(disk)).log)).toEqual(batches.map(({ bytes }) => bytes))
  })

  test('a roll-back that fails, and a sync that fails for whatever reason, are failures (S29)', async () => {
    const first = await opened(20)
    first.disk.disk.failNext({ operation: 'write', path: '.log', code: 'ENOSPC' })
    first.disk.disk.failNext({ operation: 'write', path: '.log', code: 'ENOSPC' })
    appendTo(first.log)
    await first.ear.hearsFailure()
    const second = await opened(20)
    second.disk.disk.failNext({ operation: 'sync', path: '.log', code: 'ENOSPC' })
    appendTo(second.log)
    await second.ear.hearsFailure()
    const third = await opened(20)
    third.disk.disk.failNext({ operation: 'allocate', code: 'EIO' })
    for (let made = 0; made < 30; made++) appendTo(third.log, { bytes: 300 })
    await third.ear.hearsFailure()
    for (const { ear } of [first, second, third]) {
      expect(ear.durableIndices.at(-1) ?? 0).toBeLessThan(30)
      expect(ear.failures).toMatchObject([{ code: 'STORE_DISK_FAILED' }])
    }
  })

  test('comes and goes, with crashes: nothing durable is lost, nothing fails (T11, T17; seeds)', async () => {
    for (let seed = 0; seed < 12; seed++) {
      const random = new SeededRandom(seed)
      let disk = new SmallDisk(new VirtualDisk(random), reserve + 3 * segmentBytes)
      let { room } = disk
      let model: Buffer[] = []
      for (let life = 0; life < 4; life++) {
        const clock = new VirtualClock()
        const { log, ear } = await open(disk, { clock })
        model = model
          .filter((batch) => batch.readUInt32LE(16) >= log.firstIndex)
          .slice(0, log.lastIndex - log.firstIndex + 1)
        expect(await everyBatch(log), `seed ${seed}`).toEqual(model)
        for (let turn = 0; turn < 40; turn++) {
          const size = random.fraction() < 0.1 ? 5000 : random.between(10, 500)
          model.push(appendTo(log, { bytes: size }).bytes)
          await settle()
          disk.room += random.fraction() < 0.2 ? random.between(-2, 3) * 3000 : 0
          room = disk.room
          if (random.fraction() < 0.1 && log.durableIndex > log.start.replayTo)
            log.discardBelow(log.durableIndex, log.durableIndex).catch(() => undefined)
          if (random.fraction() < 0.3) await clock.run(1000)
        }
        expect(ear.failures, `seed ${seed}`).toEqual([])
        const durable = log.durableIndex
        disk.end()
        if (random.fraction() < 0.5) disk.disk.crash()
        else disk.disk.exit()
        disk = new SmallDisk(disk.disk, room + 5 * segmentBytes)
        const after = await open(disk)
        disk.end()
        expect(after.log.lastIndex, `seed ${seed}`).toBeGreaterThanOrEqual(durable)
        disk.disk.exit()
        disk = new SmallDisk(disk.disk, disk.room)
      }
    }
  })
})

import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NodeDisk } from '../../../src/io/node/disk.ts'
import { appendDurably, appendTo, everyBatch, open } from './journal-rig.ts'

describe('node disk', () => {
  let root = ''
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'levelmq-journal-'))
  })
  afterEach(async () => {
    await rm(root, { recursive: true })
  })

  test('keeps a journal across segments, a truncation and a restart', async () => {
    const disk = new NodeDisk()
    const options = { directory: join(root, 'a', 'journal'), segmentBytes: 64 * 1024, windowBytes: 0 }
    const { log, ear } = await open(disk, options)
    const batches = [...(await appendDurably(log, ear, 5, 10_000))]
    for (let made = 0; made < 200; made++) batches.push(appendTo(log, { bytes: 1000 }))
    await ear.hearsDurable(205)
    log.truncate(150)
    batches.length = 150
    batches.push(appendTo(log, { bytes: 100_000, epoch: 2 }))
    await log.close()
    const again = await open(disk, options)
    expect(again.report.clean).toBe(true)
    expect(await everyBatch(again.log)).toEqual(batches.map((batch) => batch.bytes))
    await again.log.close()
    const names = await readdir(options.directory)
    expect(
      names.filter((name) => !/^\d{20}\.log$/.test(name) && !['spare', 'reserve'].includes(name)),
    ).toEqual([])
    expect((await stat(join(options.directory, '00000000000000000001.log'))).size).toBe(64 * 1024)
  })

  test('reads up to the end of a file, writes many chunks, and says what fails', async () => {
    const disk = new NodeDisk()
    const path = join(root, 'file')
    await expect(disk.open(path, 'write')).rejects.toMatchObject({ code: 'ENOENT' })
    const file = await disk.open(path, 'create')
    await expect(disk.open(path, 'create')).rejects.toMatchObject({ code: 'EEXIST' })
    const chunks = Array.from({ length: 3000 }, (_, place) => Buffer.alloc(100, place))
    await file.write([Buffer.alloc(0), ...chunks], 7)
    await file.sync()
    const into = Buffer.alloc(300_100)
    expect(await file.read(into, 3, 300_090, 7)).toBe(300_000)
    expect(into.subarray(3, 300_003).equals(Buffer.concat(chunks))).toBe(true)
    await file.allocate(1_500_000)
    expect(await file.size()).toBe(1_500_000)
    await file.close()
    await expect(disk.readWhole(path, 1000)).rejects.toThrow(RangeError)
    expect(await disk.readWhole(join(root, 'none'), 1000)).toBeUndefined()
    expect(await disk.list(join(root, 'none'))).toEqual([])
    await disk.rename(path, join(root, 'other'))
    await disk.syncDirectory(root)
    expect(await disk.list(root)).toEqual(['other'])
    await disk.remove(join(root, 'other'))
    expect(await disk.list(root)).toEqual([])
  })
})

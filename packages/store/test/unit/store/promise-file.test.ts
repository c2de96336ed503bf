import { crc32 } from 'node:zlib'
import { SeededRandom, VirtualDisk } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import { type EpochPromise, PromiseFile } from '../../../src/consensus/promise-file.ts'

const path = 'store/promise'
const [first, second, third] = [
  { epoch: 3, votedFor: 'node-a' },
  { epoch: 4, votedFor: undefined },
  { epoch: 7, votedFor: 'node-ü' },
] as const

describe('promise file', () => {
  test('new: epoch 0, for nobody', async () => {
    expect(await read(new VirtualDisk(new SeededRandom(1)))).toEqual({ epoch: 0, votedFor: undefined })
  })

  test('S2: each promise is read back, the latest one wins', async () => {
    const disk = new VirtualDisk(new SeededRandom(1))
    for (const promise of [first, second, third, { epoch: 2 ** 52, votedFor: undefined }]) {
      const { file } = await PromiseFile.open(disk, 'store', false)
      await file.write(promise)
      await file.close()
      expect(await read(disk)).toEqual(promise)
    }
  })

  test('S24: what is owed is read back with the promise, until it is paid', async () => {
    const disk = new VirtualDisk(new SeededRandom(1))
    const owed = { epoch: 2, index: 2 ** 52 }
    const { file } = await PromiseFile.open(disk, 'store', false)
    await file.write({ ...third, owed })
    await file.close()
    expect(await read(disk)).toEqual({ ...third, owed })
    const again = await PromiseFile.open(disk, 'store', true)
    await again.file.write(third)
    await again.file.close()
    expect((await read(disk)).owed).toBeUndefined()
  })

  test('S36: a file of the first format is read, one of a later format is not', async () => {
    for (const [format, readable] of [
      [0, true],
      [2, false],
    ] as const) {
      const disk = await written()
      const content = Buffer.from(disk.content(path))
      for (const at of [0, 512]) {
        content.writeUInt32LE(format, at + 4)
        content.writeUInt32LE(crc32(content.subarray(at, at + 508)), at + 508)
      }
      disk.place(path, content)
      if (readable) expect(await read(disk, true)).toEqual(second)
      else await expect(read(disk, true)).rejects.toThrow('another version')
    }
  })

  test('S2: a promise that was reported survives the loss of power', async () => {
    for (let seed = 0; seed < 50; seed++) {
      const disk = new VirtualDisk(new SeededRandom(seed))
      const { file } = await PromiseFile.open(disk, 'store', false)
      for (const promise of [first, second, third]) await file.write(promise)
      disk.crash()
      expect(await read(disk, true)).toEqual(third)
    }
  })

  test('S2: power lost at any step of a write leaves the promise before or the new one, whole', async () => {
    const seen = new Set<number>()
    for (let seed = 0; seed < 40; seed++) {
      for (let steps = 1; steps <= 4; steps++) {
        const disk = new VirtualDisk(new SeededRandom(1000 * steps + seed))
        const { file } = await PromiseFile.open(disk, 'store', false)
        await file.write(first)
        await file.write(second)
        const stopped = disk.stopAfter(steps)
        void file.write(third)
        await stopped
        disk.crash()
        const found = await read(disk, true)
        expect([second, third]).toContainEqual(found)
        if (steps >= 2) expect(found).toEqual(third)
        seen.add(found.epoch)
      }
    }
    expect(seen.size).toBe(2)
  })

  test('S2: power lost at any step of its making leaves a file that can be opened', async () => {
    for (let seed = 0; seed < 20; seed++) {
      for (let steps = 1; steps <= 4; steps++) {
        const disk = new VirtualDisk(new SeededRandom(1000 * steps + seed))
        const stopped = disk.stopAfter(steps)
        void PromiseFile.open(disk, 'store', false)
        await stopped
        disk.crash()
        expect((await read(disk)).epoch).toBe(0)
      }
    }
  })

  test('S2: what a killed process wrote without its sync is durable before anyone may rest on it', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const disk = new VirtualDisk(new SeededRandom(seed))
      const { file } = await PromiseFile.open(disk, 'store', false)
      await file.write(first)
      const stopped = disk.stopAfter(1)
      void file.write(second)
      await stopped
      disk.exit()
      const found = await read(disk, true)
      disk.crash()
      expect(await read(disk, true)).toEqual(found)
    }
  })

  test('damage: one bad copy costs nothing', async () => {
    for (const bit of [0, 100, 8 * 511, 8 * 512, 8 * 600, 8 * 1023]) {
      const disk = await written()
      disk.flipBit(path, bit)
      expect(await read(disk, true)).toEqual(second)
    }
  })

  test.each<[string, (disk: VirtualDisk) => void]>([
    [
      'both copies damaged',
      (disk) => {
        disk.flipBit(path, 80)
        disk.flipBit(path, 8 * 512 + 80)
      },
    ],
    ['cut in the middle', (disk) => disk.place(path, disk.content(path).subarray(0, 512))],
    ['too long', (disk) => disk.place(path, Buffer.alloc(2000, 1))],
  ])('S2: %s is STORE_CORRUPT, never epoch 0', async (_name, damage) => {
    for (const founded of [false, true]) {
      const disk = await written()
      damage(disk)
      const before = disk.content(path)
      await expect(read(disk, founded)).rejects.toMatchObject({
        code: 'STORE_CORRUPT',
        detail: { file: path },
        message: expect.stringContaining(path),
      })
      expect(disk.content(path)).toEqual(before)
    }
  })

  test.each<[string, (disk: VirtualDisk) => void]>([
    ['missing', (disk) => disk.lose(path)],
    ['empty', (disk) => disk.place(path, Buffer.alloc(0))],
  ])('S2: %s in a store that belongs to a cluster is STORE_CORRUPT', async (_name, damage) => {
    const disk = await written()
    damage(disk)
    await expect(read(disk, true)).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
  })

  test.each(['write', 'sync'] as const)('S29: a failed %s is STORE_DISK_FAILED', async (operation) => {
    const disk = new VirtualDisk(new SeededRandom(1))
    const { file } = await PromiseFile.open(disk, 'store', false)
    disk.failNext({ operation, code: 'EIO' })
    await expect(file.write(first)).rejects.toMatchObject({
      code: 'STORE_DISK_FAILED',
      detail: { file: path, operation },
    })
  })
})

async function written(): Promise<VirtualDisk> {
  const disk = new VirtualDisk(new SeededRandom(1))
  const { file } = await PromiseFile.open(disk, 'store', false)
  await file.write(first)
  await file.write(second)
  await file.close()
  return disk
}

async function read(disk: VirtualDisk, founded = false): Promise<EpochPromise> {
  const { file, promise } = await PromiseFile.open(disk, 'store', founded)
  await file.close()
  return promise
}

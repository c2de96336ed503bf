import { SeededRandom, VirtualDisk } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import { parseCluster, readIdentity, type StoreIdentity, writeIdentity } from '../../../src/store-identity.ts'

const path = 'store/identity.json'
const blank: StoreIdentity = { storeUuid: 'uuid-1', nodeId: 'node-1', cluster: undefined, generation: 0 }
const formed: StoreIdentity = {
  ...blank,
  cluster: {
    uuid: 'cluster-1',
    voters: [{ nodeId: 'node-1', storeUuid: 'uuid-1' }],
    growing: false,
    level: 1,
  },
}

describe('store identity', () => {
  test('new: a directory without one is nobody yet', async () => {
    expect(await readIdentity(new VirtualDisk(new SeededRandom(1)), 'store')).toBeUndefined()
  })

  test.each([
    ['blank', blank],
    ['of a cluster', formed],
  ])('S23: a store, %s, is read back as who it is', async (_name, identity) => {
    const disk = new VirtualDisk(new SeededRandom(1))
    await writeIdentity(disk, 'store', identity)
    disk.crash()
    expect(await readIdentity(disk, 'store')).toEqual(identity)
  })

  test('S26: power lost at any step of a replacement leaves the old or the new one, and it can be repeated', async () => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 30; seed++) {
      for (let steps = 1; steps <= 5; steps++) {
        const disk = new VirtualDisk(new SeededRandom(1000 * steps + seed))
        await writeIdentity(disk, 'store', blank)
        const stopped = disk.stopAfter(steps)
        void writeIdentity(disk, 'store', formed)
        await stopped
        disk.crash()
        const found = await readIdentity(disk, 'store')
        expect([blank, formed]).toContainEqual(found)
        if (steps === 5) expect(found).toEqual(formed)
        seen.add(JSON.stringify(found))
        await writeIdentity(disk, 'store', formed)
        disk.crash()
        expect(await readIdentity(disk, 'store')).toEqual(formed)
      }
    }
    expect(seen.size).toBe(2)
  })

  test('S23: what a killed process left without its sync is durable once it was read', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const disk = new VirtualDisk(new SeededRandom(seed))
      await writeIdentity(disk, 'store', blank)
      // Made, written, synced and renamed, but the directory is not synced.
      const stopped = disk.stopAfter(4)
      void writeIdentity(disk, 'store', formed)
      await stopped
      disk.exit()
      const found = await readIdentity(disk, 'store')
      expect(found).toEqual(formed)
      disk.crash()
      expect(await readIdentity(disk, 'store')).toEqual(formed)
    }
  })

  test.each([
    ['empty', ''],
    ['no JSON', '{"format": 1, "storeUuid'],
    ['no object', '[]'],
    ['null', 'null'],
    ['of a newer format', JSON.stringify({ ...blank, format: 2, cluster: null })],
    ['without a store UUID', JSON.stringify({ format: 1, nodeId: 'a', cluster: null })],
    [
      'with a cluster without voters',
      JSON.stringify({ ...blank, format: 1, cluster: { uuid: 'c', voters: [] } }),
    ],
    ['with a cluster that is left out', JSON.stringify({ ...blank, format: 1 })],
    ['zeroes', '\0'.repeat(200)],
  ])('damage: %s is STORE_CORRUPT and names the file', async (_name, content) => {
    const disk = new VirtualDisk(new SeededRandom(1))
    disk.place(path, Buffer.from(content))
    await expect(readIdentity(disk, 'store')).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
      detail: { file: path },
      message: expect.stringContaining(path),
    })
  })

  test('cluster: what a peer says is read only if it is one', () => {
    expect(parseCluster(formed.cluster)).toEqual(formed.cluster)
    const voters = Array.from({ length: 10 }, (_, place) => ({ nodeId: `n${place}`, storeUuid: 's' }))
    for (const wrong of [
      undefined,
      null,
      'cluster',
      { uuid: 'c' },
      { uuid: '', voters: formed.cluster?.voters },
      { uuid: 'c', voters },
      { uuid: 'c', voters: [null] },
      { uuid: 'c', voters: [{ nodeId: 'a', storeUuid: 1 }] },
    ]) {
      expect(() => parseCluster(wrong)).toThrow(/expected/)
    }
  })
})

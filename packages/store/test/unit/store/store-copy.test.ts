import { SeededRandom, VirtualClock, VirtualDisk } from '@levelmq/testkit'
import { expect, test } from 'vitest'
import { StoreCopy } from '../../../src/copying/store-copy.ts'
import { wholeLog } from '../../../src/journal/start-file.ts'

test('S27, S33: the log of a blank member never takes the place of one that holds something', async () => {
  const asked: string[] = []
  let complete = false
  const copy = new StoreCopy({
    disk: new VirtualDisk(new SeededRandom(1)),
    directory: 'store',
    generation: 1,
    segmentBytes: 64 * 1024,
    clock: new VirtualClock(),
    ask: (nodeId) => asked.push(nodeId),
    covers: (_epoch, index) => index >= 10,
    complete: () => {
      complete = true
    },
    failed: (error) => {
      throw error
    },
    log: () => undefined,
  })
  const asks = async (nodeId: string) => {
    copy.from(nodeId)
    await expect.poll(() => asked.at(-1)).toBe(nodeId)
  }
  await asks('blank')
  copy.received('blank', { start: wholeLog, batches: Buffer.alloc(0) })
  await expect.poll(() => copy.underWay).toBe(false)
  expect(complete).toBe(false)
  // The next one is asked.
  await asks('other')
  await copy.close()
  expect(complete).toBe(false)
})

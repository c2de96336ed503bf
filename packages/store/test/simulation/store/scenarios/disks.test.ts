import { expect, test, vi } from 'vitest'
import type { SimulatedNode } from '../simulated-cluster.ts'
import { play, type Stage } from './stage.ts'

vi.setConfig({ testTimeout: 60_000 })

test('T10: a master whose sync fails once ends, and loses nothing that it has when it starts again', async () => {
  for (let seed = 1; seed <= 5; seed++)
    await play(
      async (stage) => {
        const master = await stage.master()
        const { process } = master
        master.diskFaults.failNext.push('sync')
        // That it neither confirms nor goes on is checked, and what it opens with is compared with what it had.
        await stage.until('its end', () => master.process !== process, 5000)
        await stage.until('its next life', () => master.opened)
        stage.stop(master, 'power lost')
        await stage.progress()
        await stage.start(master)
        await stage.until('it follows', () => master.store?.role === 'slave')
      },
      { seed },
    )
})

test('T17: crash, restart, append, crash, restart: nothing of either life is lost', async () => {
  for (const voters of [1, 3])
    for (let seed = 1; seed <= 4; seed++)
      await play(
        async (stage) => {
          for (let round = 0; round < 4; round++) {
            for (const node of stage.nodes) stage.stop(node, 'power lost')
            for (const node of stage.nodes) await stage.start(node)
            await stage.progress()
          }
        },
        { seed, scenario: { voters, elector: voters === 1 ? 'none' : 'raft', logSize: 2048 } },
      )
})

for (const [what, spoil] of [
  [
    'behind',
    (saved: SimulatedNode['saved']) => ({ batches: saved.batches.slice(0, saved.batches.length / 2) }),
  ],
  ['empty', () => ({ batches: [] })],
  ['damaged', () => ({ damaged: true })],
] as const)
  test(`T18: an index that is ${what} is rebuilt from the journal`, () =>
    play(async (stage) => {
      for (let round = 0; round < 3; round++)
        for (const node of stage.nodes) {
          stage.stop(node)
          Object.assign(node.saved, spoil(node.saved))
          await stage.start(node)
          await stage.progress()
        }
      // At the end the queues of every store are compared with a fold of the committed log.
    }))

test('T18: an index that is ahead of the journal shows that the journal was lost: it is had from the others', () =>
  play(async (stage) => {
    const master = await stage.master()
    const [slave] = stage.slaves()
    if (slave === undefined) throw new Error('no slave')
    stage.stop(slave)
    await stage.sleep(1000)
    Object.assign(slave.saved, { batches: master.saved.batches })
    Object.assign(slave, { damaged: true, rotten: true })
    stage.cluster.losses++
    const { storeUuid } = slave
    const end = stage.cluster.log.lastIndex
    stage.cluster.startIn(slave, 0)
    await stage.until('the store level again', () => (slave.store?.status().durableIndex ?? 0) >= end)
    expect(slave.storeUuid).toBe(storeUuid)
  }))

test('T28: stores with a damaged index and promise that start first remove nothing, and come back', () =>
  play(async (stage) => {
    await stage.sleep(1000)
    const [spoilt, ...others] = stage.slaves()
    if (spoilt === undefined) throw new Error('no slave')
    for (const node of stage.nodes) stage.stop(node)
    spoilt.saved.damaged = true
    spoilt.disk.flipBit('/store/promise', 100)
    const before = segments(stage)
    await stage.start(spoilt)
    await stage.sleep(5000)
    expect(segments(stage)).toEqual(before)
    for (const node of others) await stage.start(node)
    await stage.progress()
    // A segment in use only ever grows at its end.
    for (const [at, paths] of segments(stage).entries())
      expect(paths.slice(0, before[at]?.length)).toEqual(before[at])
  }))

function segments(stage: Stage): string[][] {
  return stage.nodes.map((node) => [...stage.files(node, /\.log$/)])
}

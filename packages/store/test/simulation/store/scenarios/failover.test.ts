import { expect, test, vi } from 'vitest'
import { play } from './stage.ts'

vi.setConfig({ testTimeout: 60_000 })

test('T1: a master that was paused confirms nothing that its successor lacks, and follows it', () =>
  play(async (stage) => {
    const old = await stage.master()
    stage.pause(old)
    const next = await stage.master()
    expect(next).not.toBe(old)
    const before = stage.cluster.log.lastIndex
    await stage.until('1000 records by the successor', () => stage.cluster.log.lastIndex > before + 1000)
    stage.resume(old)
    // What it had confirmed is compared with the log at every confirm.
    await stage.until('its clients sent away', () => old.broker?.session === undefined, 1000)
    await stage.until(
      'it follows its successor',
      () => old.store?.role === 'slave' && old.store.status().masterNodeId === next.name,
      5000,
    )
    expect(stage.serving()).toBe(next)
  }))

test('T2: acknowledgements that a paused master reads late confirm only what its successor has', async () => {
  for (let seed = 1; seed <= 10; seed++)
    await play(
      async (stage) => {
        const old = await stage.master()
        // Just after it sent something: the answers come while it stands still.
        const { lastIndex } = stage.cluster.log
        await stage.until('something under way', () => (old.store?.status().position.index ?? 0) > lastIndex)
        stage.pause(old)
        await stage.master()
        await stage.progress()
        stage.resume(old)
        await stage.until('its mastership over', () => old.broker?.session === undefined, 1000)
      },
      { seed },
    )
})

test('T3: the longer tail of a master that was cut off yields to what the majority committed', () =>
  play(
    async (stage) => {
      const old = await stage.master()
      stage.isolate(old)
      const committed = stage.cluster.log.lastIndex
      await stage.until(
        'a long tail that nobody else has',
        () => (old.store?.status().position.index ?? 0) > committed + 150,
        1000,
      )
      const tail = old.store?.status().position
      await stage.until('another master', () => stage.serving() !== undefined && stage.serving() !== old)
      const next = await stage.master()
      await stage.until('something committed by it', () => stage.cluster.log.lastEpoch > (tail?.epoch ?? 0))
      stage.isolate(next)
      const third = stage.nodes.find((node) => node !== old && node !== next)
      expect(next.store?.status().position.index).toBeLessThan(tail?.index ?? 0)
      stage.stop(next, 'power lost')
      stage.mend()
      await stage.until('a master of the two that are left', () => {
        const master = stage.serving()
        return master !== undefined && master !== next
      })
      expect(stage.serving()).toBe(third)
      await stage.until('the tail gone', () => (old.store?.status().position.epoch ?? 0) > (tail?.epoch ?? 0))
    },
    {
      scenario: {
        electionTimeoutMs: 1000,
        logSize: 1024 * 1024,
        workload: {
          producers: 4,
          queues: ['one'],
          sendEveryMs: 5,
          burst: 5,
          largestBody: 500,
          consumeEveryMs: 1000,
          acknowledged: 0,
        },
      },
    },
  ))

test('T4: two failovers before anyone heard what is committed leave equal logs', async () => {
  for (let seed = 1; seed <= 10; seed++)
    await play(
      async (stage) => {
        for (let round = 0; round < 4; round++) {
          const master = await stage.master()
          stage.stop(master, round % 2 === 0 ? 'power lost' : 'killed')
          const next = await stage.master()
          stage.stop(next)
          await stage.start(master)
          await stage.start(next)
        }
      },
      { seed },
    )
})

test('T5: a record of an old epoch on a majority, by a master that dies before it commits one of its own', async () => {
  for (let seed = 1; seed <= 5; seed++)
    await play(
      async (stage) => {
        const first = await stage.master()
        const [second, ...others] = stage.slaves()
        if (second === undefined) throw new Error('no slave')
        // A tail of the first epoch that only two have.
        for (const other of others) {
          stage.cut(first, other)
          stage.cut(second, other)
        }
        const committed = stage.cluster.log.lastIndex
        await stage.until(
          'a record that two have',
          () => (second.store?.status().durableIndex ?? 0) > committed + 1,
        )
        stage.stop(first)
        stage.stop(second)
        stage.mend()
        // Somebody else leads, with other records in the same place, and ends.
        const third = await stage.master()
        stage.isolate(third)
        await stage.until(
          'a record that only the third has',
          () => (third.store?.status().position.index ?? 0) > committed + 1,
        )
        stage.stop(third)
        stage.mend()
        await stage.start(first)
        const again = await stage.master()
        stage.stop(again)
        await stage.start(third)
        await stage.start(second)
        await stage.progress()
      },
      { seed, scenario: { voters: 5 } },
    )
})

test('T15: what a consumer was confirmed to have acknowledged never comes back after a failover', async () => {
  for (let seed = 1; seed <= 5; seed++)
    await play(
      async (stage) => {
        const { removed } = stage.cluster.world
        for (let round = 0; round < 5; round++) {
          const master = await stage.master()
          const before = removed.size
          await stage.until('an acknowledgement confirmed', () => removed.size > before)
          // Deliveries are compared with what was confirmed to be removed.
          stage.stop(master, 'power lost')
          await stage.progress()
          await stage.start(master)
        }
      },
      { seed },
    )
})

import { expect, test, vi } from 'vitest'
import { fewClients, play } from './stage.ts'

vi.setConfig({ testTimeout: 60_000 })

test('T7: a store whose disk lied is told what it forgot, and elects nobody who lacks that too', async () => {
  for (let seed = 1; seed <= 5; seed++)
    await play(
      async (stage) => {
        const a = await stage.master()
        const [b, c] = stage.slaves()
        if (b === undefined || c === undefined) throw new Error('no slaves')
        stage.isolate(c)
        Object.assign(b, { forgetful: true })
        b.disk.lies = true
        const before = stage.cluster.log.confirmedIndex
        await stage.until('much confirmed', () => stage.cluster.log.confirmedIndex > before + 200)
        stage.stop(b, 'power lost')
        await stage.start(b)
        // As soon as the master has spoken to it, it ends.
        await stage.until('they are connected', () => b.store?.role === 'slave')
        await stage.sleep(seed * 3)
        stage.stop(a)
        stage.mend()
        // Whoever is master now has everything: that is checked at each promotion. Maybe nobody can be.
        await stage.sleep(10_000)
        await stage.start(a)
        await stage.progress()
      },
      // Without what says where a log begins: a disk that lies may lose that, too, and with it the store.
      { seed, scenario: { logSize: 1024 * 1024 } },
    )
})

test('T11: a master without space, then a majority without, goes on as soon as there is space again', () =>
  play(
    async (stage) => {
      const master = await stage.master()
      const { process } = master
      for (const full of [[master], stage.nodes.slice(0, 2)]) {
        for (const node of full) node.diskFaults.fullUntilMs = Number.MAX_SAFE_INTEGER
        await stage.until('somebody short of space', () =>
          full.some((node) => node.store?.status().storage?.space === 'low'),
        )
        await stage.sleep(10_000)
        for (const node of full) node.diskFaults.fullUntilMs = 0
        await stage.progress()
      }
      expect(master.process).toBe(process)
    },
    { scenario: { ...fewClients, logSize: 4096 } },
  ))

test('T16: a slave that was away for longer than the log reaches back copies the store, however often it dies meanwhile', async () => {
  for (let seed = 1; seed <= 5; seed++)
    await play(
      async (stage) => {
        await stage.master()
        const [away] = stage.slaves()
        if (away === undefined) throw new Error('no slave')
        stage.stop(away)
        const end = stage.cluster.log.lastIndex
        const begins = (): number => stage.serving()?.store?.status().storage?.firstIndex ?? 0
        await stage.until('the log begins later', () => begins() > end, 60_000)
        for (let life = 1; life <= 10; life++) {
          stage.cluster.startIn(away, 0)
          await stage.sleep(life * 15)
          stage.stop(away, life % 2 === 0 ? 'killed' : 'power lost')
        }
        await stage.start(away)
        await stage.until('it follows', () => away.store?.role === 'slave')
        await stage.progress()
        expect(stage.files(away, /journal\.\d+\/\d+\.log$/)).not.toEqual([])
      },
      { seed, scenario: { logSize: 4096 } },
    )
})

test('T9: a bit that rots on one store is found when its index is rebuilt, and repaired from another', () =>
  play(
    async (stage) => {
      const [spoilt, other] = stage.slaves()
      if (spoilt === undefined || other === undefined) throw new Error('no slaves')
      const segments = (): readonly string[] => stage.files(spoilt, /\.log$/)
      await stage.until('some segments', () => segments().length > 5)
      stage.stop(other)
      stage.stop(spoilt)
      spoilt.disk.flipBit(segments()[1] ?? '', 8 * 1000)
      spoilt.indexes.clear()
      stage.cluster.startIn(spoilt, 0)
      await stage.progress()
      await stage.start(other)
      // At the end its journal is compared with what was committed, byte for byte.
    },
    {
      scenario: {
        logSize: 4096,
        workload: {
          producers: 2,
          queues: ['one'],
          sendEveryMs: 10,
          burst: 2,
          largestBody: 500,
          consumeEveryMs: 1000,
          acknowledged: 0,
        },
      },
    },
  ))

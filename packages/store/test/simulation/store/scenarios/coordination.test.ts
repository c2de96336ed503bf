import { expect, test, vi } from 'vitest'
import { fewClients, play, type Stage } from './stage.ts'

vi.setConfig({ testTimeout: 60_000 })

const scenario = { elector: 'zookeeper', ...fewClients } as const

test('T19 (a): with ZooKeeper down for ten minutes the master goes on', () =>
  play(
    async (stage) => {
      const master = await stage.master()
      const epoch = master.broker?.session?.epoch
      stage.cluster.world.producing = false
      stage.cluster.zooKeeper.down()
      await stage.never('the master was unseated', 600_000, () => master.broker?.session?.epoch !== epoch)
      stage.cluster.world.producing = true
      await stage.progress()
      stage.cluster.startZooKeeper()
      await stage.never('the master was unseated', 10_000, () => master.broker?.session?.epoch !== epoch)
    },
    { scenario },
  ))

test('T19 (b): with all sessions expired at once there is one master, and clients go on', () =>
  play(
    async (stage) => {
      for (let round = 0; round < 5; round++) {
        for (const { session } of stage.nodes) session?.expire()
        await stage.progress()
        await stage.sleep(3000)
      }
    },
    { scenario },
  ))

test('T19 (c): with the data of ZooKeeper wiped no epoch goes back, and clients go on', () =>
  play(
    async (stage) => {
      const epochs = (): number => Math.max(...stage.nodes.map(({ store }) => store?.status().epoch ?? 0))
      for (let round = 0; round < 3; round++) {
        const before = epochs()
        await wipe(stage)
        stage.stop(await stage.master())
        await stage.progress()
        expect(epochs()).toBeGreaterThan(before)
        for (const node of stage.nodes) if (node.process === undefined) await stage.start(node)
      }
    },
    { scenario },
  ))

async function wipe(stage: Stage): Promise<void> {
  stage.cluster.zooKeeper.down()
  stage.cluster.zooKeeper.wipe()
  await stage.sleep(5000)
  stage.cluster.startZooKeeper()
  await stage.sleep(3000)
}

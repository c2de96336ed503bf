import { zkSessionTimeoutMs } from '../../system/cluster-fixture.ts'
import type { ZooKeeperEnsemble } from '../../system/zookeeper-ensemble.ts'
import type { World } from '../world.ts'
import type { Fault, Struck } from './fault.ts'

type Way = (world: World, ensemble: ZooKeeperEnsemble) => Promise<string>

const ways: Readonly<Record<string, Way>> = {
  'leader killed': async (_world, ensemble) => {
    const leader = await ensemble.leader()
    await ensemble.kill(leader)
    return `server ${leader}`
  },
  'majority killed': async (world, ensemble) => {
    const victims = world.shuffled(ensemble.numbers()).slice(0, 2)
    for (const i of victims) await ensemble.kill(i)
    await world.pass(world.between(500, 4 * zkSessionTimeoutMs))
    return `servers ${victims.join(' ')}`
  },
  'all paused': async (world, ensemble) => {
    for (const i of ensemble.numbers()) await ensemble.pause(i)
    await world.pass(world.between(500, 3 * zkSessionTimeoutMs))
    for (const i of ensemble.numbers()) await ensemble.resume(i)
    return 'all servers'
  },
  'data wiped': async (world, ensemble) => {
    for (const i of ensemble.numbers()) await ensemble.kill(i)
    ensemble.wipe()
    await world.pass(world.between(100, 2 * zkSessionTimeoutMs))
    return 'all servers'
  },
}

export const zooKeeperFaults: readonly Fault[] = [
  {
    id: 'N45',
    name: 'ZooKeeper',
    summary: 'its leader killed, its majority killed, all servers paused, all data wiped',
    kind: 'zookeeper',
    needs: ['zookeeper'],
    async strike(world): Promise<Struck> {
      const { ensemble } = world
      if (ensemble === undefined) throw new TypeError('no ZooKeeper')
      const name = world.oneOf(Object.keys(ways))
      const since = performance.now()
      const target = await ways[name]?.(world, ensemble)
      await ensemble.up()
      return { target: `${name}: ${target}`, outcome: await world.service(since) }
    },
  },
]

import { type Fault, list } from './fault.ts'

export const operationFaults: readonly Fault[] = [
  {
    id: 'N39',
    name: 'rolling restart',
    summary: 'every broker stopped and started in turn, the next once all are in sync',
    kind: 'operation',
    async strike(world) {
      const order = world.shuffled(world.cluster.numbers())
      for (const n of order) {
        await world.kill([n], 'SIGTERM')
        world.start([n])
        if ((await world.recovered(60_000)) === undefined) break
      }
      return { target: list(order), outcome: 'all restarted' }
    },
  },
]

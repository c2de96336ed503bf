import type { Volume } from '../hosts/volume.ts'
import type { World } from '../world.ts'
import { type Fault, list, type Struck } from './fault.ts'

/** Exit code of a broker whose store cannot go on. */
const storeFailed = 'exit code 74'
const failureMs = 20_000

export const diskFaults: readonly Fault[] = [
  {
    id: 'N25',
    name: 'power cut',
    summary: 'SIGKILL of one broker or all at once, and whatever their disks had not synced is lost',
    kind: 'disk',
    needs: ['volumes'],
    async strike(world) {
      const target = world.oneOf(['master', 'slave', 'majority', 'all', 'all'] as const)
      const victims = await world.members(target)
      await world.pass(world.between(0, 400))
      const since = performance.now()
      for (const n of victims) {
        if (world.isRunning(n)) world.pause(n)
        volumeOf(world, n).loseUnsynced()
      }
      await world.kill(victims)
      const survive = world.cluster.size - victims.length >= world.quorum
      const outcome = survive ? await world.service(since, victims) : 'no majority left'
      for (const n of victims) remount(volumeOf(world, n))
      await world.pass(world.between(0, 1_500))
      world.start(victims)
      return { target: `${target}: ${list(victims)}`, outcome }
    },
  },
  {
    id: 'N32',
    name: 'dead disk',
    summary: 'every access to the disk of a running broker fails: it has to end with exit code 74',
    kind: 'disk',
    needs: ['volumes'],
    strike: (world) =>
      failing(
        world,
        (volume) => volume.loseUnsynced(),
        (volume) => remount(volume),
      ),
  },
  {
    id: 'N33',
    name: 'full disk',
    summary: 'the disk of one broker filled up, and freed after a while: it has to go on',
    kind: 'disk',
    needs: ['volumes'],
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      const volume = volumeOf(world, victim)
      world.cluster.expectEnd(victim)
      volume.fill()
      const since = performance.now()
      const [ended, outcome] = await Promise.all([
        world.endOf(victim, world.between(2_000, failureMs)),
        world.service(since),
      ])
      if (ended !== undefined)
        world.violations.add('full disk: has to wait for space', `b${victim}: ${ended}`)
      volume.free()
      return { target: `b${victim}`, outcome: `${ended ?? 'goes on'}; ${outcome}` }
    },
  },
  {
    id: 'N34',
    name: 'slow disk',
    summary: 'the disk of one broker stands still for 20 to 2000 ms, again and again',
    kind: 'disk',
    needs: ['volumes'],
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
      const volume = volumeOf(world, victim)
      const stallMs = world.oneOf([20, 200, 2_000])
      const since = performance.now()
      // A majority of the disks is fast.
      const service = world.service(since)
      for (const end = since + world.between(3_000, 8_000); performance.now() < end; ) {
        volume.freeze()
        await world.pass(stallMs)
        volume.thaw()
        await world.pass(world.between(5, 100))
      }
      return { target: `b${victim}`, outcome: `${stallMs} ms at a time; ${await service}` }
    },
  },
  {
    id: 'N35',
    name: 'read-only disk',
    summary: 'the disk of a running broker turned read-only: it has to end with exit code 74',
    kind: 'disk',
    needs: ['volumes'],
    strike: (world) =>
      failing(
        world,
        (volume) => volume.turnReadOnly(),
        (volume) => {
          volume.unmount()
          volume.check()
          volume.mount()
        },
      ),
  },
]

/** Breaks the disk of a running broker, and expects it to end with the documented exit code. */
async function failing(
  world: World,
  breakIt: (volume: Volume) => void,
  mend: (volume: Volume) => void,
): Promise<Struck> {
  const [victim = 1] = await world.members(world.oneOf(['master', 'slave']))
  const volume = volumeOf(world, victim)
  world.cluster.expectEnd(victim)
  breakIt(volume)
  const since = performance.now()
  const [ended, outcome] = await Promise.all([world.endOf(victim, failureMs), world.service(since, [victim])])
  if (ended !== storeFailed && !world.overlapping)
    world.violations.add('failed disk: exit code is not 74', `b${victim}: ${ended ?? 'goes on'}`)
  await world.kill([victim])
  mend(volume)
  return { target: `b${victim}`, outcome: `${ended ?? 'goes on'}; ${outcome}` }
}

function remount(volume: Volume): void {
  volume.unmount()
  volume.mount()
}

function volumeOf(world: World, n: number): Volume {
  const volume = world.volumes.get(n)
  if (volume === undefined) throw new TypeError(`b${n} has no disk of its own`)
  return volume
}

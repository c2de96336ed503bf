import { damageJournal } from './damage.ts'
import type { Scenario } from './faults.ts'
import type { Dice } from './scheduler.ts'
import {
  type ClusterListener,
  directory,
  journalOf,
  type SimulatedCluster,
  type SimulatedNode,
} from './simulated-cluster.ts'
import type { SimulatedProcess } from './simulated-process.ts'
import type { SimulatedBroker } from './workload.ts'

/** Lets go wrong what a scenario draws, until the cluster is healed. */
export class RandomFaults implements ClusterListener {
  readonly #cluster: SimulatedCluster
  readonly #scenario: Scenario
  readonly #dice: Dice
  /** The one that all faults are aimed at, in runs of that kind. */
  #victim: SimulatedNode | undefined

  constructor(cluster: SimulatedCluster) {
    this.#cluster = cluster
    this.#scenario = cluster.scenario
    this.#dice = cluster.dice
  }

  begin(): void {
    const { faults } = this.#scenario
    const dice = this.#dice.fork()
    const down = (): number => dice.range(0, faults.downMs)
    const some = (): SimulatedNode => {
      if (this.#victim !== undefined) return this.#victim
      // Half of the faults are aimed at a master.
      const master = this.#cluster.nodes.find(({ broker }) => broker?.session !== undefined)
      return master !== undefined && dice.chance(0.5) ? master : dice.pick(this.#cluster.nodes)
    }
    const pair = (): [SimulatedNode, SimulatedNode] => {
      const one = some()
      return [one, dice.pick(this.#cluster.nodes.filter((node) => node !== one))]
    }
    const eitherWay = <T>(two: [T, T]): [T, T] => (this.#victim && dice.chance(0.5) ? [two[1], two[0]] : two)
    const linked = (rate: number): number => (this.#cluster.nodes.length > 1 ? rate : 0)
    const until = (): number => this.#cluster.scheduler.nowMs + dice.range(20, dice.pick([200, 1500, 6000]))

    this.#repeat(dice, 'powerLosses', faults.powerLosses, () =>
      this.#cluster.kill(some(), 'power lost', down()),
    )
    for (let left = faults.earlyDeaths; left > 0; left--)
      this.#cluster.scheduler.in(dice.range(0, 600), () =>
        this.#cluster.kill(
          dice.pick(this.#cluster.nodes),
          dice.pick(['power lost', 'killed']),
          dice.range(0, 100),
        ),
      )
    this.#repeat(dice, 'blackouts', faults.blackouts, () => {
      for (const node of this.#cluster.nodes) this.#cluster.kill(node, 'power lost', down())
    })
    this.#repeat(dice, 'kills', faults.kills, () => this.#cluster.kill(some(), 'killed', down()))
    this.#repeat(dice, 'killsWithin', faults.killsWithin, () => {
      const node = some()
      const { process } = node
      if (process === undefined || process.dieAfter >= 0) return
      process.died = () => this.#cluster.kill(node, dice.chance(0.5) ? 'killed' : 'power lost', down())
      process.dieAfter = dice.below(dice.pick([5, 50]))
    })
    this.#repeat(dice, 'restarts', faults.restarts, () => this.#cluster.restart(some()))
    this.#repeat(dice, 'pauses', faults.pauses, () =>
      this.#cluster.pause(some(), dice.range(5, faults.longestPauseMs)),
    )
    this.#repeat(dice, 'resets', linked(faults.resets), () => {
      const [one, other] = pair()
      this.#cluster.scheduler.note(`the links between ${one.name} and ${other.name} break`)
      this.#cluster.network.reset(one.name, other.name)
    })
    this.#repeat(dice, 'cuts', linked(faults.cuts), () => {
      const [one, other] = eitherWay(pair())
      const untilMs = until()
      this.#cluster.scheduler.note(`${one.name} cannot send to ${other.name} until ${untilMs.toFixed(0)}`)
      this.#cluster.network.block(one.name, other.name, untilMs)
      if (dice.chance(0.5)) this.#cluster.network.block(other.name, one.name, untilMs)
    })
    this.#repeat(dice, 'isolations', linked(faults.isolations), () => this.#part(dice, until()))
    this.#repeat(dice, 'slowLinks', linked(faults.slowLinks), () => {
      const [one, other] = eitherWay(pair())
      this.#cluster.network.slow(one.name, other.name, until())
    })
    this.#repeat(dice, 'slowDisks', faults.slowDisks, () => {
      const { diskFaults } = some()
      diskFaults.slowUntilMs = until()
      diskFaults.slowMs = dice.pick([50, 500, 2000])
    })
    this.#repeat(dice, 'diskErrors', faults.diskErrors, () => {
      const operation = dice.pick([
        'write',
        'write',
        'sync',
        'sync',
        'read',
        'open',
        'create',
        'allocate',
      ] as const)
      some().diskFaults.failNext.push(
        dice.chance(0.9) ? operation : dice.pick(['rename', 'remove', 'syncDirectory', 'close'] as const),
      )
    })
    this.#repeat(dice, 'fullDisks', faults.fullDisks, () => {
      some().diskFaults.fullUntilMs = until()
    })
    this.#repeat(dice, 'damage', faults.damage, () =>
      this.#damage(dice, this.#victim ?? dice.pick(this.#cluster.nodes)),
    )
    this.#repeat(dice, 'wipes', faults.wipes, () => {
      const node = some()
      if (!this.#mayLose(node)) return
      this.#cluster.kill(node, 'power lost', down())
      this.#cluster.replaceDisk(node)
    })
    this.#repeat(dice, 'lies', faults.lies, () => {
      const node = some()
      if (!this.#mayForget(node)) return
      this.#cluster.scheduler.note(`the disk of ${node.name} lies`)
      node.disk.lies = true
    })
    this.#repeat(dice, 'rollbacks', faults.rollbacks, () => {
      const node = some()
      if (!this.#mayForget(node)) return
      const copy = this.#cluster.copyStore(node)
      this.#cluster.scheduler.in(dice.range(50, 1000), () => {
        if (this.#cluster.faulty) this.#cluster.putBack(node, copy, down())
      })
    })
    this.#repeat(dice, 'damagedIndexes', faults.damagedIndexes, () => {
      some().saved.damaged = true
    })
    this.#repeat(dice, 'wallJumps', faults.wallJumps, () => {
      some().clock.wallOffsetMs += dice.range(-100_000, 100_000)
    })
    this.#repeat(dice, 'coups', linked(faults.coups), () => this.#coup(dice))
    this.#repeat(dice, 'wrongHints', faults.wrongHints, () => {
      const node = some()
      const stand = dice.chance(0.7)
      node.process?.enter(() => {
        if (stand) node.electorHost?.stand('session expiry')
        else node.electorHost?.stepDown('told to')
      })
    })
    if (this.#scenario.elector === 'zookeeper')
      this.#repeat(dice, 'zooKeeper', faults.zooKeeper, () => this.#disturbZooKeeper(dice, some()))
  }

  /** What was confirmed has to be on a majority of the disks now, not a moment later. */
  confirmed(broker: SimulatedBroker): void {
    const { faults } = this.#scenario
    if (!this.#cluster.faulty || !this.#dice.chance(faults.deathsAtConfirm)) return
    this.#cluster.count('deathsAtConfirm')
    const everyone = this.#dice.chance(0.5)
    this.#cluster.scheduler.in(0, () => {
      for (const node of this.#cluster.nodes)
        if (everyone || node.broker === broker)
          this.#cluster.kill(node, 'power lost', this.#dice.range(0, faults.downMs))
    })
  }

  #repeat(dice: Dice, kind: string, perSecond: number, fault: () => void): void {
    if (perSecond === 0) return
    this.#cluster.scheduler.in((-Math.log(1 - dice.fraction()) * 1000) / perSecond, () => {
      if (!this.#cluster.faulty) return
      this.#cluster.count(kind)
      fault()
      this.#repeat(dice, kind, perSecond, fault)
    })
  }

  #coup(dice: Dice): void {
    const old = this.#cluster.nodes.find(({ broker }) => broker?.session !== undefined)
    if (old === undefined) return
    const forMs = this.#scenario.electionTimeoutMs * dice.range(1, 4)
    this.#cluster.scheduler.note(`${old.name} is cut off for ${forMs.toFixed(0)}`)
    for (const other of this.#cluster.nodes) {
      if (other === old) continue
      // What it sends may still arrive for a while, unanswered.
      this.#cluster.network.block(other.name, old.name, this.#cluster.scheduler.nowMs + forMs)
      const deafMs = dice.chance(0.5) ? 0 : dice.range(0, 50)
      this.#cluster.scheduler.in(deafMs, () =>
        this.#cluster.network.block(old.name, other.name, this.#cluster.scheduler.nowMs + forMs - deafMs),
      )
    }
    if (dice.chance(0.4))
      this.#cluster.scheduler.in(dice.range(0, forMs), () => {
        if (this.#cluster.faulty)
          this.#cluster.kill(old, dice.pick(['power lost', 'killed']), dice.range(0, 100))
      })
    this.#cluster.scheduler.in(forMs + dice.range(-50, 50), () => {
      if (!this.#cluster.faulty) return
      for (const node of this.#cluster.nodes)
        if (node !== old && node.broker?.session !== undefined)
          this.#cluster.kill(
            node,
            dice.pick(['power lost', 'killed']),
            dice.range(0, this.#scenario.faults.downMs),
          )
    })
  }

  cutting(node: SimulatedNode, process: SimulatedProcess): void {
    const { deathsInCuts, downMs } = this.#scenario.faults
    if (!this.#cluster.faulty || process.dieAfter >= 0 || !this.#dice.chance(deathsInCuts)) return
    this.#cluster.count('deathsInCuts')
    process.died = () =>
      this.#cluster.kill(node, this.#dice.pick(['power lost', 'killed']), this.#dice.range(0, downMs))
    process.dieAfter = this.#dice.below(6)
  }

  promoted(node: SimulatedNode): void {
    const { deathsAtPromotion, downMs } = this.#scenario.faults
    if (!this.#cluster.faulty || !this.#dice.chance(deathsAtPromotion)) return
    const { process } = node
    this.#cluster.scheduler.in(this.#dice.range(0, 30), () => {
      if (!this.#cluster.faulty || node.process !== process) return
      this.#cluster.count('deathsAtPromotion')
      this.#cluster.kill(node, this.#dice.pick(['power lost', 'killed']), this.#dice.range(0, downMs))
    })
  }

  /** Two sides that do not see each other; at times one node sees both. */
  #part(dice: Dice, untilMs: number): void {
    const bridge =
      this.#cluster.nodes.length > 2 && dice.chance(0.3) ? dice.pick(this.#cluster.nodes) : undefined
    const side = new Set(this.#cluster.nodes.filter(() => dice.chance(0.5)))
    const names = (nodes: Iterable<SimulatedNode>): string => [...nodes].map(({ name }) => name).join(' ')
    this.#cluster.scheduler.note(
      `${names(side)} are parted from the others until ${untilMs.toFixed(0)}, bridge ${bridge?.name}`,
    )
    for (const one of this.#cluster.nodes) {
      for (const other of this.#cluster.nodes) {
        if (one === bridge || other === bridge || side.has(one) === side.has(other)) continue
        this.#cluster.network.block(one.name, other.name, untilMs)
      }
    }
  }

  /** Only those who are there remember what somebody has forgotten: nobody else may fail (S24). */
  #mayForget(node: SimulatedNode): boolean {
    if (node !== this.#victim) return false
    node.forgetful = true
    return true
  }

  /** A majority of the original stores stays whole (S23). */
  #mayLose(node: SimulatedNode): boolean {
    if (node.damaged) return true
    if (this.#cluster.losses >= Math.floor((this.#cluster.nodes.length - 1) / 2)) return false
    this.#cluster.losses++
    node.damaged = true
    return true
  }

  #damage(dice: Dice, node: SimulatedNode): void {
    const { disk, name } = node
    if (disk.paths().length === 0 || !this.#mayLose(node)) return
    node.rotten = true
    const promise = `${directory}/promise`
    if (dice.chance(0.2) && disk.paths().includes(promise)) {
      // It has two copies, of which one may go bad.
      const bit = dice.below(disk.content(promise).length * 8)
      this.#cluster.scheduler.note(`${name}: bit ${bit} of ${promise} flips`)
      disk.flipBit(promise, bit)
    } else this.#cluster.scheduler.note(`${name}: ${damageJournal(disk, `${journalOf(disk)}/`, dice)}`)
  }

  #disturbZooKeeper(dice: Dice, node: SimulatedNode): void {
    const kind = dice.pick(['cut', 'expire', 'expire', 'down', 'wipe'])
    this.#cluster.scheduler.note(`ZooKeeper: ${kind} ${node.name}`)
    const { session } = node
    if (kind === 'cut') {
      session?.cut()
      this.#cluster.scheduler.in(dice.range(0, 4000), () => {
        if (node.session === session && node.process?.paused !== true) session?.heal()
      })
    } else if (kind === 'expire') session?.expire()
    else if (this.#cluster.zooKeeper.up) {
      this.#cluster.zooKeeper.down()
      if (kind === 'wipe') this.#cluster.zooKeeper.wipe()
      this.#cluster.scheduler.in(dice.range(0, 4000), () => this.#cluster.startZooKeeper())
    }
  }

  get victim(): SimulatedNode | undefined {
    return this.#victim
  }

  ended(broker: SimulatedBroker): void {
    if (this.#victim !== undefined && broker.process.alive)
      this.#cluster.violated(
        `S4: ${broker.name} loses its mastership, and only ${this.#victim.name} had faults`,
      )
  }

  /** A slave, once there is a master that everybody has followed for a while. */
  chooseVictim(): boolean {
    const master = this.#cluster.nodes.find(({ broker }) => broker?.session !== undefined)
    const { epoch } = master?.broker?.session ?? {}
    if (master === undefined || this.#cluster.nodes.some(({ store }) => store?.status().epoch !== epoch))
      return false
    if (this.#cluster.nodes.some((node) => node !== master && node.store?.role !== 'slave')) return false
    this.#victim = this.#dice.pick(this.#cluster.nodes.filter((node) => node !== master))
    this.#cluster.scheduler.note(`${this.#victim.name} is the victim`)
    return true
  }
}

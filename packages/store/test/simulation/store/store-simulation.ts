import { RandomFaults } from './random-faults.ts'
import { type ClusterOptions, SimulatedCluster } from './simulated-cluster.ts'

export interface StoreSimulationResult {
  /** The same for each run of a seed. */
  readonly digest: number
  readonly events: number
  readonly virtualMs: number
  readonly masters: number
  readonly committed: number
  readonly messages: number
  readonly deaths: number
  /** Pieces of data that the network delivered. */
  readonly chunks: number
  /** How many faults of each kind there were. */
  readonly faults: Readonly<Record<string, number>>
  /** From the end of the faults until all messages were confirmed and all stores were equal. */
  readonly settledMs: number
}

/** A run that broke a rule; the seed gives it again. */
class StoreSimulationFailure extends Error {
  readonly seed: number

  constructor(seed: number, cause: unknown) {
    super(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.seed = seed
  }
}

/** Runs a cluster of whole stores through the faults that a seed draws, then heals it and awaits rest. */
export async function simulateStores(options: ClusterOptions): Promise<StoreSimulationResult> {
  const simulation = new StoreSimulation(options)
  const rejected = (error: unknown): void => simulation.remember(error)
  process.on('unhandledRejection', rejected)
  try {
    return await simulation.run()
  } catch (cause) {
    throw new StoreSimulationFailure(options.seed, cause)
  } finally {
    process.off('unhandledRejection', rejected)
  }
}

class StoreSimulation {
  readonly #cluster: SimulatedCluster
  readonly #faults: RandomFaults

  constructor(options: ClusterOptions) {
    this.#cluster = new SimulatedCluster(options, {
      promoted: (node) => this.#faults.promoted(node),
      confirmed: (broker) => this.#faults.confirmed(broker),
      ended: (broker) => this.#faults.ended(broker),
      cutting: (node, process) => this.#faults.cutting(node, process),
    })
    this.#faults = new RandomFaults(this.#cluster)
  }

  remember(error: unknown): void {
    this.#cluster.remember(error)
  }

  async run(): Promise<StoreSimulationResult> {
    const cluster = this.#cluster
    cluster.begin()
    const boundMs = cluster.settleBoundMs()
    if (cluster.scenario.victim) await cluster.await('master', boundMs, () => this.#faults.chooseVictim())
    this.#faults.begin()
    await cluster.runUntil(cluster.scheduler.nowMs + cluster.scenario.faultyMs)
    this.#heal()
    const healedMs = cluster.scheduler.nowMs
    await cluster.progress(boundMs)
    if (cluster.absent.length > 0) {
      this.#healRest()
      await cluster.progress(boundMs)
    }
    await cluster.rest()
    return {
      digest: cluster.scheduler.digest,
      events: cluster.scheduler.events,
      virtualMs: cluster.scheduler.nowMs,
      masters: cluster.world.masters.size,
      committed: cluster.log.lastIndex,
      messages: cluster.log.messages.size,
      deaths: cluster.deaths,
      chunks: cluster.network.chunks,
      faults: Object.fromEntries([...cluster.faults].sort(([left], [right]) => (left < right ? -1 : 1))),
      settledMs: cluster.scheduler.nowMs - healedMs,
    }
  }

  #heal(): void {
    this.#cluster.scheduler.note('all faults end')
    this.#cluster.faulty = false
    this.#cluster.network.heal()
    this.#cluster.startZooKeeper()
    this.#chooseAbsent()
    for (const node of this.#cluster.nodes) {
      Object.assign(node.diskFaults, { slowUntilMs: 0, failNext: [], fullUntilMs: 0 })
      if (node.process !== undefined) node.process.dieAfter = -1
      if (!this.#cluster.absent.includes(node)) this.#cluster.return(node)
    }
  }

  /** Any majority of the voters suffices (S4): as many as may be missing stay down, stopped or cut off for now. */
  #chooseAbsent(): void {
    const { awayAtHeal } = this.#cluster.scenario
    // After a loss of power everybody may have to be there, to know what a doubtful tail was (S27).
    if (this.#cluster.nodes.some(({ opened, process }) => !opened || process === undefined)) return
    // Until it is founded, all have to be there.
    if (awayAtHeal === 'nobody' || this.#cluster.log.lastIndex === 0) return
    const left = Math.floor((this.#cluster.nodes.length - 1) / 2) - this.#cluster.losses
    const whole = this.#cluster.nodes.filter(({ damaged }) => !damaged)
    while (whole.length > 0 && this.#cluster.absent.length < left) {
      const node = this.#faults.victim ?? this.#cluster.dice.pick(whole)
      whole.splice(
        0,
        whole.length,
        ...whole.filter((each) => each !== node && this.#faults.victim === undefined),
      )
      this.#cluster.scheduler.note(`${node.name} stays ${awayAtHeal}`)
      this.#cluster.absent = [...this.#cluster.absent, node]
      if (awayAtHeal === 'down') this.#cluster.kill(node, 'power lost', 0)
      else if (awayAtHeal === 'stopped') this.#cluster.pause(node, Number.POSITIVE_INFINITY)
      else
        for (const other of this.#cluster.nodes) {
          this.#cluster.network.block(node.name, other.name, Number.MAX_SAFE_INTEGER)
          this.#cluster.network.block(other.name, node.name, Number.MAX_SAFE_INTEGER)
        }
    }
  }

  #healRest(): void {
    this.#cluster.scheduler.note('everybody comes back')
    this.#cluster.network.heal()
    const back = this.#cluster.absent
    this.#cluster.absent = []
    for (const node of back) this.#cluster.return(node)
  }
}

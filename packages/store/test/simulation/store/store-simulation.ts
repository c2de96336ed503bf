import {
  type VirtualCoordinationSession,
  VirtualZooKeeper,
} from '../../../../testkit/src/virtual-coordination.ts'
import { VirtualDisk } from '../../../../testkit/src/virtual-disk.ts'
import type { Elector, ElectorHost } from '../../../src/election/elector.ts'
import { RaftElector } from '../../../src/election/raft/elector.ts'
import { ZooKeeperElector } from '../../../src/election/zookeeper/elector.ts'
import { StoreError } from '../../../src/errors.ts'
import type { Clock } from '../../../src/io/clock.ts'
import { openJournal } from '../../../src/journal/journal.ts'
import { ReplicatedStore } from '../../../src/replicated-store.ts'
import { levelDbSettings, replicatedSettings, type StoreSettings } from '../../../src/settings.ts'
import { CommittedLog, Violation } from './committed-log.ts'
import { drawScenario, type Scenario } from './faults.ts'
import { type DiskFaults, ProcessDisk } from './process-disk.ts'
import { Dice, Scheduler } from './scheduler.ts'
import { ProcessSession } from './simulated-coordination.ts'
import { type SavedIndex, SimulatedIndex } from './simulated-index.ts'
import { SimulatedNetwork } from './simulated-network.ts'
import { type ClockFault, SimulatedProcess } from './simulated-process.ts'
import { Producer, SimulatedBroker, type World } from './workload.ts'

export interface StoreSimulationOptions {
  readonly seed: number
  /** Told of what happens, to read a failed seed. */
  readonly trace?: (line: string) => void
  /** Changes what the seed has drawn, to make a failure smaller. */
  readonly scenario?: (drawn: Scenario) => Scenario
}

export interface StoreSimulationResult {
  /** The same for each run of a seed. */
  readonly digest: number
  readonly events: number
  readonly virtualMs: number
  readonly masters: number
  readonly committed: number
  readonly messages: number
  readonly deaths: number
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
export async function simulateStores(options: StoreSimulationOptions): Promise<StoreSimulationResult> {
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

const directory = '/store'
const port = 61619
const maxProducers = 1000
const maxGaps = 100
const zooKeeperPath = '/levelmq'

/** One machine: what outlives its processes, and the process that runs on it at present. */
interface SimulatedNode {
  readonly name: string
  readonly clock: ClockFault
  readonly diskFaults: DiskFaults
  disk: VirtualDisk
  saved: SavedIndex
  /** A voter whose store is lost or damaged: it may fail, and no longer counts. */
  damaged: boolean
  process: SimulatedProcess | undefined
  processDisk: ProcessDisk | undefined
  store: ReplicatedStore | undefined
  broker: SimulatedBroker | undefined
  index: SimulatedIndex | undefined
  session: VirtualCoordinationSession | undefined
  electorHost: ElectorHost | undefined
  opened: boolean
}

class StoreSimulation {
  readonly #dice: Dice
  readonly #scenario: Scenario
  readonly #scheduler: Scheduler
  readonly #network: SimulatedNetwork
  readonly #nodes: SimulatedNode[] = []
  readonly #log = new CommittedLog(maxProducers, maxGaps)
  readonly #zooKeeper: VirtualZooKeeper
  #abandonedSessions: VirtualCoordinationSession[] = []
  readonly #world: World
  #failure: unknown
  #faulty = true
  #deaths = 0
  #losses = 0

  constructor(options: StoreSimulationOptions) {
    const dice = new Dice(options.seed)
    const drawn = drawScenario(dice)
    this.#dice = dice
    this.#scenario = options.scenario?.(drawn) ?? drawn
    const { voters, drift, diskMs, networkMs, workload, sync } = this.#scenario
    this.#scheduler = new Scheduler(options.trace)
    this.#scheduler.note(JSON.stringify(this.#scenario))
    this.#network = new SimulatedNetwork(this.#scheduler, dice.fork(), networkMs)
    this.#zooKeeper = new VirtualZooKeeper(clockOf(this.#scheduler), 1)
    for (let at = 0; at < voters; at++) {
      this.#nodes.push({
        name: `n${at}`,
        clock: {
          rate: 1 + dice.range(-drift, drift),
          originMs: dice.range(0, 100_000),
          wallOffsetMs: dice.range(-5000, 5000),
        },
        diskFaults: { meanMs: diskMs, slowUntilMs: 0, slowMs: 0, failNext: [], fullUntilMs: 0 },
        disk: new VirtualDisk(dice.fork()),
        saved: { batches: [], damaged: false },
        damaged: false,
        process: undefined,
        processDisk: undefined,
        store: undefined,
        broker: undefined,
        index: undefined,
        session: undefined,
        electorHost: undefined,
        opened: false,
      })
    }
    this.#world = {
      scheduler: this.#scheduler,
      dice: dice.fork(),
      log: this.#log,
      mix: workload,
      producers: Array.from({ length: workload.producers }, (_, at) => new Producer(`p${at}`)),
      confirmIsCommit: sync === 'quorum_disk',
      producing: true,
      removed: new Set(),
      masters: new Map(),
      promoted: (broker) => {
        for (const producer of this.#world.producers)
          if (producer.broker === undefined || this.#dice.chance(0.5)) producer.connect(broker)
      },
      confirmed: (broker) => this.#confirmed(broker),
      ended: (broker) => {
        for (const producer of this.#world.producers)
          if (producer.broker === broker) producer.connect(undefined)
      },
      failed: (broker, error) => this.#storeFailed(broker, error),
      violated: (message) => this.#violated(message),
    }
  }

  remember(error: unknown): void {
    this.#failure ??= error
  }

  async run(): Promise<StoreSimulationResult> {
    for (const node of this.#nodes) this.#startIn(node, this.#dice.range(0, 300))
    for (const producer of this.#world.producers) this.#client(producer)
    this.#scheduleFaults()
    await this.#runUntil(this.#scenario.faultyMs)
    this.#heal()
    const healedMs = this.#scheduler.nowMs
    const boundMs = this.#settleBoundMs()
    const before = this.#world.producers.map(({ confirmed }) => confirmed)
    await this.#await('progress of all producers under one master', boundMs, () => {
      const progress = this.#world.producers.every(({ confirmed }, at) => confirmed > (before[at] ?? 0))
      const [master, other] = this.#masters()
      return progress && master?.leaseless === false && other === undefined
    })
    this.#world.producing = false
    await this.#await('confirm of all messages', boundMs, () =>
      this.#world.producers.every(({ open }) => open.size === 0),
    )
    this.#consuming(false)
    const equal = (): boolean => this.#masters().length === 1 && this.#equal()
    await this.#await('equal stores', boundMs, equal)
    const settledMs = this.#scheduler.nowMs - healedMs
    await this.#checkStores()
    await this.#await('equal stores', boundMs, equal)
    await this.#checkJournals()
    return {
      digest: this.#scheduler.digest,
      events: this.#scheduler.events,
      virtualMs: this.#scheduler.nowMs,
      masters: this.#world.masters.size,
      committed: this.#log.lastIndex,
      messages: this.#log.messages.size,
      deaths: this.#deaths,
      settledMs,
    }
  }

  // ---- Time

  async #runUntil(untilMs: number): Promise<void> {
    while (this.#scheduler.nowMs < untilMs) await this.#step()
  }

  async #step(): Promise<void> {
    await this.#scheduler.step()
    this.#checkLeases()
    if (this.#failure !== undefined) throw this.#failure
  }

  async #await(what: string, boundMs: number, condition: () => boolean): Promise<void> {
    const deadlineMs = this.#scheduler.nowMs + boundMs
    let lookMs = 0
    for (;;) {
      if (this.#scheduler.nowMs >= lookMs) {
        if (condition()) return
        lookMs = this.#scheduler.nowMs + 10
      }
      if (this.#scheduler.nowMs > deadlineMs)
        throw new Violation(`S38: no ${what} within ${boundMs} ms; ${this.#describe()}`)
      await this.#step()
    }
  }

  /** Goes on until a promise has settled. */
  async #settle<T>(what: string, promise: Promise<T>): Promise<T> {
    let outcome: { value: T } | { error: unknown } | undefined
    promise.then(
      (value) => {
        outcome = { value }
      },
      (error: unknown) => {
        outcome = { error }
      },
    )
    await this.#await(what, 10_000, () => outcome !== undefined)
    if (outcome === undefined || 'error' in outcome) throw outcome?.error
    return outcome.value
  }

  #settleBoundMs(): number {
    const { electionTimeoutMs, elector } = this.#scenario
    const silenceMs = Math.max(5 * electionTimeoutMs, 4000)
    return silenceMs + 20 * electionTimeoutMs + 3000 + (elector === 'zookeeper' ? 10_000 : 0)
  }

  #violated(message: string): never {
    const violation = new Violation(message)
    this.remember(violation)
    throw violation
  }

  #describe(): string {
    const members = this.#nodes.map(({ name, store, process, index, damaged }) => {
      if (process === undefined) return `${name} is down`
      const status = store?.status()
      return `${name} ${status?.role} epoch ${status?.epoch} at ${status?.position.epoch}/${status?.position.index} applied ${index?.appliedIndex}${damaged ? ' damaged' : ''}${status?.waitingFor === undefined ? '' : ` (waits for ${status.waitingFor})`}`
    })
    const open = this.#world.producers.map(({ id, open }) => `${id} ${open.size} open`)
    return [...members, ...open, `committed ${this.#log.lastIndex}`].join('; ')
  }

  // ---- A node's life

  #settings(node: SimulatedNode): StoreSettings {
    const { voters, elector, sync, electionTimeoutMs, logSize, flushDelay, asyncBufferSize } = this.#scenario
    const addresses = this.#nodes.map(({ name }) => `${name}:${port}`)
    const common = { directory, flushDelay }
    const settings =
      elector === 'none'
        ? levelDbSettings(common)
        : replicatedSettings({
            ...common,
            brokerName: 'group',
            memberName: node.name,
            nodeId: node.name,
            replicas: voters,
            sync,
            securityToken: 'secret',
            bind: `tcp://${node.name}:${port}`,
            electionTimeoutMs,
            weight: this.#nodes.indexOf(node) % 2,
            ...(elector === 'raft'
              ? { elector: 'raft', peers: addresses }
              : { elector: 'zookeeper', zkPath: zooKeeperPath }),
          })
    // Smaller than what operators may set, so that segments end and buffers fill.
    return {
      ...settings,
      logSize,
      asyncBufferSize,
      maxFailoverProducersToTrack: maxProducers,
      failoverProducersAuditDepth: maxGaps,
    }
  }

  #startIn(node: SimulatedNode, delayMs: number): void {
    this.#scheduler.in(delayMs, () => this.#start(node))
  }

  #start(node: SimulatedNode): void {
    if (node.process !== undefined) return
    this.#scheduler.note(`${node.name} starts`)
    const process = new SimulatedProcess(node.name, this.#scheduler, this.#dice.fork(), node.clock)
    const mustGiveUp = (): void => {
      this.#scheduler.in(5000, () => {
        if (node.process === process && !process.paused && node.broker?.over === false)
          this.remember(new Violation(`S29: ${node.name} goes on after a failed write or sync`))
      })
    }
    const processDisk = new ProcessDisk(
      process,
      this.#scheduler,
      this.#dice.fork(),
      node.disk,
      node.diskFaults,
      mustGiveUp,
    )
    const broker = new SimulatedBroker(process, this.#world)
    const random = this.#dice.fork()
    this.#network.host(node.name).down = false
    const settings = this.#settings(node)
    const store = new ReplicatedStore(
      settings,
      {
        memberInfo: { name: node.name },
        log: (level, message) => {
          if (process.alive && level !== 'debug') this.#scheduler.note(`${node.name} ${level}: ${message}`)
        },
      },
      {
        disk: processDisk,
        network: this.#network.of(process, node.name),
        clock: process,
        random,
        elector:
          settings.replication === undefined
            ? undefined
            : () => this.#hinted(node, this.#elector(node, process, settings, random)),
        openIndex: async (options) => {
          await processDisk.perform('open', async () => {}, undefined, false)
          const index = new SimulatedIndex(options, processDisk, node.saved, (header, bytes) => {
            if (process.alive) this.#observe(() => this.#log.applies(node.name, header, bytes))
          })
          node.index = index
          return index
        },
      },
    )
    Object.assign(node, { process, processDisk, store, broker, index: undefined, opened: false })
    broker.attach(store, () => (node.process === process ? (node.index?.appliedIndex ?? 0) : 0))
    store.open(broker).then(
      () => {
        if (!process.alive) return
        node.opened = true
        this.#scheduler.note(`${node.name} is open`)
      },
      (error: Error) => {
        if (!process.alive) return
        this.#scheduler.note(`${node.name} cannot open: ${error.message}`)
        this.#giveUp(node, process, error)
      },
    )
  }

  #observe(look: () => void): void {
    try {
      look()
    } catch (error) {
      this.remember(error)
      throw error
    }
  }

  #elector(node: SimulatedNode, process: SimulatedProcess, settings: StoreSettings, random: Dice): Elector {
    const { replication, electionTimeoutMs, replicas, weight, brokerName, memberName } = settings
    if (replication === undefined) throw new Error('no replication')
    const { elector, address } = replication
    const common = { electionTimeoutMs, clock: process, random }
    if (elector.kind === 'raft') return new RaftElector({ ...common, peers: elector.peers, address })
    node.session = this.#zooKeeper.session(2000)
    return new ZooKeeperElector({
      ...common,
      session: new ProcessSession(node.session, process),
      address: elector.address,
      path: elector.path,
      profile: { group: brokerName, name: memberName, container: undefined, weight, connect: address },
      replicas,
    })
  }

  /** Lets the simulation give hints of its own through an elector. */
  #hinted(node: SimulatedNode, elector: Elector): Elector {
    const start = elector.start.bind(elector)
    elector.start = (host, facts) => {
      node.electorHost = host
      start(host, facts)
    }
    return elector
  }

  /** The process of a node ends, with or without its machine. */
  #kill(node: SimulatedNode, how: 'power lost' | 'killed' | 'exited', downMs: number): void {
    const { process, processDisk, broker, session } = node
    if (process === undefined) return
    this.#scheduler.note(`${node.name} ${how}`)
    this.#deaths++
    process.kill()
    broker?.close()
    processDisk?.abandon()
    this.#network.ended(process, how === 'power lost')
    if (session !== undefined) {
      session.cut()
      this.#abandonedSessions.push(session)
    }
    Object.assign(node, {
      process: undefined,
      processDisk: undefined,
      store: undefined,
      broker: undefined,
      index: undefined,
      session: undefined,
      electorHost: undefined,
    })
    const { disk } = node
    // After what the kernel still does for the dead process.
    this.#scheduler.in(0, () => {
      if (how === 'power lost') disk.crash()
      else disk.exit()
      if (how === 'power lost') this.#network.host(node.name).down = true
      this.#startIn(node, this.#faulty ? downMs : 0)
    })
  }

  #storeFailed(broker: SimulatedBroker, error: Error): void {
    const node = this.#nodes.find((each) => each.broker === broker)
    if (node !== undefined) this.#giveUp(node, broker.process, error)
  }

  /** The process has to end; whoever runs it starts it again, or puts in an empty disk if it cannot be read. */
  #giveUp(node: SimulatedNode, process: SimulatedProcess, error: Error): void {
    if (!process.diskFailed && !node.damaged) {
      this.remember(
        error instanceof Violation
          ? error
          : new Violation(`${node.name} gives up without cause: ${error.stack}`),
      )
      return
    }
    const replace = error instanceof StoreError && error.code === 'STORE_CORRUPT' && node.damaged
    this.#scheduler.in(this.#dice.range(0, 20), () => {
      if (node.process !== process) return
      this.#kill(node, 'exited', this.#dice.range(0, 200))
      if (replace) this.#replaceDisk(node)
    })
  }

  #replaceDisk(node: SimulatedNode): void {
    this.#scheduler.note(`${node.name} gets an empty disk`)
    node.disk = new VirtualDisk(this.#dice.fork())
    node.saved = { batches: [], damaged: false }
  }

  #restart(node: SimulatedNode): void {
    const { process, store, broker } = node
    if (
      process === undefined ||
      store === undefined ||
      broker === undefined ||
      !node.opened ||
      process.paused
    )
      return
    this.#scheduler.note(`${node.name} is closed`)
    const end = (): void => {
      if (node.process !== process) return
      broker.close()
      this.#kill(node, 'exited', this.#dice.range(0, this.#scenario.faults.downMs))
    }
    store.close().then(end, (error: Error) => {
      if (process.alive && !process.diskFailed && !node.damaged)
        this.remember(new Violation(`${node.name} cannot close: ${error.stack}`))
      end()
    })
    this.#scheduler.in(20_000, () => {
      if (node.process === process && !process.paused)
        this.remember(new Violation(`${node.name} does not close`))
    })
  }

  #pause(node: SimulatedNode, forMs: number): void {
    const { process, session } = node
    if (process === undefined || process.paused) return
    this.#scheduler.note(`${node.name} is paused for ${forMs.toFixed(0)}`)
    process.paused = true
    session?.cut()
    this.#scheduler.in(forMs, () => this.#resume(node, process))
  }

  #resume(node: SimulatedNode, process: SimulatedProcess): void {
    if (!process.alive || !process.paused) return
    this.#scheduler.note(`${node.name} goes on`)
    process.resume()
    node.session?.heal()
  }

  // ---- Clients

  #client(producer: Producer): void {
    this.#scheduler.in(this.#dice.range(0, 2 * this.#scenario.workload.sendEveryMs), () => {
      this.#client(producer)
      if (producer.broker === undefined) {
        const masters = this.#masters()
        if (masters.length > 0) producer.connect(this.#dice.pick(masters))
      }
      const { broker } = producer
      if (broker === undefined || broker.process.paused) return
      broker.process.enter(() => this.#observe(() => broker.send(producer)))
    })
  }

  #consuming(on: boolean): void {
    for (const { broker } of this.#nodes) if (broker !== undefined) broker.consuming = on
  }

  #masters(): SimulatedBroker[] {
    return this.#nodes.flatMap(({ broker }) => (broker?.session === undefined ? [] : [broker]))
  }

  // ---- Faults

  #scheduleFaults(): void {
    const { faults } = this.#scenario
    const dice = this.#dice.fork()
    const down = (): number => dice.range(0, faults.downMs)
    const some = (): SimulatedNode => {
      // Half of the faults are aimed at a master.
      const master = this.#nodes.find(({ broker }) => broker?.session !== undefined)
      return master !== undefined && dice.chance(0.5) ? master : dice.pick(this.#nodes)
    }
    const pair = (): [SimulatedNode, SimulatedNode] => {
      const one = some()
      return [one, dice.pick(this.#nodes.filter((node) => node !== one))]
    }
    const linked = (rate: number): number => (this.#nodes.length > 1 ? rate : 0)
    const until = (): number => this.#scheduler.nowMs + dice.range(20, dice.pick([200, 1500, 6000]))

    this.#repeat(dice, faults.powerLosses, () => this.#kill(some(), 'power lost', down()))
    for (let left = faults.earlyDeaths; left > 0; left--)
      this.#scheduler.in(dice.range(0, 600), () =>
        this.#kill(dice.pick(this.#nodes), dice.pick(['power lost', 'killed']), dice.range(0, 100)),
      )
    this.#repeat(dice, faults.blackouts, () => {
      for (const node of this.#nodes) this.#kill(node, 'power lost', down())
    })
    this.#repeat(dice, faults.kills, () => this.#kill(some(), 'killed', down()))
    this.#repeat(dice, faults.killsWithin, () => {
      const node = some()
      const { process } = node
      if (process === undefined || process.dieAfter >= 0) return
      process.died = () => this.#kill(node, dice.chance(0.5) ? 'killed' : 'power lost', down())
      process.dieAfter = dice.below(dice.pick([5, 50]))
    })
    this.#repeat(dice, faults.restarts, () => this.#restart(some()))
    this.#repeat(dice, faults.pauses, () => this.#pause(some(), dice.range(5, faults.longestPauseMs)))
    this.#repeat(dice, linked(faults.resets), () => {
      const [one, other] = pair()
      this.#scheduler.note(`the links between ${one.name} and ${other.name} break`)
      this.#network.reset(one.name, other.name)
    })
    this.#repeat(dice, linked(faults.cuts), () => {
      const [one, other] = pair()
      const untilMs = until()
      this.#scheduler.note(`${one.name} cannot send to ${other.name} until ${untilMs.toFixed(0)}`)
      this.#network.block(one.name, other.name, untilMs)
      if (dice.chance(0.5)) this.#network.block(other.name, one.name, untilMs)
    })
    this.#repeat(dice, linked(faults.isolations), () => this.#part(dice, until()))
    this.#repeat(dice, linked(faults.slowLinks), () => {
      const [one, other] = pair()
      this.#network.slow(one.name, other.name, until())
    })
    this.#repeat(dice, faults.slowDisks, () => {
      const { diskFaults } = some()
      diskFaults.slowUntilMs = until()
      diskFaults.slowMs = dice.pick([50, 500, 2000])
    })
    this.#repeat(dice, faults.diskErrors, () => {
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
    this.#repeat(dice, faults.fullDisks, () => {
      some().diskFaults.fullUntilMs = until()
    })
    this.#repeat(dice, faults.bitFlips, () => this.#flipBit(dice, dice.pick(this.#nodes)))
    this.#repeat(dice, faults.wipes, () => {
      const node = some()
      if (!this.#mayLose(node)) return
      this.#kill(node, 'power lost', down())
      this.#replaceDisk(node)
    })
    this.#repeat(dice, faults.damagedIndexes, () => {
      some().saved.damaged = true
    })
    this.#repeat(dice, faults.wallJumps, () => {
      some().clock.wallOffsetMs += dice.range(-100_000, 100_000)
    })
    this.#repeat(dice, faults.wrongHints, () => {
      const node = some()
      const stand = dice.chance(0.7)
      node.process?.enter(() => {
        if (stand) node.electorHost?.stand('session expiry')
        else node.electorHost?.stepDown('told to')
      })
    })
    if (this.#scenario.elector === 'zookeeper')
      this.#repeat(dice, faults.zooKeeper, () => this.#disturbZooKeeper(dice, some()))
  }

  /** What was confirmed has to be on a majority of the disks now, not a moment later. */
  #confirmed(broker: SimulatedBroker): void {
    const { faults } = this.#scenario
    if (!this.#faulty || !this.#dice.chance(faults.deathsAtConfirm)) return
    const everyone = this.#dice.chance(0.5)
    this.#scheduler.in(0, () => {
      for (const node of this.#nodes)
        if (everyone || node.broker === broker)
          this.#kill(node, 'power lost', this.#dice.range(0, faults.downMs))
    })
  }

  #repeat(dice: Dice, perSecond: number, fault: () => void): void {
    if (perSecond === 0) return
    this.#scheduler.in((-Math.log(1 - dice.fraction()) * 1000) / perSecond, () => {
      if (!this.#faulty) return
      fault()
      this.#repeat(dice, perSecond, fault)
    })
  }

  /** Two sides that do not see each other; at times one node sees both. */
  #part(dice: Dice, untilMs: number): void {
    const bridge = this.#nodes.length > 2 && dice.chance(0.3) ? dice.pick(this.#nodes) : undefined
    const side = new Set(this.#nodes.filter(() => dice.chance(0.5)))
    const names = (nodes: Iterable<SimulatedNode>): string => [...nodes].map(({ name }) => name).join(' ')
    this.#scheduler.note(
      `${names(side)} are parted from the others until ${untilMs.toFixed(0)}, bridge ${bridge?.name}`,
    )
    for (const one of this.#nodes) {
      for (const other of this.#nodes) {
        if (one === bridge || other === bridge || side.has(one) === side.has(other)) continue
        this.#network.block(one.name, other.name, untilMs)
      }
    }
  }

  /** A majority of the original stores stays whole (S23). */
  #mayLose(node: SimulatedNode): boolean {
    if (node.damaged) return true
    if (this.#losses >= Math.floor((this.#nodes.length - 1) / 2)) return false
    this.#losses++
    node.damaged = true
    return true
  }

  #flipBit(dice: Dice, node: SimulatedNode): void {
    const segments = node.disk.paths().filter((path) => /\/\d{20}\.log$/.test(path))
    const old = segments.slice(0, -1)
    // A promise has two copies, of which one may go bad.
    const path = dice.chance(0.2) ? `${directory}/promise` : (old[dice.below(old.length)] ?? '')
    if (!node.disk.paths().includes(path) || !this.#mayLose(node)) return
    const bit = dice.below(node.disk.content(path).length * 8)
    this.#scheduler.note(`${node.name}: bit ${bit} of ${path} flips`)
    node.disk.flipBit(path, bit)
  }

  #disturbZooKeeper(dice: Dice, node: SimulatedNode): void {
    const kind = dice.pick(['cut', 'expire', 'expire', 'down', 'wipe'])
    this.#scheduler.note(`ZooKeeper: ${kind} ${node.name}`)
    const { session } = node
    if (kind === 'cut') {
      session?.cut()
      this.#scheduler.in(dice.range(0, 4000), () => {
        if (node.session === session && node.process?.paused !== true) session?.heal()
      })
    } else if (kind === 'expire') session?.expire()
    else if (this.#zooKeeper.up) {
      this.#zooKeeper.down()
      if (kind === 'wipe') this.#zooKeeper.wipe()
      this.#scheduler.in(dice.range(0, 4000), () => this.#startZooKeeper())
    }
  }

  #startZooKeeper(): void {
    if (this.#zooKeeper.up) return
    this.#zooKeeper.startAgain()
    for (const session of this.#abandonedSessions) session.cut()
    for (const { process, session } of this.#nodes) if (process?.paused) session?.cut()
  }

  #heal(): void {
    this.#scheduler.note('all faults end')
    this.#faulty = false
    this.#network.heal()
    this.#startZooKeeper()
    for (const node of this.#nodes) {
      Object.assign(node.diskFaults, { slowUntilMs: 0, failNext: [], fullUntilMs: 0 })
      if (node.process === undefined) this.#startIn(node, 1)
      else {
        node.process.dieAfter = -1
        this.#resume(node, node.process)
        node.session?.heal()
      }
    }
  }

  // ---- Checks

  /** S9: no two brokers may dispatch at one instant, whether they are awake or would wake up now. */
  #checkLeases(): void {
    const masters = this.#masters()
    if (masters.length < 2) return
    const dispatching = masters.filter(({ session }) => session?.mayDispatch())
    if (dispatching.length > 1)
      throw new Violation(`S9: ${dispatching.map(({ name }) => name).join(' and ')} may dispatch at once`)
  }

  #equal(): boolean {
    const { lastIndex } = this.#log
    return this.#nodes.every(
      ({ store, index, opened, broker }) =>
        opened &&
        broker?.waiting === 0 &&
        index?.appliedIndex === lastIndex &&
        store?.status().position.index === lastIndex &&
        store.status().durableIndex === lastIndex,
    )
  }

  /** Every store shows exactly what is committed and not removed, with its content. */
  async #checkStores(): Promise<void> {
    const model = this.#log.index
    for (const { name, store, index, damaged } of this.#nodes) {
      if (store === undefined || index === undefined) throw new Violation(`${name} is down`)
      if (JSON.stringify(store.queues()) !== JSON.stringify(model.queues()))
        throw new Violation(
          `S7: ${name} has queues ${JSON.stringify(store.queues())}, not ${JSON.stringify(model.queues())}`,
        )
      for (const { id } of store.queues()) {
        const expected = await model.page(id, 0, Number.MAX_SAFE_INTEGER)
        const found = await this.#settle('page', store.page(id, 0, Number.MAX_SAFE_INTEGER))
        if (JSON.stringify(found) !== JSON.stringify(expected))
          throw new Violation(`S7: ${name} has other messages in queue ${id} than were committed`)
        const indices = found.map((entry) => entry.index)
        const gone = indices.find((each) => this.#world.removed.has(each))
        if (gone !== undefined)
          throw new Violation(`S16: ${name} has ${gone}, the removal of which was confirmed`)
        const contents = await this.#settle('messages', store.read(indices)).catch((error: unknown) => {
          if (damaged && error instanceof StoreError) return undefined
          throw error
        })
        for (const [place, content] of contents?.entries() ?? [])
          if (!content.equals(this.#log.envelopes.get(indices[place] ?? 0) ?? Buffer.alloc(0)))
            throw new Violation(`${name} reads another message than was committed at ${indices[place]}`)
      }
    }
  }

  /** All processes end at one instant; what is on the disks then is the same log, byte for byte. */
  async #checkJournals(): Promise<void> {
    for (const node of this.#nodes) {
      node.process?.kill()
      node.disk.exit()
    }
    for (const node of this.#nodes) {
      const listener = { written: () => {}, durable: () => {}, failed: () => {} }
      const options = {
        disk: node.disk,
        directory: `${directory}/journal`,
        verifiedTo: 0,
        epochStarts: [],
        listener,
      }
      try {
        const { log } = await openJournal({ ...options, segmentBytes: this.#scenario.logSize })
        let next = 1
        for (const batch of this.#log.batches) {
          const bytes = await log.batchWith(batch.firstIndex)
          if (!bytes.equals(batch.bytes))
            throw new Violation(`S8: ${node.name} has another batch at ${batch.firstIndex}`)
          next = batch.lastIndex + 1
        }
        if (log.lastIndex !== next - 1)
          throw new Violation(
            `S8: the log of ${node.name} ends with ${log.lastIndex}, ${next - 1} is committed`,
          )
      } catch (error) {
        if (!(node.damaged && error instanceof StoreError && error.code === 'STORE_CORRUPT')) throw error
      }
    }
  }
}

/** True time, for what is not on any of the machines. */
function clockOf(scheduler: Scheduler): Clock {
  return {
    monotonicMs: () => scheduler.nowMs,
    wallMs: () => Math.floor(scheduler.nowMs),
    setTimer: (delayMs, fire) => {
      let cancelled = false
      scheduler.in(delayMs, () => {
        if (!cancelled) fire()
      })
      return {
        cancel: () => {
          cancelled = true
        },
      }
    },
    soon: (run) => scheduler.in(0, run),
  }
}

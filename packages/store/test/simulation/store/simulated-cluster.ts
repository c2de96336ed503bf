import {
  type VirtualCoordinationSession,
  VirtualZooKeeper,
} from '../../../../testkit/src/virtual-coordination.ts'
import { VirtualDisk } from '../../../../testkit/src/virtual-disk.ts'
import { readConfiguration } from '../../../src/configuration-record.ts'
import type { Elector, ElectorHost } from '../../../src/election/elector.ts'
import { RaftElector } from '../../../src/election/raft/elector.ts'
import { ZooKeeperElector } from '../../../src/election/zookeeper/elector.ts'
import { StoreError } from '../../../src/errors.ts'
import { generationIn } from '../../../src/generation.ts'
import type { Clock } from '../../../src/io/clock.ts'
import { lastIndexOf } from '../../../src/journal/batch.ts'
import { openJournal } from '../../../src/journal/journal.ts'
import { ReplicatedStore } from '../../../src/replicated-store.ts'
import { levelDbSettings, replicatedSettings, type StoreSettings } from '../../../src/settings.ts'
import type { Voter } from '../../../src/store-identity.ts'
import { CommittedLog, Violation } from './committed-log.ts'
import { drawScenario, type Scenario } from './faults.ts'
import { type DiskFaults, ProcessDisk } from './process-disk.ts'
import { Dice, Scheduler } from './scheduler.ts'
import { ProcessSession } from './simulated-coordination.ts'
import { type SavedIndex, SimulatedIndex } from './simulated-index.ts'
import { SimulatedNetwork } from './simulated-network.ts'
import { type ClockFault, SimulatedProcess } from './simulated-process.ts'
import { Producer, SimulatedBroker, type World } from './workload.ts'

/** A backup that somebody made of a directory. */
interface StoreCopy {
  readonly files: ReadonlyMap<string, Buffer>
  readonly indexes: readonly (readonly [path: string, saved: SavedIndex])[]
  readonly storeUuid: string
}

export interface ClusterOptions {
  readonly seed: number
  /** Told of what happens, to read a failed seed. */
  readonly trace?: (line: string) => void
  /** Changes what the seed has drawn, to make a failure smaller. */
  readonly scenario?: (drawn: Scenario) => Scenario
}

/** Moments at which something may be made to go wrong. */
export interface ClusterListener {
  promoted(node: SimulatedNode): void
  confirmed(broker: SimulatedBroker): void
  /** A mastership is over. */
  ended(broker: SimulatedBroker): void
  /** A log is about to be cut. */
  cutting(node: SimulatedNode, process: SimulatedProcess): void
}

export const directory = '/store'
const port = 61619
const maxProducers = 1000
const maxGaps = 100
/** What a store waits for that has found damage. */
const repairing = 'a member that has records'
const zooKeeperPath = '/levelmq'

/** One machine: what outlives its processes, and the process that runs on it at present. */
export interface SimulatedNode {
  readonly name: string
  readonly clock: ClockFault
  readonly diskFaults: DiskFaults
  disk: VirtualDisk
  /** By directory. */
  indexes: Map<string, SavedIndex>
  /** The one that was opened last. */
  saved: SavedIndex
  /** A voter whose store is lost or damaged: it may fail, and no longer counts. */
  damaged: boolean
  /** Its disk is another one than when it was last a voter. */
  replaced: boolean
  /** Something on its disk has gone bad. */
  rotten: boolean
  /** What was durable on its disk may be gone, without a trace. */
  forgetful: boolean
  process: SimulatedProcess | undefined
  processDisk: ProcessDisk | undefined
  store: ReplicatedStore | undefined
  broker: SimulatedBroker | undefined
  index: SimulatedIndex | undefined
  session: VirtualCoordinationSession | undefined
  electorHost: ElectorHost | undefined
  opened: boolean
  /** Last record that was durable here when the last process ended. */
  durableIndex: number
  /** Of the copies that took each other's place: the one that was in use then. */
  generation: number
  /** Of the store that is on its disk now; empty until one has been opened. */
  storeUuid: string
}

/**
 * Whole stores on simulated machines, with brokers and clients, and the checks of what they must never do, at each step.
 * What goes wrong, and when, is for others to say.
 */
export class SimulatedCluster {
  readonly dice: Dice
  readonly scenario: Scenario
  readonly scheduler: Scheduler
  readonly network: SimulatedNetwork
  readonly nodes: SimulatedNode[] = []
  readonly log: CommittedLog = new CommittedLog(maxProducers, maxGaps)
  readonly zooKeeper: VirtualZooKeeper
  readonly world: World
  /** Not yet healed: whoever dies stays dead for a while. */
  faulty = true
  deaths = 0
  /** How many faults of each kind there were. */
  readonly faults: Map<string, number> = new Map()
  /** Voters whose store is lost or damaged, and not replaced. */
  losses = 0
  /** Stay away, one way or another: the others have to do without them. */
  absent: readonly SimulatedNode[] = []
  readonly #listener: ClusterListener
  #abandonedSessions: VirtualCoordinationSession[] = []
  #failure: unknown
  /** Of the masters that see no majority of the others: since when. */
  readonly #alone = new Map<SimulatedBroker, number>()
  #lookMs = 0
  /** Of processes that wait for records that others may not have: since when. */
  readonly #hopeless = new Map<SimulatedProcess, number>()
  #voters: readonly Voter[] = []
  #configuredAt = 0
  /** By store: its last record when it was last seen. */
  readonly #held = new Map<string, number>()
  /** A majority of the disks has held the log up to here. */
  #majorityIndex = 0

  constructor(options: ClusterOptions, listener: ClusterListener) {
    this.#listener = listener
    const dice = new Dice(options.seed)
    const drawn = drawScenario(dice, new Dice(options.seed + 0x5eed))
    this.dice = dice
    this.scenario = options.scenario?.(drawn) ?? drawn
    const { voters, drift, diskMs, networkMs, workload, sync } = this.scenario
    this.scheduler = new Scheduler(options.trace)
    this.scheduler.note(JSON.stringify(this.scenario))
    this.network = new SimulatedNetwork(this.scheduler, dice.fork(), networkMs)
    this.zooKeeper = new VirtualZooKeeper(clockOf(this.scheduler), 1)
    for (let at = 0; at < voters; at++) {
      this.nodes.push({
        name: `n${at}`,
        clock: {
          rate: 1 + dice.range(-drift, drift),
          originMs: dice.range(0, 100_000),
          wallOffsetMs: dice.range(-5000, 5000),
        },
        diskFaults: { meanMs: diskMs, slowUntilMs: 0, slowMs: 0, failNext: [], fullUntilMs: 0 },
        disk: new VirtualDisk(dice.fork()),
        indexes: new Map(),
        saved: { batches: [], damaged: false },
        damaged: false,
        replaced: false,
        rotten: false,
        forgetful: false,
        process: undefined,
        processDisk: undefined,
        store: undefined,
        broker: undefined,
        index: undefined,
        session: undefined,
        electorHost: undefined,
        opened: false,
        durableIndex: 0,
        generation: 0,
        storeUuid: '',
      })
    }
    this.world = {
      scheduler: this.scheduler,
      dice: dice.fork(),
      log: this.log,
      mix: workload,
      producers: Array.from({ length: workload.producers }, (_, at) => new Producer(`p${at}`)),
      confirmIsCommit: sync === 'quorum_disk',
      producing: true,
      removed: new Set(),
      masters: new Map(),
      promoted: (broker) => {
        for (const producer of this.world.producers)
          if (producer.broker === undefined || this.dice.chance(0.5)) producer.connect(broker)
        const node = this.nodes.find((each) => each.broker === broker)
        if (node !== undefined) listener.promoted(node)
      },
      confirmed: (broker) => listener.confirmed(broker),
      ended: (broker) => {
        listener.ended(broker)
        for (const producer of this.world.producers)
          if (producer.broker === broker) producer.connect(undefined)
      },
      failed: (broker, error) => this.#storeFailed(broker, error),
      violated: (message) => this.violated(message),
    }
  }

  remember(error: unknown): void {
    this.#failure ??= error
  }

  /** Every machine and every client begins. */
  begin(): void {
    for (const node of this.nodes) this.startIn(node, this.dice.range(0, 300))
    for (const producer of this.world.producers) this.client(producer)
  }

  /** Until everything was confirmed, all stores are equal and hold what they must, also once they are read from their disks. */
  async rest(): Promise<void> {
    const boundMs = this.settleBoundMs()
    this.world.producing = false
    await this.await('confirm of all messages', boundMs, () =>
      this.world.producers.every(({ open }) => open.size === 0),
    )
    this.consuming(false)
    const equal = (): boolean => this.masters().length === 1 && this.equal()
    await this.await('equal stores', boundMs, equal)
    await this.checkStores()
    await this.await('equal stores', boundMs, equal)
    await this.checkJournals()
  }

  // ---- Time

  async runUntil(untilMs: number): Promise<void> {
    while (this.scheduler.nowMs < untilMs) await this.step()
  }

  async step(): Promise<void> {
    await this.scheduler.step()
    this.#checkLeases()
    if (this.scheduler.nowMs >= this.#lookMs) this.#checkMajorities()
    if (this.#failure !== undefined) throw this.#failure
  }

  async await(what: string, boundMs: number, condition: () => boolean): Promise<void> {
    const deadlineMs = this.scheduler.nowMs + boundMs
    let lookMs = 0
    for (;;) {
      if (this.scheduler.nowMs >= lookMs) {
        if (condition()) return
        lookMs = this.scheduler.nowMs + 10
      }
      if (this.scheduler.nowMs > deadlineMs)
        throw new Violation(`S38: no ${what} within ${boundMs} ms; ${this.describe()}`)
      await this.step()
    }
  }

  /** Goes on until a promise has settled. */
  async settle<T>(what: string, promise: Promise<T>): Promise<T> {
    let outcome: { value: T } | { error: unknown } | undefined
    promise.then(
      (value) => {
        outcome = { value }
      },
      (error: unknown) => {
        outcome = { error }
      },
    )
    await this.await(what, 10_000, () => outcome !== undefined)
    if (outcome === undefined || 'error' in outcome) throw outcome?.error
    return outcome.value
  }

  settleBoundMs(): number {
    const { electionTimeoutMs, elector } = this.scenario
    const silenceMs = Math.max(5 * electionTimeoutMs, 4000)
    return silenceMs + 20 * electionTimeoutMs + 3000 + (elector === 'zookeeper' ? 10_000 : 0)
  }

  violated(message: string): never {
    const violation = new Violation(message)
    this.remember(violation)
    throw violation
  }

  describe(): string {
    const members = this.nodes.map(({ name, store, process, index, damaged }) => {
      if (process === undefined) return `${name} is down`
      const status = store?.status()
      return `${name} ${status?.role} epoch ${status?.epoch} at ${status?.position.epoch}/${status?.position.index}, from ${status?.storage?.firstIndex}, applied ${index?.appliedIndex}${damaged ? ' damaged' : ''}${status?.waitingFor === undefined ? '' : ` (waits for ${status.waitingFor})`}`
    })
    const open = this.world.producers.map(({ id, open }) => `${id} ${open.size} open`)
    return [...members, ...open, `committed ${this.log.lastIndex}`].join('; ')
  }

  // ---- A node's life

  #settings(node: SimulatedNode): StoreSettings {
    const { voters, elector, sync, electionTimeoutMs, logSize, flushDelay, asyncBufferSize } = this.scenario
    const addresses = this.nodes.map(({ name }) => `${name}:${port}`)
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
            weight: this.nodes.indexOf(node) % 2,
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

  startIn(node: SimulatedNode, delayMs: number): void {
    this.scheduler.in(delayMs, () => this.#start(node))
  }

  #start(node: SimulatedNode): void {
    if (node.process !== undefined || (this.absent.includes(node) && this.scenario.awayAtHeal !== 'cut off'))
      return
    this.scheduler.note(`${node.name} starts`)
    const process = new SimulatedProcess(node.name, this.scheduler, this.dice.fork(), node.clock)
    const mustGiveUp = (): void => {
      this.scheduler.in(5000, () => {
        if (node.process === process && !process.paused && node.broker?.over === false)
          this.remember(new Violation(`S29: ${node.name} goes on after a failed write or sync`))
      })
    }
    const processDisk = new ProcessDisk(
      process,
      this.scheduler,
      this.dice.fork(),
      node.disk,
      node.diskFaults,
      mustGiveUp,
      () => this.#listener.cutting(node, process),
      (path) => node.indexes.delete(path),
    )
    const broker = new SimulatedBroker(process, this.world)
    const random = this.dice.fork()
    this.network.host(node.name).down = false
    const settings = this.#settings(node)
    const store = new ReplicatedStore(
      settings,
      {
        memberInfo: { name: node.name },
        log: (level, message) => {
          // If it ends before it is repaired it may not know any more how far its log had reached.
          if (message.includes('are damaged: asking')) node.forgetful = true
          if (process.alive && level !== 'debug') this.scheduler.note(`${node.name} ${level}: ${message}`)
        },
      },
      {
        disk: processDisk,
        network: this.network.of(process, node.name),
        clock: process,
        random,
        elector:
          settings.replication === undefined
            ? undefined
            : () => this.#hinted(node, this.#elector(node, process, settings, random)),
        openIndex: async (options) => {
          await processDisk.perform('open', async () => {}, undefined, false)
          node.saved = node.indexes.get(options.directory) ?? { batches: [], damaged: false }
          node.indexes.set(options.directory, node.saved)
          const index = new SimulatedIndex(options, processDisk, node.saved, (header, bytes) => {
            if (!process.alive) return
            this.#observe(() => {
              this.log.applies(node.name, header, bytes)
              this.#configured()
              this.#checkCommitted(node, lastIndexOf(header))
            })
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
        node.storeUuid = store.status().storeUuid
        this.#checkReopened(node)
        this.scheduler.note(`${node.name} is open`)
      },
      (error: Error) => {
        if (!process.alive) return
        this.scheduler.note(`${node.name} cannot open: ${error.message}`)
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
    node.session = this.zooKeeper.session(2000)
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
  kill(node: SimulatedNode, how: 'power lost' | 'killed' | 'exited', downMs: number): void {
    const { process, processDisk, broker, session } = node
    if (process === undefined) return
    this.scheduler.note(`${node.name} ${how}`)
    this.deaths++
    this.#rememberEnd(node)
    process.kill()
    broker?.close()
    processDisk?.abandon()
    this.network.ended(process, how === 'power lost')
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
    this.scheduler.in(0, () => {
      if (how === 'power lost') disk.crash()
      else disk.exit()
      if (how === 'power lost') this.network.host(node.name).down = true
      this.startIn(node, this.faulty ? downMs : 0)
    })
  }

  #storeFailed(broker: SimulatedBroker, error: Error): void {
    const node = this.nodes.find((each) => each.broker === broker)
    if (node !== undefined) this.#giveUp(node, broker.process, error)
  }

  /** The process has to end; whoever runs it starts it again, or puts in an empty disk if it cannot be read. */
  #giveUp(node: SimulatedNode, process: SimulatedProcess, error: Error): void {
    if (!process.diskFailed && !node.damaged && !node.forgetful) {
      this.remember(
        error instanceof Violation
          ? error
          : new Violation(`${node.name} gives up without cause: ${error.stack}`),
      )
      return
    }
    const replace = error instanceof StoreError && error.code === 'STORE_CORRUPT'
    if (replace) this.#lost(node)
    this.scheduler.in(this.dice.range(0, 20), () => {
      if (node.process !== process) return
      this.kill(node, 'exited', this.dice.range(0, 200))
      if (replace) this.replaceDisk(node)
    })
  }

  replaceDisk(node: SimulatedNode): void {
    this.scheduler.note(`${node.name} gets an empty disk`)
    node.disk = new VirtualDisk(this.dice.fork())
    Object.assign(node, {
      indexes: new Map(),
      saved: { batches: [], damaged: false },
      durableIndex: 0,
      storeUuid: '',
      replaced: true,
      rotten: false,
    })
  }

  /** What is on a machine's disk, as it would be after a crash. */
  copyStore(node: SimulatedNode): StoreCopy {
    const indexes = [...node.indexes].map(([path, saved]) => [path, { ...saved }] as const)
    return { files: node.disk.copy(), indexes, storeUuid: node.storeUuid }
  }

  /** A store is replaced by an older copy of itself (N37). */
  putBack(node: SimulatedNode, copy: StoreCopy, downMs: number): void {
    if (copy.storeUuid !== node.storeUuid) return
    this.kill(node, 'power lost', downMs)
    this.scheduler.in(0, () => {
      this.scheduler.note(`${node.name} is put back`)
      node.disk.putBack(copy.files)
      node.indexes = new Map(copy.indexes)
    })
  }

  #rememberEnd(node: SimulatedNode): void {
    const { store } = node
    if (!node.opened || store === undefined) return
    const { durableIndex, position } = store.status()
    Object.assign(node, { durableIndex, generation: generationOf(node.disk) })
    this.#held.set(node.storeUuid, position.index)
  }

  restart(node: SimulatedNode): void {
    const { process, store, broker } = node
    if (
      process === undefined ||
      store === undefined ||
      broker === undefined ||
      !node.opened ||
      process.paused
    )
      return
    this.scheduler.note(`${node.name} is closed`)
    const end = (): void => {
      if (node.process !== process) return
      broker.close()
      this.kill(node, 'exited', this.dice.range(0, this.scenario.faults.downMs))
    }
    store.close().then(end, (error: Error) => {
      if (process.alive && !process.diskFailed && !node.damaged)
        this.remember(new Violation(`${node.name} cannot close: ${error.stack}`))
      end()
    })
    this.scheduler.in(20_000, () => {
      if (node.process === process && !process.paused)
        this.remember(new Violation(`${node.name} does not close`))
    })
  }

  pause(node: SimulatedNode, forMs: number): void {
    const { process, session } = node
    if (process === undefined || process.paused) return
    this.scheduler.note(`${node.name} is paused for ${forMs.toFixed(0)}`)
    process.paused = true
    session?.cut()
    this.scheduler.in(forMs, () => this.resume(node, process))
  }

  resume(node: SimulatedNode, process: SimulatedProcess): void {
    if (!process.alive || !process.paused) return
    if (this.scenario.awayAtHeal === 'stopped' && this.isAbsent(node.broker)) return
    this.scheduler.note(`${node.name} goes on`)
    process.resume()
    node.session?.heal()
  }

  // ---- Clients

  client(producer: Producer): void {
    this.scheduler.in(this.dice.range(0, 2 * this.scenario.workload.sendEveryMs), () => {
      this.client(producer)
      // A client gives up a broker that does not answer.
      if (this.isAbsent(producer.broker)) producer.connect(undefined)
      if (producer.broker === undefined) {
        const masters = this.masters().filter((master) => !this.isAbsent(master))
        if (masters.length > 0) producer.connect(this.dice.pick(masters))
      }
      const { broker } = producer
      if (broker === undefined || broker.process.paused) return
      broker.process.enter(() => this.#observe(() => broker.send(producer)))
    })
  }

  consuming(on: boolean): void {
    for (const { broker } of this.nodes) if (broker !== undefined) broker.consuming = on
  }

  masters(): SimulatedBroker[] {
    return this.nodes.flatMap(({ broker }) => (broker?.session === undefined ? [] : [broker]))
  }

  isAbsent(broker: SimulatedBroker | undefined): boolean {
    return this.absent.some((node) => node.broker !== undefined && node.broker === broker)
  }

  async progress(boundMs: number): Promise<void> {
    const before = this.world.producers.map(({ confirmed }) => confirmed)
    await this.await('progress of all producers under one master', boundMs, () => {
      const progress = this.world.producers.every(({ confirmed }, at) => confirmed > (before[at] ?? 0))
      const [master, other] = this.masters().filter((broker) => !this.isAbsent(broker))
      return progress && master?.leaseless === false && other === undefined
    })
  }

  // ---- Around it

  startZooKeeper(): void {
    if (this.zooKeeper.up) return
    this.zooKeeper.startAgain()
    for (const session of this.#abandonedSessions) session.cut()
    for (const { process, session } of this.nodes) if (process?.paused) session?.cut()
  }

  return(node: SimulatedNode): void {
    if (node.process === undefined) this.startIn(node, 1)
    else {
      this.resume(node, node.process)
      node.session?.heal()
    }
  }

  count(kind: string): void {
    this.faults.set(kind, (this.faults.get(kind) ?? 0) + 1)
  }

  // ---- Checks

  /** S13: a master that sees no majority steps down in time, and does not keep its clients waiting (H8). */
  #checkMajorities(): void {
    this.#lookMs = this.scheduler.nowMs + 10
    this.#tendDamaged()
    const { nowMs } = this.scheduler
    for (const node of this.nodes) {
      const { broker, process } = node
      if (broker === undefined || process === undefined) continue
      const seen = this.nodes.filter((other) => other === node || this.#connected(node, other)).length
      if (broker.session === undefined || process.paused || seen > this.nodes.length / 2)
        this.#alone.delete(broker)
      else if (!this.#alone.has(broker)) this.#alone.set(broker, nowMs)
      const sinceMs = this.#alone.get(broker) ?? nowMs
      if (nowMs - sinceMs > this.scenario.electionTimeoutMs * 1.1 + 50)
        throw new Violation(`S13: ${broker.name} has seen no majority since ${sinceMs}, and is still master`)
    }
  }

  /**
   * What a damaged store waits for may be gone everywhere else, with the log that was not needed any more: then whoever runs it gives
   * it an empty disk, and it copies the whole store.
   */
  #tendDamaged(): void {
    for (const node of this.nodes) {
      const { process, store } = node
      if (process === undefined || process.paused || node.opened || !(node.damaged || node.forgetful))
        continue
      if (store?.status().waitingFor?.startsWith(repairing) !== true) this.#hopeless.delete(process)
      else if (!this.#hopeless.has(process)) this.#hopeless.set(process, this.scheduler.nowMs)
      else if (this.scheduler.nowMs - (this.#hopeless.get(process) ?? 0) > 20_000) {
        this.#lost(node)
        this.kill(node, 'exited', 0)
        this.replaceDisk(node)
      }
    }
  }

  #lost(node: SimulatedNode): void {
    if (node.damaged) return
    node.damaged = true
    this.losses++
  }

  /** S6: what anyone takes for committed is on a majority of the disks. */
  #checkCommitted(node: SimulatedNode, index: number): void {
    if (index <= this.#majorityIndex) return
    const held = this.#voters.map(({ storeUuid }) => this.#heldBy(storeUuid))
    held.sort((left, right) => right - left)
    // Of an even number a voter may be about to go, by a configuration that is not committed yet.
    this.#majorityIndex = held[Math.ceil((held.length + 1) / 2) - 1] ?? 0
    if (held.length % 2 === 0) this.#majorityIndex = held[held.length / 2 - 1] ?? 0
    if (index > this.#majorityIndex)
      throw new Violation(`S6: ${node.name} takes ${index} for committed; the disks hold ${held}`)
  }

  /** What a store has on its disk, or had when it was last seen. */
  #heldBy(storeUuid: string): number {
    const node = this.nodes.find((each) => each.storeUuid === storeUuid && each.opened)
    return node?.store?.status().durableIndex ?? this.#held.get(storeUuid) ?? 0
  }

  /** Takes note of who votes; a store that took the place of a lost one makes its node whole again. */
  #configured(): void {
    const { configuration } = this.log.index
    if (configuration === undefined || configuration.index === this.#configuredAt) return
    this.#configuredAt = configuration.index
    this.#voters = readConfiguration(configuration.json).voters
    for (const node of this.nodes) {
      if (!node.replaced || !this.#voters.some(({ storeUuid }) => storeUuid === node.storeUuid)) continue
      this.scheduler.note(`${node.name} is a voter again`)
      Object.assign(node, { replaced: false, damaged: node.rotten })
      if (!node.rotten) this.losses--
    }
  }

  /** S27: a store that has lost what was durable says so, and does not open as if it were whole. */
  #checkReopened(node: SimulatedNode): void {
    const { index } = node.store?.status().position ?? { index: 0 }
    if (index < node.durableIndex && !node.forgetful && generationOf(node.disk) === node.generation)
      this.remember(
        new Violation(`S27: ${node.name} had ${node.durableIndex} on its disk, and opens with ${index}`),
      )
  }

  #connected(one: SimulatedNode, other: SimulatedNode): boolean {
    return other.process?.paused === false && this.network.passes(one.name, other.name)
  }

  /** S9: no two brokers may dispatch at one instant, whether they are awake or would wake up now. */
  #checkLeases(): void {
    const masters = this.masters()
    if (masters.length < 2) return
    const dispatching = masters.filter(({ session }) => session?.mayDispatch())
    if (dispatching.length > 1)
      throw new Violation(`S9: ${dispatching.map(({ name }) => name).join(' and ')} may dispatch at once`)
  }

  equal(): boolean {
    const { lastIndex } = this.log
    return this.nodes.every(
      ({ store, index, opened, broker, storeUuid }) =>
        opened &&
        broker?.waiting === 0 &&
        index?.appliedIndex === lastIndex &&
        store?.status().position.index === lastIndex &&
        store.status().durableIndex === lastIndex &&
        this.#voters.some((voter) => voter.storeUuid === storeUuid),
    )
  }

  /** Every store shows exactly what is committed and not removed, with its content. */
  async checkStores(): Promise<void> {
    const model = this.log.index
    for (const { name, store, index, damaged } of this.nodes) {
      if (store === undefined || index === undefined) throw new Violation(`${name} is down`)
      if (JSON.stringify(store.queues()) !== JSON.stringify(model.queues()))
        throw new Violation(
          `S7: ${name} has queues ${JSON.stringify(store.queues())}, not ${JSON.stringify(model.queues())}`,
        )
      for (const { id } of store.queues()) {
        const expected = await model.page(id, 0, Number.MAX_SAFE_INTEGER)
        const found = await this.settle('page', store.page(id, 0, Number.MAX_SAFE_INTEGER))
        if (JSON.stringify(found) !== JSON.stringify(expected))
          throw new Violation(`S7: ${name} has other messages in queue ${id} than were committed`)
        const indices = found.map((entry) => entry.index)
        const gone = indices.find((each) => this.world.removed.has(each))
        if (gone !== undefined)
          throw new Violation(`S16: ${name} has ${gone}, the removal of which was confirmed`)
        const contents = await this.settle('messages', store.read(id, indices)).catch((error: unknown) => {
          if (damaged && error instanceof StoreError) return undefined
          throw error
        })
        for (const [place, content] of contents?.entries() ?? [])
          if (!content.equals(this.log.envelopes.get(indices[place] ?? 0) ?? Buffer.alloc(0)))
            throw new Violation(`${name} reads another message than was committed at ${indices[place]}`)
      }
    }
  }

  /** All processes end at one instant; what is on the disks then is the same log, byte for byte. */
  async checkJournals(): Promise<void> {
    for (const node of this.nodes) {
      node.process?.kill()
      node.disk.exit()
    }
    for (const node of this.nodes) {
      const listener = {
        written: () => {},
        durable: () => {},
        damaged: () => {},
        spaceChanged: () => {},
        failed: () => {},
      }
      const options = {
        disk: node.disk,
        directory: journalOf(node.disk),
        verifiedTo: 0,
        epochStarts: [],
        listener,
      }
      try {
        const { log } = await openJournal({ ...options, segmentBytes: this.scenario.logSize })
        let next = 1
        for (const batch of this.log.batches) {
          if (batch.firstIndex < log.firstIndex) continue
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

/** Which copy of a store is in use. */
function generationOf(disk: VirtualDisk): number {
  const path = `${directory}/identity.json`
  const json = disk.paths().includes(path) ? disk.content(path).toString() : '{}'
  return (JSON.parse(json) as { generation?: number }).generation ?? 0
}

export function journalOf(disk: VirtualDisk): string {
  return generationIn(directory, generationOf(disk)).journal
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

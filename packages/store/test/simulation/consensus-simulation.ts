import { Consensus, type ConsensusOptions } from '../../src/consensus/consensus.ts'
import { covers } from '../../src/consensus/debt.ts'
import type { Effect } from '../../src/consensus/effect.ts'
import type { Configuration } from '../../src/consensus/electorate.ts'
import type { Append, BatchSpan, ConsensusMessage } from '../../src/consensus/message.ts'
import { type SyncPolicy, syncPolicy } from '../../src/consensus/sync-policy.ts'
import type { StandReason } from '../../src/election/elector.ts'
import type { Voter } from '../../src/store-identity.ts'
import { EventQueue } from './event-queue.ts'
import { drawFaults, type FaultMix } from './faults.ts'
import { fail, History, PermittedLoss, type SimulatedBatch } from './history.ts'
import { SeededRandom } from './random.ts'
import type { DurablePromise, LogOperation } from './simulated-disk.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { Connection, Link } from './simulated-link.ts'
import { SimulatedNode } from './simulated-node.ts'

export interface SimulationOptions {
  readonly seed: number
  /** The core under test; another one to see that its fault is found. */
  readonly core?: typeof Consensus
  /** A store that was lost goes on as if nothing had happened: what the handshake prevents (S23). */
  readonly blankStoresVote?: boolean
  /** Told of everything that happens, to read a failed seed. */
  readonly trace?: (line: string) => void
}

export interface SimulationResult {
  readonly events: number
  readonly virtualMs: number
  readonly elections: number
  readonly committedBatches: number
  readonly crashes: number
  /** Copies of a log that took the place of one that was too far behind. */
  readonly installs: number
  /** Crashes in which a store lost what was durable. */
  readonly losses: number
  /** Masterships that were handed over. */
  readonly transfers: number
  /** Of those, how often the next master was the one that it was handed to. */
  readonly inherited: number
  /** Changes of the voters that were committed. */
  readonly reconfigurations: number
  /** From the end of the faults until one master served and the others followed it. */
  readonly settledMs: number
  /** A committed record was lost, in a way that no rule can prevent: the run ended there. */
  readonly lost: boolean
}

/** A run that broke a rule; the seed gives it again. */
class SimulationFailure extends Error {
  readonly seed: number

  constructor(seed: number, cause: unknown) {
    super(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.seed = seed
  }
}

const electionTimeoutMs = 400
const heartbeatMs = 60
const tickMs = 15
const faultyMs = 6_000
/** Election time-outs within which a healed cluster has a master that confirms. */
const settleTimeouts = 12

/** Runs a cluster of consensus cores through the faults that a seed draws, then heals it and awaits rest. */
export function simulate(options: SimulationOptions): SimulationResult {
  try {
    return new ConsensusSimulation(options).run()
  } catch (cause) {
    throw new SimulationFailure(options.seed, cause)
  }
}

/**
 * A cluster founded by 1 to 5 consensus cores, and at times learners, on a virtual clock, network and disks.
 *
 * Each step of a node is checked at once by `History` and by the checks here; nothing is left to the end but S8 and
 * liveness. All randomness comes from the seed.
 */
class ConsensusSimulation {
  readonly #options: SimulationOptions
  readonly #core: typeof Consensus
  readonly #random: SeededRandom
  #faults: FaultMix
  readonly #history: History
  readonly #nodes: SimulatedNode[] = []
  readonly #links: Link[] = []
  readonly #linkOf: Link[][] = []
  readonly #events = new EventQueue<() => void>()
  readonly #batches: SimulatedBatch[] = []
  readonly #founders: Voter[] = []
  /** The stores that there have been, by UUID, and their bits. */
  readonly #bits = new Map<string, number>()
  /** Who has answered an attempt and would vote, but for what it knows of; by node and epoch. */
  readonly #answers = new Map<string, Set<string>>()
  /** The logs that were stood with, by node and epoch. */
  readonly #candidates = new Map<string, { readonly log: readonly SimulatedBatch[]; readonly all: boolean }>()
  readonly #sync: SyncPolicy
  readonly #maxFlyingBytes: number
  readonly #leaseMs: number
  #nowMs = 0
  #faulty = true
  #clientOn = true
  #count = 0
  #crashes = 0
  #installs = 0
  #losses = 0
  #transfers = 0
  #inherited = 0
  /** To whom mastership was handed over, until there is a next master. */
  #heir: string | undefined

  constructor(options: SimulationOptions) {
    this.#options = options
    this.#core = options.core ?? Consensus
    const random = new SeededRandom(options.seed)
    this.#random = random
    this.#faults = drawFaults(random)
    const voters = random.pick([1, 2, 3, 3, 3, 3, 4, 5, 5])
    const learners = random.chance(0.7) ? 0 : random.pick([1, 1, 2])
    this.#history = new History(this.#founders, (each) => this.#bitsOf(each))
    this.#sync = syncPolicy(
      random.chance(0.8)
        ? 'quorum_disk'
        : random.pick(['quorum_mem', 'remote_disk', 'local_disk', 'local_mem']),
    )
    this.#leaseMs = random.pick([150, 250, 350])
    this.#maxFlyingBytes = random.pick([8, 40, 4000])
    for (let at = 0; at < voters + learners; at++) {
      const rate = 1 + random.between(-1, 1) * this.#faults.drift
      const node = new SimulatedNode(at, random.below(3), rate, random.between(0, 10_000), this.#blankDisk())
      if (at < voters) this.#founders.push(voterOf(node))
      this.#nodes.push(node)
      this.#linkOf.push([])
    }
    const forgetful = this.#faults.amnesia === 'damages' ? this.#nodes.length : Math.floor((voters - 1) / 2)
    for (const node of this.#nodes.slice(0, forgetful)) node.forgetful = true
    for (const first of this.#nodes) {
      for (const second of this.#nodes.slice(first.at + 1)) {
        const link = new Link(first.at, second.at)
        this.#links.push(link)
        ;(this.#linkOf[first.at] as Link[])[second.at] = link
        ;(this.#linkOf[second.at] as Link[])[first.at] = link
      }
    }
  }

  run(): SimulationResult {
    let settledMs = 0
    let lost = false
    try {
      settledMs = this.#run()
    } catch (error) {
      if (!(error instanceof PermittedLoss)) throw error
      lost = true
    }
    return {
      events: this.#count,
      virtualMs: this.#nowMs,
      elections: this.#history.leaders,
      committedBatches: this.#history.committedBatches,
      crashes: this.#crashes,
      installs: this.#installs,
      reconfigurations: this.#history.reconfigurations,
      losses: this.#losses,
      transfers: this.#transfers,
      inherited: this.#inherited,
      settledMs,
      lost,
    }
  }

  /** @returns How long it took to settle. */
  #run(): number {
    const { trace } = this.#options
    trace?.(`${this.#nodes.length} nodes, ${this.#sync.words}, ${JSON.stringify(this.#faults)}`)
    for (const node of this.#nodes) this.#start(node)
    for (const link of this.#links) this.#connectSoon(link, this.#random.between(0, 50))
    this.#client()
    this.#scheduleFaults()
    this.#runUntil(faultyMs)
    this.#heal()
    const healedMs = this.#nowMs
    const { confirmedIndex, committedIndex } = this.#history
    this.#await(`one master and progress`, healedMs + settleTimeouts * electionTimeoutMs, () => {
      return (
        this.#settled() &&
        this.#history.committedIndex > committedIndex &&
        (this.#history.confirmedIndex > confirmedIndex || !this.#sync.committed)
      )
    })
    const settledMs = this.#nowMs - healedMs
    this.#clientOn = false
    this.#await('equal logs', this.#nowMs + settleTimeouts * electionTimeoutMs, () => this.#equal())
    for (const node of this.#nodes) this.#history.rests(node.nodeId, node.log)
    return settledMs
  }

  // Time.

  #at(atMs: number, action: () => void): void {
    this.#events.push(atMs, action)
  }

  /** Something that happens to a node: it waits out a pause, and is lost in a crash. */
  #atNode(node: SimulatedNode, atMs: number, action: () => void): void {
    const { run } = node
    const step = (): void => {
      if (node.run !== run) return
      if (node.paused) node.held.push(step)
      else {
        action()
        this.#checkLease(node)
      }
    }
    this.#at(atMs, step)
  }

  #runUntil(untilMs: number): void {
    for (;;) {
      const event = this.#events.pop()
      if (event === undefined) throw new Error('nothing is going to happen')
      if (event.atMs > this.#nowMs) this.#nowMs = event.atMs
      this.#count++
      event.what()
      if (this.#nowMs >= untilMs) return
    }
  }

  #await(what: string, deadlineMs: number, condition: () => boolean): void {
    while (!condition()) {
      if (this.#nowMs > deadlineMs) fail(`S38: no ${what} in time; ${this.#describe()}`)
      this.#runUntil(this.#nowMs + 20)
    }
  }

  #local(node: SimulatedNode): number {
    return node.localMs(this.#nowMs)
  }

  #delay(meanMs: number): number {
    // Mostly near the mean, at times much longer.
    return this.#random.chance(0.05)
      ? meanMs * this.#random.between(1, 8)
      : meanMs * this.#random.between(0.2, 1.5)
  }

  // A node's life.

  #start(node: SimulatedNode): void {
    const { disk } = node
    node.log = [...disk.log]
    node.commitIndex = Math.max(disk.commitIndex, disk.firstIndex - 1)
    node.installing = false
    node.bootEpoch = Math.max(disk.promise.epoch, disk.lastEpoch)
    node.heardMs = Number.NEGATIVE_INFINITY
    node.diskFreeAtMs = 0
    node.promiseFreeAtMs = 0
    node.crashAfter = -1
    node.serving = false
    node.heardRuns.clear()
    node.owes = disk.promise.owed
    node.heard = { epoch: 0, index: 0 }
    const { standDelayMs } = this.#faults
    const patienceMs = this.#random.chance(0.3) ? standDelayMs : electionTimeoutMs
    node.standAtMs = this.#local(node) + this.#random.between(0, patienceMs)
    const settings: ConsensusOptions = {
      nodeId: node.nodeId,
      storeUuid: disk.storeUuid,
      configurations: this.#configurationsOf(disk),
      weight: node.weight,
      sync: this.#sync,
      promise: disk.promise,
      log: {
        firstIndex: disk.firstIndex,
        lastIndex: disk.lastIndex,
        commitIndex: disk.commitIndex,
        epochStarts: disk.epochStarts,
      },
      nowMs: this.#local(node),
      electionTimeoutMs,
      leaseMs: this.#leaseMs,
      heartbeatMs,
      maxFlyingBytes: this.#maxFlyingBytes,
    }
    node.core = new this.#core(settings)
    this.#options.trace?.(
      `${this.#nowMs.toFixed(1)} ${node.nodeId} starts: promise ${disk.promise.epoch} ${disk.promise.votedFor}, log (${disk.lastEpoch}, ${disk.lastIndex}), commit ${disk.commitIndex}`,
    )
    this.#tick(node)
  }

  #tick(node: SimulatedNode): void {
    this.#atNode(node, this.#nowMs + tickMs * this.#random.between(0.7, 1), () => {
      const { core } = node
      if (core === undefined) return
      this.#tick(node)
      const localMs = this.#local(node)
      this.#perform(node, core.tick(localMs))
      if (core.role === 'follower' && core.leader === undefined && localMs >= node.standAtMs) {
        this.#stand(node, 'timeout')
      }
    })
  }

  #stand(node: SimulatedNode, reason: StandReason): void {
    const localMs = this.#local(node)
    node.standAtMs = localMs + this.#random.between(0.5, 2) * electionTimeoutMs
    if (node.core !== undefined) this.#perform(node, node.core.stand(reason, localMs))
  }

  #resign(node: SimulatedNode): void {
    if (node.core?.role !== 'leader') return
    this.#perform(node, node.core.resign('told to'))
  }

  #transfer(node: SimulatedNode): void {
    if (node.core?.role !== 'leader') return
    const to = this.#random.chance(0.5) ? undefined : this.#random.pick(this.#nodes).nodeId
    this.#perform(node, node.core.transfer(to, this.#local(node)))
  }

  #crash(node: SimulatedNode, downMs: number): void {
    if (node.core === undefined) return
    this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} crashes`)
    this.#crashes++
    node.run++
    node.core = undefined
    node.paused = false
    node.held.length = 0
    node.disk.crash(this.#random, this.#faults.keptUnsynced)
    const { amnesia } = this.#faults
    if (this.#faulty && node.forgetful && amnesia !== 'none' && this.#random.chance(0.3)) {
      if (node.disk.forget(this.#random, amnesia)) {
        this.#options.trace?.(
          `${this.#nowMs.toFixed(1)} ${node.nodeId} is left with ${JSON.stringify(node.disk.end)}`,
        )
        this.#losses++
        node.lostRun = node.run
      }
    }
    for (const link of this.#linksOf(node)) {
      this.#break(link)
      if (link.connection !== undefined) link.connection.ends[link.side(node.at)].live = false
    }
    this.#at(this.#nowMs + downMs, () => {
      if (node.core === undefined) this.#start(node)
    })
  }

  /** The store of a node is lost; it comes back blank, and as a learner, unless the fault is that it does not. */
  #wipe(node: SimulatedNode): void {
    this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} loses its store`)
    this.#crash(node, this.#random.between(10, 500))
    const { bit, storeUuid } = node.disk
    node.disk = this.#options.blankStoresVote === true ? new SimulatedDisk(bit, storeUuid) : this.#blankDisk()
  }

  #blankDisk(): SimulatedDisk {
    const storeUuid = `s${this.#bits.size}`
    const bit = 1 << this.#bits.size
    this.#bits.set(storeUuid, bit)
    return new SimulatedDisk(bit, storeUuid)
  }

  #bitsOf(voters: readonly Voter[]): number {
    return voters.reduce((bits, { storeUuid }) => bits | (this.#bits.get(storeUuid) ?? 0), 0)
  }

  /** As recovered: those that may still be truncated, and the one below, or more. */
  #configurationsOf(disk: SimulatedDisk): Configuration[] {
    const all = [{ index: 0, voters: this.#founders as readonly Voter[] }]
    for (const { lastIndex, voters } of disk.log)
      if (voters !== undefined) all.push({ index: lastIndex, voters })
    const settled = all.findLastIndex(({ index }) => index <= disk.commitIndex)
    return all.slice(this.#random.chance(0.5) ? settled : 0)
  }

  /** Whether a majority of these voters still has its store, without that of `lost`. */
  #hasMajority(voters: readonly Voter[], lost?: SimulatedNode): boolean {
    const left = this.#nodes.filter((node) => node !== lost).map(({ disk }) => disk.storeUuid)
    const alive = voters.filter(({ storeUuid }) => left.includes(storeUuid)).length
    return alive > voters.length / 2
  }

  /** Whether an operator makes these the voters: most of them have their stores, and disks that do not lie. */
  #mayVote(voters: readonly Voter[]): boolean {
    const forgetful = this.#nodes.filter((node) => node.forgetful).map(({ nodeId }) => nodeId)
    const liars = voters.filter(({ nodeId }) => forgetful.includes(nodeId)).length
    return this.#hasMajority(voters) && (liars === 0 || liars < voters.length / 2)
  }

  /** A majority of the voters keeps their stores (S23), whichever configuration is in force in the end. */
  #mayLose(lost: SimulatedNode): boolean {
    // Each store that there has ever been takes a bit.
    if (this.#bits.size >= 30) return false
    return this.#nodes.every(({ core, disk, log }) => {
      if (core?.changing === true) return false
      const known = core === undefined ? disk.log : log
      return this.#history.votersInPlay(known).every((voters) => this.#hasMajority(voters, lost))
    })
  }

  #pause(node: SimulatedNode, pauseMs: number): void {
    if (node.core === undefined || node.paused) return
    this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} pauses for ${pauseMs.toFixed(0)}`)
    node.paused = true
    const { run } = node
    this.#at(this.#nowMs + pauseMs, () => {
      if (node.run === run) this.#resume(node)
    })
  }

  #resume(node: SimulatedNode): void {
    if (!node.paused) return
    this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} resumes`)
    node.paused = false
    // What it does first may be to dispatch, before it hears of anything that happened meanwhile.
    this.#checkLease(node)
    for (const step of node.held.splice(0)) step()
  }

  /** Copies the log of another node, and starts anew with it if it is at least as complete as the own one by then. */
  #install(node: SimulatedNode, from: SimulatedNode): void {
    if (node.installing) return
    node.installing = true
    this.#atNode(node, this.#nowMs + this.#delay(30), () => {
      node.installing = false
      const { core, disk } = node
      if (core === undefined || from.core === undefined || from.paused || from.disk.firstIndex === 1) return
      const { firstIndex } = from.disk
      const { commitIndex } = from
      const log = from.log.slice(0, from.log.findLastIndex(({ lastIndex }) => lastIndex <= commitIndex) + 1)
      const last = log.at(-1)
      if (last === undefined || !core.coveredBy(last.epoch, last.lastIndex)) return
      this.#options.trace?.(
        `${this.#nowMs.toFixed(1)} ${node.nodeId} installs ${firstIndex}..${last.lastIndex} of ${from.nodeId}`,
      )
      this.#installs++
      this.#crash(node, this.#random.between(1, 100))
      disk.install(log, firstIndex, this.#random.chance(0.5) ? commitIndex : firstIndex - 1)
    })
  }

  /** Drops whole batches that are committed from the front of the log, at times without minding who needs them. */
  #discard(node: SimulatedNode): void {
    const { core, disk, commitIndex } = node
    if (core === undefined || node.paused) return
    const pinned = this.#random.chance(0.5) ? core.neededFrom : Number.POSITIVE_INFINITY
    const upTo = Math.min(commitIndex, core.durableIndex, pinned - 1)
    const gone = node.log.filter((batch) => batch.firstIndex >= disk.firstIndex && batch.lastIndex <= upTo)
    const last = gone.at(this.#random.chance(0.5) ? -1 : -1 - this.#random.below(gone.length + 1))
    if (last === undefined) return
    disk.firstIndex = last.lastIndex + 1
    this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} begins with ${disk.firstIndex}`)
    this.#perform(node, core.discarded(disk.firstIndex, this.#local(node)))
  }

  // Effects.

  #perform(node: SimulatedNode, effects: readonly Effect[]): void {
    const { run } = node
    for (const effect of effects) {
      if (node.run !== run) return
      if (node.crashAfter >= 0 && node.crashAfter-- === 0) {
        this.#crash(node, this.#random.between(10, this.#faults.downMs))
        return
      }
      this.#carryOut(node, effect)
    }
    if (node.run !== run || node.core === undefined) return
    this.#checkVoters(node, node.core)
    this.#checkDebt(node, node.core)
  }

  #carryOut(node: SimulatedNode, effect: Effect): void {
    const { trace } = this.#options
    if (trace !== undefined && effect.type !== 'fetch') {
      trace(`${this.#nowMs.toFixed(1)} ${node.nodeId} ${describeEffect(effect)}`)
    }
    const localMs = this.#local(node)
    switch (effect.type) {
      case 'promise':
        if (effect.owed === undefined && node.core?.owed !== undefined)
          fail(`S24: ${node.nodeId} does not keep on disk what it owes`)
        this.#persistPromise(node, effect)
        break
      case 'send':
        this.#checkSend(node, effect.message, effect.to)
        this.#send(node, effect.to, effect.message)
        break
      case 'truncate':
        this.#history.truncates(node.nodeId, effect.index, node.commitIndex)
        while ((node.log.at(-1)?.lastIndex ?? 0) > effect.index) node.log.pop()
        if ((node.log.at(-1)?.lastIndex ?? 0) !== effect.index) fail(`S7: ${node.nodeId} cuts within a batch`)
        this.#write(node, { type: 'truncate', index: effect.index })
        break
      case 'append':
        this.#append(node, effect.append, effect.fromBatch)
        break
      case 'fetch':
        this.#fetch(node, effect.to, effect.fromIndex, effect.epoch)
        break
      case 'lead': {
        const { promise } = node.disk
        node.heardRuns.clear()
        if (promise.epoch !== effect.epoch || promise.votedFor !== node.nodeId) {
          fail(
            `S2: ${node.nodeId} leads ${effect.epoch} on the promise ${promise.epoch} for ${promise.votedFor}`,
          )
        }
        if (this.#heir === node.nodeId) this.#inherited++
        this.#heir = undefined
        this.#checkAll(node, effect.epoch)
        this.#history.leads(node.nodeId, effect.epoch, node.log)
        this.#atNode(node, this.#nowMs + (this.#random.chance(0.5) ? 0 : this.#delay(5)), () => {
          if (node.core?.role !== 'leader' || node.core.epoch !== effect.epoch) return
          this.#seal(node, 1, this.#random.chance(0.5) ? node.core.voters : undefined)
          if (this.#faulty && this.#faults.changes > 0 && this.#random.chance(0.5)) this.#reconfigure(node)
        })
        break
      }
      case 'configure':
        this.#history.reconfigures(node.nodeId, effect.epoch, node.log, node.commitIndex, effect.voters)
        this.#atNode(node, this.#nowMs + (this.#random.chance(0.5) ? 0 : this.#delay(5)), () => {
          if (node.core?.role === 'leader' && node.core.epoch === effect.epoch)
            this.#seal(node, 1, effect.voters)
        })
        break
      case 'serving':
        node.serving = true
        if (node.log.findLast((batch) => batch.lastIndex <= node.commitIndex)?.epoch !== effect.epoch) {
          fail(`S5: ${node.nodeId} serves before it committed a record of epoch ${effect.epoch}`)
        }
        if (this.#faulty && this.#random.chance(this.#faults.hastyResignations)) {
          this.#atNode(node, this.#nowMs + this.#random.between(0, this.#leaseMs / 2), () =>
            this.#resign(node),
          )
        }
        break
      case 'commit':
        this.#history.commits(
          node.nodeId,
          node.core?.epoch ?? 0,
          node.log,
          node.commitIndex,
          effect.index,
          this.#unheardOf(node),
        )
        node.commitIndex = effect.index
        if (this.#random.chance(0.5)) this.#write(node, { type: 'mark', commitIndex: effect.index })
        break
      case 'confirm':
        if (!node.serving) fail(`S5: ${node.nodeId} confirms and does not serve`)
        if (this.#sync.committed) this.#history.confirms(node.nodeId, effect.index)
        break
      case 'behind':
        this.#install(node, this.#node(Number(effect.leader.slice(1))))
        break
      case 'leaderLost':
        node.standAtMs =
          effect.reason === 'timeout'
            ? localMs + this.#random.between(0, electionTimeoutMs)
            : localMs + this.#random.between(0, this.#faults.standDelayMs)
        break
      case 'defeated':
        node.standAtMs = localMs + this.#random.between(0.1, 1) * electionTimeoutMs
        break
      case 'deposed':
        node.serving = false
        break
      case 'handedOver':
        this.#checkHandedOver(node, this.#node(Number(effect.to.slice(1))))
        this.#transfers++
        this.#heir = effect.to
        break
      case 'transferFailed':
        break
      case 'role':
        break
      case 'diverged':
        fail(`S7: ${node.nodeId} diverged: ${effect.message}`)
        break
      default:
        effect satisfies never
    }
  }

  #persistPromise(node: SimulatedNode, { epoch, votedFor, owed }: DurablePromise): void {
    const { disk } = node
    const { generation } = disk
    disk.beginPromise({ epoch, votedFor, owed })
    const atMs = Math.max(node.promiseFreeAtMs, this.#nowMs + this.#diskMs(node))
    node.promiseFreeAtMs = atMs
    this.#at(atMs, () => {
      if (node.disk !== disk || disk.generation !== generation) return
      const done = disk.finishPromise()
      this.#atNode(node, this.#nowMs, () => {
        if (node.core !== undefined) this.#perform(node, node.core.promised(done.epoch, this.#local(node)))
      })
    })
  }

  #write(node: SimulatedNode, operation: LogOperation): void {
    const { disk } = node
    const { generation } = disk
    disk.begin(operation)
    const atMs = Math.max(node.diskFreeAtMs, this.#nowMs + this.#diskMs(node))
    node.diskFreeAtMs = atMs
    if (operation.type === 'append') {
      const { core } = node
      const writtenMs = this.#random.between(this.#nowMs, atMs)
      this.#atNode(node, writtenMs, () => {
        const last = operation.batches.at(-1)?.lastIndex ?? 0
        if (last <= operation.validUpTo && core !== undefined) {
          this.#perform(node, core.written(last, this.#local(node)))
        }
      })
    }
    this.#at(atMs, () => {
      if (node.disk !== disk || disk.generation !== generation) return
      const done = disk.finish()
      this.#atNode(node, this.#nowMs, () => {
        const index = disk.report(done)
        if (index === undefined || node.core === undefined) return
        this.#perform(node, node.core.durable(index, this.#local(node)))
      })
    })
  }

  #diskMs(node: SimulatedNode): number {
    const { diskMs } = this.#faults
    return this.#nowMs < node.slowUntilMs ? this.#random.between(diskMs, 1000) : this.#delay(diskMs)
  }

  #append(node: SimulatedNode, append: Append, fromBatch: number): void {
    const batches: SimulatedBatch[] = []
    for (const span of append.batches.slice(fromBatch)) {
      const batch = this.#batches[append.bytes.readUInt32LE(span.offset)]
      if (
        batch?.firstIndex !== span.firstIndex ||
        batch.lastIndex !== span.lastIndex ||
        batch.epoch !== span.epoch
      ) {
        fail(`S8: ${node.nodeId} appends (${span.epoch}, ${span.firstIndex}) with the bytes of another batch`)
      }
      if (batch.previous !== node.log.at(-1)) {
        fail(`S8: ${node.nodeId} appends (${span.epoch}, ${span.firstIndex}) behind another batch`)
      }
      node.log.push(batch)
      batches.push(batch)
    }
    this.#write(node, { type: 'append', batches, validUpTo: batches.at(-1)?.lastIndex ?? 0 })
  }

  #fetch(node: SimulatedNode, to: string, fromIndex: number, epoch: number): void {
    const read = (): readonly SimulatedBatch[] => {
      const first = node.log.findLastIndex((batch) => batch.firstIndex <= fromIndex)
      if (first < 0 || (node.log[first]?.lastIndex ?? 0) < fromIndex) return []
      return node.log.slice(first, first + 1 + this.#random.below(6))
    }
    // The disk is read somewhere between the request and the answer.
    const early = fromIndex >= node.disk.firstIndex && this.#random.chance(0.5) ? read() : undefined
    this.#atNode(node, this.#nowMs + this.#delay(this.#faults.fetchMs), () => {
      if (early === undefined && fromIndex < node.disk.firstIndex) {
        if (node.core !== undefined) this.#perform(node, node.core.fetchFailed(to, epoch, this.#local(node)))
        return
      }
      const batches = early ?? read()
      const bytes = Buffer.allocUnsafe(batches.length * 4)
      const spans = batches.map((batch, place): BatchSpan => {
        bytes.writeUInt32LE(batch.id, place * 4)
        return {
          epoch: batch.epoch,
          firstIndex: batch.firstIndex,
          lastIndex: batch.lastIndex,
          offset: place * 4,
          voters: batch.voters,
        }
      })
      if (node.core !== undefined) {
        this.#perform(node, node.core.fetched(to, epoch, fromIndex, spans, bytes, this.#local(node)))
      }
    })
  }

  #seal(node: SimulatedNode, records: number, voters?: readonly Voter[]): void {
    const { core } = node
    if (core?.role !== 'leader') return
    const previous = node.log.at(-1)
    const firstIndex = core.lastIndex + 1
    const batch: SimulatedBatch = {
      id: this.#batches.length,
      epoch: core.epoch,
      firstIndex,
      lastIndex: firstIndex + records - 1,
      previous,
      voters,
      before: this.#history.votersOf(node.log),
      durableOn: 0,
      lostOn: 0,
    }
    if ((previous?.lastIndex ?? 0) !== core.lastIndex) fail(`S8: ${node.nodeId} and its log differ in length`)
    this.#history.seals(batch)
    this.#batches.push(batch)
    node.log.push(batch)
    const bytes = Buffer.allocUnsafe(4)
    bytes.writeUInt32LE(batch.id, 0)
    this.#write(node, { type: 'append', batches: [batch], validUpTo: batch.lastIndex })
    this.#perform(
      node,
      core.sealed(batch.epoch, firstIndex, batch.lastIndex, bytes, this.#local(node), voters),
    )
  }

  #client(): void {
    this.#at(this.#nowMs + this.#random.between(5, 60), () => {
      this.#client()
      if (!this.#clientOn) return
      for (const node of this.#nodes) {
        if (node.core?.serving !== true || node.paused) continue
        // While mastership is handed over nothing is sealed, or hardly ever.
        if (node.core.transferringTo !== undefined && this.#random.chance(0.9)) continue
        for (let burst = this.#random.pick([1, 1, 1, 3]); burst > 0; burst--) {
          if (node.core?.serving === true) this.#seal(node, 1 + this.#random.below(3))
        }
        this.#checkLease(node)
      }
    })
  }

  // Network.

  #linksOf(node: SimulatedNode): Link[] {
    return this.#links.filter((link) => link.nodes.includes(node.at))
  }

  #node(at: number): SimulatedNode {
    return this.#nodes[at] as SimulatedNode
  }

  #send(node: SimulatedNode, to: string, message: ConsensusMessage): void {
    const peer = this.#node(Number(to.slice(1)))
    const link = this.#linkOf[node.at]?.[peer.at]
    const connection = link?.connection
    if (link === undefined || connection === undefined || connection.diedAtMs <= this.#nowMs) return
    if (!connection.ends[link.side(node.at)].live) return
    const side = link.side(peer.at)
    const end = connection.ends[side]
    const atMs = Math.max(
      end.lastArrivalMs,
      this.#nowMs + this.#delay(this.#faults.delayMs),
      link.cutUntilMs[side],
    )
    end.lastArrivalMs = atMs
    const { run } = node
    this.#atNode(peer, atMs, () => {
      // Lost with its connection, unless it waited in the receiver's buffer by then.
      if (atMs >= connection.diedAtMs || !end.live || peer.core === undefined) return
      if (message.type === 'appendReply' && peer.core.role === 'leader' && message.epoch === peer.core.epoch)
        peer.heardRuns.set(node.at, run)
      this.#deliver(peer, node.nodeId, message)
      if (this.#faulty && this.#random.chance(this.#faults.fragile)) this.#break(link)
    })
  }

  #deliver(node: SimulatedNode, from: string, message: ConsensusMessage): void {
    const { core } = node
    if (core === undefined) return
    const localMs = this.#local(node)
    const asked = message.type === 'preVote' || message.type === 'vote'
    const alive =
      asked &&
      (core.role === 'leader' || (core.leader !== undefined && localMs - node.heardMs < electionTimeoutMs))
    const { leader, epoch } = core
    const handedOver = message.type === 'vote' && message.handedOver === epoch
    if (message.type === 'append' && message.epoch >= epoch) {
      const said = { epoch: message.commitEpoch, index: message.commitIndex }
      if (!covers(node.heard, said)) node.heard = said
    } else if (message.type === 'preVoteReply' && (message.granted || message.owing)) {
      const key = `${node.nodeId} ${message.epoch}`
      this.#answers.set(key, (this.#answers.get(key) ?? new Set()).add(from))
    } else if (message.type === 'recall' && leader === from && message.epoch === epoch) {
      if (node.owes === undefined || !covers(node.owes, message.owed)) node.owes = message.owed
    }
    const effects = core.receive(from, message, localMs)
    if (message.type === 'append' && core.leader === from && core.epoch === message.epoch)
      node.heardMs = localMs
    if (alive && !handedOver) {
      for (const effect of effects) {
        if (effect.type !== 'send' || !('granted' in effect.message) || !effect.message.granted) continue
        fail(`S9: ${node.nodeId} votes for ${from} while ${leader} leads epoch ${epoch}`)
      }
    }
    this.#perform(node, effects)
  }

  #connectSoon(link: Link, delayMs: number): void {
    this.#at(this.#nowMs + delayMs, () => {
      if (this.#nowMs < link.blockedUntilMs) {
        this.#connectSoon(link, link.blockedUntilMs - this.#nowMs)
        return
      }
      const [first, second] = [this.#node(link.nodes[0]), this.#node(link.nodes[1])]
      const old = link.connection
      // A new connection may replace one whose end was not noticed yet, at one end.
      const ready =
        old === undefined ||
        (old.diedAtMs <= this.#nowMs && (!(old.ends[0].live || old.ends[1].live) || this.#random.chance(0.1)))
      if (!ready || first.core === undefined || second.core === undefined || first.paused || second.paused) {
        this.#connectSoon(link, this.#random.between(20, 60))
        return
      }
      this.#connect(link)
    })
  }

  #connect(link: Link): void {
    const upMs: [number, number] = [
      this.#nowMs + this.#random.between(0, 2 * this.#faults.delayMs),
      this.#nowMs + this.#random.between(0, 2 * this.#faults.delayMs),
    ]
    const connection = new Connection(...upMs)
    link.connection = connection
    for (const side of [0, 1] as const) {
      const node = this.#node(link.nodes[side])
      const peer = this.#node(link.nodes[1 - side] as number)
      const { storeUuid } = peer.disk
      this.#atNode(node, upMs[side], () => {
        const { core } = node
        if (core === undefined || link.connection !== connection) return
        const replaced = link.upEnds[side]
        if (replaced?.live === true) {
          replaced.live = false
          if (this.#random.chance(0.5)) this.#perform(node, core.peerDown(peer.nodeId))
        }
        if (node.core !== core || connection.ends[side].closed || link.connection !== connection) return
        connection.ends[side].live = true
        link.upEnds[side] = connection.ends[side]
        this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} is connected to ${peer.nodeId}`)
        this.#perform(node, core.peerUp(peer.nodeId, storeUuid, this.#local(node)))
      })
    }
  }

  /** The connection breaks now; each end learns of it in its own time. */
  #break(link: Link): void {
    const { connection } = link
    if (connection === undefined || connection.diedAtMs <= this.#nowMs) return
    connection.diedAtMs = this.#nowMs
    for (const side of [0, 1] as const) {
      const node = this.#node(link.nodes[side])
      const end = connection.ends[side]
      const atMs = Math.max(this.#nowMs + this.#random.between(0, this.#faults.noticeMs), this.#nowMs)
      this.#atNode(node, atMs, () => {
        end.closed = true
        if (!end.live || node.core === undefined) return
        end.live = false
        const peerId = `n${link.nodes[1 - side]}`
        this.#options.trace?.(`${this.#nowMs.toFixed(1)} ${node.nodeId} loses ${peerId}`)
        this.#perform(node, node.core.peerDown(peerId))
      })
    }
    this.#connectSoon(link, this.#random.between(5, this.#faults.reconnectMs))
  }

  // Faults.

  #scheduleFaults(): void {
    const { random, faults } = { random: this.#random, faults: this.#faults }
    const someNode = (): SimulatedNode => {
      // Half of the faults are aimed at the master.
      const leader = this.#nodes.find((node) => node.core?.role === 'leader')
      return leader !== undefined && random.chance(0.5) ? leader : random.pick(this.#nodes)
    }
    const linked = this.#links.length > 0
    this.#repeat(linked ? faults.breaks : 0, () => this.#break(random.pick(this.#links)))
    this.#repeat(linked ? faults.cuts : 0, () => {
      const link = random.pick(this.#links)
      link.cutUntilMs[random.below(2)] = this.#nowMs + random.between(20, 1500)
    })
    this.#repeat(linked ? faults.isolations : 0, () => this.#isolate(someNode()))
    this.#repeat(faults.pauses, () =>
      this.#pause(someNode(), random.between(10, random.pick([100, 600, 1500]))),
    )
    this.#repeat(faults.crashes, () => {
      const node = someNode()
      if (node.core !== undefined) node.crashAfter = random.below(20)
    })
    this.#repeat(faults.wipes, () => {
      const node = someNode()
      if (node.core !== undefined && this.#mayLose(node)) this.#wipe(node)
    })
    this.#repeat(faults.discards, () => this.#discard(random.pick(this.#nodes)))
    this.#repeat(faults.amnesia === 'rollbacks' ? 1 : 0, () => random.pick(this.#nodes).disk.remember())
    this.#repeat(faults.changes, () => {
      for (const node of this.#nodes) if (!node.paused) this.#reconfigure(node)
    })
    this.#repeat(faults.resignations, () => {
      for (const node of this.#nodes) if (!node.paused) this.#resign(node)
    })
    this.#repeat(faults.transfers, () => {
      for (const node of this.#nodes) if (!node.paused) this.#transfer(node)
    })
    this.#repeat(faults.stands, () => {
      const node = random.pick(this.#nodes)
      if (!node.paused) this.#stand(node, 'session expiry')
    })
    this.#repeat(faults.slowDisks, () => {
      random.pick(this.#nodes).slowUntilMs = this.#nowMs + random.between(50, 1500)
    })
  }

  #repeat(perSecond: number, action: () => void): void {
    if (perSecond === 0) return
    this.#at(this.#nowMs - (Math.log(1 - this.#random.next()) * 1000) / perSecond, () => {
      if (!this.#faulty) return
      action()
      this.#repeat(perSecond, action)
    })
  }

  /** An operator has the voters changed: lost stores go first. It does not give away the majority that it has. */
  #reconfigure(node: SimulatedNode): void {
    const { core } = node
    if (core?.role !== 'leader') return
    const random = this.#random
    const { voters } = core
    const lost = voters.find((voter) => this.#nodes.every(({ disk }) => disk.storeUuid !== voter.storeUuid))
    const others = this.#nodes.filter(({ disk }) =>
      voters.every(({ storeUuid }) => storeUuid !== disk.storeUuid),
    )
    const gone = lost ?? random.pick(voters)
    const added = others.length === 0 ? undefined : random.pick(others)
    const next =
      added !== undefined && (lost === undefined || random.chance(0.1)) && random.chance(0.7)
        ? [...voters, voterOf(added)]
        : voters.filter((voter) => voter !== gone)
    // What is asked for twice, or is too much at once, is refused.
    const all = random.chance(0.1) ? next.filter((voter) => voter !== random.pick(voters)) : next
    if (this.#mayVote(all)) this.#perform(node, core.changeVoters(all, this.#local(node)))
    if (random.chance(0.2) && node.core === core) {
      const then = voters.filter((voter) => voter !== random.pick(voters))
      if (this.#mayVote(then)) this.#perform(node, core.changeVoters(then, this.#local(node)))
    }
  }

  /** Cuts a node off from some or all others, by broken connections or by silence. */
  #isolate(node: SimulatedNode): void {
    const forMs = this.#random.between(50, 2000)
    const all = this.#random.chance(0.6)
    const silent = this.#random.chance(0.5)
    for (const link of this.#linksOf(node)) {
      if (!all && this.#random.chance(0.4)) continue
      link.blockedUntilMs = this.#nowMs + forMs
      if (silent) link.cutUntilMs.fill(this.#nowMs + forMs)
      else this.#break(link)
    }
    // Misfortunes do not come alone: what one of the others knew of the one cut off is lost.
    const other = this.#random.pick(this.#nodes)
    if (other !== node && this.#random.chance(0.3)) {
      this.#at(this.#nowMs + this.#random.between(0, 50), () =>
        this.#crash(other, this.#random.between(5, 50)),
      )
    }
  }

  #heal(): void {
    this.#options.trace?.(`${this.#nowMs.toFixed(1)} the faults end`)
    this.#faulty = false
    const { delayMs, diskMs, fetchMs } = this.#faults
    this.#faults = {
      ...this.#faults,
      delayMs: Math.min(delayMs, 5),
      diskMs: Math.min(diskMs, 5),
      fetchMs: Math.min(fetchMs, 5),
    }
    for (const link of this.#links) {
      link.cutUntilMs.fill(0)
      link.blockedUntilMs = 0
      // What a cut held back is under way for long yet: the connection is given up instead.
      const { connection } = link
      const stuck = connection?.ends.some((end) => end.lastArrivalMs > this.#nowMs + electionTimeoutMs)
      if (stuck === true) this.#break(link)
    }
    for (const node of this.#nodes) {
      node.slowUntilMs = 0
      node.crashAfter = -1
      this.#resume(node)
      if (node.core === undefined) this.#start(node)
    }
  }

  // Checks.

  /** S9: no two nodes act as master towards consumers at the same time. */
  #checkLease(node: SimulatedNode): void {
    if (node.core?.mayDispatch(this.#local(node)) !== true) return
    for (const other of this.#nodes) {
      if (other === node || other.paused || other.core?.mayDispatch(this.#local(other)) !== true) continue
      fail(`S9: ${node.nodeId} (${node.core.epoch}) and ${other.nodeId} (${other.core.epoch}) may dispatch`)
    }
  }

  /** S35: the last configuration in the log is in force, and a leader that is not in it leaves once it is committed. */
  #checkVoters(node: SimulatedNode, core: Consensus): void {
    const { voters, index } = this.#history.votersOf(node.log)
    if (core.voters !== voters) fail(`S35: ${node.nodeId} counts by another configuration than its last one`)
    const voter = voters.some(({ storeUuid }) => storeUuid === node.disk.storeUuid)
    if (core.role === 'leader' && !voter && index <= node.commitIndex && !core.changing)
      fail(`S35: ${node.nodeId} leads epoch ${core.epoch}, and its removal is committed`)
  }

  /** S24: a vote, the own one included, is for a log with everything committed that the elector holds or knows of. */
  #checkVote(node: SimulatedNode, epoch: number, key: string): void {
    const candidate = this.#candidates.get(key)
    if (candidate === undefined) return
    const known = candidate.all ? [] : [node.heard, ...(node.owes === undefined ? [] : [node.owes])]
    this.#history.votes(node.nodeId, node.log, known, epoch, candidate.log)
  }

  /** Whoever takes over holds everything, all of it committed, and the lease is over. */
  #checkHandedOver(node: SimulatedNode, to: SimulatedNode): void {
    const last = node.log.at(-1)
    if (node.commitIndex !== last?.lastIndex) fail(`transfer: ${node.nodeId} leaves something uncommitted`)
    if (!to.disk.log.includes(last) && (last.lostOn & to.disk.bit) === 0)
      fail(
        `transfer: ${node.nodeId} hands over to ${to.nodeId}, which lacks (${last.epoch}, ${last.lastIndex})`,
      )
    if (node.core?.mayDispatch(this.#local(node)) === true)
      fail(`S9: ${node.nodeId} handed over and dispatches`)
  }

  /** S24: what an election of all passes over is on no voter's disk. */
  #checkAll(node: SimulatedNode, epoch: number): void {
    if (this.#candidates.get(`${node.nodeId} ${epoch}`)?.all !== true) return
    const { voters } = this.#history.votersOf(node.log)
    for (const other of this.#nodes) {
      if (!voters.some(({ storeUuid }) => storeUuid === other.disk.storeUuid)) continue
      this.#history.votes(other.nodeId, other.disk.log, [], epoch, node.log)
    }
  }

  /** S24: what is owed is owed until a committed record at or above it is on the own disk. */
  #checkDebt(node: SimulatedNode, core: Consensus): void {
    if (node.owes === undefined || core.owed !== undefined) return
    if (!this.#history.holdsCommitted(node.disk.log, core.commitIndex, node.owes))
      fail(`S24: ${node.nodeId} forgets that it owes ${JSON.stringify(node.owes)}`)
    node.owes = undefined
  }

  /** Stores that have lost something, as far as a leader has not heard from them since. */
  #unheardOf(leader: SimulatedNode): number {
    return this.#nodes
      .filter(({ at, lostRun }) => (leader.heardRuns.get(at) ?? -1) < lostRun)
      .reduce((bits, { disk }) => bits | disk.bit, 0)
  }

  /** S2: what is said rests on what is durable, so that a crash right after it takes nothing back. */
  #checkSend(node: SimulatedNode, message: ConsensusMessage, to: string): void {
    const { promise } = node.disk
    if (message.type === 'voteReply' && message.granted) {
      this.#checkVote(node, message.epoch, `${to} ${message.epoch}`)
      if (promise.epoch !== message.epoch || promise.votedFor !== to) {
        fail(
          `S2: ${node.nodeId} votes for ${to} in ${message.epoch}, durable is ${promise.epoch} ${promise.votedFor}`,
        )
      }
    } else if (
      message.type === 'vote' &&
      (promise.epoch !== message.epoch || promise.votedFor !== node.nodeId)
    ) {
      fail(
        `S2: ${node.nodeId} asks for votes in ${message.epoch}, durable is ${promise.epoch} ${promise.votedFor}`,
      )
    } else if (message.type === 'vote') {
      const key = `${node.nodeId} ${message.epoch}`
      if (this.#candidates.has(key)) return
      this.#candidates.set(key, { log: [...node.log], all: message.all })
      const answers = this.#answers.get(key)
      const { voters } = this.#history.votersOf(node.log)
      if (message.all && voters.some(({ nodeId }) => nodeId !== node.nodeId && answers?.has(nodeId) !== true))
        fail(`S24: ${node.nodeId} says in ${message.epoch} that all have answered`)
      this.#checkVote(node, message.epoch, key)
    } else if (message.type === 'append') {
      const { previousEpoch, previousIndex } = message
      const previous = node.log.findLast((batch) => batch.firstIndex <= previousIndex)
      if (previousIndex < node.disk.firstIndex - 1 || (previous?.epoch ?? 0) !== previousEpoch)
        fail(`S33: ${node.nodeId} asks about (${previousEpoch}, ${previousIndex}), which is gone or another`)
      const { commitEpoch, commitIndex } = message
      const last = node.log.findLast((batch) => batch.firstIndex <= commitIndex)
      if ((last?.epoch ?? 0) !== commitEpoch)
        fail(`S24: ${node.nodeId} takes ${commitIndex} to be of epoch ${commitEpoch}`)
    } else if (message.type === 'appendReply' && message.accepted) {
      if (Math.max(promise.epoch, node.bootEpoch) < message.epoch) {
        fail(`S3: ${node.nodeId} acknowledges in ${message.epoch}, durable is ${promise.epoch}`)
      }
      const log = node.disk.log
      const at = log.findLastIndex((batch) => batch.firstIndex <= message.durableIndex)
      if ((log[at]?.lastIndex ?? 0) !== message.durableIndex || log[at] !== node.log[at]) {
        if (message.durableIndex > 0) {
          fail(`S6: ${node.nodeId} acknowledges ${message.durableIndex}, which is not on its disk`)
        }
      }
    }
  }

  #settled(): boolean {
    const leader = this.#nodes.find(
      (node) => node.core?.serving === true && node.core.mayDispatch(this.#local(node)),
    )
    return leader !== undefined && this.#nodes.every((node) => node.core?.leader === leader.nodeId)
  }

  #equal(): boolean {
    const [first] = this.#nodes
    if (first === undefined) return false
    return this.#nodes.every(
      (node) =>
        node.log.at(-1) === first.log.at(-1) &&
        node.disk.log.at(-1) === first.log.at(-1) &&
        node.commitIndex === this.#history.committedIndex &&
        node.core?.lastIndex === node.commitIndex &&
        node.core.owed === undefined,
    )
  }

  #describe(): string {
    return this.#nodes
      .map(({ nodeId, core, commitIndex }) => {
        return `${nodeId}: ${core?.role} ${core?.epoch} of ${core?.leader}, (${core?.lastEpoch}, ${core?.lastIndex}), commit ${commitIndex}`
      })
      .join('; ')
  }
}

function voterOf({ nodeId, disk }: SimulatedNode): Voter {
  return { nodeId, storeUuid: disk.storeUuid }
}

function describeEffect(effect: Effect): string {
  switch (effect.type) {
    case 'send': {
      const { type, ...fields } = effect.message
      const shown = 'bytes' in fields ? { ...fields, bytes: undefined } : fields
      return `-> ${effect.to} ${type} ${JSON.stringify(shown)}`
    }
    case 'append':
      return `append ${JSON.stringify(effect.append.batches.slice(effect.fromBatch))}`
    default:
      return JSON.stringify(effect)
  }
}

import type { Clock, Timer } from '../../io/clock.ts'
import { CoordinationError, type CoordinationSession } from '../../io/coordination.ts'
import type { Random } from '../../io/random.ts'
import type { ZooKeeperStatus } from '../../store-status.ts'
import type { ElectionFacts, Elector, ElectorHost } from '../elector.ts'
import { Ballot } from './ballot.ts'
import { ZooKeeperCandidacy, type ZooKeeperCandidacyEvent } from './candidacy.ts'
import { formatMember, type MemberProfile } from './member.ts'
import { PeerBook } from './peer-book.ts'

export interface ZooKeeperElectorOptions {
  /** Not yet open; the elector opens and closes it. */
  readonly session: CoordinationSession
  /** `zkAddress`, for the status only. */
  readonly address: string
  /** `zkPath`, absolute. */
  readonly path: string
  readonly profile: MemberProfile
  readonly replicas: number
  readonly electionTimeoutMs: number
  readonly clock: Clock
  readonly random: Random
}

/** Shortest time between two writes of the own znode. */
const publishIntervalMs = 200
/** A look at the members without a cause: no lost watch and no deleted znode goes unnoticed for longer. */
const refreshIntervalMs = 5000
const retryDelayMs = { first: 100, most: 5000 }

type TimerName = 'open' | 'candidacy' | 'publish' | 'refresh' | 'retry'

/**
 * The elector that ActiveMQ has: members meet under a path of ZooKeeper. This shell keeps one own znode there and its
 * data current, and looks at the others; {@link Ballot} and {@link ZooKeeperCandidacy} decide.
 *
 * Every change leads to the same pass (`#reconcile`): look, remove own duplicates, create the own znode if it is
 * missing, write it if it is outdated. A pass that fails is repeated, for ever: nothing in here is done only once.
 */
export class ZooKeeperElector implements Elector {
  readonly kind = 'zookeeper' as const
  readonly #options: ZooKeeperElectorOptions
  readonly #session: CoordinationSession
  readonly #peers = new PeerBook()
  readonly #timers = new Map<TimerName, Timer>()
  #host: ElectorHost | undefined
  #facts: ElectionFacts | undefined
  #candidacy: ZooKeeperCandidacy | undefined
  #ballot: Ballot | undefined
  #children: Awaited<ReturnType<CoordinationSession['members']>> = []
  /** Grows with each change of the session: what was read before it is void. */
  #generation = 0
  #pathMade = false
  #passRunning = false
  #passWanted = false
  #failures = 0
  #problem: string | undefined
  #warned: readonly string[] = []
  #lastPublishMs = Number.NEGATIVE_INFINITY

  constructor(options: ZooKeeperElectorOptions) {
    this.#options = options
    this.#session = options.session
  }

  start(host: ElectorHost, facts: ElectionFacts): void {
    this.#host = host
    this.#facts = facts
    this.#candidacy = new ZooKeeperCandidacy(facts, this.#options.electionTimeoutMs)
    this.#setTimer('open', 0, () =>
      this.#session.open({
        connected: (fresh) => this.#connected(fresh),
        disconnected: () => this.#disconnected(),
        expired: () => this.#expired(),
        membersChanged: () => this.#wantPass(),
      }),
    )
  }

  observe(facts: ElectionFacts): void {
    const before = this.#facts
    if (this.#host === undefined || before === undefined) return
    this.#facts = facts
    // A slave's own position changes with every group commit; ZooKeeper hears of it only while there is no master.
    if (facts.masterNodeId !== undefined && sameButPosition(before, facts)) return
    this.#step({ type: 'facts', facts })
    if (this.#ballot !== undefined) this.#count()
    this.#wantPass()
  }

  masterLost(reason: 'link lost' | 'timeout' | 'resigned'): void {
    this.#step({ type: 'masterLost', reason })
  }

  defeated(): void {
    this.#step({ type: 'defeated' })
  }

  status(): ZooKeeperStatus {
    const { address, path } = this.#options
    return {
      address,
      path,
      state: this.#session.state,
      sessionTimeoutMs: this.#session.sessionTimeoutMs,
      znode: this.#ballot?.own?.znode,
      members: this.#ballot?.members.length ?? 0,
      reason: this.#reason(),
    }
  }

  async stop(): Promise<void> {
    this.#host = undefined
    this.#generation += 1
    for (const timer of this.#timers.values()) timer.cancel()
    this.#timers.clear()
    await this.#session.close()
  }

  #reason(): string | undefined {
    if (this.#session.refusal !== undefined) return this.#session.refusal
    if (this.#session.state !== 'connected') return 'no session with ZooKeeper: no new master can be elected'
    if (this.#ballot === undefined) return this.#problem
    const { refusals, hasQuorum, counted, needed } = this.#ballot
    if (refusals.length > 0) return refusals.join('; ')
    if (!hasQuorum) return `${counted} of the ${needed} members needed for an election are present`
    return this.#problem
  }

  // ---- Session

  #connected(fresh: boolean): void {
    if (this.#host === undefined) return
    this.#generation += 1
    if (fresh) this.#pathMade = false
    this.#failures = 0
    this.#host.log('info', fresh ? 'ZooKeeper session established' : 'ZooKeeper session resumed', {
      sessionTimeoutMs: this.#session.sessionTimeoutMs,
    })
    this.#host.changed()
    this.#wantPass()
  }

  #disconnected(): void {
    if (this.#host === undefined) return
    this.#forget()
    this.#host?.log('warn', 'ZooKeeper connection lost; no new master can be elected until it is back')
    this.#host?.changed()
  }

  #expired(): void {
    if (this.#host === undefined) return
    this.#forget()
    this.#host?.log('warn', 'ZooKeeper session expired')
    const isMaster = this.#facts?.serving === true || this.#facts?.masterNodeId === this.#facts?.nodeId
    if (isMaster) this.#host?.stepDown('ZooKeeper session expired')
    this.#host?.changed()
  }

  #forget(): void {
    this.#generation += 1
    this.#ballot = undefined
    for (const name of ['publish', 'refresh', 'retry'] as const) this.#cancelTimer(name)
    this.#step({ type: 'ballot', ballot: undefined })
  }

  // ---- The pass over the members

  #wantPass(): void {
    this.#passWanted = true
    if (!this.#passRunning) void this.#run()
  }

  async #run(): Promise<void> {
    this.#passRunning = true
    let generation = this.#generation
    try {
      while (this.#passWanted && this.#mayTalk()) {
        this.#passWanted = false
        generation = this.#generation
        await this.#reconcile(generation)
        this.#failures = 0
        this.#problem = undefined
      }
    } catch (error) {
      if (generation === this.#generation) this.#failed(error)
    } finally {
      this.#passRunning = false
    }
    if (!this.#mayTalk()) return
    if (this.#passWanted && !this.#timers.has('retry')) this.#wantPass()
    else if (!this.#timers.has('refresh'))
      this.#setTimer('refresh', refreshIntervalMs, () => this.#wantPass())
  }

  #mayTalk(): boolean {
    const { state } = this.#session
    return this.#host !== undefined && (state === 'connected' || state === 'refused')
  }

  async #reconcile(generation: number): Promise<void> {
    const { path } = this.#options
    if (!this.#pathMade) {
      await this.#session.makePath(path)
      this.#pathMade = true
    }
    const children = await this.#session.members(path)
    if (generation !== this.#generation) return
    this.#children = children
    const ballot = this.#count()
    if (ballot === undefined) return
    for (const extra of ballot.extras) await this.#removeExtra(`${path}/${extra}`)
    if (generation !== this.#generation) return
    if (ballot.own === undefined) await this.#join()
    else await this.#publish(ballot, ballot.own.znode)
  }

  /** Takes stock of the children last seen, with the facts of now. */
  #count(): Ballot | undefined {
    const { profile, replicas } = this.#options
    const facts = this.#facts
    if (facts === undefined || this.#host === undefined) return undefined
    const ballot = new Ballot({ children: this.#children, profile, facts, replicas })
    this.#ballot = ballot
    for (const warning of ballot.warnings) {
      if (!this.#warned.includes(warning)) this.#host.log('warn', warning, { path: this.#options.path })
    }
    this.#warned = ballot.warnings
    if (this.#peers.note(ballot.members, profile.connect)) {
      this.#host?.peers(this.#peers.addresses.map((address) => ({ address })))
    }
    this.#step({ type: 'ballot', ballot: ballot.own === undefined ? undefined : ballot })
    this.#host?.changed()
    return ballot
  }

  async #join(): Promise<void> {
    const { path, profile } = this.#options
    if (this.#facts === undefined) return
    const created = await this.#session.createMember(
      `${path}/0`,
      formatMember(profile, this.#facts, undefined),
    )
    this.#host?.log('info', 'joined the group', { znode: created, group: profile.group })
    this.#lastPublishMs = this.#options.clock.monotonicMs()
    this.#passWanted = true
  }

  async #publish(ballot: Ballot, znode: string): Promise<void> {
    const facts = this.#facts
    if (facts === undefined) return
    const data = formatMember(this.#options.profile, facts, ballot.elected(facts.masterNodeId))
    if (data === ballot.ownData) return
    const nowMs = this.#options.clock.monotonicMs()
    const dueMs = this.#lastPublishMs + publishIntervalMs
    if (nowMs < dueMs) {
      if (!this.#timers.has('publish')) this.#setTimer('publish', dueMs - nowMs, () => this.#wantPass())
      return
    }
    this.#lastPublishMs = nowMs
    // Looked at once more in either case: what counts is what ZooKeeper shows.
    this.#passWanted = true
    await unlessGone(this.#session.setData(`${this.#options.path}/${znode}`, data))
  }

  async #removeExtra(path: string): Promise<void> {
    this.#host?.log('warn', 'a second own znode is removed', { path })
    await unlessGone(this.#session.remove(path))
  }

  #failed(error: unknown): void {
    if (this.#host === undefined) return
    const message = error instanceof Error ? error.message : String(error)
    if (error instanceof CoordinationError && error.code === 'NO_NODE') this.#pathMade = false
    if (message !== this.#problem) this.#host.log('warn', 'a request to ZooKeeper failed', { error: message })
    this.#problem = message
    const delayMs = Math.min(retryDelayMs.first * 2 ** this.#failures, retryDelayMs.most)
    this.#failures = Math.min(this.#failures + 1, 16)
    this.#setTimer('retry', delayMs, () => this.#wantPass())
    this.#host.changed()
  }

  // ---- Candidacy

  #step(event: ZooKeeperCandidacyEvent): void {
    const { clock, random } = this.#options
    if (this.#host === undefined || this.#candidacy === undefined) return
    for (const effect of this.#candidacy.step(event, clock.monotonicMs(), random.fraction())) {
      switch (effect.type) {
        case 'stand':
          this.#host?.stand(effect.reason)
          break
        case 'wait':
          this.#setTimer('candidacy', effect.delayMs, () => this.#step({ type: 'timer' }))
          break
        case 'idle':
          this.#cancelTimer('candidacy')
          break
        default:
          effect satisfies never // A new effect does not compile until it is handled.
      }
    }
  }

  #setTimer(name: TimerName, delayMs: number, fire: () => void): void {
    this.#cancelTimer(name)
    const timer = this.#options.clock.setTimer(delayMs, () => {
      this.#timers.delete(name)
      fire()
    })
    this.#timers.set(name, timer)
  }

  #cancelTimer(name: TimerName): void {
    this.#timers.get(name)?.cancel()
    this.#timers.delete(name)
  }
}

/** What is gone need not be written or removed; the next look shows it. */
async function unlessGone(request: Promise<void>): Promise<void> {
  try {
    await request
  } catch (error) {
    if (!(error instanceof CoordinationError && error.code === 'NO_NODE')) throw error
  }
}

function sameButPosition(a: ElectionFacts, b: ElectionFacts): boolean {
  return (
    a.masterNodeId === b.masterNodeId &&
    a.serving === b.serving &&
    a.voter === b.voter &&
    a.nodeId === b.nodeId &&
    a.storeUuid === b.storeUuid &&
    a.clusterUuid === b.clusterUuid &&
    a.lastEpoch === b.lastEpoch &&
    a.quorum === b.quorum
  )
}

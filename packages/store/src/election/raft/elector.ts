import type { Clock, Timer } from '../../io/clock.ts'
import type { Random } from '../../io/random.ts'
import type { ZooKeeperStatus } from '../../store-status.ts'
import type { ElectionFacts, Elector, ElectorHost } from '../elector.ts'
import { RaftCandidacy, type RaftCandidacyEvent } from './candidacy.ts'

export interface RaftElectorOptions {
  /** Replication addresses of all members, `host:port`, with or without this one. */
  readonly peers: readonly string[]
  /** Replication address that this node is known by, `host:port`. */
  readonly address: string
  readonly electionTimeoutMs: number
  readonly clock: Clock
  readonly random: Random
}

/** The elector without a coordinator: static peers, randomised timeouts. Decisions are in {@link RaftCandidacy}. */
export class RaftElector implements Elector {
  readonly kind = 'raft' as const
  readonly #options: RaftElectorOptions
  readonly #candidacy: RaftCandidacy
  #host: ElectorHost | undefined
  #facts: ElectionFacts | undefined
  #timer: Timer | undefined
  #opening: Timer | undefined

  constructor(options: RaftElectorOptions) {
    this.#options = options
    this.#candidacy = new RaftCandidacy(options.electionTimeoutMs)
  }

  start(host: ElectorHost, facts: ElectionFacts): void {
    this.#host = host
    const own = this.#options.address.toLowerCase()
    const peers = this.#options.peers.filter((peer) => peer.toLowerCase() !== own)
    this.#opening = this.#options.clock.setTimer(0, () => {
      this.#opening = undefined
      host.peers(peers.map((address) => ({ address })))
    })
    this.observe(facts)
  }

  observe(facts: ElectionFacts): void {
    const before = this.#facts
    this.#facts = facts
    // A slave's own position changes with every group commit, and is of no interest here.
    if (
      before !== undefined &&
      before.masterNodeId === facts.masterNodeId &&
      before.voter === facts.voter &&
      before.reachableVoters === facts.reachableVoters &&
      before.quorum === facts.quorum
    ) {
      return
    }
    this.#step({ type: 'facts', facts })
  }

  masterLost(reason: 'link lost' | 'timeout' | 'resigned'): void {
    this.#step({ type: 'masterLost', reason })
  }

  defeated(): void {
    this.#step({ type: 'defeated' })
  }

  status(): ZooKeeperStatus | undefined {
    return undefined
  }

  async stop(): Promise<void> {
    this.#host = undefined
    this.#opening?.cancel()
    this.#timer?.cancel()
  }

  #step(event: RaftCandidacyEvent): void {
    if (this.#host === undefined) return
    for (const effect of this.#candidacy.step(event, this.#options.random.fraction())) {
      switch (effect.type) {
        case 'stand':
          this.#host?.stand(effect.reason)
          break
        case 'wait':
          this.#wait(effect.delayMs)
          break
        case 'idle':
          this.#timer?.cancel()
          break
        default:
          effect satisfies never // A new effect does not compile until it is handled.
      }
    }
  }

  #wait(delayMs: number): void {
    this.#timer?.cancel()
    this.#timer = this.#options.clock.setTimer(delayMs, () => this.#step({ type: 'timer' }))
  }
}

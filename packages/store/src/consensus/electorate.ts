import type { Voter } from '../store-identity.ts'

/** Who votes from record `index` on. A voter may carry more than its names; all of it stays with the configuration. */
export interface Configuration {
  /** A record of the batch that says so; 0 for what the cluster was founded with. */
  readonly index: number
  readonly voters: readonly Voter[]
}

/**
 * Who votes, who of them can be talked to, and how many make a majority.
 *
 * The voters are what the last configuration in the own log says, committed or not: from the moment it is appended, and
 * until it is truncated.
 *
 * Invariants:
 * - A majority is one of all voters, whether they are connected or not, and any two majorities share a voter. So do a
 *   majority of one configuration and one of the next, since two that follow each other differ by one voter (S35).
 * - A voter is a node together with its store: whoever comes with another one is none (S23).
 * - The configurations that may still be truncated are kept, with the one below them.
 *
 * Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 4.1.
 */
export class Electorate {
  /** This node. */
  readonly nodeId: string
  readonly #storeUuid: string
  readonly #history: [Configuration, ...Configuration[]]
  readonly #peers = new Map<string, Peer>()
  #quorum = 0
  #voter = false

  /** @param configurations - Oldest first: see `ConsensusOptions.configurations`. */
  constructor(nodeId: string, storeUuid: string, configurations: readonly Configuration[]) {
    const [first, ...later] = configurations
    if (first === undefined) throw new Error('no configuration')
    this.nodeId = nodeId
    this.#storeUuid = storeUuid
    this.#history = [first, ...later]
    this.#decide()
  }

  /** The configuration in force. */
  get configuration(): Configuration {
    return this.#history.at(-1) ?? this.#history[0]
  }
  /** Whether this node votes. */
  get voter(): boolean {
    return this.#voter
  }
  /**
   * Whether this node may stand: it is a voter, or was one before a configuration that may not be committed. While that
   * one is not, nobody else may have the log to be elected.
   */
  get eligible(): boolean {
    return this.#history.some(({ voters }) => includes(voters, this.nodeId, this.#storeUuid))
  }
  /** Whether this node is all there is. */
  get alone(): boolean {
    return this.#voter && this.configuration.voters.length === 1
  }
  /** Whether this node has been all there is, as far as the log may be taken back. */
  get wasAlone(): boolean {
    return this.#history.every(
      ({ voters }) => voters.length === 1 && includes(voters, this.nodeId, this.#storeUuid),
    )
  }
  get quorum(): number {
    return this.#quorum
  }

  /** The members that are connected, in the order in which they came. */
  get peers(): ReadonlyMap<string, Peer> {
    return this.#peers
  }

  /** Voters that can be talked to, this node included if it is one. */
  get reachableVoters(): number {
    let count = this.voter ? 1 : 0
    for (const peer of this.#peers.values()) if (peer.voter) count++
    return count
  }

  /** The connected voters but for this node. */
  otherVoters(): Set<string> {
    return new Set([...this.#peers].filter(([, { voter }]) => voter).map(([nodeId]) => nodeId))
  }

  /** Whether this store of this node votes. */
  counts(nodeId: string, storeUuid: string): boolean {
    return includes(this.configuration.voters, nodeId, storeUuid)
  }

  connect(nodeId: string, storeUuid: string): void {
    this.#peers.set(nodeId, { storeUuid, voter: this.counts(nodeId, storeUuid) })
  }

  disconnect(nodeId: string): void {
    this.#peers.delete(nodeId)
  }

  /** A configuration was appended to the log. */
  append(index: number, voters: readonly Voter[]): void {
    this.#history.push({ index, voters })
    this.#decide()
  }

  /**
   * The log was cut behind `index`.
   *
   * @returns Whether another configuration is in force now.
   */
  truncate(index: number): boolean {
    const { configuration } = this
    while (this.#history.length > 1 && this.configuration.index > index) this.#history.pop()
    if (this.configuration === configuration) return false
    this.#decide()
    return true
  }

  /** What is at or below `index` stays: older configurations are not needed any more. */
  committed(index: number): void {
    while ((this.#history[1]?.index ?? Number.POSITIVE_INFINITY) <= index) this.#history.shift()
  }

  #decide(): void {
    this.#quorum = Math.floor(this.configuration.voters.length / 2) + 1
    this.#voter = this.counts(this.nodeId, this.#storeUuid)
    for (const [nodeId, peer] of this.#peers) peer.voter = this.counts(nodeId, peer.storeUuid)
  }
}

/** A member that is connected. */
export interface Peer {
  readonly storeUuid: string
  voter: boolean
}

/**
 * Why the voters may not become `next` in one step, if they may not: one is added or removed at a time (S35).
 *
 * @returns Those that are added, of which there is one at most.
 */
export function stepTo(
  voters: readonly Voter[],
  next: readonly Voter[],
): { readonly added: readonly Voter[] } | string {
  const added = next.filter(({ nodeId, storeUuid }) => !includes(voters, nodeId, storeUuid))
  const removed = voters.filter(({ nodeId, storeUuid }) => !includes(next, nodeId, storeUuid))
  if (new Set(next.map(({ nodeId }) => nodeId)).size !== next.length) return 'a node is named twice'
  if (next.length === 0) return 'nobody would be left'
  if (added.length + removed.length !== 1) return 'one voter is added or removed at a time'
  return { added }
}

function includes(voters: readonly Voter[], nodeId: string, storeUuid: string): boolean {
  return voters.some((voter) => voter.nodeId === nodeId && voter.storeUuid === storeUuid)
}

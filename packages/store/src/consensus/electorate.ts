/**
 * Who votes, who of them can be talked to, and how many make a majority.
 *
 * Invariants:
 * - A majority is one of all voters, whether they are connected or not, and any two majorities share a voter.
 * - A member that is no voter neither votes, stands nor counts (S23).
 */
export class Electorate {
  /** This node. */
  readonly nodeId: string
  /** Whether this node votes. */
  readonly voter: boolean
  readonly quorum: number
  readonly #peers = new Map<string, { readonly voter: boolean }>()

  /** @param voter - Whether this node is the voter of its name: false if its store was replaced. */
  constructor(nodeId: string, voters: ReadonlySet<string>, voter: boolean = voters.has(nodeId)) {
    this.nodeId = nodeId
    this.voter = voter
    this.quorum = Math.floor(voters.size / 2) + 1
  }

  /** The members that are connected, in the order in which they came. */
  get peers(): ReadonlyMap<string, { readonly voter: boolean }> {
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

  connect(nodeId: string, voter: boolean): void {
    this.#peers.set(nodeId, { voter })
  }

  disconnect(nodeId: string): void {
    this.#peers.delete(nodeId)
  }
}

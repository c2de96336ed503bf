import type { Member } from './member.ts'

/** Far more than any cluster has; a bound, since anyone who can write to ZooKeeper can add members. */
const maxPeers = 16

/**
 * Addresses of the other members, as last seen. A peer stays known when its znode goes, since it may still hold the
 * replicas that this node needs and only ZooKeeper has lost sight of it.
 */
export class PeerBook {
  /** By node id; the one seen last is at the end. */
  readonly #addresses = new Map<string, string>()
  #current: readonly string[] = []

  /** Addresses in a stable order. */
  get addresses(): readonly string[] {
    return this.#current
  }

  /** @returns True if the list changed. */
  note(members: readonly Member[], ownAddress: string): boolean {
    for (const member of members) {
      if (member.own || member.connect === ownAddress) continue
      // A store that was replaced has a new node id at the old address.
      for (const [nodeId, address] of this.#addresses) {
        if (nodeId === member.nodeId || address === member.connect) this.#addresses.delete(nodeId)
      }
      this.#addresses.set(member.nodeId, member.connect)
    }
    for (const nodeId of this.#addresses.keys()) {
      if (this.#addresses.size <= maxPeers) break
      this.#addresses.delete(nodeId)
    }
    const next = [...this.#addresses.values()].sort()
    if (next.join() === this.#current.join()) return false
    this.#current = next
    return true
  }
}

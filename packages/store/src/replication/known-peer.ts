/** A peer that a member has a link to, as it tells the others. */
export interface KnownPeer {
  readonly nodeId: string
  readonly bootId: string
  /** `host:port`, as the peer says it of itself. */
  readonly address: string
  /** Milliseconds since it was heard. */
  readonly silentMs: number
}

/** Told by one member at most; more than any cluster has. */
const maxKnownPeers = 24
/** What was heard so lately lives: it is not just a connection that nobody has closed yet. */
const livingMs = 1200

/** Another process of a node, and who has a link to it. */
export interface Sighting {
  readonly teller: string
  readonly peer: KnownPeer
}

/** What another member told of its links: those of it that are what they should be, and not without end. */
export function parseKnownPeers(value: unknown): KnownPeer[] {
  return Array.isArray(value) ? value.slice(0, maxKnownPeers).filter(isKnownPeer) : []
}

function isKnownPeer(value: unknown): value is KnownPeer {
  if (typeof value !== 'object' || value === null) return false
  const { nodeId, bootId, address, silentMs } = value as Record<string, unknown>
  return (
    isText(nodeId, 256) &&
    isText(bootId, 64) &&
    isText(address, 512) &&
    /^(\[[0-9a-fA-F:.]+\]|[^:/?#[\]\s]+):[1-9]\d{0,4}$/.test(address) &&
    typeof silentMs === 'number' &&
    silentMs >= 0
  )
}

function isText(value: unknown, limit: number): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= limit
}

/** Which process shows a node's identity to the other members, as they told last. */
export class Sightings {
  readonly #byTeller = new Map<string, { readonly told: readonly KnownPeer[]; readonly toldMs: number }>()

  /** @param told - All that `teller` has a link to now. */
  heard(teller: string, told: readonly KnownPeer[], nowMs: number): void {
    this.#byTeller.set(teller, { told, toldMs: nowMs })
  }

  /** What a member told means nothing any more when it is gone. */
  forget(teller: string): void {
    this.#byTeller.delete(teller)
  }

  /**
   * A process of the same node that was started before this one, and lives. Boot ids sort by the time of the start, so
   * that all members come to the same answer.
   */
  elderOf(node: { readonly nodeId: string; readonly bootId: string }, nowMs: number): Sighting | undefined {
    for (const [teller, { told, toldMs }] of this.#byTeller) {
      const peer = told.find(
        ({ nodeId, bootId, silentMs }) =>
          nodeId === node.nodeId && bootId < node.bootId && silentMs + nowMs - toldMs < livingMs,
      )
      if (peer !== undefined) return { teller, peer }
    }
    return undefined
  }
}

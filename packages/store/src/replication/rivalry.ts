import type { NodeIdentity, Objection } from './handshake.ts'
import type { Sighting } from './known-peer.ts'
import type { Link } from './link.ts'

/** A link that another process wants the place of is given up if nothing is heard after a probe for so long ... */
const probeMs = 500
/** ... and for so long at all. An answer holds for as long. */
const rivalSilenceMs = 1500

/** Whether the process behind a link lives: asked when another one wants its place. */
export class Probe {
  readonly #link: Link
  /** An answer is due; `answers` are those before it. */
  #asked: { readonly sinceMs: number; readonly answers: number } | undefined
  #answeredMs = Number.NEGATIVE_INFINITY

  constructor(link: Link) {
    this.#link = link
  }

  /** Asks, unless an answer is due already. */
  ask(nowMs: number): void {
    if (this.#asked !== undefined) return
    this.#asked = { sinceMs: nowMs, answers: this.#link.answers }
    this.#link.probe()
  }

  /** `waiting` as long as neither is known. */
  state(nowMs: number): 'alive' | 'silent' | 'waiting' {
    const asked = this.#asked
    if (asked !== undefined && this.#link.answers > asked.answers) {
      this.#asked = undefined
      this.#answeredMs = nowMs
    } else if (asked !== undefined && nowMs - asked.sinceMs >= probeMs) {
      if (nowMs - this.#link.heardMs >= rivalSilenceMs) return 'silent'
    }
    return nowMs - this.#answeredMs < rivalSilenceMs ? 'alive' : 'waiting'
  }
}

const addressHint = 'hostname or connectUrl of one of them is wrong'

/** Another process has a link as the same node, with the same store or at the same address. */
export function areRivals(
  newcomer: NodeIdentity,
  address: string,
  held: NodeIdentity,
  heldAddress: string,
): boolean {
  return newcomer.nodeId === held.nodeId || newcomer.storeUuid === held.storeUuid || address === heldAddress
}

/**
 * What a newcomer is told that wants the place of a process with a link.
 *
 * Said to both sides, so it names all that an operator needs to find the two.
 */
export function rivalObjection(
  newcomer: NodeIdentity,
  held: NodeIdentity,
  heldAddress: string,
  heldLives: boolean,
): Objection {
  if (!heldLives) {
    const reason = `the place of ${newcomer.name} is taken by the process that was connected from ${heldAddress}; whether that still lives is being asked`
    return { kind: 'rival', reason }
  }
  const where = `${newcomer.name} at ${newcomer.address} is refused while ${held.name} is already connected from ${heldAddress}`
  const what =
    held.storeUuid === newcomer.storeUuid
      ? `both have the store ${held.storeUuid} of node "${held.nodeId}". A copied directory?`
      : held.nodeId === newcomer.nodeId
        ? `both have the nodeId "${held.nodeId}", with different stores. Give one of them another nodeId`
        : `they have one address, so ${addressHint}`
  return { kind: 'clone', reason: `${where}: ${what}` }
}

/** A caller says that it is where this node is. */
export function ownAddressObjection(newcomer: NodeIdentity, self: NodeIdentity): Objection {
  return {
    kind: 'clone',
    reason: `${newcomer.name} and ${self.name} have one address, ${self.address}: ${addressHint}`,
  }
}

/** Another member has a link to a process of the same node that was started earlier. */
export function elderObjection(newcomer: NodeIdentity, { teller, peer }: Sighting): Objection {
  return {
    kind: 'clone',
    reason: `${newcomer.name} at ${newcomer.address} is refused while another process of node "${newcomer.nodeId}", started before it, is connected to ${teller} from ${peer.address}. A copied directory?`,
  }
}

import { StoreError } from '../errors.ts'
import type { Clock, Timer } from '../io/clock.ts'
import type { Address, Connection, Listener, Network } from '../io/network.ts'
import type { Random } from '../io/random.ts'
import { formatAddress } from '../options.ts'
import { Handshake, type NodeIdentity } from './handshake.ts'
import { Link } from './link.ts'

/** What the mesh tells the replica: for each peer up, then frames, then down. */
export interface MeshHandler {
  peerUp(peer: NodeIdentity): void
  peerDown(peer: NodeIdentity, reason: string): void
  frame(peer: NodeIdentity, type: number, body: Buffer): void
  changed(): void
  log(level: 'debug' | 'info' | 'warn', message: string, facts: Readonly<Record<string, unknown>>): void
}

export interface MeshOptions {
  readonly bind: Address
  /** Own address as the peers know it. */
  readonly address: string
  readonly securityToken: string
  /** Silence after which a link is given up; members send something at least four times as often. */
  readonly silenceMs: number
}

/** What is known of an address that this node wants to reach. */
export interface PeerState {
  readonly address: string
  /** The node behind it, once it said so; kept when the link is lost. */
  readonly identity: NodeIdentity | undefined
  readonly connected: boolean
  /** Why there is no link. */
  readonly reason: string | undefined
  readonly refused: boolean
  readonly heardMs: number | undefined
}

interface Peer {
  readonly address: string
  identity: NodeIdentity | undefined
  link: Link | undefined
  dialing: boolean
  retry: Timer | undefined
  reason: string | undefined
  refused: boolean
  heardMs: number | undefined
}

const handshakeTimeoutMs = 5000
const connectTimeoutMs = 1000
const redialMs = 80
/** Handshakes under way at the listener; beyond, the oldest makes room: strangers neither pile up nor shut members out. */
const maxPendingLinks = 64

/**
 * One link to each peer, kept up for ever.
 *
 * Of two members the one with the lower address dials, so that there is one link per pair and no race between two.
 * A newer link of the same node replaces the older, which is then half-open: its process has restarted.
 */
export class Mesh {
  readonly #options: MeshOptions
  readonly #network: Network
  readonly #clock: Clock
  readonly #random: Random
  readonly #self: () => NodeIdentity
  readonly #handler: MeshHandler
  readonly #peers = new Map<string, Peer>()
  /** Handshakes under way: those of strangers at the listener, oldest first, and the own ones. */
  readonly #pending = new Set<Link>()
  readonly #dialed = new Set<Link>()
  #listener: Listener | undefined
  #closed = false

  constructor(
    options: MeshOptions,
    environment: { readonly network: Network; readonly clock: Clock; readonly random: Random },
    self: () => NodeIdentity,
    handler: MeshHandler,
  ) {
    this.#options = options
    this.#network = environment.network
    this.#clock = environment.clock
    this.#random = environment.random
    this.#self = self
    this.#handler = handler
  }

  /** @throws StoreError `STORE_ADDRESS_IN_USE`. */
  async listen(): Promise<void> {
    const address = formatAddress(this.#options.bind)
    try {
      this.#listener = await this.#network.listen(this.#options.bind, (connection) =>
        this.#accept(connection),
      )
    } catch (cause) {
      throw new StoreError(
        { code: 'STORE_ADDRESS_IN_USE', address },
        `bind: cannot listen for replication on ${address}: ${cause instanceof Error ? cause.message : cause}`,
        { cause },
      )
    }
  }

  /** The addresses to be connected to, all of them; others are let go unless they have a link. */
  setPeers(addresses: readonly string[]): void {
    if (this.#closed) return
    for (const address of addresses) if (address !== this.#options.address) this.#peerAt(address)
    for (const peer of this.#peers.values()) {
      if (!addresses.includes(peer.address) && peer.link === undefined) {
        peer.retry?.cancel()
        this.#peers.delete(peer.address)
      }
    }
    for (const peer of this.#peers.values()) this.#dial(peer)
  }

  send(nodeId: string, chunks: readonly Uint8Array[]): void {
    for (const peer of this.#peers.values()) {
      if (peer.link !== undefined && peer.identity?.nodeId === nodeId) peer.link.send(chunks)
    }
  }

  /** Sends a frame that can wait for all others: it delays none of them by more than a piece of it. */
  sendBulk(nodeId: string, chunks: readonly Uint8Array[]): void {
    for (const peer of this.#peers.values()) {
      if (peer.identity?.nodeId === nodeId) peer.link?.sendBulk(chunks)
    }
  }

  broadcast(chunks: readonly Uint8Array[]): void {
    for (const peer of this.#peers.values()) peer.link?.send(chunks)
  }

  /** Ends the links to a node, for a reason that it need not be told. */
  drop(nodeId: string, reason: string): void {
    for (const peer of this.#peers.values()) if (peer.identity?.nodeId === nodeId) peer.link?.close(reason)
  }

  peers(): PeerState[] {
    return [...this.#peers.values()].map((peer) => ({
      address: peer.address,
      identity: peer.identity,
      connected: peer.link !== undefined,
      reason: peer.link === undefined ? peer.reason : undefined,
      refused: peer.refused,
      heardMs: peer.link?.heardMs ?? peer.heardMs,
    }))
  }

  /** Closes links that have been silent for too long. */
  tick(nowMs: number): void {
    for (const peer of this.#peers.values()) {
      if (peer.link !== undefined && nowMs - peer.link.heardMs > this.#options.silenceMs) {
        peer.link.close(`nothing heard for ${this.#options.silenceMs} ms`)
      }
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const peer of this.#peers.values()) {
      peer.retry?.cancel()
      peer.link?.close('closing')
    }
    for (const link of [...this.#pending, ...this.#dialed]) link.close('closing')
    await this.#listener?.close()
  }

  #peerAt(address: string): Peer {
    let peer = this.#peers.get(address)
    if (peer === undefined) {
      peer = {
        address,
        identity: undefined,
        link: undefined,
        dialing: false,
        retry: undefined,
        reason: address > this.#options.address ? 'not reached yet' : 'has not called yet',
        refused: false,
        heardMs: undefined,
      }
      this.#peers.set(address, peer)
    }
    return peer
  }

  #dial(peer: Peer): void {
    if (this.#closed || peer.dialing || peer.link !== undefined || peer.address <= this.#options.address)
      return
    const target = parseAddress(peer.address)
    peer.dialing = true
    peer.retry?.cancel()
    this.#network.connect(target, connectTimeoutMs).then(
      (connection) => {
        if (this.#closed || this.#peers.get(peer.address) !== peer) {
          connection.destroy()
          return
        }
        this.#begin(connection, 'dialer', peer)
      },
      (error: unknown) => this.#failed(peer, error instanceof Error ? error.message : String(error), false),
    )
  }

  #failed(peer: Peer, reason: string, refused: boolean): void {
    peer.dialing = false
    this.#noteFailure(peer, reason, refused)
    if (this.#closed || this.#peers.get(peer.address) !== peer) return
    // Without back-off, since a restarted broker is wanted at once; spread, so that nobody dials in step.
    const delayMs = redialMs * (0.75 + this.#random.fraction() / 2)
    peer.retry = this.#clock.setTimer(delayMs, () => this.#dial(peer))
  }

  #noteFailure(peer: Peer, reason: string, refused: boolean): void {
    if (peer.reason === reason && peer.refused === refused) return
    peer.reason = reason
    peer.refused = refused
    if (this.#closed) return
    this.#handler.log(
      refused ? 'warn' : 'info',
      `no link to ${peer.identity?.name ?? peer.address}: ${reason}`,
      {
        address: peer.address,
      },
    )
    this.#handler.changed()
  }

  #accept(connection: Connection): void {
    if (this.#closed) {
      connection.destroy()
      return
    }
    const [oldest] = this.#pending
    if (oldest !== undefined && this.#pending.size >= maxPendingLinks)
      oldest.close('too many handshakes at a time')
    this.#begin(connection, 'acceptor', undefined)
  }

  #begin(connection: Connection, side: 'dialer' | 'acceptor', dialed: Peer | undefined): void {
    const { securityToken } = this.#options
    const nonce = this.#random.bytes(32)
    const handshake = new Handshake(side, this.#self(), securityToken, nonce, (identity) =>
      this.#objectionTo(identity, dialed),
    )
    const link = new Link(
      connection,
      handshake,
      {
        established: (established, peer) => this.#established(established, peer, dialed),
        frame: (from, type, body) => {
          if (from.peer !== undefined) this.#handler.frame(from.peer, type, body)
        },
        closed: (closed, reason, refused) => this.#linkClosed(closed, reason, refused, dialed),
      },
      this.#clock,
      handshakeTimeoutMs,
    )
    if (dialed === undefined) this.#pending.add(link)
    else this.#dialed.add(link)
  }

  /** One node under two addresses: it has moved, or its directory was copied (rule T8). The living link stays. */
  #objectionTo(identity: NodeIdentity, dialed: Peer | undefined): string | undefined {
    const address = dialed?.address ?? identity.address
    for (const peer of this.#peers.values()) {
      if (peer.link !== undefined && peer.address !== address && peer.identity?.nodeId === identity.nodeId)
        return `node ${identity.nodeId} is already connected from ${peer.address}: a copied directory?`
    }
    return undefined
  }

  #established(link: Link, identity: NodeIdentity, dialed: Peer | undefined): void {
    this.#pending.delete(link)
    this.#dialed.delete(link)
    if (dialed !== undefined && this.#peers.get(dialed.address) !== dialed) {
      link.close('no longer a peer')
      return
    }
    // Again, since the acceptor took its time to answer.
    const objection = this.#objectionTo(identity, dialed)
    if (objection !== undefined) {
      link.close(objection)
      return
    }
    const peer = dialed ?? this.#peerAt(identity.address)
    peer.link?.close('replaced by a newer link of the same node')
    peer.dialing = false
    peer.identity = identity
    peer.link = link
    peer.reason = undefined
    peer.refused = false
    this.#handler.peerUp(identity)
  }

  #linkClosed(link: Link, reason: string, refused: boolean, dialed: Peer | undefined): void {
    this.#pending.delete(link)
    this.#dialed.delete(link)
    const peer = [...this.#peers.values()].find((each) => each.link === link)
    if (peer !== undefined) {
      peer.link = undefined
      peer.heardMs = link.heardMs
      if (link.peer !== undefined) this.#handler.peerDown(link.peer, reason)
      this.#failed(peer, reason, refused)
    } else if (dialed !== undefined) {
      this.#failed(dialed, reason, refused)
    } else {
      this.#strangerLeft(link, reason, refused)
    }
  }

  /** A connection that never became a link. If the caller is a member, its status tells why. */
  #strangerLeft(link: Link, reason: string, refused: boolean): void {
    if (this.#closed) return
    const address = link.claimedAddress
    const peer = address === undefined ? undefined : this.#peers.get(address)
    if (peer !== undefined && peer.link === undefined) {
      // It calls again and again: told once, not each time.
      this.#noteFailure(peer, reason, refused)
      return
    }
    this.#handler.log('warn', `replication connection from ${link.remoteAddress} ended: ${reason}`, {
      refused,
    })
  }
}

/** `host:port`, with brackets around an IPv6 address. */
export function parseAddress(address: string): Address {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  return { host, port: Number(address.slice(colon + 1)) }
}

import { StoreError } from '../errors.ts'
import type { Clock, Timer } from '../io/clock.ts'
import type { Address, Connection, Listener, Network } from '../io/network.ts'
import type { Random } from '../io/random.ts'
import { formatAddress } from '../options.ts'
import {
  Handshake,
  levelObjection,
  type NodeIdentity,
  type Objection,
  type ProtocolRange,
  type RefusalKind,
} from './handshake.ts'
import { type KnownPeer, Sightings } from './known-peer.ts'
import { Link, type LinkEnd } from './link.ts'
import { RefusedCallers } from './refused-callers.ts'
import { areRivals, elderObjection, ownAddressObjection, Probe, rivalObjection } from './rivalry.ts'

/** What the mesh tells the replica: for each peer up, then frames, then down. */
export interface MeshHandler {
  peerUp(peer: NodeIdentity): void
  peerDown(peer: NodeIdentity, reason: string): void
  frame(peer: NodeIdentity, type: number, body: Buffer): void
  /** Whether a node is to be looked for, and shown, however long it is away. */
  awaits(peer: NodeIdentity): boolean
  changed(): void
  log(
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    facts: Readonly<Record<string, unknown>>,
  ): void
}

export interface MeshOptions {
  readonly bind: Address
  /** Own address as the peers know it. */
  readonly address: string
  readonly securityToken: string
  /** Silence after which a link is given up; something is sent at least four times as often. */
  readonly silenceMs: number
  /** @defaultValue what this release speaks */
  readonly protocols?: ProtocolRange | undefined
}

/** What is known of an address that this node wants to reach, or of a node that called and was refused. */
export interface PeerState {
  readonly address: string
  /** The node behind it, once it said so; kept when the link is lost. */
  readonly identity: NodeIdentity | undefined
  readonly connected: boolean
  /** Version of the replication protocol that is spoken; `undefined` without a link. */
  readonly protocol: number | undefined
  /** Why there is no link. */
  readonly reason: string | undefined
  readonly refused: boolean
  readonly heardMs: number | undefined
}

interface Peer {
  readonly address: string
  /** One of the addresses that this node was told to be connected to. */
  configured: boolean
  /** When it introduced itself, or another member told of it. */
  toldMs: number
  identity: NodeIdentity | undefined
  link: Link | undefined
  dialing: boolean
  retry: Timer | undefined
  reason: string | undefined
  refused: boolean
  heardMs: number | undefined
  /** Whether the process behind the link lives. */
  probe: Probe | undefined
}

const handshakeTimeoutMs = 5000
const connectTimeoutMs = 1000
const redialMs = 80
/** A member that waits to be called introduces itself so often: the other one may not know its address. */
const introduceMs = 1000
/** Handshakes under way at the listener; beyond, the oldest makes room: strangers neither pile up nor shut members out. */
const maxPendingLinks = 64
/** Addresses that are known from others only: more than any cluster has. */
const maxToldPeers = 24
/** An address that nobody speaks of any more, and behind which nobody is, is let go. */
const forgetMs = 60_000
/**
 * One link to each peer, kept up for ever.
 *
 * Of two members the one with the lower address dials, so that there is one link per pair and no race between two. The
 * other one calls only to introduce itself: it is refused, known from then on, and called back. Members tell each other
 * of their peers, so that all come to know all, whatever is configured where.
 *
 * Invariant: at most one process has a link as a node, as a store, or at an address (rule T8). A newer link of the same
 * process replaces the older, which is then half-open. Another process is refused as long as the first one lives: that
 * one is probed, and has to answer.
 */
export class Mesh {
  readonly #options: MeshOptions
  readonly #network: Network
  readonly #clock: Clock
  readonly #random: Random
  readonly #self: () => NodeIdentity
  readonly #handler: MeshHandler
  readonly #peers = new Map<string, Peer>()
  readonly #refused = new RefusedCallers()
  readonly #sightings = new Sightings()
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

  /** The addresses to be connected to, as far as they are configured; others are added as members tell of them. */
  setPeers(addresses: readonly string[]): void {
    if (this.#closed) return
    for (const address of addresses) if (address !== this.#options.address) this.#peerAt(address)
    for (const peer of this.#peers.values()) peer.configured = addresses.includes(peer.address)
    this.#prune()
    for (const peer of this.#peers.values()) this.#dial(peer)
  }

  /** The peers that this node has a link to, for the others: see {@link Mesh.heard}. */
  known(): KnownPeer[] {
    const nowMs = this.#clock.monotonicMs()
    return [...this.#peers.values()].flatMap(({ link, identity }) => {
      if (link === undefined || identity === undefined) return []
      const { nodeId, bootId, address } = identity
      return [{ nodeId, bootId, address, silentMs: Math.max(0, Math.round(nowMs - link.heardMs)) }]
    })
  }

  /** What the member `teller` says of its links: {@link Mesh.known} there. */
  heard(teller: string, told: readonly KnownPeer[]): void {
    if (this.#closed) return
    const self = this.#self()
    const nowMs = this.#clock.monotonicMs()
    this.#sightings.heard(teller, told, nowMs)
    for (const known of told) {
      const { nodeId, bootId, address } = known
      if (nodeId === self.nodeId) continue
      for (const peer of this.#peers.values()) {
        // One of the two links may be half-open.
        if (peer.identity?.nodeId === nodeId && peer.identity.bootId !== bootId) peer.probe?.ask(nowMs)
      }
      this.#learn(address, known)
    }
    this.#settle()
    const elder = this.#sightings.elderOf(self, nowMs)
    if (elder !== undefined) {
      const reason = `another process of node "${self.nodeId}", started before this one, is connected to it from ${elder.peer.address}. A copied directory?`
      if (this.#refused.isNews(self.nodeId, reason))
        this.#handler.log('error', `seen by ${teller}: ${reason}`, {})
    }
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

  /** Ends the links to a node, for a reason that it is told. */
  drop(nodeId: string, reason: string): void {
    for (const peer of this.#peers.values()) {
      if (peer.identity?.nodeId === nodeId) peer.link?.dismiss({ kind: 'stranger', reason })
    }
  }

  peers(): PeerState[] {
    const nowMs = this.#clock.monotonicMs()
    return [
      ...[...this.#peers.values()].map((peer) => ({
        address: peer.address,
        identity: peer.identity,
        connected: peer.link !== undefined,
        protocol: peer.link?.protocol,
        reason: peer.link === undefined ? peer.reason : undefined,
        refused: peer.refused,
        heardMs: peer.link?.heardMs ?? peer.heardMs,
      })),
      ...this.#refused.shown(nowMs).map(({ identity, reason, atMs }) => ({
        address: identity.address,
        identity,
        connected: false,
        protocol: undefined,
        reason,
        refused: true,
        heardMs: atMs,
      })),
    ]
  }

  /** Closes links that have been silent for too long, and those to members that are too old for a level just reached. */
  tick(nowMs: number): void {
    const self = this.#self()
    const { silenceMs } = this.#options
    for (const peer of this.#peers.values()) {
      this.#makeRoom(peer, nowMs)
      if (peer.link !== undefined && nowMs - peer.link.heardMs > silenceMs)
        peer.link.close(`nothing heard for ${silenceMs} ms`)
      peer.link?.keepAlive(nowMs, silenceMs / 4)
      const objection = peer.link && peer.identity && levelObjection(self, peer.identity)
      if (objection !== undefined) peer.link?.dismiss(objection)
    }
    this.#prune()
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

  // Addresses.

  #peerAt(address: string): Peer {
    let peer = this.#peers.get(address)
    if (peer === undefined) {
      peer = {
        address,
        configured: false,
        toldMs: Number.NEGATIVE_INFINITY,
        identity: undefined,
        link: undefined,
        dialing: false,
        retry: undefined,
        reason: address > this.#options.address ? 'not reached yet' : 'has not called yet',
        refused: false,
        heardMs: undefined,
        probe: undefined,
      }
      this.#peers.set(address, peer)
    }
    return peer
  }

  /** A member is said to be at `address`. */
  #learn(address: string, node: { readonly nodeId: string; readonly bootId: string }): void {
    if (address === this.#options.address) return
    let peer = this.#peers.get(address)
    if (peer === undefined) {
      // Connected as another address, which is the one that is configured here.
      if (this.#peerOf(node) !== undefined) return
      const told = [...this.#peers.values()].filter((each) => !each.configured)
      if (told.length >= maxToldPeers) return
      peer = this.#peerAt(address)
    }
    peer.toldMs = this.#clock.monotonicMs()
    this.#dial(peer)
  }

  /** The peer that a process has its link as. */
  #peerOf(node: { readonly nodeId: string; readonly bootId: string }): Peer | undefined {
    return [...this.#peers.values()].find(
      ({ link, identity }) =>
        link !== undefined && identity?.nodeId === node.nodeId && identity.bootId === node.bootId,
    )
  }

  #prune(): void {
    const nowMs = this.#clock.monotonicMs()
    for (const peer of this.#peers.values()) {
      if (peer.configured || peer.link !== undefined || nowMs - peer.toldMs < forgetMs) continue
      if (peer.identity !== undefined && this.#handler.awaits(peer.identity)) continue
      peer.retry?.cancel()
      this.#peers.delete(peer.address)
    }
  }

  // Calls.

  #dial(peer: Peer): void {
    if (this.#closed || peer.dialing || peer.link !== undefined) return
    if (this.#calls(peer)) this.#connect(peer)
    else if (peer.retry === undefined) this.#retryLater(peer)
  }

  #connect(peer: Peer): void {
    if (this.#closed || peer.dialing || peer.link !== undefined) return
    const target = parseAddress(peer.address)
    peer.dialing = true
    peer.retry?.cancel()
    peer.retry = undefined
    this.#network.connect(target, connectTimeoutMs).then(
      (connection) => {
        if (this.#closed || this.#peers.get(peer.address) !== peer) {
          connection.destroy()
          return
        }
        this.#begin(connection, 'dialer', peer)
      },
      (error: unknown) =>
        this.#failed(peer, {
          reason: error instanceof Error ? error.message : String(error),
          kind: undefined,
        }),
    )
  }

  /** Without back-off, since a restarted broker is wanted at once; spread, so that nobody dials in step. */
  #retryLater(peer: Peer): void {
    const delayMs = this.#calls(peer) ? redialMs : introduceMs
    peer.retry?.cancel()
    peer.retry = this.#clock.setTimer(delayMs * (0.75 + this.#random.fraction() / 2), () => {
      peer.retry = undefined
      this.#connect(peer)
    })
  }

  /** Whether it is for this node to set up the link. */
  #calls(peer: Peer): boolean {
    return peer.address > this.#options.address
  }

  #failed(peer: Peer, end: LinkEnd): void {
    peer.dialing = false
    this.#noteFailure(peer, end)
    if (this.#closed || this.#peers.get(peer.address) !== peer) return
    this.#retryLater(peer)
  }

  #noteFailure(peer: Peer, { reason, kind }: LinkEnd): void {
    const refused = kind === 'stranger' || kind === 'rival' || kind === 'clone'
    const told =
      kind === 'introduced'
        ? `knows of this broker at ${this.#options.address}, and has not called it: can it be reached from there (hostname, connectUrl)?`
        : reason
    if (peer.reason === told && peer.refused === refused) return
    peer.reason = told
    peer.refused = refused
    if (this.#closed) return
    const { address, identity } = peer
    this.#handler.log(logLevelOf(kind), `no link to ${identity?.name ?? address}: ${told}`, { address })
    this.#handler.changed()
  }

  // Links.

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
    const { securityToken, protocols } = this.#options
    const nonce = this.#random.bytes(32)
    const objection = (identity: NodeIdentity) => this.#objectionTo(identity, dialed)
    const handshake = new Handshake(side, this.#self(), securityToken, nonce, objection, protocols)
    const link = new Link(
      connection,
      handshake,
      {
        established: (established, peer) => this.#established(established, peer, dialed),
        frame: (from, type, body) => {
          if (from.peer !== undefined) this.#handler.frame(from.peer, type, body)
        },
        closed: (closed, end) => this.#linkClosed(closed, end, dialed),
      },
      this.#clock,
      handshakeTimeoutMs,
    )
    if (dialed === undefined) this.#pending.add(link)
    else this.#dialed.add(link)
  }

  #objectionTo(identity: NodeIdentity, dialed: Peer | undefined): Objection | undefined {
    const nowMs = this.#clock.monotonicMs()
    const address = dialed?.address ?? identity.address
    const introduction = dialed === undefined && identity.address > this.#options.address
    if (address === this.#options.address) return ownAddressObjection(identity, this.#self())
    for (const peer of this.#peers.values()) {
      const held = peer.identity
      this.#makeRoom(peer, nowMs)
      if (peer.link === undefined || held === undefined) continue
      if (held.nodeId === identity.nodeId && held.bootId === identity.bootId) {
        if (peer.address !== address || introduction) peer.probe?.ask(nowMs)
        if (peer.address === address) continue
        return { kind: 'same process', reason: `${identity.name} is connected as ${peer.address} already` }
      }
      if (!areRivals(identity, address, held, peer.address)) continue
      peer.probe?.ask(nowMs)
      return rivalObjection(identity, held, peer.address, peer.probe?.state(nowMs) === 'alive')
    }
    const elder = this.#sightings.elderOf(identity, nowMs)
    if (elder !== undefined) return elderObjection(identity, elder)
    if (!introduction) return undefined
    this.#learn(identity.address, identity)
    return { kind: 'introduced', reason: 'is known now, and called back' }
  }

  /** Another process wants the place of this one, which does not answer. */
  #makeRoom(peer: Peer, nowMs: number): void {
    if (peer.probe?.state(nowMs) === 'silent') peer.link?.close('does not answer, and was to make room')
  }

  /** A member may see another process of a node than this one does: the one that was started first stays. */
  #settle(): void {
    const nowMs = this.#clock.monotonicMs()
    for (const { link, identity } of this.#peers.values()) {
      const elder = identity && link && this.#sightings.elderOf(identity, nowMs)
      if (elder) link.dismiss(elderObjection(identity, elder))
    }
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
      link.dismiss(objection)
      return
    }
    const peer = dialed ?? this.#peerAt(identity.address)
    peer.link?.close('replaced by a newer link of the same process')
    this.#refused.admitted(identity)
    peer.retry?.cancel()
    peer.retry = undefined
    peer.dialing = false
    peer.identity = identity
    peer.link = link
    peer.reason = undefined
    peer.refused = false
    peer.probe = new Probe(link)
    peer.toldMs = this.#clock.monotonicMs()
    this.#handler.peerUp(identity)
  }

  #linkClosed(link: Link, end: LinkEnd, dialed: Peer | undefined): void {
    this.#pending.delete(link)
    this.#dialed.delete(link)
    const peer = [...this.#peers.values()].find((each) => each.link === link)
    if (peer !== undefined) {
      peer.link = undefined
      peer.heardMs = link.heardMs
      peer.probe = undefined
      peer.toldMs = this.#clock.monotonicMs()
      if (link.peer !== undefined) {
        this.#sightings.forget(link.peer.nodeId)
        this.#handler.peerDown(link.peer, end.reason)
      }
      this.#failed(peer, end)
    } else if (dialed !== undefined) {
      this.#failed(dialed, end)
    } else {
      this.#strangerLeft(link, end)
    }
  }

  /** A connection that never became a link. If the caller is a member, the status tells why. */
  #strangerLeft(link: Link, end: LinkEnd): void {
    if (this.#closed || end.kind === 'introduced' || end.kind === 'same process') return
    const address = link.claimed?.address
    const peer = address === undefined ? undefined : this.#peers.get(address)
    if (peer !== undefined && peer.link === undefined) {
      this.#noteFailure(peer, end)
      // It calls, so it need not be told where this node is.
      if (!this.#calls(peer) && !peer.dialing) this.#retryLater(peer)
      return
    }
    if (link.proven !== undefined) {
      this.#refused.note(link.proven, end.reason, this.#clock.monotonicMs())
      this.#handler.changed()
    }
    const caller = link.claimed === undefined ? '' : ` of ${link.claimed.name} (${address})`
    // Without its port, which is another one at each call.
    if (!this.#refused.isNews(address ?? parseAddress(link.remoteAddress).host, end.reason)) return
    const message = `replication connection from ${link.remoteAddress}${caller} ended: ${end.reason}`
    this.#handler.log(logLevelOf(end.kind), message, {})
  }
}

function logLevelOf(kind: RefusalKind | undefined): 'info' | 'warn' | 'error' {
  return kind === 'clone' ? 'error' : kind === 'stranger' ? 'warn' : 'info'
}

/** `host:port`, with brackets around an IPv6 address. */
export function parseAddress(address: string): Address {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  return { host, port: Number(address.slice(colon + 1)) }
}

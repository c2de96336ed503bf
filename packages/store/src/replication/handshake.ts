import { createHmac, timingSafeEqual } from 'node:crypto'
import type { LevelRange } from '../store-administration.ts'
import { decodeJsonFrame, encodeJsonFrame, FrameFault, FrameType } from './frame.ts'

/** What a node says of itself before anything else. */
export interface NodeIdentity {
  /** The group: replicas of one store have the same. */
  readonly brokerName: string
  readonly nodeId: string
  readonly storeUuid: string
  /** `undefined` while the store is blank. */
  readonly clusterUuid: string | undefined
  /** For people. */
  readonly name: string
  /** `host:port` of its replication listener. */
  readonly address: string
  /** This process, and no other that shows the same node; of two, the one that was started first sorts first. */
  readonly bootId: string
  /** As configured: with how many nodes a cluster is to be founded. */
  readonly replicas: number
  /** Levels of the log's format that its release can work with. */
  readonly levels: LevelRange
  /** The level that its cluster uses, as far as it knows; `undefined` while the store is blank. */
  readonly level: number | undefined
}

/** Versions of the replication protocol, both included. */
export interface ProtocolRange {
  readonly lowest: number
  readonly highest: number
}

/** Version 1 was that of development builds, which know neither levels nor boot ids. */
const supportedProtocols: ProtocolRange = { lowest: 2, highest: 2 }

/**
 * Why there is no link: `stranger`: the two do not belong together, until someone changes that; `rival`: another process
 * holds its place, and is asked whether it lives; `clone`: it does, so that two processes live as one node, or at one
 * address (rule T8); `same process`: there is a link already, or would be one to itself; `introduced`: it is known now,
 * and is called back.
 */
export type RefusalKind = 'stranger' | 'rival' | 'clone' | 'same process' | 'introduced'

/** In words, and what to make of it. */
export interface Objection {
  readonly kind: RefusalKind
  readonly reason: string
}

export interface HandshakeResult {
  readonly send: readonly Buffer[]
  readonly peer?: NodeIdentity
  /** The highest version that both speak; set together with `peer`. */
  readonly protocol?: number
  /** Why it ended without a link; `byPeer` if the other side said so. */
  readonly refused?: Objection & { readonly byPeer: boolean }
}

/** What a node that calls says of itself, before it is known to be true, or even to be all there. */
export interface Claim {
  readonly name: string
  readonly address: string
}

const magic = 'LevelMQ replication'
/** In characters. */
const maxReasonLength = 1024
const refusalKinds: readonly RefusalKind[] = ['stranger', 'rival', 'clone', 'same process', 'introduced']

/**
 * Proves to each other that both know `securityToken` and belong to one cluster, and settles which version of the
 * protocol is spoken (rule S36).
 *
 * dialer: hello (nonce) · acceptor: hello (nonce) · dialer: proof · acceptor: welcome (proof). A proof is an HMAC, keyed
 * by the token, of both nonces and of all that both have said, and of the side that gives it, so that it can neither be
 * replayed nor reflected. The dialer goes first: whoever calls learns nothing that a token could be guessed from.
 * Pure: frames go in, frames and a verdict come out.
 */
export class Handshake {
  readonly #side: 'dialer' | 'acceptor'
  readonly #self: NodeIdentity
  readonly #token: string
  readonly #nonce: string
  readonly #objection: (peer: NodeIdentity) => Objection | undefined
  readonly #protocols: ProtocolRange
  #claim: Claim | undefined
  #peer: NodeIdentity | undefined
  #peerProtocols: ProtocolRange = { lowest: 0, highest: 0 }
  #peerNonce = ''
  #proven = false
  #over = false

  /** @param objection - Why a peer that proved itself is not welcome nevertheless. */
  constructor(
    side: 'dialer' | 'acceptor',
    self: NodeIdentity,
    token: string,
    nonce: Uint8Array,
    objection: (peer: NodeIdentity) => Objection | undefined = () => undefined,
    protocols: ProtocolRange = supportedProtocols,
  ) {
    this.#side = side
    this.#self = self
    this.#token = token
    this.#nonce = Buffer.from(nonce).toString('hex')
    this.#objection = objection
    this.#protocols = protocols
  }

  /** Who the peer says it is: to be shown, not to be believed. */
  get claimed(): Claim | undefined {
    return this.#claim
  }

  /** Who the peer has proved to be, whether it was refused then or not. */
  get proven(): NodeIdentity | undefined {
    return this.#proven ? this.#peer : undefined
  }

  /** What the dialer sends first; nothing from the acceptor. */
  start(): readonly Buffer[] {
    return this.#side === 'dialer' ? [this.#hello()] : []
  }

  /** @throws FrameFault if the peer does not speak this protocol. */
  receive(type: number, body: Buffer): HandshakeResult {
    if (this.#over) throw new FrameFault(`frame of type ${type} behind the end of the handshake`)
    const result = this.#receive(type, body)
    this.#over = result.peer !== undefined || result.refused !== undefined
    return result
  }

  #receive(type: number, body: Buffer): HandshakeResult {
    const fields = decodeJsonFrame(body)
    if (type === FrameType.refuse) {
      // Then it is known who it is that does not belong here.
      this.#proven =
        this.#peer !== undefined && fields.proof !== undefined && this.#proves(fields, this.#other)
      return { send: [], refused: { ...decodeRefusal(body), byPeer: true } }
    }
    if (type === FrameType.hello && this.#claim === undefined) return this.#onHello(fields)
    const peer = this.#peer
    if (type === FrameType.proof && this.#side === 'acceptor' && peer !== undefined) {
      if (!this.#proves(fields, 'dialer')) return this.#refuse('securityToken differs')
      this.#proven = true
      const objection = this.#strangeness(peer) ?? this.#objection(peer)
      if (objection !== undefined) return this.#object(objection)
      const welcome = encodeJsonFrame(FrameType.welcome, { proof: this.#proof('acceptor') })
      return { send: [welcome], peer, protocol: this.#protocol() }
    }
    if (type === FrameType.welcome && this.#side === 'dialer' && peer !== undefined) {
      if (!this.#proves(fields, 'acceptor')) return this.#refuse('securityToken differs')
      this.#proven = true
      return { send: [], peer, protocol: this.#protocol() }
    }
    throw new FrameFault(`frame of type ${type} in the handshake`)
  }

  #onHello(fields: Record<string, unknown>): HandshakeResult {
    if (fields.protocol !== magic) throw new FrameFault('not the replication protocol of LevelMQ')
    const claim = { name: text(fields, 'name', 256), address: text(fields, 'address', 512) }
    this.#claim = claim
    const lowest = whole(fields, 'minimumVersion')
    this.#peerProtocols = { lowest, highest: whole(fields, 'maximumVersion') }
    // Before anything that another version may say differently.
    if (this.#protocol() === 0) return this.#refuse(this.#versionsApart(claim))
    const peer = identityOf(fields)
    this.#peer = peer
    this.#peerNonce = text(fields, 'nonce', 128)
    // A stranger that calls is not told more than what any node says, and nothing else is made of it.
    if (this.#side === 'acceptor') return { send: [this.#hello()] }
    // Before the acceptor takes this node for connected.
    const objection = this.#strangeness(peer) ?? this.#objection(peer)
    if (objection !== undefined) return this.#object(objection)
    return { send: [encodeJsonFrame(FrameType.proof, { proof: this.#proof('dialer') })] }
  }

  /** The highest version that both speak; 0 if there is none. */
  #protocol(): number {
    const [own, other] = [this.#protocols, this.#peerProtocols]
    const highest = Math.min(own.highest, other.highest)
    return highest >= Math.max(own.lowest, other.lowest) ? highest : 0
  }

  #versionsApart(claim: Claim): string {
    const [own, other] = [this.#protocols, this.#peerProtocols]
    const older = other.highest < own.lowest ? claim.name : this.#self.name
    return (
      `${claim.name} speaks versions ${other.lowest} to ${other.highest} of the replication protocol, and ` +
      `${this.#self.name} ${own.lowest} to ${own.highest}: upgrade ${older}`
    )
  }

  #strangeness(peer: NodeIdentity): Objection | undefined {
    const self = this.#self
    if (peer.bootId === self.bootId) return { kind: 'same process', reason: 'it is this broker itself' }
    if (peer.brokerName !== self.brokerName) {
      return stranger(
        `${peer.name} belongs to the group "${peer.brokerName}", ${self.name} to "${self.brokerName}" (brokerName of replicatedLevelDB)`,
      )
    }
    if (
      peer.clusterUuid !== undefined &&
      self.clusterUuid !== undefined &&
      peer.clusterUuid !== self.clusterUuid
    ) {
      return stranger(
        `the store of ${peer.name} belongs to cluster ${peer.clusterUuid}, that of ${self.name} to ${self.clusterUuid}`,
      )
    }
    if (peer.storeUuid === self.storeUuid) {
      return {
        kind: 'clone',
        reason: `${peer.name} at ${peer.address} and ${self.name} at ${self.address} have the same store (${self.storeUuid}): a copied directory. Start one of them with an empty directory`,
      }
    }
    if (peer.nodeId === self.nodeId) {
      return {
        kind: 'clone',
        reason: `${peer.name} at ${peer.address} and ${self.name} at ${self.address} have the same nodeId "${self.nodeId}": give one of them another`,
      }
    }
    return levelObjection(peer, self) ?? levelObjection(self, peer)
  }

  #refuse(reason: string): HandshakeResult {
    return this.#object(stranger(reason))
  }

  /** With a proof, if this side may give one: the other one shows who was refused only if that is known. */
  #object({ kind, reason }: Objection): HandshakeResult {
    const proves = this.#side === 'dialer' && this.#peer !== undefined
    const proof = proves ? this.#proof('dialer') : undefined
    return { send: [encodeRefusal({ kind, reason }, proof)], refused: { kind, reason, byPeer: false } }
  }

  get #other(): 'dialer' | 'acceptor' {
    return this.#side === 'dialer' ? 'acceptor' : 'dialer'
  }

  #hello(): Buffer {
    const { clusterUuid, level, levels, ...rest } = this.#self
    return encodeJsonFrame(FrameType.hello, {
      protocol: magic,
      minimumVersion: this.#protocols.lowest,
      maximumVersion: this.#protocols.highest,
      ...rest,
      clusterUuid: clusterUuid ?? null,
      lowestLevel: levels.lowest,
      highestLevel: levels.highest,
      level: level ?? null,
      nonce: this.#nonce,
    })
  }

  #proof(side: 'dialer' | 'acceptor'): string {
    const peer = this.#peer
    if (peer === undefined) throw new Error('no peer yet')
    const own = [this.#nonce, ...factsOf(this.#self, this.#protocols)]
    const other = [this.#peerNonce, ...factsOf(peer, this.#peerProtocols)]
    const parts = this.#side === 'dialer' ? [own, other] : [other, own]
    return createHmac('sha256', this.#token)
      .update(JSON.stringify([magic, side, ...parts]))
      .digest('hex')
  }

  #proves(fields: Record<string, unknown>, side: 'dialer' | 'acceptor'): boolean {
    const given = Buffer.from(text(fields, 'proof', 128))
    const expected = Buffer.from(this.#proof(side))
    return given.length === expected.length && timingSafeEqual(given, expected)
  }
}

export function encodeRefusal({ kind, reason }: Objection, proof?: string): Buffer {
  return encodeJsonFrame(FrameType.refuse, { kind, reason: reason.slice(0, maxReasonLength), proof })
}

/** @throws FrameFault if it is none. */
export function decodeRefusal(body: Buffer): Objection {
  const fields = decodeJsonFrame(body)
  const kind = refusalKinds.find((each) => each === fields.kind) ?? 'stranger'
  return { kind, reason: text(fields, 'reason', maxReasonLength) }
}

/** All that a node says of itself, so that none of it can be exchanged on the way. */
function factsOf(node: NodeIdentity, protocols: ProtocolRange): unknown[] {
  const { brokerName, nodeId, storeUuid, clusterUuid, name, address, bootId, replicas, levels, level } = node
  return [
    ...[brokerName, nodeId, storeUuid, clusterUuid ?? null, name, address, bootId, replicas],
    ...[levels.lowest, levels.highest, level ?? null, protocols.lowest, protocols.highest],
  ]
}

/** The cluster of `member` has a level that `other` cannot work with (rule S36). */
export function levelObjection(member: NodeIdentity, other: NodeIdentity): Objection | undefined {
  const { level } = member
  const { lowest, highest } = other.levels
  if (level === undefined || (level >= lowest && level <= highest)) return undefined
  const remedy =
    level > highest
      ? `start ${other.name} with a newer release`
      : `raise the cluster to level ${lowest} before ${other.name} joins, or start it with an older release`
  return stranger(
    `the cluster of ${member.name} uses level ${level} of the log's format, and ${other.name} supports levels ${lowest} to ${highest}: ${remedy}`,
  )
}

function stranger(reason: string): Objection {
  return { kind: 'stranger', reason }
}

function identityOf(fields: Record<string, unknown>): NodeIdentity {
  return {
    brokerName: text(fields, 'brokerName', 256),
    nodeId: text(fields, 'nodeId', 256),
    storeUuid: text(fields, 'storeUuid', 64),
    clusterUuid: fields.clusterUuid === null ? undefined : text(fields, 'clusterUuid', 64),
    name: text(fields, 'name', 256),
    address: text(fields, 'address', 512),
    bootId: text(fields, 'bootId', 64),
    replicas: whole(fields, 'replicas'),
    levels: { lowest: whole(fields, 'lowestLevel'), highest: whole(fields, 'highestLevel') },
    level: fields.level === null ? undefined : whole(fields, 'level'),
  }
}

function text(fields: Record<string, unknown>, name: string, limit: number): string {
  const value = fields[name]
  if (typeof value !== 'string' || value.length === 0 || value.length > limit) {
    throw new FrameFault(`handshake: ${name} is not a text of 1 to ${limit} characters`)
  }
  return value
}

function whole(fields: Record<string, unknown>, name: string): number {
  const value = fields[name]
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw new FrameFault(`handshake: ${name} is not a whole number`)
  return value as number
}

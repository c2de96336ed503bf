import { createHmac, timingSafeEqual } from 'node:crypto'
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
}

export interface HandshakeResult {
  readonly send: readonly Buffer[]
  readonly peer?: NodeIdentity
  /** Why it ended without a link, in words; `byPeer` if the other side said so. */
  readonly refused?: { readonly reason: string; readonly byPeer: boolean }
}

const protocolVersion = 1
const magic = 'LevelMQ replication'

/**
 * Proves to each other that both know `securityToken` and belong to one cluster.
 *
 * dialer: hello (nonce) · acceptor: hello (nonce) · dialer: proof · acceptor: welcome (proof). A proof is an HMAC, keyed
 * by the token, of both nonces and identities and of the side that gives it, so that it can neither be replayed nor
 * reflected. The dialer goes first: whoever calls learns nothing that a token could be guessed from.
 * Pure: frames go in, frames and a verdict come out.
 */
export class Handshake {
  readonly #side: 'dialer' | 'acceptor'
  readonly #self: NodeIdentity
  readonly #token: string
  readonly #nonce: string
  readonly #objection: (peer: NodeIdentity) => string | undefined
  #peer: NodeIdentity | undefined
  #peerNonce = ''
  #over = false

  /** @param objection - Why a peer that proved itself is not welcome nevertheless, in words. */
  constructor(
    side: 'dialer' | 'acceptor',
    self: NodeIdentity,
    token: string,
    nonce: Uint8Array,
    objection: (peer: NodeIdentity) => string | undefined = () => undefined,
  ) {
    this.#side = side
    this.#self = self
    this.#token = token
    this.#nonce = Buffer.from(nonce).toString('hex')
    this.#objection = objection
  }

  /** Who the peer says it is: to be shown, not to be believed. */
  get claimed(): NodeIdentity | undefined {
    return this.#peer
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
      return { send: [], refused: { reason: text(fields, 'reason', 1024), byPeer: true } }
    }
    if (type === FrameType.hello && this.#peer === undefined) return this.#onHello(fields)
    if (type === FrameType.proof && this.#side === 'acceptor' && this.#peer !== undefined) {
      if (!this.#proves(fields, 'dialer')) return this.#refuse('securityToken differs')
      const reason = this.#objection(this.#peer)
      if (reason !== undefined) return this.#refuse(reason)
      const welcome = encodeJsonFrame(FrameType.welcome, { proof: this.#proof('acceptor') })
      return { send: [welcome], peer: this.#peer }
    }
    if (type === FrameType.welcome && this.#side === 'dialer' && this.#peer !== undefined) {
      if (!this.#proves(fields, 'acceptor')) return this.#refuse('securityToken differs')
      return { send: [], peer: this.#peer }
    }
    throw new FrameFault(`frame of type ${type} in the handshake`)
  }

  #onHello(fields: Record<string, unknown>): HandshakeResult {
    if (fields.protocol !== magic) throw new FrameFault('not the replication protocol of LevelMQ')
    const minimum = fields.minimumVersion
    const maximum = fields.maximumVersion
    if (typeof minimum !== 'number' || typeof maximum !== 'number')
      throw new FrameFault('hello without versions')
    if (minimum > protocolVersion || maximum < protocolVersion) {
      return this.#refuse(
        `speaks replication versions ${minimum} to ${maximum}, this broker ${protocolVersion}`,
      )
    }
    const peer = identityOf(fields)
    this.#peer = peer
    this.#peerNonce = text(fields, 'nonce', 128)
    const strange = this.#strangeness(peer)
    if (strange !== undefined) return this.#refuse(strange)
    if (this.#side === 'acceptor') return { send: [this.#hello()] }
    // Before the acceptor takes this node for connected.
    const reason = this.#objection(peer)
    if (reason !== undefined) return this.#refuse(reason)
    return { send: [encodeJsonFrame(FrameType.proof, { proof: this.#proof('dialer') })] }
  }

  #strangeness(peer: NodeIdentity): string | undefined {
    const self = this.#self
    if (peer.brokerName !== self.brokerName) {
      return `belongs to the group "${peer.brokerName}", this broker to "${self.brokerName}" (brokerName of replicatedLevelDB)`
    }
    if (
      peer.clusterUuid !== undefined &&
      self.clusterUuid !== undefined &&
      peer.clusterUuid !== self.clusterUuid
    ) {
      return `its store belongs to cluster ${peer.clusterUuid}, this broker's to ${self.clusterUuid}`
    }
    if (peer.storeUuid === self.storeUuid) {
      return `it has the same store as this broker (${self.storeUuid}): a copied directory, or its own address`
    }
    if (peer.nodeId === self.nodeId) return `it has the same nodeId as this broker, "${self.nodeId}"`
    return undefined
  }

  #refuse(reason: string): HandshakeResult {
    return { send: [encodeJsonFrame(FrameType.refuse, { reason })], refused: { reason, byPeer: false } }
  }

  #hello(): Buffer {
    const { clusterUuid, ...rest } = this.#self
    return encodeJsonFrame(FrameType.hello, {
      protocol: magic,
      minimumVersion: protocolVersion,
      maximumVersion: protocolVersion,
      ...rest,
      clusterUuid: clusterUuid ?? null,
      nonce: this.#nonce,
    })
  }

  #proof(side: 'dialer' | 'acceptor'): string {
    const peer = this.#peer
    if (peer === undefined) throw new Error('no peer yet')
    const own = [this.#nonce, ...factsOf(this.#self)]
    const other = [this.#peerNonce, ...factsOf(peer)]
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

/** All that a node says of itself, so that none of it can be exchanged on the way. */
function factsOf({ brokerName, nodeId, storeUuid, clusterUuid, name, address }: NodeIdentity): unknown[] {
  return [brokerName, nodeId, storeUuid, clusterUuid ?? null, name, address]
}

function identityOf(fields: Record<string, unknown>): NodeIdentity {
  return {
    brokerName: text(fields, 'brokerName', 256),
    nodeId: text(fields, 'nodeId', 256),
    storeUuid: text(fields, 'storeUuid', 64),
    clusterUuid: fields.clusterUuid === null ? undefined : text(fields, 'clusterUuid', 64),
    name: text(fields, 'name', 256),
    address: text(fields, 'address', 512),
  }
}

function text(fields: Record<string, unknown>, name: string, limit: number): string {
  const value = fields[name]
  if (typeof value !== 'string' || value.length === 0 || value.length > limit) {
    throw new FrameFault(`handshake: ${name} is not a text of 1 to ${limit} characters`)
  }
  return value
}

import type { Clock, Timer } from '../io/clock.ts'
import type { Connection } from '../io/network.ts'
import {
  encodeJsonFrame,
  FrameDecoder,
  FrameFault,
  FrameType,
  maxFrameBytes,
  maxHandshakeFrameBytes,
} from './frame.ts'
import {
  type Claim,
  decodeRefusal,
  encodeRefusal,
  type Handshake,
  type NodeIdentity,
  type Objection,
} from './handshake.ts'
import { PieceGatherer, piecesOf } from './piece.ts'

/** Why a link ended; `kind` is set if one of the two did not want it. */
export interface LinkEnd {
  readonly reason: string
  readonly kind: Objection['kind'] | undefined
}

/** What a link tells its mesh. `closed` comes exactly once, last. */
export interface LinkHandler {
  /** The handshake is over and `peer` is who it says. */
  established(link: Link, peer: NodeIdentity): void
  frame(link: Link, type: number, body: Buffer): void
  closed(link: Link, end: LinkEnd): void
}

/** Replies that wait for a peer: it asks for one thing at a time, of each kind. */
const maxBulkFrames = 8

/**
 * One connection to a peer, from the first byte of the handshake on.
 *
 * What is sent in bulk waits until the connection has taken everything else, and goes out piece by piece: whatever
 * consensus says in between is behind one piece at most.
 */
export class Link {
  readonly remoteAddress: string
  /** Set once the handshake is over. */
  peer: NodeIdentity | undefined
  /** Version of the protocol that is spoken; set together with `peer`. */
  protocol: number | undefined
  /** When anything was last received. */
  heardMs: number
  /** Answers to {@link Link.probe}. */
  answers = 0
  #sentMs: number
  readonly #connection: Connection
  readonly #decoder = new FrameDecoder(maxHandshakeFrameBytes)
  readonly #clock: Clock
  readonly #handler: LinkHandler
  readonly #gatherer = new PieceGatherer(maxFrameBytes)
  /** Frames sent in bulk, as the pieces that are still to be written. */
  readonly #bulk: Uint8Array[][][] = []
  /** The connection has not taken yet what was written. */
  #busy = false
  readonly #handshake: Handshake
  #deadline: Timer | undefined
  #closed = false
  #end: LinkEnd | undefined

  constructor(
    connection: Connection,
    handshake: Handshake,
    handler: LinkHandler,
    clock: Clock,
    timeoutMs: number,
  ) {
    this.#connection = connection
    this.#handshake = handshake
    this.#handler = handler
    this.#clock = clock
    this.remoteAddress = connection.remoteAddress
    this.heardMs = clock.monotonicMs()
    this.#sentMs = this.heardMs
    this.#deadline = clock.setTimer(timeoutMs, () => this.close('no handshake in time'))
    connection.handle({
      data: (chunk) => this.#data(chunk),
      drained: () => {
        this.#busy = false
        this.#sendPieces()
      },
      closed: (cause) => this.#ended(cause?.message ?? 'connection closed by the peer'),
    })
    const hello = handshake.start()
    if (hello.length > 0) connection.write(hello)
  }

  /** Who the peer says it is, once it has said hello: to be shown, not to be believed. */
  get claimed(): Claim | undefined {
    return this.#handshake.claimed
  }

  /** Who the peer has proved to be, also if it was refused. */
  get proven(): NodeIdentity | undefined {
    return this.#handshake.proven
  }

  send(chunks: readonly Uint8Array[]): void {
    if (!this.#closed) this.#write(chunks)
  }

  /** Sends one frame that can wait. */
  sendBulk(chunks: readonly Uint8Array[]): void {
    if (this.#closed) return
    if (this.#bulk.length >= maxBulkFrames) {
      this.close('the peer asks for more than it takes')
      return
    }
    this.#bulk.push(piecesOf(chunks))
    this.#sendPieces()
  }

  /** Asks the peer whether it lives: `answers` shows it. */
  probe(): void {
    this.send([encodeJsonFrame(FrameType.probe, {})])
  }

  /** Lets the peer hear something if it has not for `idleMs`: a store that is busy with itself says nothing for long. */
  keepAlive(nowMs: number, idleMs: number): void {
    if (nowMs - this.#sentMs >= idleMs) this.probe()
  }

  /** Closes at once. */
  close(reason: string): void {
    if (this.#closed) return
    this.#end ??= { reason, kind: undefined }
    this.#connection.destroy()
    this.#ended(reason)
  }

  /** Ends a link that is no longer wanted, and tells the peer why. */
  dismiss({ kind, reason }: Objection): void {
    if (this.#closed) return
    this.send([encodeRefusal({ kind, reason })])
    this.#end = { kind, reason }
    this.#connection.end()
    this.#ended(reason)
  }

  #write(chunks: readonly Uint8Array[]): void {
    this.#sentMs = this.#clock.monotonicMs()
    if (!this.#connection.write(chunks)) this.#busy = true
  }

  #sendPieces(): void {
    while (!this.#busy && !this.#closed) {
      const piece = this.#bulk[0]?.shift()
      if (piece === undefined) return
      if (this.#bulk[0]?.length === 0) this.#bulk.shift()
      this.#write(piece)
    }
  }

  #data(chunk: Buffer): void {
    if (this.#closed) return
    this.heardMs = this.#clock.monotonicMs()
    try {
      this.#decoder.push(chunk, (type, body) => {
        if (this.#closed) return
        if (this.peer === undefined) this.#shakeHands(type, body)
        else this.#frame(type, body)
      })
    } catch (error) {
      if (!(error instanceof FrameFault)) throw error
      this.close(`protocol error: ${error.message}`)
    }
  }

  #frame(type: number, body: Buffer): void {
    switch (type) {
      case FrameType.probe:
        this.send([encodeJsonFrame(FrameType.alive, {})])
        break
      case FrameType.alive:
        this.answers += 1
        break
      case FrameType.refuse: {
        const { kind, reason } = decodeRefusal(body)
        this.#end = { kind, reason: `refused by the peer: ${reason}` }
        this.close(reason)
        break
      }
      case FrameType.piece: {
        const whole = this.#gatherer.push(body)
        if (whole !== undefined) this.#frame(whole.type, whole.body)
        break
      }
      default:
        this.#handler.frame(this, type, body)
    }
  }

  #shakeHands(type: number, body: Buffer): void {
    const { send, peer, protocol, refused } = this.#handshake.receive(type, body)
    if (send.length > 0) this.#connection.write(send)
    if (refused !== undefined) {
      const { kind, reason, byPeer } = refused
      this.#end = { kind, reason: byPeer ? `refused by the peer: ${reason}` : reason }
      // The refusal just written tells the peer why; give it the time to arrive.
      this.#connection.end()
      this.#ended(reason)
    } else if (peer !== undefined) {
      this.#deadline?.cancel()
      this.#decoder.setLimit(maxFrameBytes)
      this.peer = peer
      this.protocol = protocol
      this.#handler.established(this, peer)
    }
  }

  /** A reason that was noted before stands. */
  #ended(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#bulk.length = 0
    this.#deadline?.cancel()
    this.#handler.closed(this, this.#end ?? { reason, kind: undefined })
  }
}

import type { Clock, Timer } from '../io/clock.ts'
import type { Connection } from '../io/network.ts'
import { FrameDecoder, FrameFault, FrameType, maxFrameBytes, maxHandshakeFrameBytes } from './frame.ts'
import type { Handshake, NodeIdentity } from './handshake.ts'
import { PieceGatherer, piecesOf } from './piece.ts'

/** What a link tells its mesh. `closed` comes exactly once, last; `reason` is for people. */
export interface LinkHandler {
  /** The handshake is over and `peer` is who it says. */
  established(link: Link, peer: NodeIdentity): void
  frame(link: Link, type: number, body: Buffer): void
  closed(link: Link, reason: string, refused: boolean): void
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
  /** When anything was last received. */
  heardMs: number
  readonly #connection: Connection
  readonly #decoder = new FrameDecoder(maxHandshakeFrameBytes)
  readonly #clock: Clock
  readonly #handler: LinkHandler
  readonly #gatherer = new PieceGatherer(maxFrameBytes)
  /** Frames sent in bulk, as the pieces that are still to be written. */
  readonly #bulk: Uint8Array[][][] = []
  /** The connection has not taken yet what was written. */
  #busy = false
  #handshake: Handshake | undefined
  #deadline: Timer | undefined
  #closed = false
  #reason: string | undefined
  #refused = false

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
    this.#deadline = clock.setTimer(timeoutMs, () => this.close('no handshake in time'))
    connection.handle({
      data: (chunk) => this.#data(chunk),
      drained: () => {
        this.#busy = false
        this.#sendPieces()
      },
      closed: (cause) => this.#ended(this.#reason ?? cause?.message ?? 'connection closed by the peer'),
    })
    const hello = handshake.start()
    if (hello.length > 0) connection.write(hello)
  }

  /** Address that the peer gave for itself, once it has said hello; not proven before the handshake is over. */
  get claimedAddress(): string | undefined {
    return this.peer?.address ?? this.#handshake?.claimed?.address
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

  /** Closes at once. */
  close(reason: string): void {
    if (this.#closed) return
    this.#reason ??= reason
    this.#connection.destroy()
    this.#ended(this.#reason)
  }

  #write(chunks: readonly Uint8Array[]): void {
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
        if (this.#handshake !== undefined) this.#shakeHands(this.#handshake, type, body)
        else if (type !== FrameType.piece) this.#handler.frame(this, type, body)
        else {
          const whole = this.#gatherer.push(body)
          if (whole !== undefined) this.#handler.frame(this, whole.type, whole.body)
        }
      })
    } catch (error) {
      if (!(error instanceof FrameFault)) throw error
      this.close(`protocol error: ${error.message}`)
    }
  }

  #shakeHands(handshake: Handshake, type: number, body: Buffer): void {
    const { send, peer, refused } = handshake.receive(type, body)
    if (send.length > 0) this.#connection.write(send)
    if (refused !== undefined) {
      this.#refused = true
      this.#reason = refused.byPeer ? `refused by the peer: ${refused.reason}` : refused.reason
      // The refusal just written tells the peer why; give it the time to arrive.
      this.#connection.end()
      this.#ended(this.#reason)
    } else if (peer !== undefined) {
      this.#handshake = undefined
      this.#deadline?.cancel()
      this.#decoder.setLimit(maxFrameBytes)
      this.peer = peer
      this.#handler.established(this, peer)
    }
  }

  #ended(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#bulk.length = 0
    this.#deadline?.cancel()
    this.#handler.closed(this, reason, this.#refused)
  }
}

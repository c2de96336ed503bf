import { isUtf8 } from 'node:buffer'
import { escapeHeader, joinFrame } from '../stomp-client/frame.ts'

/** A message that was sent, perhaps more than once, and is not confirmed yet. */
interface Unconfirmed {
  readonly frame: Buffer
  readonly bodyBytes: number
}

/**
 * The messages between sending and confirmation.
 *
 * Pure. Invariants: sequence numbers rise by one in the order of sending; a message keeps its number and its bytes when
 * it is repeated; after a reconnection everything unconfirmed is repeated, in that order, before anything new. By
 * producer id and sequence the store drops the copies, so a message is stored once however often it was sent.
 */
export class SendWindow {
  readonly #size: number
  readonly #head: string
  /** By sequence; a Map keeps the order of sending. */
  readonly #unconfirmed = new Map<number, Unconfirmed>()
  #lastSequence = 0
  #confirmed = 0
  #confirmedBytes = 0

  /**
   * @param producerId - Unique over all producers and time.
   * @param size - Most messages in flight, from 1 up.
   */
  constructor(queue: string, producerId: string, size: number) {
    this.#size = size
    this.#head =
      `SEND\ndestination:${escapeHeader(`/queue/${queue}`)}\npersistent:true\n` +
      `levelmq.producerId:${escapeHeader(producerId)}\n`
  }

  get hasRoom(): boolean {
    return this.#unconfirmed.size < this.#size
  }

  /** Messages sent at least once whose fate is not known. */
  get inDoubt(): number {
    return this.#unconfirmed.size
  }

  get confirmed(): number {
    return this.#confirmed
  }

  get confirmedBytes(): number {
    return this.#confirmedBytes
  }

  /** Numbers a message and returns the frame to send. */
  add(body: Buffer): Buffer {
    const sequence = ++this.#lastSequence
    // A content-length alone would make it a message of bytes to clients of other protocols.
    const kind = isUtf8(body) ? 'amq-msg-type:text\n' : ''
    const head =
      `${this.#head}${kind}levelmq.producerSequenceId:${sequence}\n` +
      `receipt:${sequence}\ncontent-length:${body.length}\n\n`
    const frame = joinFrame(head, body)
    this.#unconfirmed.set(sequence, { frame, bodyBytes: body.length })
    return frame
  }

  /** Takes a receipt; false if it confirms nothing that was waiting. */
  confirm(receiptId: string): boolean {
    const message = this.#unconfirmed.get(Number(receiptId))
    if (message === undefined) return false
    this.#unconfirmed.delete(Number(receiptId))
    this.#confirmed++
    this.#confirmedBytes += message.bodyBytes
    return true
  }

  /** Whether `receiptId` is that of a message in flight. */
  has(receiptId: string): boolean {
    return this.#unconfirmed.has(Number(receiptId))
  }

  /** The frames to repeat after a reconnection, in order. */
  *unconfirmedFrames(): Generator<Buffer> {
    for (const { frame } of this.#unconfirmed.values()) yield frame
  }
}

import { encodeFrame, type Frame } from '../stomp-client/frame.ts'

export type AckMode = 'auto' | 'client' | 'client-individual'

interface DeliveriesOptions {
  readonly mode: AckMode
  /** Messages to take; `undefined` for all that come. */
  readonly count: number | undefined
  /** Messages whose ids are remembered, to recognise what is delivered again. */
  readonly remembered: number
}

/** What the frames of one read come to. */
interface Taken {
  /** Messages not seen before, in order: to be shown, before `acknowledgements` are sent. */
  readonly fresh: readonly Frame[]
  /** ACK frames, or nothing. */
  readonly acknowledgements: readonly Buffer[]
}

/**
 * Which messages are new, and which acknowledgements are still open.
 *
 * Pure. Invariants: a message is fresh once; nothing is acknowledged that was not fresh at some time; with a count,
 * nothing beyond it is acknowledged. An acknowledgement whose receipt was lost with its connection is in doubt: if it
 * took effect the message never comes again, otherwise it does and is acknowledged anew. So what is in doubt counts as
 * settled when the broker, asked again, had nothing of it to deliver.
 */
export class Deliveries {
  readonly #options: DeliveriesOptions
  readonly #seen = new Set<string>()
  /** Receipt to the ids of the messages that it settles. */
  readonly #open = new Map<string, readonly string[]>()
  readonly #inDoubt = new Set<string>()
  #fresh = 0
  #surplusOnConnection = false
  #receipts = 0

  constructor(options: DeliveriesOptions) {
    this.#options = options
  }

  /** Messages taken so far. */
  get taken(): number {
    return this.#fresh
  }

  get isFull(): boolean {
    return this.#options.count !== undefined && this.#fresh >= this.#options.count
  }

  /** Acknowledgements that are neither confirmed nor in doubt. */
  get open(): number {
    return this.#open.size
  }

  get inDoubt(): number {
    return this.#inDoubt.size
  }

  receive(frames: readonly Frame[]): Taken {
    const fresh: Frame[] = []
    const toAcknowledge: Frame[] = []
    for (const frame of frames) {
      if (frame.command === 'RECEIPT') this.#open.delete(frame.headers.get('receipt-id') ?? '')
      else if (frame.command === 'MESSAGE') this.#take(frame, fresh, toAcknowledge)
    }
    return { fresh, acknowledgements: this.#acknowledge(toAcknowledge) }
  }

  /** The connection is gone: open acknowledgements are in doubt. */
  lost(): void {
    for (const ids of this.#open.values()) for (const id of ids) this.#inDoubt.add(id)
    this.#open.clear()
    this.#surplusOnConnection = false
  }

  /** The broker had time to deliver again what is not acknowledged, and did not. */
  settle(): void {
    this.#inDoubt.clear()
  }

  #take(frame: Frame, fresh: Frame[], toAcknowledge: Frame[]): void {
    const id = frame.headers.get('message-id') ?? ''
    if (!this.#seen.has(id)) {
      if (this.isFull) {
        this.#surplusOnConnection = true
        return
      }
      this.#remember(id)
      this.#fresh++
      fresh.push(frame)
    }
    // Mode `client` would acknowledge the surplus with it.
    if (this.#options.mode !== 'client' || !this.#surplusOnConnection) toAcknowledge.push(frame)
  }

  #acknowledge(frames: readonly Frame[]): Buffer[] {
    const last = frames.at(-1)
    if (last === undefined || this.#options.mode === 'auto') return []
    if (this.#options.mode === 'client') return [this.#ack(last, frames)]
    return frames.map((frame) => this.#ack(frame, [frame]))
  }

  #ack(frame: Frame, covered: readonly Frame[]): Buffer {
    const receipt = `ack-${++this.#receipts}`
    const ids = covered.map((each) => each.headers.get('message-id') ?? '')
    for (const id of ids) this.#inDoubt.delete(id)
    this.#open.set(receipt, ids)
    return encodeFrame('ACK', { id: frame.headers.get('ack') ?? '', receipt })
  }

  #remember(id: string): void {
    this.#seen.add(id)
    if (this.#seen.size <= this.#options.remembered) return
    for (const oldest of this.#seen) {
      this.#seen.delete(oldest)
      break
    }
  }
}

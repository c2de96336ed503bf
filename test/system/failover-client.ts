import { type Address, type Frame, portOf, StompConnection } from './stomp-client.ts'

const retryMs = 20
/** Silence with something owed after which the other brokers are tried while the connection is kept. */
const silenceMs = 200

/**
 * A connection that moves on to whichever broker serves. It tries all ports at once, so that a paused broker, which
 * still accepts, holds nothing up; and it looks elsewhere when its own broker owes an answer and keeps silent.
 */
export abstract class FailoverClient {
  readonly #brokers: readonly Address[]
  protected connection: StompConnection | undefined
  #lastHeard = 0
  #seeking = false
  #stopped = false
  #watch: NodeJS.Timeout | undefined

  constructor(brokers: readonly Address[]) {
    this.#brokers = brokers
  }

  start(): void {
    this.#watch = setInterval(() => {
      if (this.connection !== undefined && !this.owed()) this.#lastHeard = performance.now()
      else if (performance.now() - this.#lastHeard > silenceMs) void this.#seek()
    }, retryMs)
    void this.#seek()
  }

  /** Cuts the connection and makes no other. */
  stop(): void {
    this.#stopped = true
    clearInterval(this.#watch)
    this.connection?.destroy()
    this.connection = undefined
  }

  /** Port of the broker that serves this client now. */
  get port(): number | undefined {
    return this.connection?.port
  }

  /** Whether the broker has to say something. */
  protected abstract owed(): boolean
  protected abstract connected(connection: StompConnection): void
  protected abstract received(frame: Frame, connection: StompConnection): void

  async #seek(): Promise<void> {
    if (this.#seeking || this.#stopped) return
    this.#seeking = true
    const silent = this.connection?.port
    const abort = new AbortController()
    try {
      const connection = await Promise.any(
        this.#brokers
          .filter((broker) => portOf(broker) !== silent)
          .map(async (broker) => {
            const connection = await StompConnection.open(broker, { timeoutMs: 500, signal: abort.signal })
            if (!abort.signal.aborted) return connection
            connection.destroy() // Another one was quicker.
            throw new Error('too late')
          }),
      )
      this.#adopt(connection)
    } catch {
      if (!this.#stopped && this.connection === undefined) setTimeout(() => void this.#seek(), retryMs)
    } finally {
      abort.abort()
      this.#seeking = false
    }
  }

  #adopt(connection: StompConnection): void {
    if (this.#stopped) {
      connection.destroy()
      return
    }
    this.connection?.destroy()
    this.connection = connection
    this.#lastHeard = performance.now()
    connection.onFrame = (frame) => {
      if (this.connection !== connection) return // A successor took over: what this one says comes too late.
      this.#lastHeard = performance.now()
      this.received(frame, connection)
    }
    void connection.closed.then(() => {
      if (this.connection !== connection) return
      this.connection = undefined
      void this.#seek()
    })
    this.connected(connection)
  }
}

interface Unconfirmed {
  readonly sequence: number
  readonly body: string
  sentAt: number
}

export interface Confirm {
  readonly sequence: number
  /** Port of the broker that gave it. */
  readonly port: number
  /** When this message was sent to that broker, and when the receipt came; `performance.now()`. */
  readonly sentAt: number
  readonly at: number
}

/**
 * Sends numbered messages with receipts, pipelined, and repeats what was not confirmed after each reconnect, under the
 * same producer id and sequence.
 */
export class FailoverProducer extends FailoverClient {
  readonly id: string
  readonly #queue: string
  readonly #onConfirm: (confirm: Confirm) => void
  /** In the order of sending; so are the receipts. */
  readonly #unconfirmed = new Map<number, Unconfirmed>()
  #last = 0
  confirmed = 0
  /** ERROR frames received. */
  readonly errors: string[] = []

  constructor(
    brokers: readonly Address[],
    queue: string,
    id: string,
    onConfirm: (confirm: Confirm) => void = () => {},
  ) {
    super(brokers)
    this.id = id
    this.#queue = queue
    this.#onConfirm = onConfirm
  }

  get sent(): number {
    return this.#last
  }

  get pending(): number {
    return this.#unconfirmed.size
  }

  /** Sends the next message; with no broker there, it waits for one. Bodies are told apart by number. */
  send(body: (sequence: number) => string): void {
    const sequence = ++this.#last
    const message = { sequence, body: body(sequence), sentAt: 0 }
    this.#unconfirmed.set(sequence, message)
    if (this.connection !== undefined) this.#write(this.connection, message)
  }

  #write(connection: StompConnection, message: Unconfirmed): void {
    message.sentAt = performance.now()
    connection.write(
      'SEND',
      {
        destination: `/queue/${this.#queue}`,
        persistent: 'true',
        receipt: message.sequence,
        'levelmq.producerId': this.id,
        'levelmq.producerSequenceId': message.sequence,
      },
      message.body,
    )
  }

  protected override owed(): boolean {
    return this.#unconfirmed.size > 0
  }

  protected override connected(connection: StompConnection): void {
    connection.socket.cork()
    for (const message of this.#unconfirmed.values()) this.#write(connection, message)
    connection.socket.uncork()
  }

  protected override received(frame: Frame, connection: StompConnection): void {
    if (frame.command === 'ERROR') this.errors.push(frame.headers.get('message') ?? '')
    if (frame.command !== 'RECEIPT') return
    const sequence = Number(frame.headers.get('receipt-id'))
    const message = this.#unconfirmed.get(sequence)
    if (message === undefined) return
    this.#unconfirmed.delete(sequence)
    this.confirmed++
    this.#onConfirm({ sequence, port: connection.port, sentAt: message.sentAt, at: performance.now() })
  }
}

/** What a consumer sees of a message. */
export interface Delivery {
  readonly body: string
  readonly redelivered: boolean
  /** Port of the broker that delivered it. */
  readonly port: number
  /** When the connection that it came by was begun; `performance.now()`. */
  readonly begunAt: number
}

/** Takes messages from a queue and acknowledges each with a receipt. */
export class FailoverConsumer extends FailoverClient {
  readonly #queue: string
  readonly #onMessage: (delivery: Delivery) => void
  readonly #onAcknowledged: (body: string, port: number, begunAt: number) => void
  #acknowledging = new Map<string, string>()
  #receipts = 0

  constructor(
    brokers: readonly Address[],
    queue: string,
    onMessage: (delivery: Delivery) => void,
    onAcknowledged: (body: string, port: number, begunAt: number) => void = () => {},
  ) {
    super(brokers)
    this.#queue = queue
    this.#onMessage = onMessage
    this.#onAcknowledged = onAcknowledged
  }

  /** Acknowledgements sent and not confirmed. */
  get pending(): number {
    return this.#acknowledging.size
  }

  protected override owed(): boolean {
    return this.#acknowledging.size > 0
  }

  protected override connected(connection: StompConnection): void {
    // Unconfirmed acknowledgements may be lost: then the message comes again, and is acknowledged again.
    this.#acknowledging = new Map()
    this.#acknowledging.set('subscribed', '')
    connection.write('SUBSCRIBE', {
      destination: `/queue/${this.#queue}`,
      id: 1,
      ack: 'client-individual',
      receipt: 'subscribed',
    })
  }

  protected override received(frame: Frame, connection: StompConnection): void {
    if (frame.command === 'RECEIPT') {
      const receipt = frame.headers.get('receipt-id') ?? ''
      const body = this.#acknowledging.get(receipt)
      if (body === undefined) return
      this.#acknowledging.delete(receipt)
      if (receipt !== 'subscribed') this.#onAcknowledged(body, connection.port, connection.begunAt)
    } else if (frame.command === 'MESSAGE') {
      const body = frame.body.toString()
      this.#onMessage({
        body,
        redelivered: frame.headers.get('redelivered') === 'true',
        port: connection.port,
        begunAt: connection.begunAt,
      })
      const receipt = `ack-${++this.#receipts}`
      this.#acknowledging.set(receipt, body)
      connection.write('ACK', { id: frame.headers.get('ack') ?? '', receipt })
    }
  }
}

import { FailoverClient } from '../../system/failover-client.ts'
import type { Address, Frame, StompConnection } from '../../system/stomp-client.ts'

/** How long a receipt is waited for before the message counts as in doubt. */
const patienceMs = 30_000

/** Sends messages without producer id and sequence, each once: what was not confirmed is in doubt, and not repeated. */
export class PlainProducer extends FailoverClient {
  readonly id: string
  readonly #queue: string
  readonly #handler: {
    confirmed(sequence: number, sentAt: number, port: number): void
    doubtful(sequence: number): void
  }
  readonly #unconfirmed = new Map<number, number>()

  constructor(
    brokers: readonly Address[],
    queue: string,
    id: string,
    handler: {
      confirmed(sequence: number, sentAt: number, port: number): void
      doubtful(sequence: number): void
    },
  ) {
    super(brokers)
    this.id = id
    this.#queue = queue
    this.#handler = handler
  }

  get pending(): number {
    return this.#unconfirmed.size
  }

  /** @returns Whether there is a broker to send it to; a message that was never sent is not in doubt. */
  get ready(): boolean {
    return this.connection !== undefined
  }

  send(sequence: number, body: string): void {
    const { connection } = this
    if (connection === undefined) throw new TypeError('no connection')
    this.#unconfirmed.set(sequence, performance.now())
    const headers = { destination: `/queue/${this.#queue}`, persistent: 'true', receipt: sequence }
    connection.write('SEND', headers, body)
  }

  /** Gives up on what waits for too long. */
  expire(): void {
    const [first] = this.#unconfirmed
    if (first !== undefined && performance.now() - first[1] > patienceMs) this.connection?.destroy()
  }

  protected override owed(): boolean {
    return this.#unconfirmed.size > 0
  }

  protected override connected(): void {
    const doubtful = [...this.#unconfirmed.keys()]
    this.#unconfirmed.clear()
    for (const sequence of doubtful) this.#handler.doubtful(sequence)
  }

  protected override received(frame: Frame, connection: StompConnection): void {
    if (frame.command !== 'RECEIPT') return
    const sequence = Number(frame.headers.get('receipt-id'))
    const sentAt = this.#unconfirmed.get(sequence)
    if (sentAt === undefined) return
    this.#unconfirmed.delete(sequence)
    this.#handler.confirmed(sequence, sentAt, connection.port)
  }
}

/**
 * The seam between protocols and queueing: a connector's session translates frames into these calls and back, and makes
 * no queueing decision; the engine (`destination/`) decides, and knows no protocol.
 *
 * All calls are synchronous, in both directions. Whatever has to wait for a commit is an index of the log: the session
 * keeps what it owes its client (a receipt) with that index and hands it out when `confirmed` reports the index or a
 * higher one. So nothing is allocated per message that is not kept for it.
 */
export type AcknowledgeMode = 'auto' | 'client' | 'individual'

export interface SubscribeOptions {
  /** Name of the queue, without prefix, checked by the session: 1 to 1024 bytes as UTF-8, no control characters. */
  readonly queue: string
  readonly mode: AcknowledgeMode
  /** Unacknowledged messages that the consumer may hold, 1 to 65535. ActiveMQ's default for queues is 1000. */
  readonly prefetch: number
}

/** A consumer on a queue. */
export interface Consumer {
  /**
   * Acknowledges message `index`, in mode `client` also all that were delivered to this consumer before it.
   *
   * @returns Index whose confirmation makes the acknowledgement permanent, or 0 if `index` is not outstanding here.
   */
  acknowledge(index: number): number
  /**
   * Gives message `index` back (with mode `client` also those before it): it is redelivered, to any consumer.
   *
   * @returns Index as for `acknowledge`, or 0 if `index` is not outstanding here.
   */
  reject(index: number): number
  /** Ends the subscription; what is outstanding goes back to the queue. */
  close(): void
}

/** One client connection, as the engine offers it to a session. */
export interface EngineConnection {
  /**
   * Stores a message: `head` and `body` together are its envelope (`message/envelope.ts`); both are copied.
   *
   * @param producer - For duplicate detection: the client's own producer id, with `sequence` from 1 up; or `undefined`.
   * @returns Index to wait for until the message may be confirmed; the same for a repeated one.
   * @throws BrokerError `BROKER_MESSAGE_TOO_LARGE`; nothing is stored, and the engine goes on.
   */
  send(
    queue: string,
    head: Uint8Array,
    body: Uint8Array,
    producer: string | undefined,
    sequence: number,
  ): number
  subscribe(options: SubscribeOptions, receiver: Receiver): Consumer
  /** Whether the session may go on reading; if not, it pauses its socket until `Client.roomAgain`. */
  hasRoom(): boolean
  /**
   * Whether what was delivered may be written to the socket, to be asked right before that: between the two the
   * process may have been stopped for long enough to be deposed (S9). If not, it is kept for the next `Client.flush`.
   */
  mayDeliver(): boolean
  /** To be called once after each socket read was worked off: lets the engine dispatch and the store write. */
  endOfRead(): void
  /** The client is gone: closes its consumers; what they had not acknowledged goes back to the queues. */
  close(): void
}

/** Where the engine delivers the messages of one consumer. */
export interface Receiver {
  /**
   * Takes one message for sending; called under the lease, with credit in hand. In mode `auto` it counts as
   * acknowledged from now on. Output is flushed in {@link Client.flush}.
   *
   * @param envelope - Whole envelope; shared memory, not to be changed.
   */
  deliver(index: number, redeliveryCount: number, envelope: Buffer): void
}

/** A session, as the engine sees it. */
export interface Client {
  /** False while its output is clogged: the engine then delivers nothing to it until it calls `writableAgain`. */
  readonly writable: boolean
  /** Everything up to `index` is as durable as `sync` asks: hand out the receipts. */
  confirmed(index: number): void
  /** A turn of deliveries or confirmations is over: write the output, in one piece. */
  flush(): void
  /** The store has room again. */
  roomAgain(): void
  /** Mastership is lost or the broker stops: tell the client, if that is possible at once, and close. */
  disconnect(reason: string): void
}

/** The engine, as connectors see it. Only exists while this broker is master. */
export interface Engine {
  connect(client: Client): EngineConnection
  /** The client's output is free again. */
  writableAgain(client: Client): void
}

/**
 * A live message as its queue holds it: waiting, or outstanding at one consumer.
 *
 * Kept small and of one shape, since the hot path makes one for each message.
 */
export class Message {
  readonly index: number
  /** Length of the envelope. */
  readonly bytes: number
  /** Deliveries that ended without acknowledgement. */
  redeliveryCount: number
  /** Held only while the message waits in memory; read from the store again if it has to be delivered again. */
  envelope: Buffer | undefined
  /** Neighbours in the delivery order of the consumer that holds it (`OutstandingMessages`). */
  previous: Message | undefined = undefined
  next: Message | undefined = undefined

  constructor(index: number, bytes: number, redeliveryCount: number, envelope: Buffer | undefined) {
    this.index = index
    this.bytes = bytes
    this.redeliveryCount = redeliveryCount
    this.envelope = envelope
  }
}

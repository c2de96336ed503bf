import { BrokerError } from '../../errors.ts'

/** A client broke the rules of STOMP: it gets an ERROR frame with this text, and its connection is closed. */
export class StompProtocolError extends BrokerError {
  /** What would have been right, for the body of the ERROR frame. */
  readonly expected: string

  constructor(message: string, expected: string) {
    super({ code: 'BROKER_PROTOCOL_ERROR', protocol: 'stomp' }, message)
    this.name = 'StompProtocolError'
    this.expected = expected
  }
}

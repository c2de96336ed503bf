/** What a client or an operator of the broker can meet, by stable code; `docs/errors.md` tells what to do. */
export type BrokerErrorDetail =
  | { readonly code: 'BROKER_MESSAGE_TOO_LARGE'; readonly bytes: number; readonly limit: number }
  /** The configuration is wrong: `where` is `file:line:column` or the variable, `key` the path of the setting. */
  | { readonly code: 'BROKER_INVALID_CONFIGURATION'; readonly where: string; readonly key: string }
  | { readonly code: 'BROKER_ADDRESS_IN_USE'; readonly address: string }
  /** A client broke the rules of its protocol; its connection is closed. */
  | { readonly code: 'BROKER_PROTOCOL_ERROR'; readonly protocol: string }
  /** The store has no space for messages; acknowledgements and consumption go on. */
  | { readonly code: 'BROKER_STORE_FULL' }
  /** There is no queue of that name. */
  | { readonly code: 'BROKER_UNKNOWN_QUEUE'; readonly queue: string }
  /** A request to change something from somebody who may not. */
  | { readonly code: 'BROKER_NOT_ALLOWED'; readonly reason: 'token' | 'place' | 'origin' }
  /** A request to the management that makes no sense. */
  | { readonly code: 'BROKER_INVALID_REQUEST'; readonly part: 'content-type' | 'body' }
  /** This store, or this broker, cannot do what was asked for. */
  | { readonly code: 'BROKER_UNSUPPORTED' }
  /** The same is being done already. */
  | { readonly code: 'BROKER_BUSY' }

/** A fault that is not a mistake of ours: `code` and facts are stable, the message may change. */
export class BrokerError extends Error {
  readonly code: BrokerErrorDetail['code']
  readonly detail: BrokerErrorDetail

  constructor(detail: BrokerErrorDetail, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'BrokerError'
    this.code = detail.code
    this.detail = detail
  }
}

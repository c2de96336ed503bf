/** What a client or an operator of the broker can meet, by stable code; `docs/errors.md` tells what to do. */
export type BrokerErrorDetail =
  | { readonly code: 'BROKER_MESSAGE_TOO_LARGE'; readonly bytes: number; readonly limit: number }
  /** The configuration is wrong: `where` is `file:line:column` or the variable, `key` the path of the setting. */
  | { readonly code: 'BROKER_INVALID_CONFIGURATION'; readonly where: string; readonly key: string }
  | { readonly code: 'BROKER_ADDRESS_IN_USE'; readonly address: string }
  /** A client broke the rules of its protocol; its connection is closed. */
  | { readonly code: 'BROKER_PROTOCOL_ERROR'; readonly protocol: string }

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

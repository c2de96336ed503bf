import type { StompFrame } from './frame.ts'
import { StompProtocolError } from './protocol-error.ts'
import { StompHeader } from './vocabulary.ts'

/** @throws StompProtocolError for a frame that wants to be part of a transaction: to do it at once would be wrong. */
export function refuseTransaction(frame: StompFrame): void {
  if (frame.has(StompHeader.transaction)) throw noTransactions()
}

export function noTransactions(): StompProtocolError {
  return new StompProtocolError(
    'transactions are not supported yet',
    'SEND, ACK and NACK without a transaction header; each takes effect by itself.',
  )
}

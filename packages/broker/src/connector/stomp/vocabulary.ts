/** The words of STOMP: commands and the headers that mean something to the broker, by number. */
import { TokenTable } from './token-table.ts'

export type StompVersion = '1.0' | '1.1' | '1.2'

export const StompCommand = {
  CONNECT: 1,
  STOMP: 2,
  SEND: 3,
  SUBSCRIBE: 4,
  UNSUBSCRIBE: 5,
  ACK: 6,
  NACK: 7,
  BEGIN: 8,
  COMMIT: 9,
  ABORT: 10,
  DISCONNECT: 11,
  CONNECTED: 12,
  MESSAGE: 13,
  RECEIPT: 14,
  ERROR: 15,
} as const
export type StompCommand = (typeof StompCommand)[keyof typeof StompCommand]

export const commandTable: TokenTable = new TokenTable(Object.keys(StompCommand))

/** Up to `original-destination`: headers of a message that are the protocol's, not the application's. */
const headerNames = {
  destination: 'destination',
  receipt: 'receipt',
  contentLength: 'content-length',
  contentType: 'content-type',
  correlationId: 'correlation-id',
  replyTo: 'reply-to',
  type: 'type',
  priority: 'priority',
  expires: 'expires',
  persistent: 'persistent',
  timestamp: 'timestamp',
  transaction: 'transaction',
  messageId: 'message-id',
  subscription: 'subscription',
  ack: 'ack',
  redelivered: 'redelivered',
  groupId: 'JMSXGroupID',
  groupSequence: 'JMSXGroupSeq',
  userId: 'JMSXUserID',
  messageType: 'amq-msg-type',
  producerId: 'levelmq.producerId',
  producerSequence: 'levelmq.producerSequenceId',
  originalDestination: 'original-destination',
  id: 'id',
  selector: 'selector',
  browser: 'browser',
  prefetchSize: 'activemq.prefetchSize',
  exclusive: 'activemq.exclusive',
  subscriptionName: 'activemq.subscriptionName',
  durableName: 'durable-subscription-name',
  acceptVersion: 'accept-version',
  heartBeat: 'heart-beat',
} as const

type HeaderKey = keyof typeof headerNames
const headerKeys = Object.keys(headerNames) as HeaderKey[]

/** Number of a header that the broker knows, from 1 up; 0 is any other. */
export const StompHeader: Readonly<Record<HeaderKey, number>> = Object.fromEntries(
  headerKeys.map((key, place) => [key, place + 1]),
) as Record<HeaderKey, number>

export const HEADER_COUNT: number = headerKeys.length + 1
export const headerTable: TokenTable = new TokenTable(headerKeys.map((key) => headerNames[key]))

/** Whether a header of SEND or MESSAGE is the protocol's own, so that no application property can pass for it. */
export function isReservedOnMessage(header: number): boolean {
  return header !== 0 && header <= StompHeader.originalDestination
}

/** A SUBSCRIBE frame: what its headers ask for, with ActiveMQ's names and defaults. */
import type { AcknowledgeMode } from '../../engine.ts'
import type { StompFrame } from './frame.ts'
import { StompProtocolError } from './protocol-error.ts'
import { StompHeader } from './vocabulary.ts'

/** ActiveMQ's for queues. */
const DEFAULT_PREFETCH = 1000
const MAX_PREFETCH = 65_535

export function acknowledgeMode(frame: StompFrame): AcknowledgeMode {
  const ack = frame.text(StompHeader.ack)
  if (ack === undefined || ack === 'auto') return 'auto'
  if (ack === 'client') return 'client'
  if (ack === 'client-individual') return 'individual'
  throw new StompProtocolError('unknown ack mode', 'ack is auto, client or client-individual.')
}

export function prefetchOf(frame: StompFrame): number {
  const prefetch = frame.decimal(StompHeader.prefetchSize) ?? DEFAULT_PREFETCH
  if (!(prefetch >= 1 && prefetch <= MAX_PREFETCH)) {
    throw new StompProtocolError(
      'malformed activemq.prefetchSize',
      `activemq.prefetchSize is a whole number from 1 to ${MAX_PREFETCH}.`,
    )
  }
  return prefetch
}

/** What would be answered wrongly if its header were ignored. */
export function refuseUnsupported(frame: StompFrame): void {
  const refused = frame.has(StompHeader.selector)
    ? 'selectors'
    : frame.text(StompHeader.browser) === 'true'
      ? 'queue browsers'
      : frame.text(StompHeader.exclusive) === 'true'
        ? 'exclusive consumers'
        : frame.has(StompHeader.subscriptionName) || frame.has(StompHeader.durableName)
          ? 'durable subscriptions'
          : undefined
  if (refused === undefined) return
  throw new StompProtocolError(
    `${refused} are not supported yet`,
    'SUBSCRIBE to the queue without that header.',
  )
}

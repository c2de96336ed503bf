import { InvalidArgumentError } from 'commander'
import { type BrokerUri, parseBrokerUri } from '../stomp-client/broker-uri.ts'

/** Parsers of option values; what they refuse ends the command with a usage error. */

export function wholeNumber(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN
    if (number >= least && number <= most) return number
    throw new InvalidArgumentError(`allowed: a whole number from ${least} to ${most}.`)
  }
}

export function seconds(value: string): number {
  const number = /^\d{1,6}(\.\d{1,3})?$/.test(value) ? Number(value) : Number.NaN
  if (number > 0) return number
  throw new InvalidArgumentError('allowed: seconds above 0, such as 30 or 0.5.')
}

export function brokerUri(value: string): BrokerUri {
  try {
    return parseBrokerUri(value)
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
  }
}

export function queueName(value: string): string {
  const bytes = Buffer.byteLength(value)
  const hasControls = [...value].some((character) => character < ' ' || character === '\x7f')
  if (bytes >= 1 && bytes <= 1024 && !hasControls) return value.replace(/^\/queue\//, '')
  throw new InvalidArgumentError('allowed: 1 to 1024 bytes without control characters.')
}

export function managementUrls(value: string): string[] {
  return value.split(',').map((part) => {
    const url = URL.parse(part.trim())
    if (url?.protocol === 'http:' || url?.protocol === 'https:') return url.href.replace(/\/+$/, '')
    throw new InvalidArgumentError(
      `"${part}" is not a URL; allowed: http://host:port, several with commas between.`,
    )
  })
}

/** Reads the URI of a STOMP connector: address, and options with ActiveMQ's names. */
import { BrokerError } from '../../errors.ts'
import type { HeartBeatIntervals } from './heart-beat.ts'

export interface StompConnectorUri {
  readonly host: string
  readonly port: number
  readonly options: StompConnectorOptions
}

export interface StompConnectorOptions {
  /** `maximumConnections`: clients at a time. @defaultValue 1000 */
  readonly maximumConnections: number
  /** `wireFormat.maxFrameSize`: largest frame, headers included, in bytes. @defaultValue 104857600 */
  readonly maxFrameBytes: number
  /** `connectAttemptTimeout`: from the connection to its CONNECT frame, in milliseconds. @defaultValue 5000 */
  readonly connectTimeoutMs: number
  /** `transport.defaultHeartBeat`: what the server offers and wants, in milliseconds. @defaultValue 500,10000 (ActiveMQ: 10000,10000) */
  readonly heartBeat: HeartBeatIntervals
  /** `transport.hbGracePeriodMultiplier`: how much longer than promised a client may be silent. @defaultValue 2 */
  readonly heartBeatGraceFactor: number
  /** `maximumSubscriptions`: per connection. @defaultValue 1000 */
  readonly maxSubscriptions: number
  /** `maximumOutputBuffer`: bytes waiting for one client before it gets no more. @defaultValue 1048576 */
  readonly maxOutputBytes: number
}

const DEFAULT_PORT = 61_613
const defaults: StompConnectorOptions = {
  maximumConnections: 1000,
  maxFrameBytes: 104_857_600,
  connectTimeoutMs: 5000,
  heartBeat: { sendMs: 500, receiveMs: 10_000 },
  heartBeatGraceFactor: 2,
  maxSubscriptions: 1000,
  maxOutputBytes: 1024 * 1024,
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type Reader = (options: Mutable<StompConnectorOptions>, text: string) => string | undefined

/** Each takes the option's text, and returns what is allowed if it is not that. */
const readers: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  ['maximumConnections', whole('maximumConnections', 1, 1_000_000)],
  ['wireFormat.maxFrameSize', whole('maxFrameBytes', 1024, 1024 * 1024 * 1024)],
  ['connectAttemptTimeout', whole('connectTimeoutMs', 1, 600_000)],
  ['maximumSubscriptions', whole('maxSubscriptions', 1, 1_000_000)],
  ['maximumOutputBuffer', whole('maxOutputBytes', 65_536, 1024 * 1024 * 1024)],
  [
    'transport.defaultHeartBeat',
    (options, text) => {
      const match = /^(\d{1,8}),(\d{1,8})$/.exec(text)
      if (match === null) return 'two whole numbers of milliseconds, as in 10000,10000'
      options.heartBeat = { sendMs: Number(match[1]), receiveMs: Number(match[2]) }
      return undefined
    },
  ],
  [
    'transport.hbGracePeriodMultiplier',
    (options, text) => {
      const factor = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0
      if (!(factor >= 1 && factor <= 100)) return 'a number from 1 to 100'
      options.heartBeatGraceFactor = factor
      return undefined
    },
  ],
])

/**
 * @param name - Of the connector, for errors.
 * @throws BrokerError `BROKER_INVALID_CONFIGURATION` that names the option and what is allowed.
 */
export function parseStompUri(name: string, uri: string): StompConnectorUri {
  const refuse = (message: string): BrokerError =>
    new BrokerError(
      { code: 'BROKER_INVALID_CONFIGURATION', where: `transportConnector ${name}`, key: 'uri' },
      `transportConnector ${name}: ${message} (uri: ${uri})`,
    )
  let url: URL
  try {
    url = new URL(uri)
  } catch {
    throw refuse('expected stomp://HOST:PORT?OPTION=VALUE')
  }
  if (url.protocol !== 'stomp:' && url.protocol !== 'stomp+nio:') {
    throw refuse(`the scheme ${url.protocol}// is not stomp:// or stomp+nio://`)
  }
  if (url.hostname === '') throw refuse('a host is missing; 0.0.0.0 is all IPv4 addresses of this machine')
  if (url.username !== '' || url.password !== '' || !['', '/'].includes(url.pathname) || url.hash !== '') {
    throw refuse('expected only host, port and options')
  }
  const options: Mutable<StompConnectorOptions> = { ...defaults }
  const given = new Set<string>()
  for (const [option, text] of url.searchParams) {
    const reader = readers.get(option)
    if (reader === undefined) {
      throw refuse(`unknown option ${option}; known are ${[...readers.keys()].join(', ')}`)
    }
    if (given.has(option)) throw refuse(`${option} is given twice`)
    given.add(option)
    const allowed = reader(options, text)
    if (allowed !== undefined) throw refuse(`${option} is ${allowed}, got ${text}`)
  }
  const port = url.port === '' ? DEFAULT_PORT : Number(url.port)
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port, options }
}

type NumberOption = {
  [K in keyof StompConnectorOptions]: StompConnectorOptions[K] extends number ? K : never
}[keyof StompConnectorOptions]

function whole(key: NumberOption, from: number, to: number): Reader {
  return (options, text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
    if (!(value >= from && value <= to)) return `a whole number from ${from} to ${to}`
    options[key] = value
    return undefined
  }
}

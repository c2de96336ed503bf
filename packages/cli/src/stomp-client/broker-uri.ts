/**
 * Broker URIs of the client commands: `failover:(tcp://a:1,tcp://b:1)?option=value`, or a plain `tcp://a:1`.
 *
 * Pure. Names and defaults are those of ActiveMQ's failover transport, save for `maxReconnectDelay`: brokers on this
 * network are asked again after half a second at most, because a new master is elected well within ActiveMQ's 30 s.
 */

/** One broker of the list. */
export interface BrokerAddress {
  readonly host: string
  readonly port: number
  /** Longest wait for a connection and its handshake, in milliseconds. */
  readonly connectionTimeoutMs: number
}

export interface FailoverOptions {
  /** Wait before the first sweep after a loss, in milliseconds. */
  readonly initialReconnectDelayMs: number
  readonly maxReconnectDelayMs: number
  readonly useExponentialBackOff: boolean
  readonly reconnectDelayExponent: number
  /** Failed sweeps over the list until it gives up; -1 for never, 0 for one try and no reconnection. */
  readonly maxReconnectAttempts: number
  /** The same until the first connection; -1 for `maxReconnectAttempts`. */
  readonly startupMaxReconnectAttempts: number
  readonly randomize: boolean
  /** Longest wait of a blocked send in milliseconds; -1 for what the command says. */
  readonly timeoutMs: number
}

export interface BrokerUri {
  readonly addresses: readonly BrokerAddress[]
  readonly options: FailoverOptions
}

export const failoverDefaults: FailoverOptions = {
  initialReconnectDelayMs: 10,
  maxReconnectDelayMs: 500,
  useExponentialBackOff: true,
  reconnectDelayExponent: 2,
  maxReconnectAttempts: -1,
  startupMaxReconnectAttempts: -1,
  randomize: true,
  timeoutMs: -1,
}

const defaultConnectionTimeoutMs = 1000

type Setter = (value: string) => Partial<FailoverOptions> | undefined

const setters: Readonly<Record<string, Setter>> = {
  initialReconnectDelay: integer(0, (value) => ({ initialReconnectDelayMs: value })),
  maxReconnectDelay: integer(1, (value) => ({ maxReconnectDelayMs: value })),
  useExponentialBackOff: flag((value) => ({ useExponentialBackOff: value })),
  reconnectDelayExponent: (value) =>
    /^\d+(\.\d+)?$/.test(value) && Number(value) >= 1 ? { reconnectDelayExponent: Number(value) } : undefined,
  maxReconnectAttempts: integer(-1, (value) => ({ maxReconnectAttempts: value })),
  startupMaxReconnectAttempts: integer(-1, (value) => ({ startupMaxReconnectAttempts: value })),
  randomize: flag((value) => ({ randomize: value })),
  timeout: integer(-1, (value) => ({ timeoutMs: value })),
}

/**
 * Takes a broker URI apart.
 * @throws TypeError that names what is wrong with it.
 */
export function parseBrokerUri(uri: string): BrokerUri {
  const text = uri.trim()
  if (!text.startsWith('failover:')) {
    // As in ActiveMQ, a plain URI means this broker and no other, once.
    const options = { ...failoverDefaults, maxReconnectAttempts: 0, startupMaxReconnectAttempts: 0 }
    return { addresses: [parseAddress(text, [])], options }
  }
  const { list, query } = splitFailover(text)
  let options = failoverDefaults
  const nested: [string, string][] = []
  for (const [name, value] of pairs(query, uri)) {
    if (name.startsWith('nested.')) nested.push([name.slice('nested.'.length), value])
    else options = { ...options, ...apply(name, value) }
  }
  const addresses = list.map((part) => parseAddress(part, nested))
  if (addresses.length === 0) throw new TypeError(`${uri}: lists no broker`)
  return { addresses, options }
}

/** An address as people write it. */
export function formatBroker({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function splitFailover(uri: string): { list: string[]; query: string } {
  const rest = uri.slice('failover:'.length).replace(/^\/\/(?=\(|[a-z]+:)/, '')
  if (!rest.startsWith('(')) return { list: splitList(rest), query: '' }
  const end = rest.lastIndexOf(')')
  if (end < 0) throw new TypeError(`${uri}: has no closing parenthesis`)
  const behind = rest.slice(end + 1)
  if (behind !== '' && !behind.startsWith('?'))
    throw new TypeError(`${uri}: "${behind}" behind the list is no option`)
  return { list: splitList(rest.slice(1, end)), query: behind.slice(1) }
}

function splitList(list: string): string[] {
  return list
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

function parseAddress(uri: string, inherited: readonly [string, string][]): BrokerAddress {
  const match = /^(tcp|stomp):\/\/(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/?[\]]+)):(\d{1,5})\/?(?:\?(.*))?$/.exec(uri)
  const port = Number(match?.[4])
  if (match === null || port < 1 || port > 65_535) {
    throw new TypeError(
      `${uri}: not a broker URI; allowed: tcp://host:port, stomp://host:port, failover:(uri,uri)?options`,
    )
  }
  let connectionTimeoutMs = defaultConnectionTimeoutMs
  for (const [name, value] of [...inherited, ...pairs(match[5] ?? '', uri)]) {
    if (name !== 'connectionTimeout') throw unknownOption(name, uri, ['connectionTimeout'])
    if (!/^\d{1,9}$/.test(value) || Number(value) < 1) throw wrongValue(name, value)
    connectionTimeoutMs = Number(value)
  }
  return { host: match[2] ?? match[3] ?? '', port, connectionTimeoutMs }
}

function apply(name: string, value: string): Partial<FailoverOptions> {
  const setter = Object.hasOwn(setters, name) ? setters[name] : undefined
  if (setter === undefined) throw unknownOption(name, 'failover', [...Object.keys(setters), 'nested.*'])
  const set = setter(value)
  if (set === undefined) throw wrongValue(name, value)
  return set
}

function pairs(query: string, uri: string): [string, string][] {
  if (query === '') return []
  return query.split('&').map((pair) => {
    const equals = pair.indexOf('=')
    if (equals < 1) throw new TypeError(`${uri}: "${pair}" is not name=value`)
    return [pair.slice(0, equals), pair.slice(equals + 1)]
  })
}

function unknownOption(name: string, where: string, known: readonly string[]): TypeError {
  return new TypeError(`${where}: unknown option ${name}; allowed: ${known.join(', ')}`)
}

function wrongValue(name: string, value: string): TypeError {
  return new TypeError(`option ${name}: "${value}" is not a value that it takes`)
}

function integer(least: number, set: (value: number) => Partial<FailoverOptions>): Setter {
  return (value) => (/^-?\d{1,9}$/.test(value) && Number(value) >= least ? set(Number(value)) : undefined)
}

function flag(set: (value: boolean) => Partial<FailoverOptions>): Setter {
  return (value) => (value === 'true' ? set(true) : value === 'false' ? set(false) : undefined)
}

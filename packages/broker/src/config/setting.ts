import { z } from 'zod'
import { parseDuration, parseSize } from './quantity.ts'

/**
 * The kinds of values that settings have. Each kind says in words what it admits: those words are the message of its
 * zod issue, so that an error can tell what would have been right.
 *
 * Every kind also takes the text form of its values, because environment variables have no other.
 */
function setting<T>(allowed: string, parse: (value: unknown) => T | undefined): z.ZodType<T | undefined> {
  return z
    .unknown()
    .transform((value, context): T => {
      const parsed = parse(value)
      if (parsed !== undefined) return parsed
      context.issues.push({ code: 'custom', message: allowed, input: value })
      return z.NEVER
    })
    .optional()
}

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): z.ZodType<number | undefined> {
  return setting(`a whole number from ${least} to ${most}`, (value) => {
    const number = typeof value === 'string' && /^\d{1,15}$/.test(value.trim()) ? Number(value) : value
    return typeof number === 'number' && Number.isSafeInteger(number) && within(number, least, most)
      ? number
      : undefined
  })
}

/** A duration in milliseconds; the bounds are given in milliseconds. */
export function duration(leastMs: number, mostMs: number): z.ZodType<number | undefined> {
  return setting(
    `a duration from ${leastMs}ms to ${mostMs}ms, such as 500ms, 2s or milliseconds`,
    (value) => {
      const parsed = parseDuration(value)
      return parsed !== undefined && within(parsed, leastMs, mostMs) ? parsed : undefined
    },
  )
}

/** A size in bytes; the bounds are given in bytes. */
export function size(leastBytes: number, mostBytes: number): z.ZodType<number | undefined> {
  return setting(`a size from ${leastBytes} to ${mostBytes} bytes, such as 64mb, 512kb or bytes`, (value) => {
    const parsed = parseSize(value)
    return parsed !== undefined && within(parsed, leastBytes, mostBytes) ? parsed : undefined
  })
}

/** Text of `least` to `most` characters without control characters. */
export function text(least: number, most: number, what = 'text'): z.ZodType<string | undefined> {
  return setting(`${what} of ${least} to ${most} characters, without control characters`, (value) => {
    if (typeof value !== 'string' || !within(value.length, least, most)) return undefined
    return hasControlCharacters(value) ? undefined : value
  })
}

/** A secret that fits into an HTTP header: visible ASCII characters without blanks. */
export function token(least: number, most: number): z.ZodType<string | undefined> {
  return setting(`${least} to ${most} visible ASCII characters without blanks`, (value) =>
    typeof value === 'string' && within(value.length, least, most) && /^[!-~]*$/.test(value)
      ? value
      : undefined,
  )
}

/** One of a few words; case does not matter. */
export function oneOf<const W extends string>(words: readonly W[]): z.ZodType<W | undefined> {
  return setting(`one of ${words.join(', ')}`, (value) => {
    if (typeof value !== 'string') return undefined
    return words.find((word) => word.toLowerCase() === value.trim().toLowerCase())
  })
}

/** Several of a few words, with commas between; returned in that form, without blanks. */
export function someOf(words: readonly string[]): z.ZodType<string | undefined> {
  return setting(`one of ${words.join(', ')}, or several with commas between`, (value) => {
    if (typeof value !== 'string') return undefined
    const given = value.split(',').map((word) => word.trim().toLowerCase())
    return given.every((word) => words.includes(word)) ? given.join(',') : undefined
  })
}

/** `scheme://host:port` of one of the schemes, with nothing behind; returned as it is. */
export function address(scheme: string, leastPort: number): z.ZodType<string | undefined> {
  return setting(`${scheme}://host:port with a port from ${leastPort} to 65535`, (value) => {
    if (typeof value !== 'string' || !value.startsWith(`${scheme}://`)) return undefined
    return parseHostPort(value.slice(scheme.length + 3), leastPort) === undefined ? undefined : value
  })
}

/** A list of `host:port`, or one text with commas between. */
export function hostPortList(): z.ZodType<string[] | undefined> {
  return setting('a list of host:port, each once, such as [10.0.0.1:61619, 10.0.0.2:61619]', (value) => {
    const list = typeof value === 'string' ? value.split(',').map((part) => part.trim()) : value
    if (!Array.isArray(list) || list.length === 0 || new Set(list).size !== list.length) return undefined
    const right = list.every((peer) => typeof peer === 'string' && parseHostPort(peer, 1) !== undefined)
    return right ? (list as string[]) : undefined
  })
}

/** ZooKeeper's connect string: `host:port,host:port/chroot`. */
export function zooKeeperAddress(): z.ZodType<string | undefined> {
  return setting(
    'host:port of each ZooKeeper server with commas between, and optionally a /chroot behind',
    (value) => {
      if (typeof value !== 'string') return undefined
      const slash = value.indexOf('/')
      const servers = (slash < 0 ? value : value.slice(0, slash)).split(',')
      const right = servers.every((server) => parseHostPort(server.trim(), 1) !== undefined)
      return right && (slash < 0 || isZnodePath(value.slice(slash))) ? value : undefined
    },
  )
}

/** An absolute path of znodes. */
export function znodePath(): z.ZodType<string | undefined> {
  return setting('an absolute path such as /levelmq/orders, without a slash at its end', (value) =>
    typeof value === 'string' && isZnodePath(value) ? value : undefined,
  )
}

/** Takes `host:port` and `[v6]:port` apart. */
export function parseHostPort(value: string, leastPort: number): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(value)
  if (match === null) return undefined
  const port = Number(match[3])
  if (!within(port, leastPort, 65535)) return undefined
  return { host: match[1] ?? match[2] ?? '', port }
}

function isZnodePath(path: string): boolean {
  return /^(\/[^/\s]+)+$/.test(path) && !hasControlCharacters(path) && !/\/\.{1,2}(\/|$)/.test(path)
}

function hasControlCharacters(value: string): boolean {
  for (let at = 0; at < value.length; at++) {
    const code = value.charCodeAt(at)
    if (code < 32 || code === 127) return true
  }
  return false
}

function within(value: number, least: number, most: number): boolean {
  return value >= least && value <= most
}

import { createHash, timingSafeEqual } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import { BrokerError } from '../errors.ts'

/** What of a request decides whether it is obeyed. Header names are in lower case, as Node has them. */
export interface AdminRequest {
  readonly method: string
  readonly peerAddress: string | undefined
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/**
 * Who may change something: whoever knows the token; without a token whoever is on this machine, and only if the
 * server listens to nobody else.
 *
 * A browser on this machine passes both on behalf of any page that it shows. So what a page can make it send is refused:
 * a request from another origin, one that names this server by a name which somebody else could own (DNS rebinding), and a
 * body of a type that forms can have.
 *
 * Pure.
 */
export class AdminAccess {
  readonly #digest: Buffer | undefined
  readonly #isLocal: boolean

  /** @param host - What the server listens on. */
  constructor(host: string, token: string | undefined) {
    this.#digest = token === undefined ? undefined : digestOf(token)
    this.#isLocal = isLoopback(host)
  }

  /** @throws BrokerError `BROKER_NOT_ALLOWED` or `BROKER_INVALID_REQUEST`. */
  check(request: AdminRequest): void {
    if (this.#digest === undefined) this.#checkPlace(request)
    else checkToken(this.#digest, request.headers.authorization)
    checkOrigin(request)
    const type = request.headers['content-type']
    if (request.method !== 'GET' && !/^application\/json\s*(;|$)/i.test(String(type))) {
      throw new BrokerError(
        { code: 'BROKER_INVALID_REQUEST', part: 'content-type' },
        'content-type: application/json is asked for',
      )
    }
  }

  #checkPlace({ peerAddress, headers }: AdminRequest): void {
    if (!this.#isLocal || peerAddress === undefined || !isLoopback(peerAddress)) {
      throw notAllowed(
        'without managementContext.adminToken only requests from this machine to a loopback address are obeyed',
        'place',
      )
    }
    const named = hostIn(headers.host)
    if (named === undefined || !isLoopback(named))
      throw notAllowed('the Host header names another host than this one', 'place')
  }
}

function checkToken(digest: Buffer, authorization: string | string[] | undefined): void {
  const given = /^Bearer +([!-~]+) *$/i.exec(String(authorization))?.[1]
  if (given === undefined) throw notAllowed('Authorization: Bearer TOKEN is asked for', 'token')
  // Digests have one length, whatever was given, and comparing them takes as long however much of them is right.
  if (!timingSafeEqual(digestOf(given), digest)) throw notAllowed('the token is wrong', 'token')
}

function checkOrigin({ headers }: AdminRequest): void {
  const { origin, host } = headers
  const site = headers['sec-fetch-site']
  const isForeign = origin !== undefined && originHost(origin) !== host
  if (isForeign || (site !== undefined && site !== 'same-origin' && site !== 'none'))
    throw notAllowed('a page of another origin asks for it', 'origin')
}

function originHost(origin: string | string[]): string | undefined {
  return typeof origin === 'string' ? URL.parse(origin)?.host : undefined
}

/** The name in a `Host` header, without port and brackets. */
function hostIn(header: string | string[] | undefined): string | undefined {
  if (typeof header !== 'string') return undefined
  return URL.parse(`http://${header}`)?.hostname.replace(/^\[(.*)\]$/, '$1')
}

function isLoopback(host: string): boolean {
  const address = host.replace(/^\[(.*)\]$/, '$1').replace(/^::ffff:(?=\d+\.)/i, '')
  const family = isIP(address)
  if (family === 0) return address.toLowerCase() === 'localhost'
  return loopback.check(address, family === 6 ? 'ipv6' : 'ipv4')
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function notAllowed(message: string, reason: 'token' | 'place' | 'origin'): BrokerError {
  return new BrokerError({ code: 'BROKER_NOT_ALLOWED', reason }, message)
}

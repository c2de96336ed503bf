import { createHash } from 'node:crypto'
import { ACL, type Client, CreateMode, Id, Permission, type Stat } from 'node-zookeeper-client'
import { StoreError } from '../../errors.ts'
import {
  CoordinationError,
  type CoordinationHandler,
  type CoordinationMember,
  type CoordinationSession,
} from '../coordination.ts'
import type { Address } from '../network.ts'
import { ZooKeeperConnection } from './zookeeper-connection.ts'

export interface ZooKeeperSessionOptions {
  /** `zkAddress`: `host:port,…`, an IPv6 address in brackets, an optional chroot behind. */
  readonly address: string
  /** `zkPassword` of the digest user `levelmq`; `undefined` or empty for znodes that are open to everybody. */
  readonly password: string | undefined
  readonly sessionTimeoutMs: number
  log(level: 'warn' | 'error', message: string, facts?: Readonly<Record<string, unknown>>): void
}

const digestUser = 'levelmq'
const defaultPort = 2181
/** Only names that end as sequential nodes do are looked at: `path` may be shared with anything. */
const sequentialName = /\d{10}$/
const reopenDelayMs = { first: 50, most: 5000 }

/**
 * A session with ZooKeeper that is replaced when it expires, for ever. One {@link ZooKeeperConnection} is one session.
 *
 * The chroot is ours, not the client's: it can be created here, and paths in errors stay whole.
 */
export class ZooKeeperSession implements CoordinationSession {
  readonly #options: ZooKeeperSessionOptions
  readonly #servers: readonly Address[]
  readonly #chroot: string
  readonly #acl: ACL[] | undefined
  #handler: CoordinationHandler | undefined
  #connection: ZooKeeperConnection | undefined
  #reopening: NodeJS.Timeout | undefined
  #reopened = 0
  #state: 'connecting' | 'connected' | 'disconnected' | 'expired' = 'connecting'
  #sessionTimeoutMs: number | undefined
  #refusal: string | undefined
  #closed = false

  /** @throws StoreError `STORE_INVALID_OPTION` for an address that cannot be one. */
  constructor(options: ZooKeeperSessionOptions) {
    this.#options = options
    const slash = options.address.indexOf('/')
    const hosts = slash < 0 ? options.address : options.address.slice(0, slash)
    this.#chroot = slash < 0 ? '' : options.address.slice(slash).replace(/\/+$/, '')
    this.#servers = hosts.split(',').map((server) => parseServer(server.trim(), options.address))
    if (options.password) this.#acl = [new ACL(Permission.ALL, new Id('digest', digestOf(options.password)))]
  }

  get state(): CoordinationSession['state'] {
    return this.#refusal === undefined ? this.#state : 'refused'
  }

  get sessionTimeoutMs(): number | undefined {
    return this.#sessionTimeoutMs
  }

  get refusal(): string | undefined {
    return this.#refusal
  }

  open(handler: CoordinationHandler): void {
    if (this.#closed || this.#handler !== undefined) throw new TypeError('a session is opened once')
    this.#handler = handler
    this.#connect()
  }

  async makePath(path: string): Promise<void> {
    const parts = `${this.#chroot}${path}`.split('/').filter((part) => part !== '')
    for (let length = 1; length <= parts.length; length += 1) {
      await this.#makeNode(`/${parts.slice(0, length).join('/')}`)
    }
  }

  async createMember(prefix: string, data: string): Promise<string> {
    const created = await this.#create(`${this.#chroot}${prefix}`, data, CreateMode.EPHEMERAL_SEQUENTIAL)
    this.#refusal = undefined
    return created.slice(this.#chroot.length)
  }

  setData(path: string, data: string): Promise<void> {
    const whole = `${this.#chroot}${path}`
    return this.#request(
      whole,
      (client, callback) => client.setData(whole, Buffer.from(data), callback),
      () => {},
    )
  }

  remove(path: string): Promise<void> {
    const whole = `${this.#chroot}${path}`
    return this.#request(
      whole,
      (client, callback) => client.remove(whole, callback),
      () => {},
    )
  }

  async members(path: string): Promise<CoordinationMember[]> {
    const whole = `${this.#chroot}${path}`
    const names = await this.#request(
      whole,
      (client, callback) => client.getChildren(whole, this.#watcher, callback),
      (children: string[]) => children.filter((name) => sequentialName.test(name)),
    )
    const members = await Promise.all(names.map((name) => this.#member(`${whole}/${name}`, name)))
    const present = members.filter((member) => member !== undefined)
    if (present.some((member) => member.own)) this.#refusal = undefined
    return present
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#handler = undefined
    clearTimeout(this.#reopening)
    await this.#connection?.stop()
    this.#state = 'disconnected'
  }

  // ---- Sessions, one after the other

  #connect(): void {
    if (this.#closed) return
    let known = false
    const { password, sessionTimeoutMs } = this.#options
    this.#connection = new ZooKeeperConnection(
      {
        servers: this.#servers,
        sessionTimeoutMs,
        credentials: password ? `${digestUser}:${password}` : undefined,
        log: (level, message, facts) => this.#options.log(level, message, facts),
      },
      {
        connected: () => {
          const fresh = !known
          known = true
          this.#state = 'connected'
          this.#sessionTimeoutMs = this.#connection?.sessionTimeoutMs
          this.#handler?.connected(fresh)
        },
        disconnected: () => {
          this.#reopened = 0
          this.#state = 'disconnected'
          this.#handler?.disconnected()
        },
        over: (reason) => this.#over(reason),
      },
    )
    this.#connection.open()
  }

  #over(reason: 'expired' | 'denied'): void {
    if (this.#closed) return
    this.#state = 'expired'
    if (reason === 'denied') this.#refusal = 'ZooKeeper refuses the credentials made from zkPassword'
    const delayMs = Math.min(reopenDelayMs.first * 2 ** this.#reopened, reopenDelayMs.most)
    this.#reopened = Math.min(this.#reopened + 1, 16)
    this.#reopening = setTimeout(() => this.#connect(), delayMs)
    this.#handler?.expired()
  }

  // ---- Requests

  /** One function for all paths and times: the client keeps each watcher once. */
  readonly #watcher = (): void => {
    queueMicrotask(() => this.#handler?.membersChanged())
  }

  async #makeNode(path: string): Promise<void> {
    // Looked for first: whoever may not create in the root may still use what is there.
    const exists = await this.#request(
      path,
      (client, callback) => client.exists(path, callback),
      (stat: Stat | null) => stat !== null && stat !== undefined,
    )
    if (exists) return
    try {
      await this.#create(path, '', CreateMode.PERSISTENT)
    } catch (error) {
      if (!(error instanceof CoordinationError && error.code === 'NODE_EXISTS')) throw error
    }
  }

  #create(path: string, data: string, mode: number): Promise<string> {
    const bytes = Buffer.from(data)
    return this.#request(
      path,
      (client, callback) =>
        this.#acl === undefined
          ? client.create(path, bytes, mode, callback)
          : client.create(path, bytes, this.#acl, mode, callback),
      (created: string) => created,
    )
  }

  /** @returns `undefined` if the node has gone meanwhile. */
  async #member(path: string, name: string): Promise<CoordinationMember | undefined> {
    try {
      return await this.#connectionNow().request(
        (client, callback) => client.getData(path, this.#watcher, callback),
        (data: Buffer | undefined, stat: Stat) => ({
          name,
          data: data?.toString() ?? '',
          own: this.#connectionNow().owns(stat.ephemeralOwner),
        }),
      )
    } catch (error) {
      if (!(error instanceof CoordinationError)) throw error
      if (error.code === 'NO_NODE') return undefined
      if (error.code === 'NO_AUTH') return { name, data: '', own: false, denied: true }
      throw error
    }
  }

  async #request<A extends unknown[], T>(
    path: string,
    run: (client: Client, callback: (error: unknown, ...values: A) => void) => void,
    take: (...values: A) => T,
  ): Promise<T> {
    try {
      return await this.#connectionNow().request(run, take)
    } catch (error) {
      if (!(error instanceof CoordinationError)) throw error
      if (error.code === 'NO_AUTH') this.#refusal = this.#denial(path)
      throw new CoordinationError(error.code, `${error.message}: ${path}`)
    }
  }

  #connectionNow(): ZooKeeperConnection {
    if (this.#connection === undefined)
      throw new CoordinationError('NOT_CONNECTED', 'the session is not open')
    return this.#connection
  }

  #denial(path: string): string {
    return this.#acl === undefined
      ? `ZooKeeper denies access to ${path}: its ACL admits other users only; is zkPassword missing?`
      : `ZooKeeper denies user "${digestUser}" access to ${path}: its ACL does not admit this zkPassword`
  }
}

/** How ZooKeeper keeps a digest user in an ACL. */
function digestOf(password: string): string {
  const hash = createHash('sha1').update(`${digestUser}:${password}`).digest('base64')
  return `${digestUser}:${hash}`
}

function parseServer(server: string, address: string): Address {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:/[\]]+))(?::(\d{1,5}))?$/.exec(server)
  const host = parts?.[1] ?? parts?.[2]
  const port = Number(parts?.[3] ?? defaultPort)
  if (host === undefined || port < 1 || port > 65_535) {
    throw new StoreError(
      { code: 'STORE_INVALID_OPTION', option: 'zkAddress', value: address },
      `zkAddress: host:port with commas between, an optional /path behind; got "${server}"`,
    )
  }
  return { host, port }
}

import type { Clock, Timer } from '../../store/src/io/clock.ts'
import {
  CoordinationError,
  type CoordinationHandler,
  type CoordinationMember,
  type CoordinationSession,
} from '../../store/src/io/coordination.ts'

interface Znode {
  data: string
  readonly owner: number | undefined
}

export type CoordinationOperation = 'makePath' | 'createMember' | 'setData' | 'remove' | 'members'

/**
 * A ZooKeeper ensemble as the elector sees it: a tree, sessions that time out, watches. Everything takes `latencyMs`
 * on the clock that is passed in, so a simulation replays exactly.
 */
export class VirtualZooKeeper {
  readonly #nodes = new Map<string, Znode>()
  readonly #watchers = new Map<string, Set<VirtualCoordinationSession>>()
  readonly #sessions = new Set<VirtualCoordinationSession>()
  /** Sessions that the ensemble knows; a session lives on without its connection until it times out. */
  readonly #alive = new Set<number>()
  #lastSession = 0
  #sequence = 0
  #up = true
  readonly clock: Clock
  readonly latencyMs: number

  constructor(clock: Clock, latencyMs = 1) {
    this.clock = clock
    this.latencyMs = latencyMs
  }

  get up(): boolean {
    return this.#up
  }

  /** A client of this ensemble; it connects once it is opened and can reach it. */
  session(sessionTimeoutMs = 2000): VirtualCoordinationSession {
    const session = new VirtualCoordinationSession(this, sessionTimeoutMs)
    this.#sessions.add(session)
    return session
  }

  /** Children of `path` and their data, by name. */
  children(path: string): ReadonlyMap<string, string> {
    const found = new Map<string, string>()
    for (const [nodePath, node] of [...this.#nodes].sort()) {
      if (parentOf(nodePath) === path) found.set(nameOf(nodePath), node.data)
    }
    return found
  }

  /** Writes a node as any other client of ZooKeeper may. */
  write(path: string, data: string): void {
    this.#nodes.set(path, { data, owner: this.#nodes.get(path)?.owner })
    this.#notify(parentOf(path))
  }

  delete(path: string): void {
    if (this.#nodes.delete(path)) this.#notify(parentOf(path))
  }

  /** All servers stop. Sessions do not time out meanwhile: only a leader can end them. */
  down(): void {
    this.#up = false
    for (const session of this.#sessions) session.cut()
  }

  startAgain(): void {
    this.#up = true
    for (const session of this.#sessions) session.heal()
  }

  /** The data is lost or replaced by an older copy: every session and node is gone. */
  wipe(): void {
    this.#nodes.clear()
    this.#alive.clear()
    this.#watchers.clear()
  }

  // ---- For sessions

  newSession(): number {
    this.#lastSession += 1
    this.#alive.add(this.#lastSession)
    return this.#lastSession
  }

  knows(session: number): boolean {
    return this.#alive.has(session)
  }

  /** Ends a session: its ephemeral nodes go, the others hear of it. */
  end(session: number): void {
    this.#alive.delete(session)
    for (const [path, node] of this.#nodes) if (node.owner === session) this.delete(path)
  }

  forget(client: VirtualCoordinationSession): void {
    this.#sessions.delete(client)
    for (const watchers of this.#watchers.values()) watchers.delete(client)
  }

  makePath(path: string): void {
    const parts = path.split('/').filter((part) => part !== '')
    parts.forEach((_, at) => {
      const prefix = `/${parts.slice(0, at + 1).join('/')}`
      if (!this.#nodes.has(prefix)) this.#nodes.set(prefix, { data: '', owner: undefined })
    })
  }

  create(prefix: string, data: string, owner: number): string {
    if (!this.#nodes.has(parentOf(prefix))) throw noNode(parentOf(prefix))
    const path = `${prefix}${String(this.#sequence).padStart(10, '0')}`
    this.#sequence += 1
    this.#nodes.set(path, { data, owner })
    this.#notify(parentOf(path))
    return path
  }

  setData(path: string, data: string): void {
    const node = this.#nodes.get(path)
    if (node === undefined) throw noNode(path)
    node.data = data
    this.#notify(parentOf(path))
  }

  remove(path: string): void {
    if (!this.#nodes.has(path)) throw noNode(path)
    this.delete(path)
  }

  members(path: string, watcher: VirtualCoordinationSession, session: number): CoordinationMember[] {
    if (!this.#nodes.has(path)) throw noNode(path)
    const watchers = this.#watchers.get(path) ?? new Set()
    this.#watchers.set(path, watchers.add(watcher))
    return [...this.children(path)].map(([name, data]) => ({
      name,
      data,
      own: this.#nodes.get(`${path}/${name}`)?.owner === session,
    }))
  }

  #notify(path: string): void {
    const watchers = this.#watchers.get(path)
    this.#watchers.delete(path)
    for (const watcher of watchers ?? []) watcher.notify()
  }
}

/** One client of a {@link VirtualZooKeeper}; besides the contract, it can be cut off and made to fail. */
export class VirtualCoordinationSession implements CoordinationSession {
  readonly #zooKeeper: VirtualZooKeeper
  readonly #timeoutMs: number
  readonly #lostReplies: CoordinationOperation[] = []
  readonly #lostRequests: CoordinationOperation[] = []
  #state: CoordinationSession['state'] = 'connecting'
  #handler: CoordinationHandler | undefined
  #id: number | undefined
  #reachable = true
  #expiry: Timer | undefined
  #connecting: Timer | undefined
  #notifying: Timer | undefined
  #interrupt = Promise.withResolvers<never>()
  refusal: string | undefined
  /** Requests made, by operation. */
  readonly requests: Map<CoordinationOperation, number> = new Map()

  constructor(zooKeeper: VirtualZooKeeper, timeoutMs: number) {
    this.#zooKeeper = zooKeeper
    this.#timeoutMs = timeoutMs
    this.#interrupt.promise.catch(() => {})
  }

  get state(): CoordinationSession['state'] {
    return this.refusal !== undefined && this.#state === 'connected' ? 'refused' : this.#state
  }

  get sessionTimeoutMs(): number | undefined {
    return this.#id === undefined ? undefined : this.#timeoutMs
  }

  // ---- Faults

  /** The connection breaks. After the session timeout the ensemble, if it is up, ends the session. */
  cut(): void {
    this.#reachable = false
    this.#connecting?.cancel()
    const id = this.#id
    if (id !== undefined && this.#zooKeeper.up) {
      this.#expiry?.cancel()
      this.#expiry = this.#zooKeeper.clock.setTimer(this.#timeoutMs, () => this.#zooKeeper.end(id))
    } else {
      this.#expiry?.cancel()
    }
    if (this.#state !== 'connected') return
    this.#state = 'disconnected'
    this.#interruptRequests()
    this.#handler?.disconnected()
  }

  heal(): void {
    this.#reachable = true
    if (this.#handler !== undefined && this.#state !== 'connected') this.#connect()
  }

  /** The ensemble ends the session; the client hears of it at once if it is connected. */
  expire(): void {
    if (this.#id !== undefined) this.#zooKeeper.end(this.#id)
    if (this.#state === 'connected') this.#connect()
  }

  /** The next such request takes effect, but its reply is lost with the connection, which comes back at once. */
  loseNextReply(operation: CoordinationOperation): void {
    this.#lostReplies.push(operation)
  }

  /** The next such request gets lost with the connection, which comes back at once. */
  loseNextRequest(operation: CoordinationOperation): void {
    this.#lostRequests.push(operation)
  }

  // ---- The contract

  open(handler: CoordinationHandler): void {
    this.#handler = handler
    this.#connect()
  }

  makePath(path: string): Promise<void> {
    return this.#request('makePath', () => this.#zooKeeper.makePath(path))
  }

  createMember(prefix: string, data: string): Promise<string> {
    return this.#request('createMember', (id) => this.#zooKeeper.create(prefix, data, id))
  }

  setData(path: string, data: string): Promise<void> {
    return this.#request('setData', () => this.#zooKeeper.setData(path, data))
  }

  remove(path: string): Promise<void> {
    return this.#request('remove', () => this.#zooKeeper.remove(path))
  }

  members(path: string): Promise<CoordinationMember[]> {
    return this.#request('members', (id) => this.#zooKeeper.members(path, this, id))
  }

  async close(): Promise<void> {
    this.#handler = undefined
    for (const timer of [this.#expiry, this.#connecting, this.#notifying]) timer?.cancel()
    this.#zooKeeper.forget(this)
    this.#interruptRequests()
    if (this.#state === 'connected' && this.#id !== undefined) this.#zooKeeper.end(this.#id)
    this.#state = 'disconnected'
  }

  /** For the ensemble: something that this session watches has changed. */
  notify(): void {
    this.#notifying?.cancel()
    this.#notifying = this.#zooKeeper.clock.setTimer(this.#zooKeeper.latencyMs, () => {
      if (this.#state === 'connected') this.#handler?.membersChanged()
    })
  }

  #connect(): void {
    this.#connecting?.cancel()
    if (!this.#reachable || !this.#zooKeeper.up) return
    this.#connecting = this.#zooKeeper.clock.setTimer(this.#zooKeeper.latencyMs, () => {
      this.#expiry?.cancel()
      const id = this.#id
      const expired = id !== undefined && !this.#zooKeeper.knows(id)
      if (expired) {
        this.#state = 'expired'
        this.#interruptRequests()
        this.#handler?.expired()
      }
      const fresh = id === undefined || expired
      if (fresh) this.#id = this.#zooKeeper.newSession()
      this.#state = 'connected'
      this.#handler?.connected(fresh)
    })
  }

  #request<T>(operation: CoordinationOperation, run: (session: number) => T): Promise<T> {
    this.requests.set(operation, (this.requests.get(operation) ?? 0) + 1)
    const session = this.#id
    if (this.#state !== 'connected' || session === undefined) {
      return Promise.reject(new CoordinationError('NOT_CONNECTED', 'not connected'))
    }
    const answer = Promise.withResolvers<T>()
    const interrupted = this.#interrupt.promise
    this.#zooKeeper.clock.setTimer(this.#zooKeeper.latencyMs, () => {
      if (this.#state !== 'connected' || this.#id !== session) return
      if (takeFrom(this.#lostRequests, operation)) return this.#breakBriefly()
      try {
        const result = this.refusal === undefined ? run(session) : undefined
        if (this.refusal !== undefined) throw new CoordinationError('NO_AUTH', this.refusal)
        if (takeFrom(this.#lostReplies, operation)) return this.#breakBriefly()
        answer.resolve(result as T)
      } catch (error) {
        answer.reject(error)
      }
    })
    return Promise.race([answer.promise, interrupted])
  }

  #breakBriefly(): void {
    this.cut()
    this.heal()
  }

  #interruptRequests(): void {
    this.#interrupt.reject(new CoordinationError('CONNECTION_LOSS', 'connection lost'))
    this.#interrupt = Promise.withResolvers<never>()
    this.#interrupt.promise.catch(() => {})
  }
}

function takeFrom(list: CoordinationOperation[], operation: CoordinationOperation): boolean {
  const at = list.indexOf(operation)
  if (at >= 0) list.splice(at, 1)
  return at >= 0
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function noNode(path: string): CoordinationError {
  return new CoordinationError('NO_NODE', `no such node: ${path}`)
}

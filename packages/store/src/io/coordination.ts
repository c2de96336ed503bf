/**
 * ZooKeeper, as the elector sees it: the few operations it needs, each with a deadline, on a session that the adapter
 * keeps alive, guards against silent servers, and replaces after it expired.
 */
export interface CoordinationSession {
  readonly state: 'connecting' | 'connected' | 'disconnected' | 'expired' | 'refused'
  /** As negotiated with the server; `undefined` before the first connect. */
  readonly sessionTimeoutMs: number | undefined
  readonly refusal: string | undefined
  /** Starts connecting, and goes on for ever until `close`. */
  open(handler: CoordinationHandler): void
  /** Creates `path` and its parents as persistent nodes, where they do not exist. */
  makePath(path: string): Promise<void>
  /** Creates an ephemeral sequential child; `prefix` is the path up to the number. Resolves to the full path. */
  createMember(prefix: string, data: string): Promise<string>
  /** Replaces the data of a node. Rejects with `NO_NODE` if it is gone. */
  setData(path: string, data: string): Promise<void>
  remove(path: string): Promise<void>
  /** Children with their data and whether this session owns them; sets watches that lead to `membersChanged`. */
  members(path: string): Promise<CoordinationMember[]>
  /** Ends the session, so that its ephemeral nodes go at once; within a second, whatever the server does. */
  close(): Promise<void>
}

export interface CoordinationMember {
  /** Last part of the node's path. */
  readonly name: string
  readonly data: string
  readonly own: boolean
  /** The node's ACL keeps its data from this session; `data` is empty then. */
  readonly denied?: boolean
}

export interface CoordinationHandler {
  /** A session is established or re-established: `fresh` if it is a new one, without any ephemeral node of the old. */
  connected(fresh: boolean): void
  /** The connection is lost or silent; the session may live on. */
  disconnected(): void
  /** The session is over and its ephemeral nodes are gone; the adapter opens a new one by itself. */
  expired(): void
  /** Children or data under a path given to `members` may have changed. */
  membersChanged(): void
}

/** A failed request, with ZooKeeper's name for the reason, or `TIMEOUT` or `NOT_CONNECTED`. */
export class CoordinationError extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = 'CoordinationError'
    this.code = code
  }
}

import type { Role } from './message-store.ts'
import type { LevelRange } from './store-administration.ts'

/** A place in the log: `index` counts records from 1, `epoch` is that of the mastership which appended it. */
export interface Position {
  readonly epoch: number
  readonly index: number
}

/** How this node sees one member of the cluster; shown by `levelmq status` and `/status`. */
export interface MemberStatus {
  /** Name for people: the member's `brokerName`, or its address until it has said its name. */
  readonly name: string
  readonly nodeId: string | undefined
  readonly storeUuid: string | undefined
  /** Replication address, `host:port`. */
  readonly address: string
  readonly role: Role | 'unknown'
  readonly voter: boolean
  readonly position: Position | undefined
  /** Records that the master has and this member, as far as known, has not on disk. Only known to the master. */
  readonly lag: number | undefined
  /**
   * `self`; `in sync`: takes the master's writes as they come; `catching up`: is sent older log; `stalled`: takes nothing although
   * connected; `cannot catch up`: needs log that no longer exists; `learner`: blank store, does not vote;
   * `refused`: `reason` tells why; `unreachable`.
   */
  readonly state:
    | 'self'
    | 'connected'
    | 'in sync'
    | 'catching up'
    | 'stalled'
    | 'cannot catch up'
    | 'learner'
    | 'refused'
    | 'unreachable'
  readonly reason: string | undefined
  /** Milliseconds since it was last heard; `undefined` for never. 0 for this node itself. */
  readonly lastHeardMs: number | undefined
  /** The running process: two at a time as one node are a mistake, of which one is refused. */
  readonly bootId?: string | undefined
  /** Levels of the log's format that its release can work with. */
  readonly levels?: LevelRange | undefined
}

/** State of the ZooKeeper session, with the `zookeeper` elector. */
export interface ZooKeeperStatus {
  readonly address: string
  readonly path: string
  readonly state: 'connecting' | 'connected' | 'disconnected' | 'expired' | 'refused'
  readonly sessionTimeoutMs: number | undefined
  /** Own znode's name, once created. */
  readonly znode: string | undefined
  /** Members of the group that ZooKeeper shows now. */
  readonly members: number
  readonly reason: string | undefined
}

/** What the journal takes of the disk, and when it was last read through. */
export interface StorageStatus {
  /** Bytes of all segments. */
  readonly journalBytes: number
  /** Lowest record that the journal still holds. */
  readonly firstIndex: number
  /** Lowest record that is still needed, as of the last checkpoint. */
  readonly neededFrom: number
  /** `low`: no space for another segment, so producers are refused. */
  readonly space: 'enough' | 'low'
  readonly scrub:
    | {
        /** When the last whole pass ended, in milliseconds since 1970; `undefined` if there was none since the start. */
        readonly lastPassMs: number | undefined
        /** Part of the present pass that is done, 0 to 1. */
        readonly progress: number
        /** Damaged places found since the start, and how many of those are repaired. */
        readonly damaged: number
        readonly repaired: number
      }
    | undefined
}

/** Everything an operator wants to know of a store; plain data, ready for JSON. */
export interface StoreStatus {
  readonly nodeId: string
  readonly storeUuid: string
  readonly clusterUuid: string | undefined
  readonly role: Role
  readonly epoch: number
  /** Last record in the own log. */
  readonly position: Position
  readonly commitIndex: number
  /** Last index known to be on the own disk. */
  readonly durableIndex: number
  readonly elector: 'raft' | 'zookeeper' | 'none'
  readonly sync: string
  /** What `sync` risks, in words; `undefined` for `quorum_disk`. */
  readonly syncWarning: string | undefined
  readonly replicas: number
  readonly quorum: { readonly needed: number; readonly present: number }
  /** What this broker lacks to be, or to follow, a master, in words; `undefined` if it lacks nothing. */
  readonly waitingFor: string | undefined
  /** Node id of the master as this node knows it. */
  readonly masterNodeId: string | undefined
  /** Free-form data that the master's broker published about itself (its name and connector URIs). */
  readonly masterInfo: Readonly<Record<string, unknown>> | undefined
  /** Why the present master was elected, as far as this node knows: `startup`, `link lost`, `timeout`, `session expiry`, `resigned`. */
  readonly electionReason: string | undefined
  readonly members: readonly MemberStatus[]
  readonly zookeeper: ZooKeeperStatus | undefined
  readonly storage?: StorageStatus | undefined
}

import type { Position } from './store-status.ts'

/** Levels of the log's format that a release can work with: see {@link StoreAdministration.finaliseLevel}. */
export interface LevelRange {
  readonly lowest: number
  readonly highest: number
}

/** One store that belongs to the cluster, or would like to. */
export interface MemberReport {
  /** Name for people. */
  readonly name: string
  readonly nodeId: string
  /** `undefined` for a voter that was never heard. */
  readonly storeUuid: string | undefined
  /** Replication address, `host:port`; `undefined` for a voter that was never heard. */
  readonly address: string | undefined
  /** `replaced`: a voter in whose name another store connects now, and which is about to lose its place to that. */
  readonly role: 'voter' | 'learner' | 'replaced'
  readonly connected: boolean
  readonly position: Position | undefined
  /** Records that the master has and this member, as far as known, has not on disk. Only known to the master. */
  readonly lag: number | undefined
  readonly levels: LevelRange | undefined
}

export interface MembersReport {
  readonly clusterUuid: string
  /** Level of the log's format that the cluster uses. */
  readonly level: number
  /** A change of members or level is appended and not committed yet, or waits for a learner to be level. */
  readonly changeUnderWay: boolean
  readonly members: readonly MemberReport[]
}

/** What a finished backup holds. */
export interface BackupReport {
  readonly records: number
  readonly bytes: number
  /** The last committed record in it. */
  readonly position: Position
  readonly clusterUuid: string
}

/**
 * Changes of the cluster itself, on request of an operator. Each is logged and replicated as messages are, so all but `members` and
 * `backup` are for the master only.
 *
 * Every method throws or rejects with a {@link StoreError}: `STORE_NOT_MASTER` on any other node or when mastership ends before
 * the change is committed; `STORE_CHANGE_REFUSED` with a reason for people when it would not be safe or makes no sense.
 */
export interface StoreAdministration {
  /** Voters and learners, levels, whether a change is under way. */
  members(): MembersReport
  /** A connected learner that is level becomes a voter; resolves when that is committed. */
  addMember(nodeId: string): Promise<void>
  /** A voter loses its place; resolves when that is committed. The master hands mastership over first. */
  removeMember(nodeId: string): Promise<void>
  /**
   * Hands mastership to another voter: that named, or the most suitable. No producer is refused meanwhile, only held back.
   *
   * @returns Node id of the new master, once it is master. Rejects if it did not become that in time; this one is master still.
   */
  transfer(nodeId: string | undefined): Promise<{ readonly to: string }>
  /** Raises the level of the log's format, once all members can work with it; there is no way back. */
  finaliseLevel(level: number): Promise<void>
  /**
   * Writes everything that is committed now, as one sequence of bytes for `restoreBackup`. The store goes on meanwhile.
   *
   * @param write - Is awaited before the next chunk is read.
   */
  backup(write: (chunk: Uint8Array) => Promise<void>): Promise<BackupReport>
}

export interface RestoreOptions {
  /** The file that a backup was written to. */
  readonly from: string
  /** Must be missing or empty. */
  readonly directory: string
  /** Identity of the restored store; by default made anew when it is first started. */
  readonly nodeId?: string
  readonly progress?: (doneBytes: number, totalBytes: number) => void
  readonly signal?: AbortSignal
}

/** What was restored: a store of a new cluster, with itself as the only voter. */
export interface RestoreReport {
  readonly directory: string
  readonly records: number
  readonly bytes: number
  readonly position: Position
  /** Of the cluster that the backup was made of. */
  readonly clusterUuid: string
}

/** What forced recovery does, or did, to a store whose cluster has lost its majority (rule S25). */
export interface RecoveryPlan {
  readonly directory: string
  readonly nodeId: string
  readonly clusterUuid: string
  /** The voters of the cluster that is given up. */
  readonly voters: readonly string[]
  /** The last record in the store, which becomes committed. */
  readonly position: Position
  /** Up to here this store knows that the cluster had committed. */
  readonly commitIndex: number
  readonly messages: number
  /** What may be lost or come twice, each a sentence for people. */
  readonly losses: readonly string[]
  /** Set once it was done. */
  readonly newClusterUuid: string | undefined
}

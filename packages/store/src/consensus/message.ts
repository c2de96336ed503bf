import type { Voter } from '../store-identity.ts'
import type { Position } from './debt.ts'

/** What members say to each other; `replication/frame.ts` puts it into bytes. */
export type ConsensusMessage =
  | PreVote
  | PreVoteReply
  | Vote
  | VoteReply
  | Append
  | AppendReply
  /**
   * The leader of `epoch` gives up; it dispatches nothing more, so its lease need not be waited for. If it has handed
   * over, another member stands at once, and nobody else has to.
   */
  | { readonly type: 'resign'; readonly epoch: number; readonly handedOver: boolean }
  /** The leader of `epoch` gives up in favour of this member, which holds all that it has: it is to stand at once. */
  | { readonly type: 'standNow'; readonly epoch: number }
  /** From the leader of `epoch`: what the member lacks is gone; the leader's log begins with `firstIndex`. */
  | { readonly type: 'behind'; readonly epoch: number; readonly firstIndex: number }
  /** From the leader of `epoch`: the member has acknowledged everything up to `owed` to it, and lacks some of that. */
  | { readonly type: 'recall'; readonly epoch: number; readonly owed: Position }

/** Would you vote for me in `epoch`? Asked before anything is promised, so that a hopeless candidate disturbs nobody. */
export interface PreVote {
  readonly type: 'preVote'
  readonly epoch: number
  readonly lastEpoch: number
  readonly lastIndex: number
  readonly weight: number
}

export interface PreVoteReply {
  readonly type: 'preVoteReply'
  /** The epoch asked for. */
  readonly epoch: number
  readonly granted: boolean
  /** Refused, and only because the answering member knows of records that the asker lacks. */
  readonly owing: boolean
  /** The epoch that the answering member has promised: the asker's next attempt goes above it. */
  readonly promised: number
}

export interface Vote {
  readonly type: 'vote'
  readonly epoch: number
  readonly lastEpoch: number
  readonly lastIndex: number
  /** All voters have answered, and none of their logs is better: what anyone knows of and they lack is lost. */
  readonly all: boolean
  /** The epoch of the leader that gave up in favour of the asker; 0 if none did. It dispatches nothing more. */
  readonly handedOver: number
}

export interface VoteReply {
  readonly type: 'voteReply'
  readonly epoch: number
  readonly granted: boolean
  /** Milliseconds for which an earlier leader may still rely on this member's last acknowledgement. */
  readonly leaseMs: number
}

/** Batches that follow `previousIndex`, or none: then it is a heartbeat or a probe. */
export interface Append {
  readonly type: 'append'
  readonly epoch: number
  readonly previousIndex: number
  readonly previousEpoch: number
  readonly commitIndex: number
  /** That of record `commitIndex`. */
  readonly commitEpoch: number
  /** The leader's clock when it sent this; echoed, it renews the lease. */
  readonly sentAtMs: number
  /** The batches in `bytes`, in order. */
  readonly batches: readonly BatchSpan[]
  /** Whole batches, end to end, unchanged since the leader of their epoch sealed them. */
  readonly bytes: Buffer
}

/** One batch within a buffer. */
export interface BatchSpan {
  readonly epoch: number
  readonly firstIndex: number
  readonly lastIndex: number
  /** Where its header starts in the buffer. */
  readonly offset: number
  /** Who votes from it on, if it holds a configuration. */
  readonly voters?: readonly Voter[] | undefined
}

export interface AppendReply {
  readonly type: 'appendReply'
  readonly epoch: number
  readonly accepted: boolean
  /** Of the append that is answered. */
  readonly previousIndex: number
  /** Accepted: last record that is the leader's and on this member's disk. Refused: end of `hintEpoch` in its log. */
  readonly durableIndex: number
  /** Accepted: last record that is the leader's and was handed to the operating system. */
  readonly writtenIndex: number
  /** Refused: the highest epoch in this member's log that is not above `previousEpoch`. */
  readonly hintEpoch: number
  readonly sentAtMs: number
}

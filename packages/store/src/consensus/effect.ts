import type { StandReason } from '../election/elector.ts'
import type { Voter } from '../store-identity.ts'
import type { Position } from './debt.ts'
import type { Append, ConsensusMessage } from './message.ts'

/** What the consensus core asks its shell to do, to be carried out in the order given. */
export type Effect =
  /** Make this promise durable, then report `promised(epoch)`. Later promises replace earlier ones. */
  | {
      readonly type: 'promise'
      readonly epoch: number
      readonly votedFor: string | undefined
      readonly owed: Position | undefined
    }
  | { readonly type: 'send'; readonly to: string; readonly message: ConsensusMessage }
  /** Drop everything above `index` from the log. */
  | { readonly type: 'truncate'; readonly index: number }
  /** Append these batches of the leader's to the log. */
  | { readonly type: 'append'; readonly append: Append; readonly fromBatch: number }
  /** Read whole batches from `fromIndex` on for a member that lags, and report `fetched` or `fetchFailed`. */
  | { readonly type: 'fetch'; readonly to: string; readonly fromIndex: number; readonly epoch: number }
  /** The leader has no log any more that would fit on to the own one: only a copy of its store helps. */
  | { readonly type: 'behind'; readonly leader: string; readonly firstIndex: number }
  /** Elected: seal and append the batch that starts the epoch, and report it by `sealed`. */
  | { readonly type: 'lead'; readonly epoch: number }
  /** As leader: seal and append a batch with this configuration, and report it by `sealed`. */
  | { readonly type: 'configure'; readonly epoch: number; readonly voters: readonly Voter[] }
  /** The epoch's first batch is committed: this node may serve. */
  | { readonly type: 'serving'; readonly epoch: number }
  | { readonly type: 'commit'; readonly index: number }
  /** As durable as `sync` asks; only while serving. */
  | { readonly type: 'confirm'; readonly index: number }
  /** Role, epoch, leader or voters changed. */
  | { readonly type: 'role' }
  /** The leader is gone; to be passed to the elector. */
  | { readonly type: 'leaderLost'; readonly reason: 'link lost' | 'timeout' | 'resigned' }
  /** As leader: it has given up in favour of `to`, which stands at once. `deposed` has said that it is over. */
  | { readonly type: 'handedOver'; readonly to: string }
  /** As leader: it does not give up after all, or did for another reason. */
  | { readonly type: 'transferFailed'; readonly reason: string }
  /** Mastership is over. */
  | { readonly type: 'deposed'; readonly reason: string }
  | { readonly type: 'defeated'; readonly reason: StandReason }
  /** The log contradicts what a majority committed: this store must not go on (rule S7). */
  | { readonly type: 'diverged'; readonly message: string }

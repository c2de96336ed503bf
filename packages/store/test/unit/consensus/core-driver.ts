import { Consensus, type ConsensusOptions } from '../../../src/consensus/consensus.ts'
import type { Effect } from '../../../src/consensus/effect.ts'
import type {
  Append,
  AppendReply,
  BatchSpan,
  ConsensusMessage,
  Vote,
  VoteReply,
} from '../../../src/consensus/message.ts'
import { syncPolicy } from '../../../src/consensus/sync-policy.ts'
import type { Voter } from '../../../src/store-identity.ts'

export const electionTimeoutMs = 1000
export const leaseMs = 600
export const heartbeatMs = 100

export type CoreSettings = Partial<Omit<ConsensusOptions, 'sync'>> & {
  readonly sync?: string
  /** Node ids of the founding voters. */
  readonly voters?: ReadonlySet<string>
}

/** The voters of these names, each with its first store. */
export function votersOf(...nodeIds: readonly string[]): Voter[] {
  return nodeIds.map((nodeId) => ({ nodeId, storeUuid: `${nodeId}1` }))
}

/** Node `a` of the voters `a`, `b` and `c`, with an empty log, unless said otherwise. */
export function core(settings: CoreSettings = {}): Consensus {
  const { sync = 'quorum_disk', voters = new Set(['a', 'b', 'c']), ...rest } = settings
  return new Consensus({
    nodeId: 'a',
    storeUuid: 'a1',
    configurations: [{ index: 0, voters: votersOf(...voters) }],
    weight: 1,
    promise: { epoch: 0, votedFor: undefined },
    log: { firstIndex: 1, lastIndex: 0, commitIndex: 0, epochStarts: [] },
    nowMs: 0,
    electionTimeoutMs,
    leaseMs,
    heartbeatMs,
    maxFlyingBytes: 1000,
    ...rest,
    sync: syncPolicy(sync),
  })
}

/** A core that is connected to the others. */
export function connected(settings: CoreSettings = {}): Consensus {
  const node = core(settings)
  for (const peer of settings.voters ?? ['a', 'b', 'c']) {
    if (peer !== (settings.nodeId ?? 'a')) node.peerUp(peer, `${peer}1`, settings.nowMs ?? 0)
  }
  return node
}

/** Node `a` as leader of `epoch`, elected by `b` at `nowMs`, its first batch not sealed. */
export function leading(epoch: number, nowMs: number, settings: CoreSettings = {}): Consensus {
  const node = connected({
    promise: { epoch: epoch - 1, votedFor: undefined },
    ...settings,
  })
  node.stand('timeout', nowMs)
  node.receive('b', { type: 'preVoteReply', epoch, granted: true, owing: false, promised: 0 }, nowMs)
  node.promised(epoch, nowMs)
  node.receive('b', voteReply(epoch), nowMs)
  if (node.role !== 'leader' || node.epoch !== epoch) throw new Error(`${node.role} of ${node.epoch}`)
  return node
}

/** A log that holds these epochs, one record each. */
export function logOf(epochs: readonly number[], commitIndex = 0): ConsensusOptions['log'] {
  const epochStarts: { epoch: number; index: number }[] = []
  epochs.forEach((epoch, at) => {
    if (epoch !== epochStarts.at(-1)?.epoch) epochStarts.push({ epoch, index: at + 1 })
  })
  return { firstIndex: 1, lastIndex: epochs.length, commitIndex, epochStarts }
}

export const noBytes: Buffer = Buffer.alloc(0)

/** Batches of one record each behind `previousIndex`. */
export function append(
  epoch: number,
  previous: readonly [epoch: number, index: number],
  epochs: readonly number[] = [],
  more: Partial<Append> = {},
): Append {
  return {
    type: 'append',
    epoch,
    previousIndex: previous[1],
    previousEpoch: previous[0],
    commitIndex: 0,
    commitEpoch: 0,
    sentAtMs: 0,
    batches: epochs.map((each, at): BatchSpan => {
      const index = previous[1] + 1 + at
      return { epoch: each, firstIndex: index, lastIndex: index, offset: at }
    }),
    bytes: Buffer.alloc(epochs.length),
    ...more,
  }
}

export function accepted(epoch: number, durableIndex: number, more: Partial<AppendReply> = {}): AppendReply {
  return {
    type: 'appendReply',
    epoch,
    accepted: true,
    previousIndex: durableIndex,
    durableIndex,
    writtenIndex: durableIndex,
    hintEpoch: 0,
    sentAtMs: 0,
    ...more,
  }
}

export function vote(epoch: number, lastEpoch = 0, lastIndex = 0, all = false): Vote {
  return { type: 'vote', epoch, lastEpoch, lastIndex, all, handedOver: 0 }
}

export function preVote(epoch: number, lastEpoch = 0, lastIndex = 0, weight = 1): ConsensusMessage {
  return { type: 'preVote', epoch, lastEpoch, lastIndex, weight }
}

export function voteReply(epoch: number, more: Partial<VoteReply> = {}): VoteReply {
  return { type: 'voteReply', epoch, granted: true, leaseMs: 0, ...more }
}

/** What is said to `to`. */
export function said(effects: readonly Effect[], to: string): ConsensusMessage[] {
  return effects.flatMap((effect) => (effect.type === 'send' && effect.to === to ? [effect.message] : []))
}

export function types(effects: readonly Effect[]): string[] {
  return effects.map((effect) => (effect.type === 'send' ? effect.message.type : effect.type))
}

import type { StandReason } from '../election/elector.ts'
import type { EpochStart } from '../journal/log.ts'
import type { Effect } from './effect.ts'
import { EpochTable } from './epoch-table.ts'
import type {
  Append,
  AppendReply,
  BatchSpan,
  ConsensusMessage,
  PreVote,
  PreVoteReply,
  Vote,
  VoteReply,
} from './message.ts'
import { Progress } from './progress.ts'
import type { SyncPolicy } from './sync-policy.ts'

/**
 * The consensus core: who leads, and what is committed. Raft's rules over the batched log, with term called epoch.
 *
 * Pure: no clock, randomness, sockets or disk. Each method takes an event and returns the effects, in order.
 *
 * Invariants, each one a rule of safety:
 * - An epoch is promised at most once to one candidate, and the promise is durable before anything rests on it (S2):
 *   no vote, acknowledgement or leadership in an epoch goes out before `promised` reported it.
 * - A vote goes only to a log at least as complete as the own one (S4), and never while a leader is alive (S9).
 * - `#commitIndex` never moves back (S6). A leader moves it only to records of its own epoch (S5), held durably by a
 *   majority of the voters, each counted once.
 * - The log is never truncated at or below the commit index (S7).
 * - A member that is no voter neither votes, stands nor counts (S23).
 * - A leader dispatches only under a lease that a majority renewed, and not before every lease of an earlier leader
 *   that its electors acknowledged has run out (S9).
 *
 * Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), chapters 3, 6.4.1 and 9.6.
 */
export class Consensus {
  readonly #options: ConsensusOptions
  readonly #epochs: EpochTable
  #lastIndex: number
  #durableIndex: number
  #writtenIndex: number
  #commitIndex: number

  #promisedEpoch: number
  #votedFor: string | undefined
  /** Epoch whose promise is on disk; nothing may rest on `#promisedEpoch` while it differs. */
  #durableEpoch: number
  /** Highest epoch heard of: the next attempt goes above it. */
  #seenEpoch: number

  #role: 'follower' | 'candidate' | 'leader' = 'follower'
  #leader: string | undefined
  #campaign: Campaign | undefined
  readonly #connected = new Map<string, { readonly voter: boolean }>()

  // As a follower.
  /** How the last leader was lost, until there is another. */
  #lostBy: 'link lost' | 'timeout' | 'resigned' | undefined
  #heardMs: number
  /** When this member last answered a leader: until then plus the lease, that leader may dispatch. */
  #answeredMs: number
  /** Epoch of that leader; 0 if it was before the start. */
  #answeredEpoch = 0
  /** When it last answered any leader before that one: each has a lease of its own. */
  #answeredEarlierMs: number = Number.NEGATIVE_INFINITY
  /** Last record known to be the present leader's. */
  #verifiedIndex = 0
  #echoMs = 0
  #answeredPrevious = 0
  #acknowledgementDue = false
  /** Votes granted whose promise is not on disk yet. */
  readonly #heldReplies: { readonly to: string; readonly epoch: number }[] = []

  // As a leader.
  #progress = new Map<string, Progress>()
  /** Index of the last record of the epoch's first batch; `undefined` until that is sealed. */
  #epochStart: { readonly first: number; readonly last: number } | undefined
  #serving = false
  #confirmIndex = 0
  #dispatchFromMs = 0
  #leaseBaseMs = Number.NEGATIVE_INFINITY
  #ledSinceMs = 0
  #electedBy: StandReason | undefined

  #effects: Effect[] = []

  constructor(options: ConsensusOptions) {
    this.#options = options
    this.#epochs = new EpochTable(options.log.epochStarts)
    this.#lastIndex = options.log.lastIndex
    this.#durableIndex = options.log.lastIndex
    this.#writtenIndex = options.log.lastIndex
    this.#commitIndex = options.log.commitIndex
    this.#promisedEpoch = Math.max(options.promise.epoch, this.#epochs.lastEpoch)
    this.#votedFor = options.promise.epoch === this.#promisedEpoch ? options.promise.votedFor : undefined
    // An epoch seen in the own log was promised by whoever appended it: voting in it again could elect a second leader.
    if (this.#promisedEpoch > options.promise.epoch) this.#votedFor = 'nobody'
    this.#durableEpoch = this.#promisedEpoch
    this.#seenEpoch = this.#promisedEpoch
    this.#heardMs = options.nowMs
    // Whom it answered before a restart is not remembered: assume it was just now, if there is anyone else.
    this.#answeredMs = options.voters.size > 1 ? options.nowMs : Number.NEGATIVE_INFINITY
  }

  get role(): 'follower' | 'candidate' | 'leader' {
    return this.#role
  }
  /** The epoch this member has promised: that of the leader it follows, or of its own. */
  get epoch(): number {
    return this.#promisedEpoch
  }
  get leader(): string | undefined {
    return this.#leader
  }
  get serving(): boolean {
    return this.#serving
  }
  get lastIndex(): number {
    return this.#lastIndex
  }
  get lastEpoch(): number {
    return this.#epochs.lastEpoch
  }
  get durableIndex(): number {
    return this.#durableIndex
  }
  get commitIndex(): number {
    return this.#commitIndex
  }
  get quorum(): number {
    return Math.floor(this.#options.voters.size / 2) + 1
  }
  get voter(): boolean {
    return this.#options.voter ?? this.#options.voters.has(this.#options.nodeId)
  }
  /** Voters that can be talked to, this one included if it is one. */
  get reachableVoters(): number {
    let count = this.voter ? 1 : 0
    for (const peer of this.#connected.values()) if (peer.voter) count++
    return count
  }
  /** How a leader sees the others; empty for anyone else. */
  get progress(): Iterable<Progress> {
    return this.#progress.values()
  }
  /** Why this leader stood. */
  get electedBy(): StandReason | undefined {
    return this.#electedBy
  }

  /** Whether this node may act as master towards consumers at `nowMs`. */
  mayDispatch(nowMs: number): boolean {
    return this.#serving && nowMs >= this.#dispatchFromMs && nowMs < this.#leaseBaseMs + this.#options.leaseMs
  }

  /** Time passed. To be called every few milliseconds: at least four times per heartbeat. */
  tick(nowMs: number): readonly Effect[] {
    if (this.#role === 'leader') this.#tickLeader(nowMs)
    else if (this.#leader !== undefined && nowMs - this.#heardMs >= this.#options.electionTimeoutMs) {
      this.#loseLeader('timeout')
    }
    const campaign = this.#campaign
    // The own disk takes the time it takes; to start over would only queue another promise behind this one.
    if (campaign !== undefined && campaign.stage !== 'promise' && nowMs >= campaign.deadlineMs) this.#defeat()
    return this.#takeEffects()
  }

  /** The elector wants this node to stand. Ignored where it makes no sense. */
  stand(reason: StandReason, nowMs: number): readonly Effect[] {
    if (
      !this.voter ||
      this.#role !== 'follower' ||
      this.#leader !== undefined ||
      this.#campaign !== undefined
    ) {
      return this.#takeEffects()
    }
    const epoch = Math.max(this.#promisedEpoch, this.#seenEpoch) + 1
    this.#campaign = {
      stage: 'ask',
      epoch,
      reason,
      granted: new Set([this.#options.nodeId]),
      asked: this.#otherVoters(),
      deadlineMs: nowMs + this.#options.electionTimeoutMs / 2,
      leaseEndMs: this.#leaseEndOf(nowMs),
    }
    if (this.#hopeless(this.#campaign)) this.#defeat()
    else if (this.quorum === 1) this.#promiseToSelf(this.#campaign)
    else {
      this.#sendToVoters({
        type: 'preVote',
        epoch,
        lastEpoch: this.#epochs.lastEpoch,
        lastIndex: this.#lastIndex,
        weight: this.#options.weight,
      })
    }
    return this.#takeEffects()
  }

  /** A member finished its handshake. Its messages come in order, and before any of a later connection. */
  peerUp(nodeId: string, voter: boolean, nowMs: number): readonly Effect[] {
    this.#connected.set(nodeId, { voter })
    if (this.#role === 'leader') this.#attach(nodeId, voter, nowMs)
    return this.#takeEffects()
  }

  peerDown(nodeId: string): readonly Effect[] {
    this.#connected.delete(nodeId)
    const progress = this.#progress.get(nodeId)
    if (progress !== undefined) progress.connected = false
    if (this.#leader === nodeId) this.#loseLeader('link lost')
    if (this.#campaign?.asked.delete(nodeId) === true && this.#hopeless(this.#campaign)) this.#defeat()
    return this.#takeEffects()
  }

  /** The promise of `epoch` is on disk. */
  promised(epoch: number, nowMs: number): readonly Effect[] {
    if (epoch > this.#durableEpoch) this.#durableEpoch = epoch
    if (this.#durableEpoch === this.#promisedEpoch) {
      for (const reply of this.#heldReplies.splice(0)) this.#answerVote(reply.to, reply.epoch, nowMs)
      if (this.#campaign?.stage === 'promise') this.#askForVotes(this.#campaign, nowMs)
      if (this.#acknowledgementDue) this.#acknowledge(nowMs)
    }
    return this.#takeEffects()
  }

  /** The own disk was handed records up to `index`. */
  written(index: number, nowMs: number): readonly Effect[] {
    this.#writtenIndex = Math.min(index, this.#lastIndex)
    if (this.#options.sync.slaves === 'memory' && this.#role === 'follower') this.#acknowledge(nowMs)
    return this.#takeEffects()
  }

  /** Records up to `index` are on the own disk. */
  durable(index: number, nowMs: number): readonly Effect[] {
    this.#durableIndex = Math.min(index, this.#lastIndex)
    if (this.#writtenIndex < this.#durableIndex) this.#writtenIndex = this.#durableIndex
    if (this.#role === 'leader') this.#advance()
    else this.#acknowledge(nowMs)
    return this.#takeEffects()
  }

  /** As leader: a batch was sealed in this epoch and handed to the log. `bytes` are kept until they are sent. */
  sealed(
    epoch: number,
    firstIndex: number,
    lastIndex: number,
    bytes: Buffer,
    nowMs: number,
  ): readonly Effect[] {
    if (this.#role !== 'leader' || epoch !== this.#promisedEpoch) throw new Error('sealed without leading')
    if (firstIndex !== this.#lastIndex + 1) throw new Error(`sealed ${firstIndex} behind ${this.#lastIndex}`)
    const previousIndex = this.#lastIndex
    this.#epochs.append(epoch, firstIndex)
    this.#lastIndex = lastIndex
    this.#epochStart ??= { first: firstIndex, last: lastIndex }
    const batches = [{ epoch, firstIndex, lastIndex, offset: 0 }]
    for (const progress of this.#progress.values()) {
      if (!progress.connected || progress.mode !== 'stream' || progress.nextIndex !== firstIndex) continue
      if (progress.flyingBytes > this.#options.maxFlyingBytes) continue
      this.#sendBatches(progress, previousIndex, batches, bytes, nowMs)
    }
    this.#advance()
    return this.#takeEffects()
  }

  /** Batches that were asked for by a `fetch` effect; empty if there are none. */
  fetched(
    to: string,
    epoch: number,
    fromIndex: number,
    batches: readonly BatchSpan[],
    bytes: Buffer,
    nowMs: number,
  ): readonly Effect[] {
    const progress = this.#progress.get(to)
    if (this.#role !== 'leader' || epoch !== this.#promisedEpoch || progress === undefined)
      return this.#takeEffects()
    // A reconnect in between started this member over; then another fetch, or none, is under way.
    if (!progress.fetching || progress.nextIndex !== fromIndex) return this.#takeEffects()
    progress.fetching = false
    const last = batches.at(-1)
    // The log may have been cut and grown anew while the disk was read: then these are not its batches any more.
    if (
      last !== undefined &&
      last.lastIndex <= this.#lastIndex &&
      this.#epochs.epochAt(last.lastIndex) === last.epoch
    ) {
      this.#sendBatches(progress, fromIndex - 1, batches, bytes, nowMs)
      this.#pull(progress)
    }
    return this.#takeEffects()
  }

  /** The log no longer holds what a member needs. */
  fetchFailed(to: string, epoch: number): readonly Effect[] {
    const progress = this.#progress.get(to)
    if (this.#role === 'leader' && epoch === this.#promisedEpoch && progress !== undefined) {
      progress.fetching = false
      progress.mode = 'gone'
      this.#effects.push({ type: 'role' })
    }
    return this.#takeEffects()
  }

  /** Gives leadership up, with word to the others, so that they need not wait for anything. */
  resign(reason: string, nowMs: number): readonly Effect[] {
    if (this.#role === 'leader') {
      const epoch = this.#promisedEpoch
      // The lease ends here, before anyone is told that it did.
      this.#stopLeading(reason)
      this.#heardMs = nowMs
      for (const [nodeId] of this.#connected) this.#send(nodeId, { type: 'resign', epoch })
    }
    return this.#takeEffects()
  }

  receive(from: string, message: ConsensusMessage, nowMs: number): readonly Effect[] {
    const peer = this.#connected.get(from)
    if (peer !== undefined) {
      switch (message.type) {
        case 'append':
          this.#onAppend(from, message, nowMs)
          break
        case 'appendReply':
          this.#onAppendReply(from, message, nowMs)
          break
        case 'preVote':
          if (peer.voter) this.#onPreVote(from, message, nowMs)
          break
        case 'preVoteReply':
          if (peer.voter) this.#onPreVoteReply(from, message)
          break
        case 'vote':
          if (peer.voter) this.#onVote(from, message, nowMs)
          break
        case 'voteReply':
          if (peer.voter) this.#onVoteReply(from, message, nowMs)
          break
        case 'resign':
          if (from === this.#leader && message.epoch === this.#promisedEpoch) {
            // Only its own lease is over: that of a leader before it may still run.
            if (this.#answeredEpoch === message.epoch) this.#answeredMs = this.#answeredEarlierMs
            this.#loseLeader('resigned')
          }
          break
        default:
          message satisfies never
      }
    }
    return this.#takeEffects()
  }

  // Election.

  #onPreVote(from: string, message: PreVote, nowMs: number): void {
    const mine = this.#campaign
    const complete = this.#atLeastAsComplete(message.lastEpoch, message.lastIndex)
    const vacant = this.voter && !this.#leaderAlive(nowMs)
    let granted = vacant && complete && message.epoch > this.#promisedEpoch
    if (granted && mine !== undefined) {
      // Both stand: the better one goes on, or the votes would split. Needs no safety: it is only about who asks.
      if (mine.stage === 'ask' && this.#rankedBelow(from, message)) this.#defeat()
      else granted = false
    }
    this.#send(from, { type: 'preVoteReply', epoch: message.epoch, granted, promised: this.#promisedEpoch })
    // The asker cannot win, and it misses the leader too: this node's own attempt need not wait any longer.
    if (vacant && !complete && mine === undefined && this.#lostBy !== undefined) {
      this.#effects.push({ type: 'leaderLost', reason: this.#lostBy })
    }
  }

  #onPreVoteReply(from: string, message: PreVoteReply): void {
    if (message.promised > this.#seenEpoch) this.#seenEpoch = message.promised
    const campaign = this.#campaign
    if (campaign?.stage !== 'ask' || campaign.epoch !== message.epoch) return
    campaign.asked.delete(from)
    if (message.granted) campaign.granted.add(from)
    if (campaign.granted.size >= this.quorum) this.#promiseToSelf(campaign)
    else if (this.#hopeless(campaign)) this.#defeat()
  }

  #promiseToSelf(campaign: Campaign): void {
    // Another candidate may have been promised this epoch since it was chosen.
    if (campaign.epoch <= this.#promisedEpoch) {
      this.#defeat()
      return
    }
    campaign.stage = 'promise'
    campaign.granted = new Set([this.#options.nodeId])
    campaign.asked = this.#otherVoters()
    this.#role = 'candidate'
    this.#promise(campaign.epoch, this.#options.nodeId)
    this.#effects.push({ type: 'role' })
  }

  #askForVotes(campaign: Campaign, nowMs: number): void {
    campaign.stage = 'vote'
    campaign.deadlineMs = nowMs + this.#options.electionTimeoutMs / 2
    if (this.quorum === 1) {
      this.#lead(campaign, nowMs)
      return
    }
    this.#sendToVoters({
      type: 'vote',
      epoch: campaign.epoch,
      lastEpoch: this.#epochs.lastEpoch,
      lastIndex: this.#lastIndex,
    })
  }

  #onVote(from: string, message: Vote, nowMs: number): void {
    if (message.epoch > this.#seenEpoch) this.#seenEpoch = message.epoch
    // A live leader is not unseated by a member that merely lost sight of it; this is also what its lease rests on.
    const refused = !this.voter || message.epoch < this.#promisedEpoch || this.#leaderAlive(nowMs)
    if (!refused && message.epoch > this.#promisedEpoch) {
      const vote = this.#atLeastAsComplete(message.lastEpoch, message.lastIndex) ? from : undefined
      this.#follow(undefined)
      this.#promise(message.epoch, vote)
    }
    if (!refused && this.#votedFor === from) {
      if (this.#durableEpoch === this.#promisedEpoch) this.#answerVote(from, message.epoch, nowMs)
      else this.#heldReplies.push({ to: from, epoch: message.epoch })
    } else {
      this.#send(from, { type: 'voteReply', epoch: message.epoch, granted: false, leaseMs: 0 })
    }
  }

  /** The promise is durable; says so, unless a later one replaced it meanwhile. */
  #answerVote(to: string, epoch: number, nowMs: number): void {
    const granted = epoch === this.#promisedEpoch && this.#votedFor === to
    const leaseMs = granted ? Math.max(0, this.#leaseEndOf(nowMs) - nowMs) : 0
    this.#send(to, { type: 'voteReply', epoch, granted, leaseMs })
  }

  #onVoteReply(from: string, message: VoteReply, nowMs: number): void {
    const campaign = this.#campaign
    if (campaign?.stage !== 'vote' || campaign.epoch !== message.epoch) return
    campaign.asked.delete(from)
    if (message.granted) {
      campaign.granted.add(from)
      campaign.leaseEndMs = Math.max(campaign.leaseEndMs, nowMs + message.leaseMs)
      if (campaign.granted.size >= this.quorum) this.#lead(campaign, nowMs)
    } else if (this.#hopeless(campaign)) this.#defeat()
  }

  #lead(campaign: Campaign, nowMs: number): void {
    this.#campaign = undefined
    this.#role = 'leader'
    this.#leader = this.#options.nodeId
    this.#electedBy = campaign.reason
    this.#progress = new Map()
    this.#epochStart = undefined
    this.#serving = false
    this.#confirmIndex = this.#commitIndex
    this.#dispatchFromMs = campaign.leaseEndMs
    // A cluster of one needs nobody's leave.
    this.#leaseBaseMs = this.quorum === 1 ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
    this.#ledSinceMs = nowMs
    for (const [nodeId, { voter }] of this.#connected) {
      const progress = new Progress(nodeId, voter, this.#lastIndex + 1, nowMs)
      progress.connected = true
      // Most logs agree at the end: the first batch goes out on trust, and a refusal starts the search.
      progress.mode = 'stream'
      this.#progress.set(nodeId, progress)
    }
    this.#effects.push({ type: 'role' }, { type: 'lead', epoch: this.#promisedEpoch })
  }

  /** Whether too few are left that may still grant it: no use in waiting for the deadline. */
  #hopeless(campaign: Campaign): boolean {
    return campaign.granted.size + campaign.asked.size < this.quorum
  }

  #otherVoters(): Set<string> {
    return new Set([...this.#connected].filter(([, { voter }]) => voter).map(([nodeId]) => nodeId))
  }

  #defeat(): void {
    const campaign = this.#campaign
    this.#campaign = undefined
    if (this.#role === 'candidate') {
      this.#role = 'follower'
      this.#effects.push({ type: 'role' })
    }
    if (campaign !== undefined) this.#effects.push({ type: 'defeated', reason: campaign.reason })
  }

  #promise(epoch: number, votedFor: string | undefined): void {
    this.#promisedEpoch = epoch
    this.#votedFor = votedFor
    if (epoch > this.#seenEpoch) this.#seenEpoch = epoch
    this.#heldReplies.length = 0
    this.#effects.push({ type: 'promise', epoch, votedFor })
  }

  #leaderAlive(nowMs: number): boolean {
    if (this.#role === 'leader') return true
    return this.#leader !== undefined && nowMs - this.#heardMs < this.#options.electionTimeoutMs
  }

  #atLeastAsComplete(lastEpoch: number, lastIndex: number): boolean {
    const own = this.#epochs.lastEpoch
    return lastEpoch > own || (lastEpoch === own && lastIndex >= this.#lastIndex)
  }

  /** Whether this node, standing as well, comes after the other in the order: position, weight, node id. */
  #rankedBelow(other: string, vote: PreVote): boolean {
    const own = this.#epochs.lastEpoch
    if (vote.lastEpoch !== own) return vote.lastEpoch > own
    if (vote.lastIndex !== this.#lastIndex) return vote.lastIndex > this.#lastIndex
    if (vote.weight !== this.#options.weight) return vote.weight > this.#options.weight
    return other < this.#options.nodeId
  }

  /** This member is about to answer its leader, and that renews the leader's lease, whatever the answer is. */
  #renewLease(nowMs: number): void {
    if (this.#answeredEpoch !== this.#promisedEpoch) {
      this.#answeredEarlierMs = this.#answeredMs
      this.#answeredEpoch = this.#promisedEpoch
    }
    this.#answeredMs = nowMs
  }

  /** Until when a leader may rely on this member's answers; a tenth more, for clocks that run differently. */
  #leaseEndOf(nowMs: number): number {
    return Math.max(nowMs, this.#answeredMs + this.#options.leaseMs * 1.1)
  }

  // Following.

  #onAppend(from: string, message: Append, nowMs: number): void {
    if (message.epoch < this.#promisedEpoch) {
      // So that a deposed leader learns of it.
      this.#send(from, this.#refusal(message, this.#promisedEpoch))
      return
    }
    if (message.epoch > this.#promisedEpoch) {
      this.#follow(undefined)
      this.#promise(message.epoch, from)
    }
    if (this.#role === 'leader') throw new Error(`a second leader in epoch ${message.epoch}: ${from}`)
    if (this.#leader !== from) this.#follow(from)
    this.#heardMs = nowMs
    this.#echoMs = message.sentAtMs
    this.#answeredPrevious = message.previousIndex
    if (
      message.previousIndex > this.#lastIndex ||
      this.#epochs.epochAt(message.previousIndex) !== message.previousEpoch
    ) {
      if (message.previousIndex <= this.#commitIndex) {
        this.#diverged(`record ${message.previousIndex} is of another epoch than the master's`)
      } else {
        this.#renewLease(nowMs)
        this.#send(from, this.#refusal(message, message.epoch))
      }
      return
    }
    this.#takeBatches(message)
    const commit = Math.min(message.commitIndex, this.#verifiedIndex)
    if (commit > this.#commitIndex) {
      this.#commitIndex = commit
      this.#effects.push({ type: 'commit', index: commit })
    }
    // Batches are answered when they are on disk; a question, or what is there already, at once.
    if ((message.batches.at(-1)?.lastIndex ?? 0) <= this.#durableIndex) {
      this.#acknowledge(nowMs)
    }
  }

  /** Appends what is new in a message that fits on to the log, and drops what contradicts it. */
  #takeBatches(message: Append): void {
    let verified = message.previousIndex
    let at = 0
    for (const batch of message.batches) {
      if (batch.lastIndex > this.#lastIndex || this.#epochs.epochAt(batch.lastIndex) !== batch.epoch) break
      verified = batch.lastIndex
      at++
    }
    const first = message.batches[at]
    if (first !== undefined) {
      if (first.firstIndex <= this.#lastIndex) {
        if (first.firstIndex <= this.#commitIndex) {
          this.#diverged(`the master has another record ${first.firstIndex}, which is committed here`)
          return
        }
        this.#truncate(first.firstIndex - 1)
      }
      for (const batch of message.batches.slice(at)) {
        this.#epochs.append(batch.epoch, batch.firstIndex)
        this.#lastIndex = batch.lastIndex
      }
      verified = this.#lastIndex
      this.#effects.push({ type: 'append', append: message, fromBatch: at })
    }
    if (verified > this.#verifiedIndex) this.#verifiedIndex = verified
  }

  #truncate(index: number): void {
    this.#epochs.truncate(index)
    this.#lastIndex = index
    if (this.#durableIndex > index) this.#durableIndex = index
    if (this.#writtenIndex > index) this.#writtenIndex = index
    this.#effects.push({ type: 'truncate', index })
  }

  #refusal(message: Append, epoch: number): AppendReply {
    const hint = this.#epochs.endOfEpochUpTo(message.previousEpoch, this.#lastIndex)
    return {
      type: 'appendReply',
      epoch,
      accepted: false,
      previousIndex: message.previousIndex,
      durableIndex: hint.index,
      writtenIndex: 0,
      hintEpoch: hint.epoch,
      sentAtMs: message.sentAtMs,
    }
  }

  #acknowledge(nowMs: number): void {
    if (this.#leader === undefined || this.#role !== 'follower') return
    if (this.#durableEpoch !== this.#promisedEpoch) {
      this.#acknowledgementDue = true
      return
    }
    this.#acknowledgementDue = false
    this.#renewLease(nowMs)
    this.#send(this.#leader, {
      type: 'appendReply',
      epoch: this.#promisedEpoch,
      accepted: true,
      previousIndex: this.#answeredPrevious,
      durableIndex: Math.min(this.#durableIndex, this.#verifiedIndex),
      writtenIndex: Math.min(this.#writtenIndex, this.#verifiedIndex),
      hintEpoch: 0,
      sentAtMs: this.#echoMs,
    })
  }

  /** Follows `leader`, or nobody as yet, whatever this node was before. */
  #follow(leader: string | undefined): void {
    if (this.#role === 'leader') this.#stopLeading('another master was elected')
    this.#role = 'follower'
    if (this.#campaign !== undefined) {
      const { reason } = this.#campaign
      this.#campaign = undefined
      if (leader === undefined) this.#effects.push({ type: 'defeated', reason })
    }
    this.#leader = leader
    if (leader !== undefined) this.#lostBy = undefined
    this.#verifiedIndex = 0
    this.#acknowledgementDue = false
    this.#effects.push({ type: 'role' })
  }

  #loseLeader(reason: 'link lost' | 'timeout' | 'resigned'): void {
    this.#leader = undefined
    this.#lostBy = reason
    this.#effects.push({ type: 'role' }, { type: 'leaderLost', reason })
  }

  #diverged(message: string): void {
    this.#effects.push({ type: 'diverged', message })
  }

  // Leading.

  #tickLeader(nowMs: number): void {
    const answered = this.#nthHighest((progress) => progress.answeredMs, nowMs, this.quorum)
    if (nowMs - Math.max(answered, this.#ledSinceMs) >= this.#options.electionTimeoutMs) {
      this.#stopLeading('a majority has not answered in time')
      this.#effects.push({ type: 'leaderLost', reason: 'timeout' })
      return
    }
    for (const progress of this.#progress.values()) {
      if (progress.connected && nowMs - progress.askedMs >= this.#options.heartbeatMs)
        this.#heartbeat(progress, nowMs)
    }
  }

  #attach(nodeId: string, voter: boolean, nowMs: number): void {
    let progress = this.#progress.get(nodeId)
    if (progress === undefined || progress.voter !== voter) {
      progress = new Progress(nodeId, voter, this.#lastIndex + 1, nowMs)
      this.#progress.set(nodeId, progress)
    }
    progress.connected = true
    progress.restart('probe', this.#lastIndex + 1)
    this.#heartbeat(progress, nowMs)
  }

  #onAppendReply(from: string, message: AppendReply, nowMs: number): void {
    if (message.epoch > this.#promisedEpoch) {
      this.#follow(undefined)
      this.#promise(message.epoch, undefined)
      return
    }
    const progress = this.#progress.get(from)
    if (this.#role !== 'leader' || message.epoch !== this.#promisedEpoch || progress === undefined) return
    if (message.sentAtMs > progress.answeredMs) {
      progress.answeredMs = message.sentAtMs
      if (this.quorum > 1) this.#leaseBaseMs = this.#nthHighest((each) => each.answeredMs, nowMs, this.quorum)
    }
    if (!message.accepted) {
      this.#searchFrom(progress, message, nowMs)
      return
    }
    progress.acknowledged(message.writtenIndex, message.durableIndex, nowMs)
    if (progress.mode === 'probe') {
      if (message.previousIndex !== progress.nextIndex - 1) return // Answers an older question.
      progress.mode = 'stream'
    }
    if (progress.mode === 'stream') this.#pull(progress)
    this.#advance()
  }

  /** Goes back to the last place where the two logs may agree, epoch by epoch, and asks again. */
  #searchFrom(progress: Progress, message: AppendReply, nowMs: number): void {
    if (progress.mode === 'gone') return
    if (progress.mode === 'probe' && message.previousIndex !== progress.nextIndex - 1) return
    const own = this.#epochs.endOfEpochUpTo(message.hintEpoch, this.#lastIndex)
    const agreed = own.epoch === message.hintEpoch ? Math.min(own.index, message.durableIndex) : own.index
    // What is committed on both sides is the same, but a member may have to start from below what it acknowledged
    // to an earlier leader; its acknowledgements in this epoch stay true.
    progress.restart('probe', agreed + 1)
    this.#heartbeat(progress, nowMs)
  }

  #heartbeat(progress: Progress, nowMs: number): void {
    progress.askedMs = nowMs
    this.#sendAppend(progress, progress.nextIndex - 1, [], empty, nowMs)
  }

  /** Has what a member lacks read from the log, as far as it may have more under way. */
  #pull(progress: Progress): void {
    if (!progress.connected || progress.fetching || progress.nextIndex > this.#lastIndex) return
    if (progress.flyingBytes > this.#options.maxFlyingBytes) return
    progress.fetching = true
    this.#effects.push({
      type: 'fetch',
      to: progress.nodeId,
      fromIndex: progress.nextIndex,
      epoch: this.#promisedEpoch,
    })
  }

  #sendBatches(
    progress: Progress,
    previousIndex: number,
    batches: readonly BatchSpan[],
    bytes: Buffer,
    nowMs: number,
  ): void {
    this.#sendAppend(progress, previousIndex, batches, bytes, nowMs)
    progress.sent(batches.at(-1)?.lastIndex ?? previousIndex, bytes.length)
  }

  #sendAppend(
    progress: Progress,
    previousIndex: number,
    batches: readonly BatchSpan[],
    bytes: Buffer,
    nowMs: number,
  ): void {
    this.#send(progress.nodeId, {
      type: 'append',
      epoch: this.#promisedEpoch,
      previousIndex,
      previousEpoch: this.#epochs.epochAt(previousIndex),
      commitIndex: this.#commitIndex,
      sentAtMs: nowMs,
      batches,
      bytes,
    })
  }

  /** Moves the commit index, and what may be confirmed, as far as the acknowledgements allow. */
  #advance(): void {
    const start = this.#epochStart
    if (start === undefined) return
    const held = this.#nthHighest((progress) => progress.durableIndex, this.#durableIndex, this.quorum)
    // Records of older epochs commit only under one of ours, or a later election could drop them (Raft, figure 8).
    if (held > this.#commitIndex && held >= start.first) {
      this.#commitIndex = held
      this.#effects.push({ type: 'commit', index: held })
      if (!this.#serving && held >= start.last) {
        this.#serving = true
        this.#effects.push({ type: 'serving', epoch: this.#promisedEpoch })
      }
    }
    if (!this.#serving) return
    const confirm = this.#confirmable()
    if (confirm > this.#confirmIndex) {
      this.#confirmIndex = confirm
      this.#effects.push({ type: 'confirm', index: confirm })
    }
  }

  #confirmable(): number {
    const { committed, ownDisk, slaves } = this.#options.sync
    if (committed) return this.#commitIndex
    let index = ownDisk ? this.#durableIndex : this.#lastIndex
    const others = this.quorum - 1
    if (slaves !== 'none' && others > 0) {
      const held = this.#nthHighest(
        slaves === 'disk' ? (progress) => progress.durableIndex : (progress) => progress.writtenIndex,
        Number.NEGATIVE_INFINITY,
        others,
      )
      index = Math.min(index, held)
    }
    return Math.max(index, this.#commitIndex)
  }

  /** The n-th highest value among the voters, `own` being this node's; minus infinity where fewer have one. */
  #nthHighest(value: (progress: Progress) => number, own: number, n: number): number {
    const values = this.voter ? [own] : []
    for (const progress of this.#progress.values()) if (progress.voter) values.push(value(progress))
    values.sort((left, right) => right - left)
    return values[n - 1] ?? Number.NEGATIVE_INFINITY
  }

  #stopLeading(reason: string): void {
    this.#role = 'follower'
    this.#leader = undefined
    this.#serving = false
    this.#epochStart = undefined
    this.#progress = new Map()
    this.#electedBy = undefined
    this.#effects.push({ type: 'deposed', reason }, { type: 'role' })
  }

  #sendToVoters(message: ConsensusMessage): void {
    for (const [nodeId, { voter }] of this.#connected) if (voter) this.#send(nodeId, message)
  }

  #send(to: string, message: ConsensusMessage): void {
    this.#effects.push({ type: 'send', to, message })
  }

  #takeEffects(): readonly Effect[] {
    if (this.#effects.length === 0) return nothing
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}

const empty: Buffer = Buffer.alloc(0)
const nothing: readonly Effect[] = []

export interface ConsensusOptions {
  readonly nodeId: string
  /** Node ids of the voters: their stores' UUIDs are checked in the handshake. */
  readonly voters: ReadonlySet<string>
  /** Whether this node is the voter of its name: false if its store was replaced. @defaultValue whether it is in `voters` */
  readonly voter?: boolean
  readonly weight: number
  readonly sync: SyncPolicy
  /** As found on disk. */
  readonly promise: { readonly epoch: number; readonly votedFor: string | undefined }
  /** As recovered; all of it is durable. */
  readonly log: {
    readonly lastIndex: number
    readonly commitIndex: number
    readonly epochStarts: readonly EpochStart[]
  }
  readonly nowMs: number
  /** Silence after which a leader is taken for lost, and a leader gives up. */
  readonly electionTimeoutMs: number
  /** For how long a leader may dispatch after a majority answered; well below `electionTimeoutMs`. */
  readonly leaseMs: number
  readonly heartbeatMs: number
  /** Bytes that may be under way to one member, unacknowledged. */
  readonly maxFlyingBytes: number
}

/** One attempt to become leader. */
interface Campaign {
  stage: 'ask' | 'promise' | 'vote'
  readonly epoch: number
  readonly reason: StandReason
  granted: Set<string>
  /** Voters that were asked in this stage and have not answered. */
  asked: Set<string>
  /** When it is given up, unless the own promise is all that it waits for. */
  deadlineMs: number
  /** When the last lease that an elector acknowledged to an earlier leader has run out. */
  leaseEndMs: number
}

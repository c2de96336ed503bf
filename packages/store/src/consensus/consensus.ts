import type { StandReason } from '../election/elector.ts'
import type { Voter } from '../store-identity.ts'
import { Campaign } from './campaign.ts'
import { Debt, type Position } from './debt.ts'
import type { Effect } from './effect.ts'
import { type Configuration, Electorate } from './electorate.ts'
import { Following, refusal } from './following.ts'
import { Leadership, type LeadershipOptions } from './leadership.ts'
import { LeaseMemory } from './lease-memory.ts'
import { LogTail, type RecoveredLog } from './log-tail.ts'
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
import { OwnPromise } from './own-promise.ts'
import { PendingEffects } from './pending-effects.ts'
import type { Progress } from './progress.ts'
import type { EpochPromise } from './promise-file.ts'

/**
 * The consensus core: who leads, and what is committed. Raft's rules over the batched log, with term called epoch.
 *
 * Pure: no clock, randomness, sockets or disk. Each method takes an event and returns the effects, in order.
 *
 * Here a member votes and changes its role; what it does in a role is with `Following`, `Campaign` and `Leadership`,
 * and each of these states the rules that it keeps. What outlives a role is with `LogTail`, `OwnPromise`,
 * `LeaseMemory` and `Electorate`.
 *
 * Invariants, each one a rule of safety:
 * - It is in one role at a time, in the epoch that it has promised: a higher epoch ends the role, then is promised.
 * - An epoch is promised at most once to one candidate, and no vote or leadership in it goes out before `promised`
 *   reported it (S2).
 * - A vote goes only to a log at least as complete as the own one (S4), and never while a leader is alive (S9).
 * - It votes for no log, and stands with none, that ends before what it knows to be committed, or before what its own
 *   store may have acknowledged and lost; unless all voters have answered, and none of them has more (S24, S27).
 * - Who counts is up to who asks, by the last configuration in its own log: a member that is none of its voters does
 *   not count, whatever it answers (S23, S35).
 *
 * Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), chapters 3, 6.4.1 and 9.6.
 */
export class Consensus {
  readonly #options: ConsensusOptions
  readonly #electorate: Electorate
  readonly #tail: LogTail
  readonly #promise: OwnPromise
  readonly #debt: Debt
  readonly #leases: LeaseMemory
  readonly #effects = new PendingEffects()
  /** Votes granted whose promise is not on disk yet. */
  readonly #heldReplies: { readonly to: string; readonly epoch: number }[] = []

  // Its role: one of these at most.
  #following: Following | undefined
  #campaign: Campaign | undefined
  #leadership: Leadership | undefined
  /** Until when another member has a head start, in favour of which the leader gave up. */
  #headStartEndMs: number | undefined
  /** How the last leader that it followed was lost, until there is another. */
  #lostBy: 'link lost' | 'timeout' | 'resigned' | undefined

  constructor(options: ConsensusOptions) {
    this.#options = options
    this.#electorate = new Electorate(options.nodeId, options.storeUuid, options.configurations)
    this.#tail = new LogTail(options.log)
    this.#electorate.committed(this.#tail.commitIndex)
    this.#debt = new Debt(options.promise.owed)
    this.#promise = new OwnPromise(options.promise, this.#tail.lastEpoch)
    // Whom it answered before a restart is not remembered: assume it was just now, if there is anyone else.
    const answeredMs = this.#electorate.wasAlone ? Number.NEGATIVE_INFINITY : options.nowMs
    this.#leases = new LeaseMemory(options.leaseMs, answeredMs)
  }

  get role(): 'follower' | 'candidate' | 'leader' {
    if (this.#leadership !== undefined) return 'leader'
    // Who only asks whether others would vote for it has promised nothing, and goes on as a follower.
    return this.#campaign === undefined || this.#campaign.stage === 'ask' ? 'follower' : 'candidate'
  }
  /** The epoch this member has promised: that of the leader it follows, or of its own. */
  get epoch(): number {
    return this.#promise.epoch
  }
  get leader(): string | undefined {
    return this.#leadership === undefined ? this.#following?.leader : this.#options.nodeId
  }
  get serving(): boolean {
    return this.#leadership?.serving === true
  }
  get lastIndex(): number {
    return this.#tail.lastIndex
  }
  get lastEpoch(): number {
    return this.#tail.lastEpoch
  }
  get durableIndex(): number {
    return this.#tail.durableIndex
  }
  get commitIndex(): number {
    return this.#tail.commitIndex
  }
  /** Epoch of the record at the commit index. */
  get commitEpoch(): number {
    return this.#tail.epochAt(this.#tail.commitIndex)
  }
  get quorum(): number {
    return this.#electorate.quorum
  }
  get voter(): boolean {
    return this.#electorate.voter
  }
  /** Whether this node may stand for election: it is a voter, or it is not yet sure that it is none any more. */
  get eligible(): boolean {
    return this.#electorate.eligible
  }
  /** As leader: the member in favour of which it is about to give up. Nothing more should be sealed. */
  get transferringTo(): string | undefined {
    return this.#leadership?.transferringTo
  }
  /** What this store may have acknowledged and does not hold any more: until then it does not lead. */
  get owed(): Position | undefined {
    return this.#debt.owed
  }
  /** Who votes, by the last configuration in the log, committed or not. */
  get voters(): readonly Voter[] {
    return this.#electorate.configuration.voters
  }
  /** As leader: a change of the voters is under way. */
  get changing(): boolean {
    return this.#leadership?.changing === true
  }
  /** Voters that can be talked to, this one included if it is one. */
  get reachableVoters(): number {
    return this.#electorate.reachableVoters
  }
  /** Whether a log that ends so is at least as complete as the own one: it may take the place of it. */
  coveredBy(lastEpoch: number, lastIndex: number): boolean {
    return this.#tail.coveredBy(lastEpoch, lastIndex)
  }
  /**
   * As leader: the lowest record that a connected member may still need of the own log, unless a copy of the store is
   * what it needs. Infinity if nobody does.
   */
  get neededFrom(): number {
    let index = Number.POSITIVE_INFINITY
    for (const { connected, neededFrom } of this.progress) if (connected) index = Math.min(index, neededFrom)
    return index
  }
  /** How a leader sees the others; empty for anyone else. */
  get progress(): Iterable<Progress> {
    return this.#leadership?.progress ?? []
  }
  /** Why this leader stood. */
  get electedBy(): StandReason | undefined {
    return this.#leadership?.electedBy
  }

  /** Whether this node may act as master towards consumers at `nowMs`. */
  mayDispatch(nowMs: number): boolean {
    return this.#leadership?.mayDispatch(nowMs) === true
  }

  /** Time passed. To be called every few milliseconds: at least four times per heartbeat. */
  tick(nowMs: number): readonly Effect[] {
    if (this.#leadership !== undefined) {
      if (this.#leadership.deserted(nowMs)) {
        this.#stopLeading('a majority has not answered in time')
        this.#effects.push({ type: 'leaderLost', reason: 'timeout' })
      } else this.#leadership.tick(nowMs)
    } else if (this.#following !== undefined && !this.#leaderAlive(nowMs)) this.#loseLeader('timeout')
    if (this.#campaign?.expired(nowMs) === true) this.#defeat()
    if (this.#headStartEndMs !== undefined && nowMs >= this.#headStartEndMs) {
      this.#headStartEndMs = undefined
      if (this.leader === undefined) this.#effects.push({ type: 'leaderLost', reason: 'resigned' })
    }
    return this.#effects.take()
  }

  /** The elector wants this node to stand. Ignored where it makes no sense. */
  stand(reason: StandReason, nowMs: number): readonly Effect[] {
    if (!this.eligible || this.leader !== undefined || this.#campaign !== undefined)
      return this.#effects.take()
    const epoch = this.#promise.nextEpoch
    const deadlineMs = nowMs + this.#options.electionTimeoutMs / 2
    const inDebt = !this.#debt.allows(this.#tail.end)
    const leaseEndMs = this.#leases.endMs(nowMs)
    const campaign = new Campaign(epoch, reason, this.#electorate, inDebt, deadlineMs, leaseEndMs)
    this.#campaign = campaign
    if (campaign.hopeless) this.#defeat()
    else if (this.#electorate.alone) this.#promiseToSelf(campaign)
    else {
      this.#sendToVoters({
        type: 'preVote',
        epoch,
        lastEpoch: this.#tail.lastEpoch,
        lastIndex: this.#tail.lastIndex,
        weight: this.#options.weight,
      })
    }
    return this.#effects.take()
  }

  /** A member finished its handshake. Its messages come in order, and before any of a later connection. */
  peerUp(nodeId: string, storeUuid: string, nowMs: number): readonly Effect[] {
    this.#electorate.connect(nodeId, storeUuid)
    const peer = this.#electorate.peers.get(nodeId)
    if (peer !== undefined) this.#leadership?.attach(nodeId, peer, nowMs)
    return this.#effects.take()
  }

  peerDown(nodeId: string): readonly Effect[] {
    this.#electorate.disconnect(nodeId)
    this.#leadership?.detach(nodeId)
    if (this.#following?.leader === nodeId) this.#loseLeader('link lost')
    if (this.#campaign?.refusedBy(nodeId) === true && this.#campaign.hopeless) this.#defeat()
    return this.#effects.take()
  }

  /** The promise of `epoch` is on disk. */
  promised(epoch: number, nowMs: number): readonly Effect[] {
    this.#promise.stored(epoch)
    if (this.#promise.durable) {
      for (const reply of this.#heldReplies.splice(0)) this.#answerVote(reply.to, reply.epoch, nowMs)
      if (this.#campaign?.stage === 'promise') this.#askForVotes(this.#campaign, nowMs)
      this.#following?.promised(nowMs)
    }
    return this.#effects.take()
  }

  /** The own disk was handed records up to `index`. */
  written(index: number, nowMs: number): readonly Effect[] {
    this.#tail.written(index)
    if (this.#options.sync.slaves === 'memory') this.#following?.acknowledge(nowMs)
    return this.#effects.take()
  }

  /** Records up to `index` are on the own disk. */
  durable(index: number, nowMs: number): readonly Effect[] {
    this.#tail.durable(index)
    this.#leadership?.durable()
    this.#leaveIfDue(nowMs)
    this.#following?.acknowledge(nowMs)
    this.#settleDebt()
    return this.#effects.take()
  }

  /**
   * As leader: why the voters cannot become these now, or `undefined`.
   *
   * Voters are compared by node id and store; whatever else they carry is kept.
   */
  refusesChange(voters: readonly Voter[], nowMs: number): string | undefined {
    return this.#leadership === undefined
      ? 'this node is not the master'
      : this.#leadership.refusesChange(voters, nowMs)
  }

  /** As leader: whether a member has what the log holds, so that it can become a voter. */
  isLevel(nodeId: string, storeUuid: string): boolean {
    return this.#leadership?.isLevel(nodeId, storeUuid) === true
  }

  /** As leader: the voters become these, unless {@link refusesChange} says why not. */
  changeVoters(voters: readonly Voter[], nowMs: number): readonly Effect[] {
    if (this.refusesChange(voters, nowMs) === undefined) this.#leadership?.changeVoters(voters)
    return this.#effects.take()
  }

  /** As leader: why it cannot give up in favour of a member now, or `undefined`. */
  refusesTransfer(to: string | undefined): string | undefined {
    return this.#leadership === undefined
      ? 'this node is not the master'
      : this.#leadership.refusesTransfer(to)
  }

  /**
   * As leader: gives up in favour of a voter as soon as that holds everything, unless {@link refusesTransfer} says why
   * not. Ends with the effect `handedOver` or, within an election time-out, `transferFailed`.
   *
   * @param to - The voter that has most of the log, unless it is said which.
   */
  transfer(to: string | undefined, nowMs: number): readonly Effect[] {
    if (this.refusesTransfer(to) === undefined) {
      this.#leadership?.transfer(to, nowMs)
      this.#leaveIfDue(nowMs)
    }
    return this.#effects.take()
  }

  /**
   * As leader: a batch was sealed in this epoch and handed to the log. `bytes` are kept until they are sent.
   *
   * @param voters - What the configuration in it says, if it holds one.
   */
  sealed(
    epoch: number,
    firstIndex: number,
    lastIndex: number,
    bytes: Buffer,
    nowMs: number,
    voters?: readonly Voter[],
  ): readonly Effect[] {
    const leadership = this.#leadershipOf(epoch)
    if (leadership === undefined) throw new Error('sealed without leading')
    leadership.sealed(firstIndex, lastIndex, bytes, nowMs, voters)
    this.#leaveIfDue(nowMs)
    return this.#effects.take()
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
    this.#leadershipOf(epoch)?.fetched(to, fromIndex, batches, bytes, nowMs)
    return this.#effects.take()
  }

  /** The log no longer holds what a member needs; `discarded` has said so before. */
  fetchFailed(to: string, epoch: number, nowMs: number): readonly Effect[] {
    this.#leadershipOf(epoch)?.fetchFailed(to, nowMs)
    return this.#effects.take()
  }

  /** The own log begins with `firstIndex` now. What was below is committed. */
  discarded(firstIndex: number, nowMs: number): readonly Effect[] {
    this.#tail.discardBelow(firstIndex)
    this.#leadership?.discarded(nowMs)
    return this.#effects.take()
  }

  /** Gives leadership up, with word to the others, so that they need not wait for anything. */
  resign(reason: string): readonly Effect[] {
    this.#resign(reason)
    return this.#effects.take()
  }

  receive(from: string, message: ConsensusMessage, nowMs: number): readonly Effect[] {
    const peer = this.#electorate.peers.get(from)
    if (peer !== undefined) {
      switch (message.type) {
        case 'append':
          this.#onAppend(from, message, nowMs)
          break
        case 'appendReply':
          this.#onAppendReply(from, message, nowMs)
          break
        // Whoever asks knows who its voters are: its configuration may be newer than this member's.
        case 'preVote':
          this.#onPreVote(from, message, nowMs)
          break
        case 'preVoteReply':
          if (peer.voter) this.#onPreVoteReply(from, message)
          break
        case 'vote':
          this.#onVote(from, message, nowMs)
          break
        case 'voteReply':
          if (peer.voter) this.#onVoteReply(from, message, nowMs)
          break
        case 'resign':
          if (this.#following?.leader === from && message.epoch === this.#promise.epoch) {
            this.#leases.giveUp(message.epoch)
            this.#loseLeader('resigned', message.handedOver ? nowMs : undefined)
          }
          break
        case 'standNow':
          if (this.#following?.leader === from && message.epoch === this.#promise.epoch)
            this.#takeOver(message.epoch, nowMs)
          break
        case 'behind':
          // Told again while it lasts: what was answered meanwhile may have changed it.
          if (this.#following?.leader !== from || message.epoch !== this.#promise.epoch) break
          if (this.#tail.commitIndex < message.firstIndex - 1)
            this.#effects.push({ type: 'behind', leader: from, firstIndex: message.firstIndex })
          break
        case 'recall':
          if (this.#following?.leader === from && message.epoch === this.#promise.epoch) {
            if (this.#debt.incur(message.owed)) this.#keepPromise()
          }
          break
        default:
          message satisfies never
      }
      this.#settleDebt()
    }
    return this.#effects.take()
  }

  // Replication.

  #onAppend(from: string, message: Append, nowMs: number): void {
    if (message.epoch < this.#promise.epoch) {
      // So that a deposed leader learns of it.
      this.#effects.send(from, refusal(message, this.#promise.epoch, this.#tail))
      return
    }
    if (message.epoch > this.#promise.epoch) {
      this.#follow(undefined)
      this.#give(message.epoch, from)
    }
    if (this.#leadership !== undefined) throw new Error(`a second leader in epoch ${message.epoch}: ${from}`)
    let following = this.#following
    if (following?.leader !== from) {
      following = new Following(
        from,
        this.#promise,
        this.#tail,
        this.#electorate,
        this.#leases,
        this.#effects,
        nowMs,
      )
      this.#follow(following)
    }
    this.#debt.heardOf({ epoch: message.commitEpoch, index: message.commitIndex })
    following.receive(message, nowMs)
  }

  #onAppendReply(from: string, message: AppendReply, nowMs: number): void {
    if (message.epoch > this.#promise.epoch) {
      this.#follow(undefined)
      this.#give(message.epoch, undefined)
    } else {
      this.#leadershipOf(message.epoch)?.answered(from, message, nowMs)
      this.#leaveIfDue(nowMs)
    }
  }

  // Voting.

  #onPreVote(from: string, message: PreVote, nowMs: number): void {
    const mine = this.#campaign
    const complete = this.#tail.coveredBy(message.lastEpoch, message.lastIndex)
    const vacant = !this.#leaderAlive(nowMs)
    let willing = vacant && complete && message.epoch > this.#promise.epoch
    const allowed = this.#debt.allows({ epoch: message.lastEpoch, index: message.lastIndex })
    // Whoever is no voter here may win all the same, by a newer configuration; but the own attempt is not for it to end.
    if (willing && mine !== undefined && this.#electorate.peers.get(from)?.voter === true) {
      // Both stand: the better one goes on, or the votes would split. Needs no safety: it is only about who asks.
      const better = (allowed && mine.inDebt) || this.#rankedBelow(from, message)
      if (mine.stage === 'ask' && better) this.#defeat()
      else willing = false
    }
    this.#effects.send(from, {
      type: 'preVoteReply',
      epoch: message.epoch,
      granted: willing && allowed,
      owing: willing && !allowed,
      promised: this.#promise.epoch,
    })
    // The asker cannot win, and it misses the leader too: this node's own attempt need not wait any longer.
    if (vacant && !complete && mine === undefined && this.#lostBy !== undefined) {
      this.#effects.push({ type: 'leaderLost', reason: this.#lostBy })
    }
  }

  #onVote(from: string, message: Vote, nowMs: number): void {
    this.#promise.heardOf(message.epoch)
    if (message.handedOver === this.#promise.epoch && this.#following !== undefined) {
      // Its own word of it is still under way, or lost.
      this.#leases.giveUp(message.handedOver)
      this.#loseLeader('resigned', nowMs)
    }
    // A live leader is not unseated by a member that merely lost sight of it; this is also what its lease rests on.
    const refused = message.epoch < this.#promise.epoch || this.#leaderAlive(nowMs)
    if (!refused && message.epoch > this.#promise.epoch) {
      const complete = this.#tail.coveredBy(message.lastEpoch, message.lastIndex)
      const allowed = message.all || this.#debt.allows({ epoch: message.lastEpoch, index: message.lastIndex })
      this.#follow(undefined)
      this.#give(message.epoch, complete && allowed ? from : undefined)
    }
    if (!refused && this.#promise.votedFor === from) {
      if (this.#promise.durable) this.#answerVote(from, message.epoch, nowMs)
      else this.#heldReplies.push({ to: from, epoch: message.epoch })
    } else {
      this.#effects.send(from, { type: 'voteReply', epoch: message.epoch, granted: false, leaseMs: 0 })
    }
  }

  /** The promise is durable; says so, unless a later one replaced it meanwhile. */
  #answerVote(to: string, epoch: number, nowMs: number): void {
    const granted = epoch === this.#promise.epoch && this.#promise.votedFor === to
    const leaseMs = granted ? Math.max(0, this.#leases.endMs(nowMs) - nowMs) : 0
    this.#effects.send(to, { type: 'voteReply', epoch, granted, leaseMs })
  }

  #give(epoch: number, votedFor: string | undefined): void {
    this.#promise.give(epoch, votedFor)
    this.#heldReplies.length = 0
    this.#keepPromise()
  }

  /** Promise and debt are kept together. */
  #keepPromise(): void {
    const { epoch, votedFor } = this.#promise
    this.#effects.push({ type: 'promise', epoch, votedFor, owed: this.#debt.owed })
  }

  #settleDebt(): void {
    if (this.#debt.owed === undefined) return
    const index = Math.min(this.#tail.commitIndex, this.#tail.durableIndex)
    if (this.#debt.settle({ epoch: this.#tail.epochAt(index), index })) this.#keepPromise()
  }

  #leaderAlive(nowMs: number): boolean {
    if (this.#leadership !== undefined) return true
    return this.#following !== undefined && this.#following.silentMs(nowMs) < this.#options.electionTimeoutMs
  }

  /** Whether this node, standing as well, comes after the other in the order: position, weight, node id. */
  #rankedBelow(other: string, vote: PreVote): boolean {
    const { lastEpoch, lastIndex } = this.#tail
    if (vote.lastEpoch !== lastEpoch) return vote.lastEpoch > lastEpoch
    if (vote.lastIndex !== lastIndex) return vote.lastIndex > lastIndex
    if (vote.weight !== this.#options.weight) return vote.weight > this.#options.weight
    return other < this.#options.nodeId
  }

  // Standing.

  /** The leader gave up in favour of this node, which holds everything: nobody has to be asked first. */
  #takeOver(epoch: number, nowMs: number): void {
    this.#leases.giveUp(epoch)
    const able = this.#electorate.voter && this.#debt.allows(this.#tail.end)
    this.#loseLeader('resigned', able ? nowMs : undefined)
    if (!able || this.#campaign !== undefined) return
    const deadlineMs = nowMs + this.#options.electionTimeoutMs / 2
    const leaseEndMs = this.#leases.endMs(nowMs)
    const next = this.#promise.nextEpoch
    const campaign = new Campaign(next, 'resigned', this.#electorate, false, deadlineMs, leaseEndMs, epoch)
    this.#campaign = campaign
    this.#promiseToSelf(campaign)
  }

  #onPreVoteReply(from: string, message: PreVoteReply): void {
    this.#promise.heardOf(message.promised)
    const campaign = this.#campaign
    if (campaign?.stage !== 'ask' || campaign.epoch !== message.epoch) return
    if (message.granted) campaign.grantedBy(from)
    else if (message.owing) campaign.owedBy(from)
    else campaign.refusedBy(from)
    if (campaign.granted) this.#promiseToSelf(campaign)
    else if (campaign.hopeless) this.#defeat()
  }

  #promiseToSelf(campaign: Campaign): void {
    // Another candidate may have been promised this epoch since it was chosen.
    if (campaign.epoch <= this.#promise.epoch) {
      this.#defeat()
      return
    }
    campaign.awaitPromise()
    this.#give(campaign.epoch, this.#options.nodeId)
    this.#effects.push({ type: 'role' })
  }

  #askForVotes(campaign: Campaign, nowMs: number): void {
    campaign.awaitVotes(nowMs + this.#options.electionTimeoutMs / 2)
    if (this.#electorate.alone) {
      this.#lead(campaign, nowMs)
      return
    }
    this.#sendToVoters({
      type: 'vote',
      epoch: campaign.epoch,
      lastEpoch: this.#tail.lastEpoch,
      lastIndex: this.#tail.lastIndex,
      all: campaign.all,
      handedOver: campaign.handedOver,
    })
  }

  #onVoteReply(from: string, message: VoteReply, nowMs: number): void {
    const campaign = this.#campaign
    if (campaign?.stage !== 'vote' || campaign.epoch !== message.epoch) return
    if (message.granted) {
      campaign.grantedBy(from, nowMs + message.leaseMs)
      if (campaign.granted) this.#lead(campaign, nowMs)
    } else {
      campaign.refusedBy(from)
      if (campaign.hopeless) this.#defeat()
    }
  }

  #defeat(): void {
    const campaign = this.#campaign
    if (campaign === undefined) return
    this.#campaign = undefined
    if (campaign.stage !== 'ask') this.#effects.push({ type: 'role' })
    this.#effects.push({ type: 'defeated', reason: campaign.reason })
  }

  // Changes of role.

  /** Follows a leader, or nobody as yet, whatever this node was before. */
  #follow(following: Following | undefined): void {
    if (this.#leadership !== undefined) this.#stopLeading('another master was elected')
    if (this.#campaign !== undefined) {
      const { reason } = this.#campaign
      this.#campaign = undefined
      if (following === undefined) this.#effects.push({ type: 'defeated', reason })
    }
    this.#following = following
    if (following !== undefined) {
      this.#lostBy = undefined
      this.#headStartEndMs = undefined
    }
    this.#effects.push({ type: 'role' })
  }

  /** @param handedOverMs - When it was heard that another member stands, which is to have a head start. */
  #loseLeader(reason: 'link lost' | 'timeout' | 'resigned', handedOverMs?: number): void {
    this.#following = undefined
    this.#lostBy = reason
    this.#effects.push({ type: 'role' })
    if (handedOverMs === undefined) this.#effects.push({ type: 'leaderLost', reason })
    else this.#headStartEndMs = handedOverMs + this.#options.electionTimeoutMs / 2
  }

  #lead(campaign: Campaign, nowMs: number): void {
    this.#campaign = undefined
    this.#leadership = new Leadership(
      this.#options,
      this.#electorate,
      this.#tail,
      this.#effects,
      campaign,
      nowMs,
    )
    this.#effects.push({ type: 'role' }, { type: 'lead', epoch: campaign.epoch })
  }

  /**
   * Gives up if it is committed that this node is no voter any more, so that the others, who know of it, go on without
   * it; or if the member for which it is to give up holds everything.
   */
  #leaveIfDue(nowMs: number): void {
    const leadership = this.#leadership
    if (leadership?.dismissed === true) {
      leadership.tellAll(nowMs)
      this.#resign('this node is no voter any more')
    } else if (leadership?.readyToHandOver === true) this.#resign('mastership is handed over', leadership)
  }

  /** @param to - Of a leadership that is handed over: to whom. */
  #resign(
    reason: string,
    { transferringTo: to }: { readonly transferringTo?: string | undefined } = {},
  ): void {
    if (this.#leadership === undefined) return
    const { epoch } = this.#leadership
    // The lease ends here, before anyone is told that it did.
    this.#stopLeading(reason, to !== undefined)
    if (to !== undefined) {
      this.#effects.send(to, { type: 'standNow', epoch })
      this.#effects.push({ type: 'handedOver', to })
    }
    for (const [nodeId] of this.#electorate.peers) {
      if (nodeId !== to) this.#effects.send(nodeId, { type: 'resign', epoch, handedOver: to !== undefined })
    }
  }

  #stopLeading(reason: string, handedOver = false): void {
    const failed = this.transferringTo !== undefined && !handedOver
    this.#leadership = undefined
    this.#effects.push({ type: 'deposed', reason }, { type: 'role' })
    if (failed) this.#effects.push({ type: 'transferFailed', reason })
  }

  /** The leadership that an event of `epoch` is about, unless it is over. */
  #leadershipOf(epoch: number): Leadership | undefined {
    return this.#leadership?.epoch === epoch ? this.#leadership : undefined
  }

  #sendToVoters(message: ConsensusMessage): void {
    for (const nodeId of this.#electorate.otherVoters()) this.#effects.send(nodeId, message)
  }
}

export interface ConsensusOptions extends LeadershipOptions {
  readonly nodeId: string
  readonly storeUuid: string
  /**
   * Oldest first: the last configuration at or below the commit index of the recovered log, that of the founding where
   * there is none, and all above it, which may still be truncated. Older ones do not matter.
   */
  readonly configurations: readonly Configuration[]
  readonly weight: number
  /** As found on disk. */
  readonly promise: EpochPromise
  /** As recovered; all of it is durable. */
  readonly log: RecoveredLog
  readonly nowMs: number
}

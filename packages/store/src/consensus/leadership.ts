import type { StandReason } from '../election/elector.ts'
import type { Voter } from '../store-identity.ts'
import type { Campaign } from './campaign.ts'
import { type Electorate, type Peer, stepTo } from './electorate.ts'
import type { LogTail } from './log-tail.ts'
import type { AppendReply, BatchSpan } from './message.ts'
import type { PendingEffects } from './pending-effects.ts'
import { Progress } from './progress.ts'
import type { SyncPolicy } from './sync-policy.ts'

/**
 * This node as the leader of one epoch: gets its log to the others, and works out what they hold.
 *
 * Invariants:
 * - The commit index moves only to records of the own epoch (S5), held durably by a majority of the voters, each
 *   counted once (S6). Nothing is confirmed before the epoch's first batch is committed.
 * - What a member acknowledged counts until it comes back with less; the highest place it reached is remembered (S24).
 * - What is confirmed is never less than what is committed, and never falls.
 * - The voters change by one at a time, not before a record of the own epoch is committed, and not while a change is
 *   under way (S35).
 * - It dispatches only under a lease that a majority renewed, counted from the question and not from the answer, and
 *   not before every lease of an earlier leader that its electors acknowledged has run out (S9).
 *
 * Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), chapter 3 and section 6.4.1.
 */
export class Leadership {
  readonly epoch: number
  /** Why this node stood. */
  readonly electedBy: StandReason
  readonly #options: LeadershipOptions
  readonly #electorate: Electorate
  readonly #tail: LogTail
  readonly #effects: PendingEffects
  readonly #progress = new Map<string, Progress>()
  /** The epoch's first batch; `undefined` until that is sealed. */
  #epochStart: { readonly first: number; readonly last: number } | undefined
  #serving = false
  /** A change of the voters that is not sealed yet. */
  #configuring = false
  /** It is to give up in favour of a member, as soon as that one holds everything. */
  #transfer: { readonly to: string; readonly untilMs: number } | undefined
  #confirmIndex: number
  readonly #ledSinceMs: number
  readonly #dispatchFromMs: number
  #leaseBaseMs: number

  /** @param campaign - The one that was won. */
  constructor(
    options: LeadershipOptions,
    electorate: Electorate,
    tail: LogTail,
    effects: PendingEffects,
    campaign: Campaign,
    nowMs: number,
  ) {
    this.epoch = campaign.epoch
    this.electedBy = campaign.reason
    this.#options = options
    this.#electorate = electorate
    this.#tail = tail
    this.#effects = effects
    this.#confirmIndex = tail.commitIndex
    this.#ledSinceMs = nowMs
    this.#dispatchFromMs = campaign.leaseEndMs
    for (const [nodeId, peer] of electorate.peers) {
      const progress = new Progress(nodeId, peer, tail.lastIndex + 1, nowMs)
      progress.connected = true
      // Most logs agree at the end: the first batch goes out on trust, and a refusal starts the search.
      progress.mode = 'stream'
      progress.levelFrom = tail.lastIndex + 1
      this.#progress.set(nodeId, progress)
    }
    this.#leaseBaseMs = this.#answeredByMajorityMs()
  }

  get serving(): boolean {
    return this.#serving
  }
  /** The others, those included that were connected before. */
  get progress(): Iterable<Progress> {
    return this.#progress.values()
  }

  /** Whether a change of the voters is not committed yet. */
  get changing(): boolean {
    return this.#configuring || this.#electorate.configuration.index > this.#tail.commitIndex
  }
  /** The member that it is to give up for. */
  get transferringTo(): string | undefined {
    return this.#transfer?.to
  }
  /** Whether that member holds everything, and everything is committed: nobody is left in doubt. */
  get readyToHandOver(): boolean {
    const { lastIndex, commitIndex } = this.#tail
    const progress = this.#transfer && this.#progress.get(this.#transfer.to)
    return progress?.connected === true && progress.durableIndex >= lastIndex && commitIndex >= lastIndex
  }
  /** Whether it is committed that this node is no voter any more: it has to give up. */
  get dismissed(): boolean {
    return !this.#electorate.voter && !this.changing
  }

  mayDispatch(nowMs: number): boolean {
    return this.#serving && nowMs >= this.#dispatchFromMs && nowMs < this.#leaseBaseMs + this.#options.leaseMs
  }

  /** Whether a majority has been silent for so long that it may have elected another. */
  deserted(nowMs: number): boolean {
    const answered = this.#nthHighest((progress) => progress.answeredMs, nowMs, this.#electorate.quorum)
    return nowMs - Math.max(answered, this.#ledSinceMs) >= this.#options.electionTimeoutMs
  }

  tick(nowMs: number): void {
    const transfer = this.#transfer
    if (transfer !== undefined && nowMs >= transfer.untilMs)
      this.#failTransfer(`${transfer.to} did not get level in time`)
    for (const progress of this.#progress.values()) {
      if (!progress.connected) continue
      if (nowMs - progress.askedMs >= this.#options.heartbeatMs) this.#heartbeat(progress, nowMs)
      if (progress.mode === 'gone') this.#tellBehind(progress, nowMs)
    }
  }

  /** Tells everyone what is committed by now. */
  tellAll(nowMs: number): void {
    for (const progress of this.#progress.values()) if (progress.connected) this.#heartbeat(progress, nowMs)
  }

  attach(nodeId: string, peer: Peer, nowMs: number): void {
    let progress = this.#progress.get(nodeId)
    if (progress === undefined || progress.storeUuid !== peer.storeUuid) {
      progress = new Progress(nodeId, peer, this.#tail.lastIndex + 1, nowMs)
      this.#progress.set(nodeId, progress)
    }
    progress.connected = true
    progress.levelFrom = this.#tail.lastIndex
    progress.toldBehindMs = Number.NEGATIVE_INFINITY
    progress.restart('probe', this.#tail.lastIndex + 1)
    this.#heartbeat(progress, nowMs)
  }

  detach(nodeId: string): void {
    const progress = this.#progress.get(nodeId)
    if (progress !== undefined) progress.connected = false
    if (this.#transfer?.to === nodeId) this.#failTransfer(`the connection to ${nodeId} was lost`)
  }

  /** The own disk has more of the log. */
  durable(): void {
    this.#advance()
  }

  /** Why the voters may not become these now; `undefined` if they may. */
  refusesChange(voters: readonly Voter[], nowMs: number): string | undefined {
    const { configuration } = this.#electorate
    // Else a majority of the old voters could commit what one of the new voters knows nothing of: the epoch's own
    // record is what makes sure that no other change of the same voters is still about.
    if (!this.#serving) return 'no record of the own epoch is committed yet'
    if (this.changing) return 'another change is under way'
    if (this.#transfer !== undefined) return 'mastership is being handed over'
    // Whoever comes next asks the voters of then how long an earlier leader may dispatch.
    if (nowMs < this.#dispatchFromMs) return 'the lease of an earlier master has not run out'
    const step = stepTo(configuration.voters, voters)
    if (typeof step === 'string') return step
    const far = step.added.find(({ nodeId, storeUuid }) => !this.isLevel(nodeId, storeUuid))
    return far && `${far.nodeId} is not connected with this store, or is not level yet`
  }

  /**
   * Why it cannot give up in favour of a member now; `undefined` if it can.
   *
   * @param to - The voter that has most of the log, unless it is said which.
   */
  refusesTransfer(to: string | undefined): string | undefined {
    if (this.#successor(to) === undefined)
      return to === undefined ? 'no other voter is connected' : `${to} is no voter that is connected`
    if (!this.#serving) return 'mastership has only begun'
    if (this.changing) return 'the voters are being changed'
    if (this.#transfer !== undefined) return 'it is being handed over already'
    return undefined
  }

  /** Gives up in favour of a member as soon as that holds everything; in time, or not at all. */
  transfer(to: string | undefined, nowMs: number): void {
    const successor = this.#successor(to)
    if (successor === undefined) return
    this.#transfer = { to: successor.nodeId, untilMs: nowMs + this.#options.electionTimeoutMs }
  }

  #successor(to: string | undefined): Progress | undefined {
    const able = [...this.#progress.values()].filter(
      ({ nodeId, voter, connected }) => voter && connected && (to === undefined || nodeId === to),
    )
    return able.sort((left, right) => right.durableIndex - left.durableIndex)[0]
  }

  #failTransfer(reason: string): void {
    this.#transfer = undefined
    this.#effects.push({ type: 'transferFailed', reason })
  }

  changeVoters(voters: readonly Voter[]): void {
    this.#configuring = true
    this.#effects.push({ type: 'configure', epoch: this.epoch, voters })
  }

  sealed(
    firstIndex: number,
    lastIndex: number,
    bytes: Buffer,
    nowMs: number,
    voters: readonly Voter[] | undefined,
  ): void {
    const previousIndex = this.#tail.lastIndex
    if (firstIndex !== previousIndex + 1) throw new Error(`sealed ${firstIndex} behind ${previousIndex}`)
    this.#tail.append(this.epoch, firstIndex, lastIndex)
    this.#epochStart ??= { first: firstIndex, last: lastIndex }
    if (voters !== undefined) this.#configure(lastIndex, voters)
    const batches = [{ epoch: this.epoch, firstIndex, lastIndex, offset: 0, voters }]
    for (const progress of this.#progress.values()) {
      if (!progress.connected || progress.mode !== 'stream' || progress.nextIndex !== firstIndex) continue
      if (progress.flyingBytes > this.#options.maxFlyingBytes) continue
      this.#sendBatches(progress, previousIndex, batches, bytes, nowMs)
    }
    this.#advance()
  }

  fetched(to: string, fromIndex: number, batches: readonly BatchSpan[], bytes: Buffer, nowMs: number): void {
    const progress = this.#progress.get(to)
    // A reconnect in between started this member over; then another fetch, or none, is under way.
    if (progress === undefined || !progress.fetching || progress.nextIndex !== fromIndex) return
    progress.fetching = false
    const last = batches.at(-1)
    // The log may have been cut and grown anew while the disk was read: then these are not its batches any more.
    if (last === undefined || !this.#tail.holds(last.epoch, last.lastIndex)) return
    this.#sendBatches(progress, fromIndex - 1, batches, bytes, nowMs)
    this.#pull(progress)
  }

  fetchFailed(to: string, nowMs: number): void {
    const progress = this.#progress.get(to)
    if (progress?.fetching !== true) return
    progress.fetching = false
    if (progress.nextIndex < this.#tail.firstIndex) this.#loseSight(progress, nowMs)
  }

  /** The own log begins later than it did. */
  discarded(nowMs: number): void {
    for (const progress of this.#progress.values()) {
      if (progress.nextIndex < this.#tail.firstIndex) this.#loseSight(progress, nowMs)
    }
  }

  /** A member's answer in this epoch. */
  answered(from: string, message: AppendReply, nowMs: number): void {
    const progress = this.#progress.get(from)
    if (progress === undefined) return
    if (message.sentAtMs > progress.answeredMs) {
      progress.answeredMs = message.sentAtMs
      this.#leaseBaseMs = this.#answeredByMajorityMs()
    }
    if (!message.accepted) {
      this.#searchFrom(progress, message, nowMs)
      return
    }
    progress.acknowledged(message.writtenIndex, message.durableIndex, nowMs)
    if (progress.mode !== 'stream') {
      if (message.previousIndex !== progress.nextIndex - 1) return // Answers an older question.
      if (progress.mode === 'gone') this.#effects.push({ type: 'role' })
      progress.mode = 'stream'
    }
    if (progress.mode === 'stream') this.#pull(progress)
    this.#advance()
  }

  // What goes out.

  /** Goes back to the last place where the two logs may agree, epoch by epoch, and asks again. */
  #searchFrom(progress: Progress, message: AppendReply, nowMs: number): void {
    if (progress.mode === 'probe' && message.previousIndex !== progress.nextIndex - 1) return
    const own = this.#tail.endOfEpochUpTo(message.hintEpoch)
    const agreed = own.epoch === message.hintEpoch ? Math.min(own.index, message.durableIndex) : own.index
    // Who holds what it acknowledged never refuses with less.
    if (agreed < progress.acknowledgedIndex) this.#recall(progress)
    if (agreed < this.#tail.firstIndex - 1) {
      this.#loseSight(progress, nowMs)
      return
    }
    if (progress.mode === 'gone') this.#effects.push({ type: 'role' })
    progress.restart('probe', agreed + 1)
    this.#heartbeat(progress, nowMs)
  }

  /** The member came back with less than it acknowledged: it must not help to elect anyone who lacks that too (S24). */
  #recall(progress: Progress): void {
    const index = progress.acknowledgedIndex
    progress.forget()
    this.#effects.send(progress.nodeId, {
      type: 'recall',
      epoch: this.epoch,
      owed: { epoch: this.#tail.epochAt(index), index },
    })
  }

  /** What the member needs next is gone: it is asked about the beginning of what is there, until it has got so far. */
  #loseSight(progress: Progress, nowMs: number): void {
    if (progress.mode !== 'gone') this.#effects.push({ type: 'role' })
    progress.restart('gone', this.#tail.firstIndex)
    this.#tellBehind(progress, nowMs)
  }

  #tellBehind(progress: Progress, nowMs: number): void {
    if (!progress.connected || nowMs - progress.toldBehindMs < 10 * this.#options.heartbeatMs) return
    progress.toldBehindMs = nowMs
    const { firstIndex } = this.#tail
    this.#effects.send(progress.nodeId, { type: 'behind', epoch: this.epoch, firstIndex })
  }

  #heartbeat(progress: Progress, nowMs: number): void {
    progress.askedMs = nowMs
    this.#sendAppend(progress, progress.nextIndex - 1, [], empty, nowMs)
  }

  /** Has what a member lacks read from the log, as far as it may have more under way. */
  #pull(progress: Progress): void {
    if (!progress.connected || progress.fetching || progress.nextIndex > this.#tail.lastIndex) return
    if (progress.flyingBytes > this.#options.maxFlyingBytes) return
    progress.fetching = true
    this.#effects.push({
      type: 'fetch',
      to: progress.nodeId,
      fromIndex: progress.nextIndex,
      epoch: this.epoch,
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
    this.#effects.send(progress.nodeId, {
      type: 'append',
      epoch: this.epoch,
      previousIndex,
      previousEpoch: this.#tail.epochAt(previousIndex),
      commitIndex: this.#tail.commitIndex,
      commitEpoch: this.#tail.epochAt(this.#tail.commitIndex),
      sentAtMs: nowMs,
      batches,
      bytes,
    })
  }

  // Who counts.

  #configure(index: number, voters: readonly Voter[]): void {
    this.#configuring = false
    this.#electorate.append(index, voters)
    for (const progress of this.#progress.values()) {
      progress.voter = this.#electorate.counts(progress.nodeId, progress.storeUuid)
    }
    this.#leaseBaseMs = this.#answeredByMajorityMs()
    this.#effects.push({ type: 'role' })
  }

  /**
   * Whether a member has all that was there when it came. What was sealed since it gets as it can: under load a member that is no part of
   * the majority is always a little behind.
   */
  isLevel(nodeId: string, storeUuid: string): boolean {
    const progress = this.#progress.get(nodeId)
    return (
      progress?.storeUuid === storeUuid &&
      progress.connected &&
      progress.mode === 'stream' &&
      progress.durableIndex >= progress.levelFrom
    )
  }

  /** When the questions were asked that a majority has answered. A cluster of one needs nobody's leave. */
  #answeredByMajorityMs(): number {
    const { quorum } = this.#electorate
    return this.#nthHighest((progress) => progress.answeredMs, Number.POSITIVE_INFINITY, quorum)
  }

  // What is held.

  /** Moves the commit index, and what may be confirmed, as far as the acknowledgements allow. */
  #advance(): void {
    const start = this.#epochStart
    if (start === undefined) return
    const { durableIndex, commitIndex } = this.#tail
    const held = this.#nthHighest((progress) => progress.durableIndex, durableIndex, this.#electorate.quorum)
    // Records of older epochs commit only under one of ours, or a later election could drop them (Raft, figure 8).
    if (held > commitIndex && held >= start.first) {
      const { changing } = this
      this.#tail.commit(held)
      this.#electorate.committed(held)
      this.#effects.push({ type: 'commit', index: held })
      if (changing && !this.changing) this.#effects.push({ type: 'role' })
      if (!this.#serving && held >= start.last) {
        this.#serving = true
        this.#effects.push({ type: 'serving', epoch: this.epoch })
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
    if (committed) return this.#tail.commitIndex
    let index = ownDisk ? this.#tail.durableIndex : this.#tail.lastIndex
    const others = this.#electorate.quorum - (this.#electorate.voter ? 1 : 0)
    if (slaves !== 'none' && others > 0) {
      const held = this.#nthHighest(
        slaves === 'disk' ? (progress) => progress.durableIndex : (progress) => progress.writtenIndex,
        Number.NEGATIVE_INFINITY,
        others,
      )
      index = Math.min(index, held)
    }
    return Math.max(index, this.#tail.commitIndex)
  }

  /** The n-th highest value among the voters, `own` being this node's; minus infinity where fewer have one. */
  #nthHighest(value: (progress: Progress) => number, own: number, n: number): number {
    const values = this.#electorate.voter ? [own] : []
    for (const progress of this.#progress.values()) if (progress.voter) values.push(value(progress))
    values.sort((left, right) => right - left)
    return values[n - 1] ?? Number.NEGATIVE_INFINITY
  }
}

const empty: Buffer = Buffer.alloc(0)

export interface LeadershipOptions {
  readonly sync: SyncPolicy
  /** Silence after which a leader is taken for lost, and a leader gives up. */
  readonly electionTimeoutMs: number
  /** For how long a leader may dispatch after a majority answered; well below `electionTimeoutMs`. */
  readonly leaseMs: number
  readonly heartbeatMs: number
  /** Bytes that may be under way to one member, unacknowledged. */
  readonly maxFlyingBytes: number
}

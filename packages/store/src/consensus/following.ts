import type { Electorate } from './electorate.ts'
import type { LeaseMemory } from './lease-memory.ts'
import type { LogTail } from './log-tail.ts'
import type { Append, AppendReply } from './message.ts'
import type { OwnPromise } from './own-promise.ts'
import type { PendingEffects } from './pending-effects.ts'

/**
 * A member under one leader: makes its own log that of the leader, and acknowledges what has become durable.
 *
 * It lasts from the leader's first message to the loss of the leader, within one epoch, which this member has promised.
 *
 * Invariants:
 * - Only what was compared with the leader's log is acknowledged or committed, up to `#verifiedIndex`, and acknowledged
 *   as durable only what is on the own disk (S6).
 * - No acknowledgement goes out before the promise of the epoch is durable (S3).
 * - The log is never truncated at or below the commit index; a leader that would have it so is not followed (S7).
 * - Whatever is answered to the leader is noted first, since it renews the leader's lease (S9).
 */
export class Following {
  readonly leader: string
  readonly #promise: OwnPromise
  readonly #tail: LogTail
  readonly #electorate: Electorate
  readonly #leases: LeaseMemory
  readonly #effects: PendingEffects
  /** Last record known to be the leader's. */
  #verifiedIndex = 0
  #heardMs: number
  /** Of the leader's last message, to be echoed. */
  #sentAtMs = 0
  #previousIndex = 0
  /** An acknowledgement waits for the promise. */
  #due = false

  constructor(
    leader: string,
    promise: OwnPromise,
    tail: LogTail,
    electorate: Electorate,
    leases: LeaseMemory,
    effects: PendingEffects,
    nowMs: number,
  ) {
    this.leader = leader
    this.#promise = promise
    this.#tail = tail
    this.#electorate = electorate
    this.#leases = leases
    this.#effects = effects
    this.#heardMs = nowMs
  }

  /** For how long nothing was heard of the leader. */
  silentMs(nowMs: number): number {
    return nowMs - this.#heardMs
  }

  /** A message of the leader's, in its epoch. */
  receive(message: Append, nowMs: number): void {
    this.#heardMs = nowMs
    this.#sentAtMs = message.sentAtMs
    this.#previousIndex = message.previousIndex
    if (!this.#tail.holds(message.previousEpoch, message.previousIndex)) {
      if (message.previousIndex <= this.#tail.commitIndex) {
        this.#diverged(`record ${message.previousIndex} is of another epoch than the master's`)
      } else {
        this.#leases.renew(this.#promise.epoch, nowMs)
        this.#effects.send(this.leader, refusal(message, message.epoch, this.#tail))
      }
      return
    }
    this.#takeBatches(message)
    const commit = Math.min(message.commitIndex, this.#verifiedIndex)
    if (commit > this.#tail.commitIndex) {
      this.#tail.commit(commit)
      this.#electorate.committed(commit)
      this.#effects.push({ type: 'commit', index: commit })
    }
    // Batches are answered when they are on disk; a question, or what is there already, at once.
    if ((message.batches.at(-1)?.lastIndex ?? 0) <= this.#tail.durableIndex) this.acknowledge(nowMs)
  }

  /** Tells the leader what this member holds, as soon as the promise is durable. */
  acknowledge(nowMs: number): void {
    if (!this.#promise.durable) {
      this.#due = true
      return
    }
    this.#due = false
    this.#leases.renew(this.#promise.epoch, nowMs)
    this.#effects.send(this.leader, {
      type: 'appendReply',
      epoch: this.#promise.epoch,
      accepted: true,
      previousIndex: this.#previousIndex,
      durableIndex: Math.min(this.#tail.durableIndex, this.#verifiedIndex),
      writtenIndex: Math.min(this.#tail.writtenIndex, this.#verifiedIndex),
      hintEpoch: 0,
      sentAtMs: this.#sentAtMs,
    })
  }

  /** The promise is durable. */
  promised(nowMs: number): void {
    if (this.#due) this.acknowledge(nowMs)
  }

  /** Appends what is new in a message that fits on to the log, and drops what contradicts it. */
  #takeBatches(message: Append): void {
    let verified = message.previousIndex
    let at = 0
    for (const batch of message.batches) {
      if (!this.#tail.holds(batch.epoch, batch.lastIndex)) break
      verified = batch.lastIndex
      at++
    }
    const first = message.batches[at]
    if (first !== undefined) {
      if (first.firstIndex <= this.#tail.lastIndex) {
        if (first.firstIndex <= this.#tail.commitIndex) {
          this.#diverged(`the master has another record ${first.firstIndex}, which is committed here`)
          return
        }
        this.#truncate(first.firstIndex - 1)
      }
      let reconfigured = false
      for (const { epoch, firstIndex, lastIndex, voters } of message.batches.slice(at)) {
        this.#tail.append(epoch, firstIndex, lastIndex)
        if (voters === undefined) continue
        this.#electorate.append(lastIndex, voters)
        reconfigured = true
      }
      verified = this.#tail.lastIndex
      this.#effects.push({ type: 'append', append: message, fromBatch: at })
      if (reconfigured) this.#effects.push({ type: 'role' })
    }
    if (verified > this.#verifiedIndex) this.#verifiedIndex = verified
  }

  #truncate(index: number): void {
    this.#tail.truncate(index)
    this.#effects.push({ type: 'truncate', index })
    if (this.#electorate.truncate(index)) this.#effects.push({ type: 'role' })
  }

  #diverged(message: string): void {
    this.#effects.push({ type: 'diverged', message })
  }
}

/** The answer to an append that is too old or does not fit, with the place from which on the two logs may differ. */
export function refusal(message: Append, epoch: number, tail: LogTail): AppendReply {
  const hint = tail.endOfEpochUpTo(message.previousEpoch)
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

import { covers, type Position } from '../../src/consensus/debt.ts'
import type { Voter } from '../../src/store-identity.ts'

/** A batch as the simulation knows it: one object per sealed batch, so that equal content is the same object. */
export interface SimulatedBatch {
  readonly id: number
  readonly epoch: number
  readonly firstIndex: number
  readonly lastIndex: number
  /** The batch it was sealed behind: two logs that hold the same batch hold the same prefix. */
  readonly previous: SimulatedBatch | undefined
  /** Who votes from it on, if it holds a configuration. */
  readonly voters: readonly Voter[] | undefined
  /** The last configuration before it. */
  readonly before: SettledVoters
  /** Stores that have had it on disk, and did not lose it, one bit each. */
  durableOn: number
  /** Stores that lost it again. */
  lostOn: number
}

/** A configuration, and the last record of the batch that holds it; 0 for the founders. */
export interface SettledVoters {
  readonly voters: readonly Voter[]
  readonly index: number
}

/** A committed record is lost that no elector knew of: what no rule can prevent. */
export class PermittedLoss extends Error {}

/** A broken rule. */
class SafetyViolation extends Error {}

/**
 * What the cluster as a whole has promised so far, and whether a node's step breaks it.
 *
 * Every log is an array of all its batches from index 1 on, so a batch has the same place in every log that holds it.
 */
export class History {
  /** The bits of these voters' stores. */
  readonly #bitsOf: (voters: readonly Voter[]) => number
  readonly #founders: SettledVoters
  readonly #sealed = new Set<number>()
  readonly #leaders = new Map<number, { readonly nodeId: string; readonly log: readonly SimulatedBatch[] }>()
  readonly #committed: { readonly batch: SimulatedBatch; readonly epoch: number }[] = []
  #confirmedIndex = 0
  #reconfigurations = 0

  constructor(founders: readonly Voter[], bitsOf: (voters: readonly Voter[]) => number) {
    this.#founders = { voters: founders, index: 0 }
    this.#bitsOf = bitsOf
  }

  get leaders(): number {
    return this.#leaders.size
  }
  get committedBatches(): number {
    return this.#committed.length
  }
  /** Changes of the voters that were committed. */
  get reconfigurations(): number {
    return this.#reconfigurations
  }
  get committedIndex(): number {
    return this.#committed.at(-1)?.batch.lastIndex ?? 0
  }
  get confirmedIndex(): number {
    return this.#confirmedIndex
  }

  /** S2: one leader per epoch. S4: it holds everything that leaders before it committed. */
  leads(nodeId: string, epoch: number, log: readonly SimulatedBatch[]): void {
    const other = this.#leaders.get(epoch)
    if (other !== undefined) fail(`S2: epoch ${epoch} is led by ${nodeId} and by ${other.nodeId}`)
    this.#leaders.set(epoch, { nodeId, log: [...log] })
    let at = this.#committed.length - 1
    // A candidate may learn late that it won, after a newer leader committed: that one is fenced, not wrong.
    while (at >= 0 && (this.#committed[at]?.epoch ?? 0) >= epoch) at--
    const last = this.#committed[at]
    if (last !== undefined && log[at] !== last.batch) {
      // Each vote was checked when it was given: who gave it knew nothing of what is missing (T7).
      if (this.#missing(log, at).some(({ lostOn }) => lostOn !== 0)) throw new PermittedLoss()
      fail(`S4: ${nodeId} leads epoch ${epoch} without committed ${describeBatch(last.batch)}`)
    }
  }

  /** What is committed up to `at` and not in a log. */
  #missing(log: readonly SimulatedBatch[], at: number): SimulatedBatch[] {
    return this.#committed
      .slice(0, at + 1)
      .flatMap(({ batch }, place) => (log[place] === batch ? [] : [batch]))
  }

  /**
   * S24: nobody votes for a log without a committed record that he holds, or knows of.
   *
   * @param known - Up to where the elector knows of records that it may not hold.
   */
  votes(
    nodeId: string,
    log: readonly SimulatedBatch[],
    known: readonly Position[],
    epoch: number,
    candidate: readonly SimulatedBatch[],
  ): void {
    for (let at = this.#committed.length - 1; at >= 0; at--) {
      const entry = this.#committed[at]
      if (entry === undefined || entry.epoch >= epoch || candidate[at] === entry.batch) continue
      const end = { epoch: entry.batch.epoch, index: entry.batch.lastIndex }
      const what =
        log[at] === entry.batch ? 'holds' : known.some((each) => covers(each, end)) ? 'knows of' : ''
      if (what !== '')
        fail(
          `S24: ${nodeId} votes in ${epoch} for a log without ${describeBatch(entry.batch)}, which it ${what}`,
        )
    }
  }

  /** Whether a log holds a committed record, of at most `commitIndex`, at or above a position. */
  holdsCommitted(log: readonly SimulatedBatch[], commitIndex: number, position: Position): boolean {
    return this.#committed.some(
      ({ batch }, at) =>
        log[at] === batch &&
        batch.firstIndex <= commitIndex &&
        covers({ epoch: batch.epoch, index: Math.min(batch.lastIndex, commitIndex) }, position),
    )
  }

  seals(batch: SimulatedBatch): void {
    const key = batch.epoch * 2 ** 26 + batch.firstIndex
    if (this.#sealed.has(key)) fail(`S6: ${describeBatch(batch)} was sealed twice`)
    this.#sealed.add(key)
  }

  /**
   * S6 and S4: what one node takes for committed, every other one does too, and a majority of the voters has had it on
   * disk, by the last configuration in the log (S35).
   *
   * @param unheardOf - Stores that lost something, without the node having heard from them since.
   */
  commits(
    nodeId: string,
    epoch: number,
    log: readonly SimulatedBatch[],
    fromIndex: number,
    index: number,
    unheardOf: number,
  ): void {
    if (index <= fromIndex) fail(`S6: the commit index of ${nodeId} went from ${fromIndex} to ${index}`)
    let at = log.length - 1
    while (at >= 0 && (log[at]?.firstIndex ?? 0) > index) at--
    if (log[at]?.lastIndex !== index) fail(`S6: ${nodeId} commits ${index}, which ends no batch of its log`)
    if (at < this.#committed.length) {
      if (this.#committed[at]?.batch !== log[at]) this.#contradiction(nodeId, at, log[at])
      return
    }
    const last = this.#committed.length - 1
    if (last >= 0 && this.#committed[last]?.batch !== log[last]) this.#contradiction(nodeId, last, log[last])
    const { voters } = this.votersOf(log)
    const bits = this.#bitsOf(voters)
    for (let next = last + 1; next <= at; next++) {
      const batch = log[next] as SimulatedBatch
      const held = bitCount((batch.durableOn | (batch.lostOn & unheardOf)) & bits)
      if (held < Math.floor(voters.length / 2) + 1) {
        fail(
          `S6: ${nodeId} commits ${describeBatch(batch)}, which ${held} of ${voters.length} voters had on disk`,
        )
      }
      for (const [leadEpoch, leader] of this.#leaders) {
        if (leadEpoch > epoch && leader.log[next] !== batch) {
          if (batch.lostOn !== 0) throw new PermittedLoss()
          fail(
            `S4: ${nodeId} commits ${describeBatch(batch)} in epoch ${epoch}, unknown to the leader of ${leadEpoch}`,
          )
        }
      }
      this.#committed.push({ batch, epoch })
      if (batch.voters !== undefined && batch.voters !== batch.before.voters) this.#reconfigurations++
    }
  }

  /** Who votes, by the last configuration in a log. */
  votersOf(log: readonly SimulatedBatch[]): SettledVoters {
    const last = log.at(-1)
    if (last === undefined) return this.#founders
    return last.voters === undefined ? last.before : { voters: last.voters, index: last.lastIndex }
  }

  /** The configurations that may be in force somewhere: the last one in a log that is committed, and those behind it. */
  votersInPlay(log: readonly SimulatedBatch[]): (readonly Voter[])[] {
    const { committedIndex } = this
    const settled = log.findLastIndex(
      (batch) => batch.voters !== undefined && batch.lastIndex <= committedIndex,
    )
    const open = log
      .slice(Math.max(settled, 0))
      .flatMap(({ voters }) => (voters === undefined ? [] : [voters]))
    return settled < 0 ? [this.#founders.voters, ...open] : open
  }

  /** S35: the voters change by one at a time, not before a record of the own epoch is committed, nor during a change. */
  reconfigures(
    nodeId: string,
    epoch: number,
    log: readonly SimulatedBatch[],
    commitIndex: number,
    next: readonly Voter[],
  ): void {
    const { voters, index } = this.votersOf(log)
    const both = voters.filter(({ storeUuid }) => next.some((each) => each.storeUuid === storeUuid)).length
    if (voters.length + next.length - 2 * both !== 1) fail(`S35: ${nodeId} changes more than one voter`)
    if (index > commitIndex) fail(`S35: ${nodeId} changes the voters during a change`)
    if (!log.some((batch) => batch.epoch === epoch && batch.lastIndex <= commitIndex))
      fail(`S35: ${nodeId} changes the voters before it committed a record of epoch ${epoch}`)
  }

  /** S14: a producer's confirm stands on what is committed. */
  confirms(nodeId: string, index: number): void {
    if (index > this.committedIndex)
      fail(`S14: ${nodeId} confirms ${index}, committed is ${this.committedIndex}`)
    if (index > this.#confirmedIndex) this.#confirmedIndex = index
  }

  /** S7: nothing at or below the commit index is dropped. */
  truncates(nodeId: string, index: number, commitIndex: number): void {
    if (index < commitIndex)
      fail(`S7: ${nodeId} truncates to ${index}, below its commit index ${commitIndex}`)
  }

  /** S8: the log of a node at rest holds everything committed. */
  rests(nodeId: string, log: readonly SimulatedBatch[]): void {
    const at = this.#committed.length - 1
    if (at >= 0 && log[at] !== this.#committed[at]?.batch)
      fail(`S8: ${nodeId} lacks committed batches at rest`)
  }

  #contradiction(nodeId: string, at: number, batch: SimulatedBatch | undefined): never {
    const committed = this.#committed[at]?.batch
    // Acknowledged by a majority, and lost by a part of it, before the leader, paused, came to know that it was committed.
    if (batch !== undefined && batch.lostOn !== 0) throw new PermittedLoss()
    fail(`S6: ${nodeId} commits ${describeBatch(batch)} where ${describeBatch(committed)} is committed`)
  }
}

export function fail(message: string): never {
  throw new SafetyViolation(message)
}

function describeBatch(batch: SimulatedBatch | undefined): string {
  return batch === undefined ? 'nothing' : `(${batch.epoch}, ${batch.firstIndex}..${batch.lastIndex})`
}

function bitCount(bits: number): number {
  let count = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++
  return count
}

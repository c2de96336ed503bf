import { covers, type Position } from '../../src/consensus/debt.ts'
import type { EpochStart } from '../../src/journal/log.ts'
import { fail, type SimulatedBatch } from './history.ts'
import type { SeededRandom } from './random.ts'

/** Something handed to the log's disk: done in order, each after its own time. */
export type LogOperation =
  | { readonly type: 'append'; readonly batches: readonly SimulatedBatch[]; validUpTo: number }
  | { readonly type: 'truncate'; readonly index: number }
  | { readonly type: 'mark'; readonly commitIndex: number }

export interface DurablePromise {
  readonly epoch: number
  readonly votedFor: string | undefined
  readonly owed: Position | undefined
}

/** One node's disk: what is durable, and what was asked for and is not yet. Promise and log are separate files. */
export class SimulatedDisk {
  promise: DurablePromise = { epoch: 0, votedFor: undefined, owed: undefined }
  readonly log: SimulatedBatch[] = []
  commitIndex = 0
  /** First record that can still be read: what is below is there only to compare logs with. */
  firstIndex = 1
  /** Rises with each crash: what was under way before is no more. */
  generation = 0
  readonly #operations: LogOperation[] = []
  /** Appends whose `durable` was not yet reported, on the platter or not. */
  #unreported: Extract<LogOperation, { type: 'append' }>[] = []
  readonly #promises: DurablePromise[] = []
  #remembered: { readonly log: readonly SimulatedBatch[]; readonly commitIndex: number } = {
    log: [],
    commitIndex: 0,
  }
  /** Of this store in `durableOn`. */
  readonly bit: number
  readonly storeUuid: string

  constructor(bit: number, storeUuid: string) {
    this.bit = bit
    this.storeUuid = storeUuid
  }

  get lastIndex(): number {
    return this.log.at(-1)?.lastIndex ?? 0
  }
  get end(): Position {
    return { epoch: this.lastEpoch, index: this.lastIndex }
  }
  get lastEpoch(): number {
    return this.log.at(-1)?.epoch ?? 0
  }
  get epochStarts(): EpochStart[] {
    const starts: EpochStart[] = []
    for (const [place, batch] of this.log.entries()) {
      // Of what is gone only the epoch of the last record is known.
      if ((this.log[place + 1]?.firstIndex ?? Number.POSITIVE_INFINITY) < this.firstIndex) continue
      if (batch.epoch !== starts.at(-1)?.epoch) starts.push({ epoch: batch.epoch, index: batch.firstIndex })
    }
    return starts
  }

  begin(operation: LogOperation): void {
    if (operation.type === 'truncate') {
      for (const earlier of this.#unreported) {
        earlier.validUpTo = Math.min(earlier.validUpTo, operation.index)
      }
    } else if (operation.type === 'append') this.#unreported.push(operation)
    this.#operations.push(operation)
  }

  /** The oldest operation under way reached the platter. */
  finish(): LogOperation {
    const operation = this.#operations.shift()
    if (operation === undefined) throw new Error('nothing under way')
    this.#apply(operation)
    return operation
  }

  /** Up to which record the append may be reported as durable; nothing if a later truncation dropped all of it. */
  report(operation: LogOperation): number | undefined {
    if (operation.type !== 'append') return undefined
    this.#unreported = this.#unreported.filter((other) => other !== operation)
    const first = operation.batches[0]
    return first !== undefined && first.firstIndex <= operation.validUpTo ? operation.validUpTo : undefined
  }

  beginPromise(promise: DurablePromise): void {
    this.#promises.push(promise)
  }

  finishPromise(): DurablePromise {
    const promise = this.#promises.shift()
    if (promise === undefined) throw new Error('no promise under way')
    this.promise = promise
    return promise
  }

  /** A copy of another log, committed up to `commitIndex`, takes the place of this one. */
  install(log: readonly SimulatedBatch[], firstIndex: number, commitIndex: number): void {
    this.log.splice(0, this.log.length, ...log)
    for (const batch of log) batch.durableOn |= this.bit
    this.firstIndex = firstIndex
    this.commitIndex = commitIndex
  }

  /** Power is lost. Of what was under way, some may have reached the platter: a prefix, of each file on its own. */
  crash(random: SeededRandom, keptUnsynced: number): void {
    while (this.#operations.length > 0 && random.chance(keptUnsynced)) this.finish()
    while (this.#promises.length > 0 && random.chance(keptUnsynced)) this.finishPromise()
    this.#operations.length = 0
    this.#promises.length = 0
    this.#unreported = []
    this.generation++
  }

  /** An older copy of the log, to come back to. */
  remember(): void {
    this.#remembered = { log: [...this.log], commitIndex: this.commitIndex }
  }

  /**
   * Something is lost that was durable.
   *
   * @returns Whether there was something to lose.
   */
  forget(random: SeededRandom, how: 'lies' | 'rollbacks' | 'damages'): boolean {
    const { end } = this
    const back = how === 'damages' ? 1 + random.below(2) : 1 + random.below(random.pick([2, 10, 1000]))
    let left = how === 'rollbacks' ? this.#remembered.log : this.log.slice(0, -back)
    // Nothing comes back that the beginning of the log is above, and what is gone at its front stays so.
    const gone = this.log.findLastIndex((batch) => batch.lastIndex < this.firstIndex)
    if (left.length <= gone || left[gone] !== this.log[gone]) left = this.log.slice(0, gone + 1)
    const lost = this.log.filter((batch, place) => left[place] !== batch)
    if (lost.length === 0) return false
    for (const batch of lost) {
      batch.durableOn &= ~this.bit
      batch.lostOn |= this.bit
    }
    for (const batch of left) batch.durableOn |= this.bit
    this.log.splice(0, this.log.length, ...left)
    const { commitIndex } = how === 'rollbacks' ? this.#remembered : this
    this.commitIndex = Math.min(commitIndex, this.lastIndex)
    if (how === 'damages' && (this.promise.owed === undefined || !covers(this.promise.owed, end)))
      this.promise = { ...this.promise, owed: end }
    return true
  }

  #apply(operation: LogOperation): void {
    if (operation.type === 'truncate') {
      while (this.lastIndex > operation.index) this.log.pop()
    } else if (operation.type === 'mark') {
      this.commitIndex = operation.commitIndex
    } else {
      for (const batch of operation.batches) {
        if (batch.previous !== this.log.at(-1))
          fail(`S8: batch at ${batch.firstIndex} is behind another on disk`)
        batch.durableOn |= this.bit
        this.log.push(batch)
      }
    }
  }
}

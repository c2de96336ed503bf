import type { Statement } from './message-index.ts'

/** Something that records state: a queue, a producer, the configuration. */
export interface Stated {
  /** Index of the record that last stated it; 0 if none has yet. */
  statedAt: number
  statement(): Statement
}

/**
 * Everything that is stated in the log, in the order of the last statements.
 *
 * Invariant: `statedAt` rises along the order, since each new statement is the last of all.
 */
export class Statements {
  readonly #order = new Set<Stated>()

  /** Where the oldest of the last statements is. */
  get oldest(): number | undefined {
    for (const { statedAt } of this.#order) return statedAt
    return undefined
  }

  /** Record `index`, above all before, states `thing`. */
  state(thing: Stated, index: number): void {
    thing.statedAt = index
    this.#order.delete(thing)
    this.#order.add(thing)
  }

  forget(thing: Stated): void {
    this.#order.delete(thing)
  }

  below(index: number, limit: number): Statement[] {
    const statements: Statement[] = []
    for (const thing of this.#order) {
      if (thing.statedAt >= index || statements.length >= limit) break
      statements.push(thing.statement())
    }
    return statements
  }

  /** Begins with things whose `statedAt` is known, in any order. */
  restore(things: readonly Stated[]): void {
    for (const thing of [...things].sort((one, other) => one.statedAt - other.statedAt))
      this.#order.add(thing)
  }
}

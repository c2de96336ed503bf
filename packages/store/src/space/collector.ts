import type { Log } from '../journal/log.ts'
import type { MessageIndex, Retained } from '../message-index/message-index.ts'

/**
 * Deletes the segments at the beginning of the journal that hold nothing which is still needed.
 *
 * Each node does this for itself, whatever its role: what is needed follows from the index, and that from the log.
 *
 * Invariants (rule S34):
 * - A segment goes only if a durable checkpoint says that nothing in it is needed, and only after another checkpoint
 *   has become durable since.
 * - The log never begins where the index says that it must not ({@link Retained}).
 * - Nothing goes that is pinned: what an attached member, or a transfer under way, still has to get.
 */
export class Collector {
  readonly #log: Log
  readonly #index: MessageIndex
  readonly #pinnedFrom: () => number
  readonly #checkpointWanted: () => void
  readonly #failed: (error: Error) => void
  /** Everything below was no longer needed as of the checkpoint before. */
  #marked = 0
  #discarding: Promise<void> | undefined

  constructor(parts: {
    readonly log: Log
    readonly index: MessageIndex
    /** Lowest record index that someone else still has to get from here; plus infinity if nobody. */
    readonly pinnedFrom: () => number
    readonly checkpointWanted: () => void
    readonly failed: (error: Error) => void
  }) {
    this.#log = parts.log
    this.#index = parts.index
    this.#pinnedFrom = parts.pinnedFrom
    this.#checkpointWanted = parts.checkpointWanted
    this.#failed = parts.failed
  }

  /** A checkpoint of the index has become durable. */
  checkpointed(): void {
    const { position, neededFrom, strayAt } = this.#index.retained
    const below = Math.min(this.#marked, neededFrom, this.#pinnedFrom())
    this.#marked = neededFrom
    if (this.#discarding !== undefined) return
    if (!this.#frees(below, strayAt)) {
      this.#wantMore()
      return
    }
    this.#discarding = this.#log
      .discardBelow(below, position)
      .catch(this.#failed)
      .finally(() => {
        this.#discarding = undefined
        this.#wantMore()
      })
  }

  /** Resolves once nothing is being deleted. */
  async settled(): Promise<void> {
    await this.#discarding
  }

  /** Where the log would begin; see {@link Retained}. */
  #beginBelow(below: number): number {
    const segments = this.#log.segments()
    return (segments.find(({ lastIndex }) => lastIndex >= below) ?? segments.at(-1))?.firstIndex ?? 0
  }

  /** If another checkpoint lets a segment go, there is reason not to wait long for it. */
  #wantMore(): void {
    if (this.#frees(Math.min(this.#marked, this.#pinnedFrom()), this.#index.retained.strayAt))
      this.#checkpointWanted()
  }

  #frees(below: number, strayAt: number): boolean {
    const [first, second] = this.#log.segments()
    if (first === undefined || second === undefined || first.lastIndex >= below) return false
    return this.#beginBelow(below) > strayAt
  }
}

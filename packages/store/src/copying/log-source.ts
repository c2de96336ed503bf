import { batchesUpTo } from '../journal/batch-run.ts'
import type { Log, LogStart } from '../journal/log.ts'

/** What a member that copies this node's log gets next. */
export interface LogPiece {
  readonly start: LogStart
  /** Whole batches; empty if nothing committed comes behind what the copy has. */
  readonly batches: Buffer
}

/** A member that asked for nothing for so long is no longer waited for. */
const pinMs = 30_000
/** Most bytes of log that are kept for the sake of copies. */
const maxPinnedBytes: number = 2 * 1024 * 1024 * 1024

/**
 * Gives the committed log to members that copy it, and keeps what they still need from being deleted meanwhile (rule S33).
 *
 * Invariants:
 * - Only committed records are given, so whoever gives them, the copy is part of every later master's log.
 * - A copy keeps log from being deleted for a bounded time without progress, and up to a bounded size. One that comes too late after
 *   that begins anew, from where the log begins then.
 */
export class LogSource {
  readonly #log: Log
  readonly #commitIndex: () => number
  /** By member. */
  readonly #copies = new Map<string, { readonly nextIndex: number; readonly askedMs: number }>()

  constructor(log: Log, commitIndex: () => number) {
    this.#log = log
    this.#commitIndex = commitIndex
  }

  /**
   * @param fromIndex - First record that the copy lacks; 0 for a copy that has nothing yet.
   * @throws StoreError `STORE_LOG_GONE` if this log begins behind it.
   */
  async give(to: string, fromIndex: number, maxBytes: number, nowMs: number): Promise<LogPiece> {
    const { start } = this.#log
    const nextIndex = fromIndex === 0 ? start.firstIndex : fromIndex
    const commitIndex = this.#commitIndex()
    if (nextIndex > commitIndex) {
      this.#copies.delete(to)
      return { start, batches: empty }
    }
    this.#copies.set(to, { nextIndex, askedMs: nowMs })
    return { start, batches: batchesUpTo(await this.#log.read(nextIndex, maxBytes), commitIndex) }
  }

  /** The copy is whole, or given up. */
  release(to: string): void {
    this.#copies.delete(to)
  }

  /** Lowest record that a copy still needs; plus infinity if there is none. */
  pinnedFrom(nowMs: number): number {
    let pinned = Number.POSITIVE_INFINITY
    for (const [to, { nextIndex, askedMs }] of this.#copies) {
      if (nowMs - askedMs > pinMs || this.#bytesFrom(nextIndex) > maxPinnedBytes) this.#copies.delete(to)
      else pinned = Math.min(pinned, nextIndex)
    }
    return pinned
  }

  #bytesFrom(index: number): number {
    let bytes = 0
    for (const segment of this.#log.segments()) if (segment.lastIndex >= index) bytes += segment.bytes
    return bytes
  }
}

const empty: Buffer = Buffer.alloc(0)

import type { Log } from '../journal/log.ts'
import type { MessageIndex } from '../message-index/message-index.ts'
import { Cleaner, type CleanerHost } from './cleaner.ts'
import { Collector } from './collector.ts'

export interface JournalSpaceParts {
  readonly log: Log
  readonly index: MessageIndex
  /** Bytes of journal per live byte above which a master states anew what lives in the oldest segment; 0 for never. */
  readonly ratio: number
  /** Lowest record index that someone else still has to get from here; plus infinity if nobody. */
  readonly pinnedFrom: () => number
  /** Another checkpoint would let a segment go. */
  readonly checkpointWanted: () => void
  readonly failed: (error: Error) => void
}

const lookEveryMs = 20

/** Keeps the journal in proportion to what lives in it: deletes what no longer does, and as master moves what stands in the way. */
export class JournalSpace {
  readonly #parts: JournalSpaceParts
  readonly #collector: Collector
  #cleaner: Cleaner | undefined
  #lookedMs = Number.NEGATIVE_INFINITY
  /** First record of the segment that was being written. */
  #written = 0

  constructor(parts: JournalSpaceParts) {
    this.#parts = parts
    this.#collector = new Collector(parts)
  }

  promoted(host: CleanerHost): void {
    const { log, index, ratio, failed } = this.#parts
    this.#cleaner = new Cleaner({ log, index, host, ratio, failed })
    this.#cleaner.consider()
  }

  demoted(): void {
    this.#cleaner?.stop()
    this.#cleaner = undefined
  }

  /** Time passed: a segment that has been sealed since is reason for a checkpoint, or what is dead in it would wait for the next. */
  tick(nowMs: number): void {
    if (nowMs - this.#lookedMs < lookEveryMs) return
    this.#lookedMs = nowMs
    const { firstIndex } = this.#parts.log.segments().at(-1) ?? { firstIndex: 0 }
    if (firstIndex === this.#written) return
    const sealed = this.#written !== 0
    this.#written = firstIndex
    if (sealed) this.#parts.checkpointWanted()
  }

  applied(index: number): void {
    this.#cleaner?.applied(index)
  }

  /** A checkpoint of the index has become durable. */
  checkpointed(): void {
    this.#collector.checkpointed()
    this.#cleaner?.consider()
  }

  async close(): Promise<void> {
    this.demoted()
    await this.#collector.settled()
  }
}

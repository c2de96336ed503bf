import { StoreError } from '../errors.ts'
import { batchHeaderBytes, decodeBatchHeader } from '../journal/batch.ts'
import { batchesUpTo } from '../journal/batch-run.ts'
import type { Log, SegmentExtent } from '../journal/log.ts'
import { readRecords } from '../journal/record.ts'
import { type MessageIndex, recordsPerBucket } from '../message-index/message-index.ts'
import { EnvelopeCollector, type StoredEnvelope } from './envelope-collector.ts'
import type { Restatement } from './restatement.ts'

/** What a cleaner needs of the mastership it works for. */
export interface CleanerHost {
  /** Index that the next record gets. */
  nextIndex(): number
  /** Begins to watch what happens to things that are to be stated anew. */
  restate(): Restatement
  /** Writes the configuration in force again; false while it is being changed. */
  restateConfiguration(): boolean
}

/** Read and restated at a time; then producers have their turn. */
const roundBytes: number = 1024 * 1024
const statementsPerRound = 1000
/** Of a record, and its part of a batch's header and marks, about. */
const overheadBytes = 64

/**
 * Keeps the journal of a master small: states anew, at the end of the log, what is still needed of its oldest segment, so that every
 * node can delete that segment. Without it one forgotten message would keep all of the log behind it.
 *
 * It works when the sealed segments from the first needed one on hold more than `ratio` times what lives in them.
 *
 * Invariants:
 * - A record that states a thing anew says the whole truth about it as of its own place in the log: whatever was appended about the
 *   thing since the cleaner read it takes it out of the round (`Restatement`).
 * - A sweep goes as far as the log was sealed when it began, and begins only when clients have appended as much as the one before: so
 *   what is written is at most doubled.
 * - It ends with its mastership.
 */
export class Cleaner {
  readonly #log: Log
  readonly #index: MessageIndex
  readonly #host: CleanerHost
  readonly #ratio: number
  readonly #failed: (error: Error) => void
  /** Records up to here were gone through. */
  #cleanedTo = 0
  /** What the last sweep wrote, about, and where the log ended then. */
  #ownBytes = 0
  #sweptTo: SegmentExtent | undefined
  /** Last record that was appended for it: what it did shows in checkpoints that hold this one. */
  #restatedAt = 0
  #running = false
  #stopped = false
  #waiting: { readonly index: number; readonly go: () => void } | undefined

  constructor(parts: {
    readonly log: Log
    readonly index: MessageIndex
    readonly host: CleanerHost
    /** Bytes of journal per live byte above which it works; 0 for never. */
    readonly ratio: number
    readonly failed: (error: Error) => void
  }) {
    this.#log = parts.log
    this.#index = parts.index
    this.#host = parts.host
    this.#ratio = parts.ratio
    this.#failed = parts.failed
  }

  /** The mastership is over. */
  stop(): void {
    this.#stopped = true
    this.#waiting?.go()
  }

  /** A checkpoint has become durable: there may be something to do. */
  consider(): void {
    if (this.#running || this.#stopped || this.#ratio === 0) return
    this.#running = true
    this.#clean()
      .catch((error: Error) => {
        // A segment that went while it was read, or the end of the mastership.
        const expected =
          error instanceof StoreError &&
          (error.code === 'STORE_LOG_GONE' || error.code === 'STORE_NOT_MASTER')
        if (!this.#stopped && !expected) this.#failed(error)
      })
      .finally(() => {
        this.#running = false
      })
  }

  /** Records up to `index` are applied. */
  applied(index: number): void {
    if (this.#waiting !== undefined && index >= this.#waiting.index) this.#waiting.go()
  }

  async #clean(): Promise<void> {
    // What a sweep writes is sealed in its turn: without this, one could be the reason for the next for ever.
    if (this.#grown() < this.#ownBytes) return
    const sealed = this.#log.segments().at(-2)
    let segment = this.#nextSegment()
    if (segment === undefined || sealed === undefined) return
    this.#ownBytes = 0
    for (; segment !== undefined && segment.firstIndex <= sealed.firstIndex; segment = this.#nextSegment()) {
      await this.#messages(segment.firstIndex, segment.lastIndex)
      await this.#statements(segment.lastIndex + 1)
      if (this.#stopped) return
      this.#cleanedTo = segment.lastIndex
    }
    this.#sweptTo = this.#log.segments().at(-1)
  }

  /** The oldest segment with something to be stated anew, if the journal is too large for what lives in it. */
  #nextSegment(): { readonly firstIndex: number; readonly lastIndex: number } | undefined {
    const { position, neededFrom } = this.#index.retained
    // Things that were changed while they were looked at stayed behind.
    // What is needed is known by buckets: only a whole one tells that.
    if (position >= this.#restatedAt && neededFrom + recordsPerBucket <= this.#cleanedTo)
      this.#cleanedTo = neededFrom - 1
    const from = Math.max(neededFrom, this.#cleanedTo + 1)
    const sealed = this.#log
      .segments()
      .slice(0, -1)
      .filter(({ lastIndex }) => lastIndex >= from && lastIndex <= position)
    const [first] = sealed
    const last = sealed.at(-1)
    if (first === undefined || last === undefined) return undefined
    const bytes = sealed.reduce((sum, segment) => sum + segment.bytes, 0)
    const live = this.#index.liveBytes(first.firstIndex, last.lastIndex)
    if (bytes <= live * this.#ratio + first.bytes / 4) return undefined
    // Short of space, only what frees much more than it takes.
    const short = this.#log.space === 'low'
    if (short && this.#index.liveBytes(first.firstIndex, first.lastIndex) > first.bytes / 4) return undefined
    return first
  }

  /** Bytes appended since the last sweep ended, less what went with the deletion of its last segment. */
  #grown(): number {
    const end = this.#sweptTo
    if (end === undefined) return Number.POSITIVE_INFINITY
    let bytes = 0
    for (const segment of this.#log.segments()) {
      if (segment.firstIndex > end.firstIndex) bytes += segment.bytes
      else if (segment.firstIndex === end.firstIndex) bytes += segment.bytes - end.bytes
    }
    return bytes
  }

  async #messages(fromIndex: number, lastIndex: number): Promise<void> {
    for (let next = fromIndex; next <= lastIndex && !this.#stopped; ) {
      const collector = new EnvelopeCollector()
      const bytes = batchesUpTo(await this.#log.read(next, roundBytes), lastIndex)
      for (let at = 0; at < bytes.length; ) {
        const header = decodeBatchHeader(bytes, at)
        if (typeof header === 'string') throw new Error(`a verified batch has a wrong ${header}`)
        const { firstIndex, count, payloadBytes } = header
        readRecords(bytes, at + batchHeaderBytes, payloadBytes, firstIndex, count, collector)
        next = firstIndex + count
        at += batchHeaderBytes + payloadBytes
      }
      await this.#keepMessages(collector.envelopes)
    }
  }

  async #keepMessages(envelopes: ReadonlyMap<number, readonly StoredEnvelope[]>): Promise<void> {
    const live = new Map<number, StoredEnvelope[]>()
    for (const [queue, stored] of envelopes) {
      const here = await this.#stillHere(queue, stored)
      if (this.#stopped) return
      if (here.length > 0) live.set(queue, here)
    }
    if (live.size === 0) return
    const restatement = this.#host.restate()
    try {
      for (const [queue, stored] of live)
        for (const { index } of stored) restatement.watchMessage(queue, index)
      // What was appended before the watch began shows in the index once that is applied.
      await this.#appliedTo(this.#host.nextIndex() - 1)
      for (const [queue, stored] of live) {
        const located = await this.#index.locate(
          queue,
          stored.map(({ index }) => index),
        )
        if (this.#stopped) return
        for (const [place, { index, location, envelope }] of stored.entries()) {
          const found = located[place]
          if (found?.location !== location) continue
          const at = restatement.keepMessage(queue, index, found.redeliveryCount, envelope)
          this.#wrote(at, envelope.length)
        }
      }
    } finally {
      restatement.end()
    }
    await this.#appliedTo(this.#restatedAt)
  }

  /** Those of the messages whose place in the log is still the one that was read. */
  async #stillHere(queue: number, stored: readonly StoredEnvelope[]): Promise<StoredEnvelope[]> {
    const located = await this.#index.locate(
      queue,
      stored.map(({ index }) => index),
    )
    return stored.filter(({ location }, place) => located[place]?.location === location)
  }

  async #statements(below: number): Promise<void> {
    for (;;) {
      const statements = this.#index.statedBelow(below, statementsPerRound)
      if (statements.length === 0 || this.#stopped) return
      const restatement = this.#host.restate()
      try {
        for (const statement of statements)
          if (statement.kind === 'queue') restatement.watchQueue(statement.id)
        await this.#appliedTo(this.#host.nextIndex() - 1)
        if (this.#stopped) return
        for (const statement of statements) {
          if (statement.kind === 'configuration') {
            if (!this.#host.restateConfiguration()) return
            this.#wrote(this.#host.nextIndex() - 1, statement.json.length)
          } else {
            const bytes = statement.kind === 'producer' ? statement.window.length : 0
            this.#wrote(restatement.keep(statement), bytes + statement.name.length)
          }
        }
      } finally {
        restatement.end()
      }
      await this.#appliedTo(this.#restatedAt)
    }
  }

  /** @param index - Of the record; 0 for none. */
  #wrote(index: number, bytes: number): void {
    if (index === 0) return
    this.#restatedAt = Math.max(this.#restatedAt, index)
    this.#ownBytes += bytes + overheadBytes
  }

  /** Also resolves when the mastership ends. */
  async #appliedTo(index: number): Promise<void> {
    if (this.#stopped || this.#index.appliedIndex >= index) return
    await new Promise<void>((go) => {
      this.#waiting = { index, go }
    })
    this.#waiting = undefined
  }
}

import type { Damage } from './damage.ts'

/**
 * The journal's contract: what the replica needs of the log on its own disk.
 *
 * Operations are carried out in the order of their calls. `append` may be called again before an earlier one is on
 * disk: everything waiting then goes out as one write and one sync.
 */
export interface Log {
  /** Where the log begins. */
  readonly start: LogStart
  /** First index that can be read, or `lastIndex + 1` of an empty log. */
  readonly firstIndex: number
  /** Last record appended (not: durable); 0 for an empty log. */
  readonly lastIndex: number
  readonly lastEpoch: number
  /** Checksum of the last batch appended, 0 for an empty log: `previousChecksum` of the next. */
  readonly lastChecksum: number
  /** Log time of the last batch appended. */
  readonly lastTimeMs: number
  /** Last record that is durable. */
  readonly durableIndex: number
  /** Appended bytes that are not yet durable. */
  readonly pendingBytes: number

  /**
   * Appends whole sealed batches that follow the last one; the caller has checked them. The bytes are kept, unchanged
   * and uncopied, until they are written.
   *
   * @param bytes - One or more batches, end to end.
   */
  append(bytes: Buffer, firstIndex: number, lastIndex: number): void
  /**
   * Drops everything above `index`, which is the last record of a batch, or 0. Seen at once by the fields above.
   * A log that begins later is never truncated to nothing.
   *
   * What is committed is never dropped, so the log remembers the ends of batches only from the highest commit index
   * on that a header in it names: nobody has to tell it what is committed.
   *
   * @throws RangeError if `index` lies below that, or inside a batch.
   */
  truncate(index: number): void
  /**
   * Whole batches from the one that begins at `fromIndex` on, as many as fit into `maxBytes`, but at least one;
   * empty if `fromIndex` is above the last record. Checksums have been verified. If `fromIndex` lies inside a batch,
   * the first one is the batch that holds it. The bytes may be those that were appended: do not change them.
   *
   * @throws StoreError `STORE_LOG_GONE` if `fromIndex` is below `firstIndex`, `STORE_CORRUPT`.
   */
  read(fromIndex: number, maxBytes: number): Promise<Buffer>
  /** The whole batch that holds record `index`. @throws StoreError as for {@link Log.read}. */
  batchWith(index: number): Promise<Buffer>
  /** The files that hold the log, in order. */
  segments(): readonly SegmentExtent[]
  /**
   * Removes the segments that lie wholly below `index`, but never the last one. That the log begins later is durable
   * before the first of them goes; readers of what goes get `STORE_LOG_GONE`, or finish. Never waits for an append.
   * If there is no space to note the beginning, nothing goes: it is to be tried again.
   *
   * @param replayTo - Folding what is left of the log up to here gives what folding all of it gave: at least
   *   `index - 1`, committed and durable.
   * @throws RangeError if it is not.
   */
  discardBelow(index: number, replayTo: number): Promise<void>
  /** `low`: the disk is full. There is room for a while, for what frees space; when that is used up, appends wait. */
  readonly space: 'enough' | 'low'
  /** The lowest records that are known to be damaged. */
  readonly damage: Damage | undefined
  /**
   * Puts batches in the place of damaged ones, as many as there are of those, or fewer: the first ones. They are
   * checked against what stands before and behind, so it does not matter who gave them.
   *
   * @param batches - Whole batches, end to end, from record `damage.fromIndex` on.
   * @returns What is to be repaired next: the rest of it, something else, or nothing.
   * @throws RangeError (as a rejection) if they do not belong there. StoreError `STORE_DISK_FAILED`.
   */
  repair(damage: Damage, batches: Buffer): Promise<Damage | undefined>
  /** Resolves once everything appended so far is durable, or given up as it waits for space: nobody was told of it. */
  close(): Promise<void>
}

/** Where a log begins, if not with record 1: what lay below has been discarded, here or where it was copied from. */
export interface LogStart {
  /** Index of the first record. */
  readonly firstIndex: number
  /**
   * Folding the log from `firstIndex` up to here, or further, gives exactly the state that folding all of it from
   * record 1 would have given. Before that the fold means nothing.
   */
  readonly replayTo: number
  /** From the epoch of record `firstIndex - 1` on, up to `firstIndex`, in order. */
  readonly epochStarts: readonly EpochStart[]
}

/** One file of the log. */
export interface SegmentExtent {
  readonly firstIndex: number
  readonly lastIndex: number
  /** Size of the file; of the last one, what is used of it. */
  readonly bytes: number
}

/** What a journal tells its owner. */
export interface LogListener {
  /** Bytes up to `index` were handed to the operating system; not durable yet. */
  written(index: number): void
  /** Records up to `index` are durable. Not called for records that a later `truncate` dropped. */
  durable(index: number): void
  /**
   * Records that were durable are damaged, as a read or the scrubber found: reads of them are rejected with
   * `STORE_CORRUPT` until they have been repaired. Called once for each damaged place.
   */
  damaged(damage: Damage): void
  /** The space that there is has changed: see {@link Log.space}. */
  spaceChanged(space: 'enough' | 'low'): void
  /** A write, sync or close failed. Nothing more is reported; the process has to end (rule S29). */
  failed(error: Error): void
}

/** Where an epoch begins in the log: the first record that its master sealed. */
export interface EpochStart {
  readonly epoch: number
  readonly index: number
}

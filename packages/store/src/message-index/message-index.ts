import type { EpochStart } from '../journal/log.ts'
import type { MessageEntry, QueueInfo } from '../message-store.ts'

/**
 * The fold of the committed log: which messages live in which queue, what was seen of each producer, and who votes.
 *
 * Invariants:
 * - It holds committed records only, each applied once and in order; so truncating the log never touches it.
 * - It can be deleted: replaying the log gives the same content, also if the log no longer begins with record 1, as
 *   long as nothing was deleted that {@link MessageIndex.retained} asks for.
 * - `apply` changes memory only. A checkpoint writes everything applied so far as one atomic LevelDB batch, together
 *   with the applied position; a message added and removed between two checkpoints never reaches LevelDB.
 * - What is in a checkpoint is on the own journal's disk: the caller never has more than that applied and flushed.
 */
export interface MessageIndex {
  /** Last record applied; 0 for none. */
  readonly appliedIndex: number
  /** Epoch starts at or below `appliedIndex`, rising; of a rebuilt index, from the beginning of its log on. */
  readonly epochStarts: readonly EpochStart[]
  /** The last configuration record applied, with its index. */
  readonly configuration: { readonly index: number; readonly json: string } | undefined

  /**
   * Applies committed batches that follow on from `appliedIndex`.
   *
   * @param bytes - One or more whole, verified batches, end to end. Not kept.
   * @throws RecordFault if a record has an unknown kind, or adds to a queue that does not exist: the caller has to
   *   stop. Removals and redelivery counts of a queue that was removed change nothing: a consumer's late
   *   acknowledgement may follow the removal.
   */
  apply(bytes: Buffer): void

  /** All queues, in the order of their creation. */
  queues(): QueueInfo[]
  queueNamed(name: string): QueueInfo | undefined
  /** Messages of `queue` with an index above `after`, in order; fewer than `limit` only if there are no more. */
  page(queue: number, after: number, limit: number): Promise<MessageEntry[]>

  /** Id under which a producer is registered. */
  producerNamed(id: string): number | undefined
  /** Whether a producer is registered under this id, and not forgotten. */
  hasProducer(producer: number): boolean
  /** Sequences seen of a registered producer, for the master to continue from; a copy. */
  producerWindow(producer: number): SequenceWindow | undefined

  /** As of the last durable checkpoint. */
  readonly retained: Retained
  /**
   * About how many bytes the records in [`from`, `to`] have whose message lives and is located there, as of the last
   * checkpoint. Counted by buckets of {@link recordsPerBucket}: neighbours on either side may be in it.
   */
  liveBytes(from: number, to: number): number
  /**
   * Where messages of `queue` are in the log, as of the applied position, in the order of `indices`; undefined for one
   * that does not live.
   *
   * @throws StoreError as for {@link page}.
   */
  locate(queue: number, indices: readonly number[]): Promise<(Located | undefined)[]>
  /**
   * What was last stated by a record below `index`, in the order of these records, at most `limit`; as of the applied
   * position. To be stated again before the log below `index` can go.
   */
  statedBelow(index: number, limit: number): Statement[]

  /**
   * Prepares an empty index for a log that begins with record `firstIndex`, above 1: the next batch applied is the one
   * that begins there.
   *
   * Until {@link rebuilt} the fold lacks what was below `firstIndex`, and takes it from what the log says again: queues
   * may be without a name, producers unknown, messages missing; so what is read from it means nothing yet. A database
   * that is closed before `rebuilt` is begun anew when it is opened.
   *
   * @throws TypeError if anything was applied.
   */
  rebuildFrom(firstIndex: number): void
  /**
   * Ends what {@link rebuildFrom} began, when `appliedIndex` has reached the log's `replayTo`: takes a checkpoint, from
   * which on the database is whole. To be called before any later batch is applied.
   *
   * @throws RecordFault if a queue lives that the log does not name: then the log does not begin where it may.
   * @throws StoreError as for {@link checkpoint}; may be called again after `STORE_DISK_FULL`.
   */
  rebuilt(): Promise<void>

  /** Changes in memory that are not yet in LevelDB: a measure of the overlay's size. */
  readonly pendingChanges: number
  /**
   * Writes all that is applied as one atomic batch and makes it durable. One at a time; calls meanwhile join it.
   *
   * @throws StoreError `STORE_DISK_FULL` if there was no space: nothing is lost, a later call tries again.
   */
  checkpoint(): Promise<void>
  /** Counters since open, for the status and tests. */
  readonly statistics: {
    readonly flushedEntries: number
    readonly cancelledMessages: number
    readonly checkpoints: number
  }
  /** Closes without a checkpoint. */
  close(): Promise<void>
}

/**
 * Sequences seen of one producer: all up to `highest`, except the gaps. Deterministic: it depends on the order of the
 * log alone, so that every node answers alike (rule S22).
 *
 * A number above `highest + 1` leaves a gap, which is filled when the missing ones come later: a message refused and
 * sent again behind its successors is not taken for a duplicate. The first number seen leaves none.
 * Only the newest `maxGaps` gaps are kept; numbers in a forgotten gap count as seen.
 */
export interface SequenceWindow {
  /** Whether `sequence` was seen before. */
  has(sequence: number): boolean
  add(sequence: number): void
  clone(): SequenceWindow
  /** Length of what `encode` writes. */
  readonly encodedBytes: number
  /** @returns Where the encoding ends. */
  encode(into: Buffer, at: number): number
}

/**
 * What has to be kept of the log, as of the checkpoint at `position`.
 *
 * The index can be rebuilt ({@link MessageIndex.rebuildFrom}) as of `position`, and any later record, from a log that
 * begins at `firstIndex` with `position` as its `replayTo`, if `strayAt < firstIndex <= neededFrom`. A log that begins
 * elsewhere keeps the `firstIndex` and `replayTo` that it has.
 */
export interface Retained {
  readonly position: number
  /**
   * Lowest record that is still needed: something live is located or stated there; `position + 1` if nothing is. As
   * messages are counted by buckets, it may be lower than that, but never by as much as {@link recordsPerBucket}.
   */
  readonly neededFrom: number
  /**
   * Last record that a rebuild would read otherwise, for lack of what was before: a message of a producer that is
   * forgotten, for example. 0 for none. Rare.
   */
  readonly strayAt: number
}

/** Records whose live bytes are counted as one: records 0 to 63, and so on. */
export const recordsPerBucket = 64

/** A live message in the log. */
export interface Located {
  /** Index of the record that holds its envelope: its own index, or that of the record that last kept it. */
  readonly location: number
  /** Length of the envelope. */
  readonly bytes: number
  readonly redeliveryCount: number
}

/** Something that is not a message, as the record says it that states it again. */
export type Statement =
  | { readonly kind: 'queue'; readonly id: number; readonly name: string }
  | {
      readonly kind: 'producer'
      readonly id: number
      readonly name: string
      /** Index of the last record that used it. */
      readonly lastUsed: number
      /** Encoded, as `BatchBuilder.producerKept` takes it. */
      readonly window: Buffer
    }
  | { readonly kind: 'configuration'; readonly json: string }

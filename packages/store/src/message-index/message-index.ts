import type { EpochStart } from '../journal/log.ts'
import type { MessageEntry, QueueInfo } from '../message-store.ts'

/**
 * The fold of the committed log: which messages live in which queue, what was seen of each producer, and who votes.
 *
 * Invariants:
 * - It holds committed records only, each applied once and in order; so truncating the log never touches it.
 * - It can be deleted: replaying the log from its first record gives the same content.
 * - `apply` changes memory only. A checkpoint writes everything applied so far as one atomic LevelDB batch, together
 *   with the applied position; a message added and removed between two checkpoints never reaches LevelDB.
 * - What is in a checkpoint is on the own journal's disk: the caller never has more than that applied and flushed.
 */
export interface MessageIndex {
  /** Last record applied; 0 for none. */
  readonly appliedIndex: number
  /** Epoch starts at or below `appliedIndex`, rising. */
  readonly epochStarts: readonly EpochStart[]
  /** The last configuration record applied, with its index. */
  readonly configuration: { readonly index: number; readonly json: string } | undefined

  /**
   * Applies committed batches that follow on from `appliedIndex`.
   *
   * @param bytes - One or more whole, verified batches, end to end. Not kept.
   * @throws RecordFault if a record has an unknown kind: the caller has to stop.
   */
  apply(bytes: Buffer): void

  /** All queues, in the order of their creation. */
  queues(): QueueInfo[]
  queueNamed(name: string): QueueInfo | undefined
  /** Messages of `queue` with an index above `after`, in order; fewer than `limit` only if there are no more. */
  page(queue: number, after: number, limit: number): Promise<MessageEntry[]>

  /** Id under which a producer is registered. */
  producerNamed(id: string): number | undefined
  /** Sequences seen of a registered producer, for the master to continue from; a copy. */
  producerWindow(producer: number): SequenceWindow | undefined

  /** Changes in memory that are not yet in LevelDB: a measure of the overlay's size. */
  readonly pendingChanges: number
  /** Writes all that is applied as one atomic batch and makes it durable. One at a time; calls meanwhile join it. */
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
}

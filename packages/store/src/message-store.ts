import type { StoreAdministration } from './store-administration.ts'
import type { StoreStatus } from './store-status.ts'

/** Role as ActiveMQ's users know it. */
export type Role = 'master' | 'slave' | 'electing'

/** A queue, as the log knows it. Its id is the index of the record that created it. */
export interface QueueInfo {
  readonly id: number
  readonly name: string
  /** Committed messages that are not removed. */
  readonly messageCount: number
}

/** A message in a queue, without its content. */
export interface MessageEntry {
  /** Index of the record that added it: its identity within the cluster and its place in the queue's order. */
  readonly index: number
  /** Length of the encoded envelope in bytes. */
  readonly bytes: number
  /** Deliveries that ended without acknowledgement, as far as committed. */
  readonly redeliveryCount: number
}

/**
 * The right to change the store, held by the master for one epoch.
 *
 * Each change returns the index of its record at once. It is safe, and may be confirmed, when
 * {@link StoreListener.confirmed} reports an index at or above it; it is visible, and may be dispatched, when
 * {@link StoreListener.committed} does. If `demoted` comes first, its fate is unknown: the client has to repeat it.
 *
 * After `demoted` every method throws `STORE_NOT_MASTER`. No method copies or keeps more than the bytes it was given
 * for the duration of the call: the arguments belong to the caller again when it returns.
 */
export interface MasterSession {
  /** Fencing number of this mastership; rises with each one. */
  readonly epoch: number

  /** Creates a queue; its id is the returned index. The caller sees to it that no other has this name. */
  addQueue(name: string): number

  /**
   * Registers a producer for duplicate detection, or finds it. Its id is the index of the record that first did.
   *
   * @param id - Unique over all clients and time, 1 to 512 bytes as UTF-8.
   */
  producer(id: string): number

  /**
   * Appends a message: `head` and `body` are stored one after the other as its envelope.
   *
   * @param queue - Id of the queue.
   * @param producer - Id from {@link MasterSession.producer}, or 0 for none: then nothing is taken for a duplicate.
   * @param sequence - The producer's number for this message, from 1 up, in the order of sending; 0 if `producer` is 0.
   * @returns Its index; or, if this producer's sequence is already in the log, minus the index to wait for before
   *   confirming it again (nothing is appended then).
   * @throws {@link StoreError} `STORE_RECORD_TOO_LARGE`; `STORE_FULL` while there is no space, which ends by itself once
   *   there is: everything but this method goes on meanwhile.
   */
  addMessage(queue: number, producer: number, sequence: number, head: Uint8Array, body: Uint8Array): number

  /** Removes messages from their queue, as one record. Indices must be of live messages, each given once. */
  removeMessages(queue: number, indices: readonly number[]): number

  /** Sets the redelivery count of messages of one queue, as one record. */
  countRedelivery(queue: number, indices: readonly number[], count: number): number

  /** Removes a queue and everything in it; a queue of that name added later is another one. No later change may name it. */
  removeQueue(queue: number): number

  /**
   * Whether this node may still act as master towards consumers: true under the lease that a majority renews.
   * To be asked before each batch of dispatches, again after every await.
   */
  mayDispatch(): boolean

  /** Whether the log takes more; if not, stop reading from producers until {@link StoreListener.drained}. */
  hasRoom(): boolean

  /**
   * Makes what was appended in this turn one group and starts to write it as soon as the disk is free.
   * Called by itself at the end of the turn; calling it earlier saves that wait.
   */
  flush(): void
}

/** What the store tells the broker, always in this order: promoted, then committed/confirmed/drained, then demoted. */
export interface StoreListener {
  /**
   * This node is master, and everything committed so far is applied.
   * Queues and messages as of now are read through {@link MessageStore.queues} and {@link MessageStore.page}.
   */
  promoted(session: MasterSession): void
  /** Mastership is over: close every client at once. The store goes on as a slave by itself. */
  demoted(reason: string): void
  /** As durable as `sync` asks, up to this index: confirm it. Only while master; rises. */
  confirmed(index: number): void
  /** Committed and applied up to this index: dispatch it. Only while master; rises. */
  committed(index: number): void
  /** There is room again after `hasRoom` returned false. */
  drained(): void
  /** The lease came (back): dispatching that waited for `mayDispatch` can go on. */
  leaseRenewed(): void
  /** Role, master or state changed in a way worth a look at {@link MessageStore.status}; for logs and displays. */
  changed(): void
  /** The store cannot go on (failed sync, corruption): it confirms nothing more, and the process has to end. */
  failed(error: Error): void
}

/** A store of messages that a broker mounts as its persistence adapter. */
export interface MessageStore {
  /**
   * Opens the directory, recovers, and takes part in elections.
   * @throws {@link StoreError} `STORE_CORRUPT`, `STORE_DIRECTORY_IN_USE`, `STORE_FOREIGN_DIRECTORY`,
   *   `STORE_ADDRESS_IN_USE`, `STORE_INVALID_OPTION`.
   */
  open(listener: StoreListener): Promise<void>
  /** Gives mastership up, writes a checkpoint and closes. May be called in any state, also twice. */
  close(): Promise<void>
  readonly role: Role
  status(): StoreStatus
  /** Changes of the cluster itself; `undefined` for a store that has none. Throws `STORE_CLOSED` before `open` resolved. */
  readonly administration?: StoreAdministration | undefined

  /** All queues as of the last committed index, in the order of their creation. */
  queues(): QueueInfo[]
  /**
   * Messages of a queue with an index above `after`, in order, as of the last committed index.
   * @param limit - Most entries to return, from 1 up. Fewer come only if there are no more.
   */
  page(queue: number, after: number, limit: number): Promise<MessageEntry[]>
  /**
   * Encoded envelopes of live messages of `queue`, in the order of `indices`; they may share memory: do not change them.
   * @throws {@link StoreError} `STORE_CORRUPT` if one fails its checksum; `STORE_LOG_GONE` if one no longer lives, and the
   *   log that held it is deleted.
   */
  read(queue: number, indices: readonly number[]): Promise<Buffer[]>
}

import {
  type MasterSession,
  type MessageEntry,
  type MessageStore,
  type QueueInfo,
  type Role,
  StoreError,
  type StoreListener,
  type StoreStatus,
} from '@levelmq/store'

export interface MemoryStoreOptions {
  /** `automatic`: commits at the end of each turn, and becomes master when opened. @defaultValue automatic */
  readonly commit?: 'automatic' | 'manual'
  /** Becomes master when it is opened. @defaultValue true with automatic commit */
  readonly promoteOnOpen?: boolean
  /** Longest envelope, in bytes. @defaultValue 100 MiB */
  readonly maxRecordBytes?: number
  /** Bytes of envelopes that may wait for a commit before `hasRoom` is false. @defaultValue 64 MiB */
  readonly roomBytes?: number
  readonly nodeId?: string
  /** As in `StoreHost`. */
  readonly memberInfo?: Readonly<Record<string, unknown>>
}

interface StoredMessage {
  readonly queue: StoredQueue
  readonly envelope: Buffer
  redeliveryCount: number
}

interface StoredQueue {
  readonly id: number
  readonly name: string
  /** Of all messages ever committed and not yet forgotten, rising; those before `low` are removed. */
  order: number[]
  low: number
  messageCount: number
}

interface StoredProducer {
  readonly index: number
  /** Index of each sequence that is in the log. */
  readonly sequences: Map<number, number>
}

/** A record that waits for its commit: `apply` makes it visible, `undo` forgets what was kept of it before. */
interface AppendedRecord {
  readonly bytes: number
  apply(): void
  undo(): void
}

const nothing = (): void => undefined

/**
 * A message store in memory that obeys the contract of `MessageStore` and does what a test tells it: commit now or
 * not, lose mastership, let the lease lapse, have no room. One voter, no disk; what is committed outlives mastership,
 * `close` and a new `open`.
 */
export class MemoryStore implements MessageStore {
  readonly #automatic: boolean
  readonly #promoteOnOpen: boolean
  readonly #maxRecordBytes: number
  readonly #roomBytes: number
  readonly #nodeId: string
  readonly #memberInfo: Readonly<Record<string, unknown>> | undefined
  readonly #queues = new Map<number, StoredQueue>()
  readonly #messages = new Map<number, StoredMessage>()
  readonly #producers = new Map<string, StoredProducer>()
  readonly #producersByIndex = new Map<number, StoredProducer>()
  #listener: StoreListener | undefined
  #session: MemorySession | undefined
  #opened = false
  #epoch = 0
  #last = 0
  #committed = 0
  #confirmed = 0
  #appended: AppendedRecord[] = []
  #appendedBytes = 0
  #lease = true
  #room = true
  #full = false
  #wantsRoom = false
  #commitPlanned = false
  #gate: Promise<void> | undefined
  /** Calls of `page` and `read` so far. */
  pagesRead = 0
  messagesRead = 0
  /** Records appended so far, by kind. */
  readonly appendedRecords: { messages: number; removals: number; counts: number } = {
    messages: 0,
    removals: 0,
    counts: 0,
  }

  constructor(options: MemoryStoreOptions = {}) {
    this.#automatic = options.commit !== 'manual'
    this.#promoteOnOpen = options.promoteOnOpen ?? this.#automatic
    this.#maxRecordBytes = options.maxRecordBytes ?? 100 * 1024 * 1024
    this.#roomBytes = options.roomBytes ?? 64 * 1024 * 1024
    this.#nodeId = options.nodeId ?? 'memory'
    this.#memberInfo = options.memberInfo
  }

  // The contract.

  async open(listener: StoreListener): Promise<void> {
    this.#listener = listener
    this.#opened = true
    if (this.#promoteOnOpen) {
      queueMicrotask(() => {
        if (this.#opened && this.#session === undefined) this.promote()
      })
    }
  }

  async close(): Promise<void> {
    if (!this.#opened) return
    if (this.#session !== undefined) {
      this.commit()
      this.demote('the store is closed')
    }
    this.#opened = false
  }

  get role(): Role {
    return this.#session === undefined ? 'slave' : 'master'
  }

  status(): StoreStatus {
    const master = this.#session !== undefined
    const position = { epoch: this.#epoch, index: this.#last }
    return {
      nodeId: this.#nodeId,
      storeUuid: 'memory',
      clusterUuid: 'memory',
      role: this.role,
      epoch: this.#epoch,
      position,
      commitIndex: this.#committed,
      durableIndex: this.#committed,
      elector: 'none',
      sync: 'quorum_disk',
      syncWarning: undefined,
      replicas: 1,
      quorum: { needed: 1, present: 1 },
      waitingFor: undefined,
      masterNodeId: master ? this.#nodeId : undefined,
      masterInfo: master ? this.#memberInfo : undefined,
      electionReason: master ? 'startup' : undefined,
      members: [
        {
          name: this.#nodeId,
          nodeId: this.#nodeId,
          storeUuid: 'memory',
          address: 'memory',
          role: this.role,
          voter: true,
          position,
          lag: 0,
          state: 'self',
          reason: undefined,
          lastHeardMs: 0,
        },
      ],
      zookeeper: undefined,
    }
  }

  queues(): QueueInfo[] {
    return [...this.#queues.values()].map(({ id, name, messageCount }) => ({ id, name, messageCount }))
  }

  async page(queue: number, after: number, limit: number): Promise<MessageEntry[]> {
    this.#checkOpen()
    this.pagesRead += 1
    await this.#gate
    const stored = this.#queues.get(queue)
    const entries: MessageEntry[] = []
    if (stored === undefined) return entries
    for (let place = placeAfter(stored.order, after); entries.length < limit; place++) {
      const index = stored.order[place]
      if (index === undefined) break
      const message = this.#messages.get(index)
      if (message === undefined) continue
      entries.push({ index, bytes: message.envelope.length, redeliveryCount: message.redeliveryCount })
    }
    return entries
  }

  async read(queue: number, indices: readonly number[]): Promise<Buffer[]> {
    this.#checkOpen()
    this.messagesRead += indices.length
    await this.#gate
    return indices.map((index) => {
      const message = this.#messages.get(index)
      if (message?.queue.id !== queue) {
        throw new StoreError({ code: 'STORE_LOG_GONE', index }, `message ${index} is not in queue ${queue}`)
      }
      return message.envelope
    })
  }

  // What a test can do to it.

  /** Index of the last record appended. */
  get lastIndex(): number {
    return this.#last
  }

  get commitIndex(): number {
    return this.#committed
  }

  /** Becomes master; the new epoch starts with a committed record of its own. */
  promote(): void {
    if (!this.#opened || this.#session !== undefined) throw new Error('only an open slave can be promoted')
    this.#epoch += 1
    this.#last += 1
    this.#committed = this.#last
    this.#confirmed = this.#last
    this.#session = new MemorySession(this, this.#epoch)
    this.#listener?.promoted(this.#session)
    this.#listener?.changed()
  }

  /** Loses mastership; what is not committed is gone, as if a new master had never seen it. */
  demote(reason = 'demoted by the test'): void {
    if (this.#session === undefined) return
    this.#session.end()
    this.#session = undefined
    for (const record of this.#appended.toReversed()) record.undo()
    this.#appended = []
    this.#appendedBytes = 0
    this.#last = this.#committed
    this.#wantsRoom = false
    this.#listener?.demoted(reason)
    this.#listener?.changed()
  }

  /** Commits up to `index`, or everything, and reports it as confirmed and committed. */
  commit(index: number = this.#last): void {
    this.confirm(index)
    this.commitOnly(index)
  }

  /** Reports as confirmed what is not committed yet. */
  confirm(index: number = this.#last): void {
    if (this.#session === undefined || index <= this.#confirmed) return
    this.#confirmed = index
    this.#listener?.confirmed(index)
  }

  /** Commits up to `index` without a word to those who wait for confirms. */
  commitOnly(index: number = this.#last): void {
    if (this.#session === undefined || index <= this.#committed) return
    const records = this.#appended.splice(0, index - this.#committed)
    this.#committed = index
    for (const record of records) {
      this.#appendedBytes -= record.bytes
      record.apply()
    }
    this.#listener?.committed(index)
    this.#tellRoom()
  }

  /** The lease lapses: `mayDispatch` is false until `renewLease`. */
  loseLease(): void {
    this.#lease = false
  }

  renewLease(): void {
    this.#lease = true
    if (this.#session !== undefined) this.#listener?.leaseRenewed()
  }

  /** Makes `hasRoom` false, or true again. */
  setRoom(room: boolean): void {
    this.#room = room
    this.#tellRoom()
  }

  /** The disk is full, or no longer: messages are refused while it is. */
  setFull(full: boolean): void {
    this.#full = full
  }

  /** Reads wait from now on; the returned function lets them go on. */
  holdReads(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gate = promise
    return () => {
      this.#gate = undefined
      resolve()
    }
  }

  /** The disk fails. */
  fail(error: Error): void {
    this.#listener?.failed(error)
  }

  /** Committed redelivery count of a live message. */
  redeliveryCount(index: number): number | undefined {
    return this.#messages.get(index)?.redeliveryCount
  }

  // For the session.

  /** @internal */
  addQueue(name: string): number {
    const id = this.#append(0, () => {
      this.#queues.set(id, { id, name, order: [], low: 0, messageCount: 0 })
    })
    return id
  }

  /** @internal */
  producer(id: string): number {
    const known = this.#producers.get(id)
    if (known !== undefined) return known.index
    const index = this.#append(0, nothing, () => {
      this.#producers.delete(id)
      this.#producersByIndex.delete(index)
    })
    const producer: StoredProducer = { index, sequences: new Map() }
    this.#producers.set(id, producer)
    this.#producersByIndex.set(index, producer)
    return index
  }

  /** @internal */
  addMessage(queue: number, producer: number, sequence: number, head: Uint8Array, body: Uint8Array): number {
    const bytes = head.length + body.length
    if (bytes > this.#maxRecordBytes) {
      throw new StoreError(
        { code: 'STORE_RECORD_TOO_LARGE', bytes, limit: this.#maxRecordBytes },
        `record of ${bytes} bytes: the limit is ${this.#maxRecordBytes}`,
      )
    }
    if (this.#full) throw new StoreError({ code: 'STORE_FULL', directory: 'memory' }, 'memory: no space')
    const sequences = producer === 0 ? undefined : this.#producersByIndex.get(producer)?.sequences
    const known = sequences?.get(sequence)
    if (known !== undefined) return -known
    const envelope = Buffer.allocUnsafe(bytes)
    envelope.set(head, 0)
    envelope.set(body, head.length)
    const index = this.#append(
      bytes,
      () => {
        const stored = this.#queues.get(queue)
        if (stored === undefined) throw new Error(`message for unknown queue ${queue}`)
        stored.order.push(index)
        stored.messageCount += 1
        this.#messages.set(index, { queue: stored, envelope, redeliveryCount: 0 })
      },
      sequences === undefined ? nothing : () => sequences.delete(sequence),
    )
    sequences?.set(sequence, index)
    this.appendedRecords.messages += 1
    return index
  }

  /** @internal */
  removeMessages(queue: number, indices: readonly number[]): number {
    const removed = [...indices]
    this.appendedRecords.removals += 1
    return this.#append(0, () => {
      for (const index of removed) {
        const message = this.#messages.get(index)
        if (message?.queue.id !== queue) throw new Error(`message ${index} is not in queue ${queue}`)
        this.#messages.delete(index)
        message.queue.messageCount -= 1
      }
      const stored = this.#queues.get(queue)
      if (stored !== undefined) forgetRemoved(stored, this.#messages)
    })
  }

  /** @internal */
  removeQueue(queue: number): number {
    return this.#append(0, () => {
      for (const [index, message] of this.#messages)
        if (message.queue.id === queue) this.#messages.delete(index)
      this.#queues.delete(queue)
    })
  }

  /** @internal */
  countRedelivery(queue: number, indices: readonly number[], count: number): number {
    const counted = [...indices]
    this.appendedRecords.counts += 1
    return this.#append(0, () => {
      for (const index of counted) {
        const message = this.#messages.get(index)
        if (message?.queue.id !== queue) throw new Error(`message ${index} is not in queue ${queue}`)
        message.redeliveryCount = count
      }
    })
  }

  /** @internal */
  mayDispatch(): boolean {
    return this.#lease
  }

  /** @internal */
  hasRoom(): boolean {
    const room = this.#room && this.#appendedBytes < this.#roomBytes
    if (!room) this.#wantsRoom = true
    return room
  }

  /** @internal */
  flush(): void {
    if (this.#automatic) this.#planCommit()
  }

  #append(bytes: number, apply: () => void, undo: () => void = nothing): number {
    this.#last += 1
    this.#appended.push({ bytes, apply, undo })
    this.#appendedBytes += bytes
    if (this.#automatic) this.#planCommit()
    return this.#last
  }

  #planCommit(): void {
    if (this.#commitPlanned) return
    this.#commitPlanned = true
    queueMicrotask(() => {
      this.#commitPlanned = false
      this.commit()
    })
  }

  #tellRoom(): void {
    if (!this.#wantsRoom || !this.#room || this.#appendedBytes >= this.#roomBytes) return
    this.#wantsRoom = false
    if (this.#session !== undefined) this.#listener?.drained()
  }

  #checkOpen(): void {
    if (!this.#opened) throw new StoreError({ code: 'STORE_CLOSED' }, 'the store is closed')
  }
}

/** One mastership of a {@link MemoryStore}. */
class MemorySession implements MasterSession {
  readonly epoch: number
  readonly #store: MemoryStore
  #ended = false

  constructor(store: MemoryStore, epoch: number) {
    this.#store = store
    this.epoch = epoch
  }

  end(): void {
    this.#ended = true
  }

  addQueue(name: string): number {
    return this.#live().addQueue(name)
  }

  producer(id: string): number {
    return this.#live().producer(id)
  }

  addMessage(queue: number, producer: number, sequence: number, head: Uint8Array, body: Uint8Array): number {
    return this.#live().addMessage(queue, producer, sequence, head, body)
  }

  removeMessages(queue: number, indices: readonly number[]): number {
    return this.#live().removeMessages(queue, indices)
  }

  removeQueue(queue: number): number {
    return this.#live().removeQueue(queue)
  }

  countRedelivery(queue: number, indices: readonly number[], count: number): number {
    return this.#live().countRedelivery(queue, indices, count)
  }

  mayDispatch(): boolean {
    return this.#live().mayDispatch()
  }

  hasRoom(): boolean {
    return this.#live().hasRoom()
  }

  flush(): void {
    this.#live().flush()
  }

  #live(): MemoryStore {
    if (this.#ended) throw new StoreError({ code: 'STORE_NOT_MASTER' }, 'this node is not master')
    return this.#store
  }
}

/** Where in `order` the first index above `after` is. */
function placeAfter(order: readonly number[], after: number): number {
  let low = 0
  let high = order.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((order[middle] ?? 0) <= after) low = middle + 1
    else high = middle
  }
  return low
}

/** Drops removed indices from the front of `order`, in one go once they are half of it. */
function forgetRemoved(queue: StoredQueue, live: ReadonlyMap<number, unknown>): void {
  for (;;) {
    const index = queue.order[queue.low]
    if (index === undefined || live.has(index)) break
    queue.low += 1
  }
  if (queue.low > 1024 && queue.low * 2 > queue.order.length) {
    queue.order = queue.order.slice(queue.low)
    queue.low = 0
  }
}

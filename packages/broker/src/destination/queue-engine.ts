import { type MasterSession, type MessageStore, StoreError } from '@levelmq/store'
import type { Client, Engine, EngineConnection } from '../engine.ts'
import { BrokerError } from '../errors.ts'
import { ClientConnection, type ConnectionHost } from '../subscription/client-connection.ts'
import { defaultMemoryLimits, MemoryBudget, type MemoryLimits } from './memory-budget.ts'
import { type Fetch, Queue } from './queue.ts'

/** Messages that one queue delivers before the lease is asked for again. */
const dispatchBatch = 256

/** One queue, for the management. */
export interface QueueStatus {
  readonly name: string
  /** Messages that are not acknowledged. */
  readonly size: number
  readonly consumerCount: number
  /** Messages that consumers hold. */
  readonly inFlight: number
  /** Bytes of messages held in memory. */
  readonly memoryBytes: number
}

/** What an engine tells the broker it belongs to. */
export interface QueueEngineHost {
  /** The store could not read a live message: this process must not go on as master. */
  failed(error: unknown): void
  /** A session threw; its connection was closed. */
  sessionFailed(error: unknown): void
}

/**
 * The queues of one mastership: takes the calls of sessions and the events of the store, and does at the end of each
 * turn what they ask for, in this order: append acknowledgements, dispatch, append again, flush.
 *
 * Invariants:
 * - It belongs to one `MasterSession`. After `end` nothing here touches the store or a client, whatever was under way.
 * - A message is delivered only if it is committed, and only under the lease, which is asked for before each batch.
 * - A confirmation comes from the store's `confirmed` and from nowhere else.
 */
export class QueueEngine implements Engine, ConnectionHost {
  readonly #store: MessageStore
  readonly #session: MasterSession
  readonly #host: QueueEngineHost
  readonly #budget: MemoryBudget
  readonly #queues = new Map<string, Queue>()
  readonly #connections = new Map<Client, ClientConnection>()
  /** Queues with messages that were not committed when they were appended. */
  readonly #uncommitted = new Set<Queue>()
  readonly #toSettle = new Set<Queue>()
  readonly #toDispatch = new Set<Queue>()
  readonly #toConfirm = new Set<ClientConnection>()
  readonly #wantRoom = new Set<ClientConnection>()
  /** Those who wait until a record of theirs is committed, in the order of the records. */
  #awaitingCommit: { readonly index: number; readonly settled: PromiseWithResolvers<void> }[] = []
  #toFlush: ClientConnection[] = []
  #promised: ClientConnection[] = []
  #alive = true
  #working = false
  #committed: number
  #confirmed: number
  /** Highest index known to be appended. */
  #appended: number

  constructor(
    store: MessageStore,
    session: MasterSession,
    host: QueueEngineHost,
    limits: Partial<MemoryLimits> = {},
  ) {
    this.#store = store
    this.#session = session
    this.#host = host
    this.#budget = new MemoryBudget({ ...defaultMemoryLimits, ...limits })
    const { commitIndex, position } = store.status()
    this.#committed = commitIndex
    this.#confirmed = commitIndex
    this.#appended = position.index
    for (const { id, name, messageCount } of store.queues()) {
      this.#queues.set(name, new Queue(id, name, this.#budget, messageCount, position.index))
    }
  }

  // What connectors call.

  connect(client: Client): EngineConnection {
    this.#checkAlive()
    const connection = new ClientConnection(client, this)
    this.#connections.set(client, connection)
    return connection
  }

  writableAgain(client: Client): void {
    this.#connections.get(client)?.writableAgain()
    this.work()
  }

  // What the store reports.

  committed(index: number): void {
    if (!this.#alive) return
    this.#committed = index
    for (const queue of this.#uncommitted) {
      if (queue.lastAppended <= index) this.#uncommitted.delete(queue)
      if (queue.consumerCount > 0) this.#toDispatch.add(queue)
    }
    while (this.#awaitingCommit[0] !== undefined && this.#awaitingCommit[0].index <= index)
      this.#awaitingCommit.shift()?.settled.resolve()
    this.work()
  }

  confirmed(index: number): void {
    if (!this.#alive) return
    this.#confirmed = index
    for (const connection of this.#toConfirm) {
      connection.confirm(index)
      if (!connection.waiting) this.#toConfirm.delete(connection)
    }
    this.work()
  }

  drained(): void {
    if (!this.#alive) return
    const connections = [...this.#wantRoom]
    this.#wantRoom.clear()
    for (const connection of connections) this.#guard(connection, () => connection.client.roomAgain())
    this.work()
  }

  leaseRenewed(): void {
    // What waited for the lease is still in `#toDispatch`, and what was delivered just before it lapsed in `#toFlush`.
    this.work()
  }

  /** Mastership is over: all clients are disconnected before this returns. */
  end(reason: string): void {
    if (!this.#alive) return
    this.#alive = false
    const connections = [...this.#connections.values()]
    this.#connections.clear()
    this.#forgetWork()
    for (const connection of connections) {
      connection.abandon()
      this.#guard(connection, () => connection.client.disconnect(reason))
    }
    this.#queues.clear()
  }

  /** The broker stops while it is still master: what clients hold is counted as delivered, then as `end`. */
  retire(reason: string): void {
    if (!this.#alive) return
    this.#working = true // Nobody gets anything any more.
    for (const connection of this.#connections.values()) connection.endConsumers()
    this.#settle()
    this.end(reason)
  }

  // What the management asks.

  /**
   * Deletes a queue with everything in it and disconnects whoever consumes it: a consumer that was left without its
   * queue would wait for ever. Resolves once that is committed.
   *
   * @throws BrokerError `BROKER_UNKNOWN_QUEUE`; StoreError `STORE_NOT_MASTER`.
   */
  async deleteQueue(name: string): Promise<void> {
    this.#checkAlive()
    const queue = this.#queues.get(name)
    if (queue === undefined)
      throw new BrokerError({ code: 'BROKER_UNKNOWN_QUEUE', queue: name }, `there is no queue ${name}`)
    this.#settle() // Behind the record that removes the queue none may name it.
    const index = this.#session.removeQueue(queue.id)
    this.#appended = index
    const settled = Promise.withResolvers<void>()
    this.#awaitingCommit.push({ index, settled })
    queue.delete()
    this.#queues.delete(name)
    for (const set of [this.#uncommitted, this.#toDispatch]) set.delete(queue)
    for (const connection of [...this.#connections.values()]) {
      if (!connection.consumes(queue)) continue
      connection.close()
      this.#guard(connection, () => connection.client.disconnect(`queue ${name} was deleted`))
    }
    this.#session.flush()
    await settled.promise
  }

  get clientCount(): number {
    return this.#connections.size
  }

  get queueCount(): number {
    return this.#queues.size
  }

  /** Bytes of messages that all queues hold in memory. */
  get memoryBytes(): number {
    return this.#budget.used
  }

  queues(): QueueStatus[] {
    return [...this.#queues.values()].map((queue) => ({
      name: queue.name,
      size: queue.size,
      consumerCount: queue.consumerCount,
      inFlight: queue.outstanding,
      memoryBytes: queue.memory.bytes,
    }))
  }

  // What connections ask for.

  get alive(): boolean {
    return this.#alive
  }

  get confirmedIndex(): number {
    return this.#confirmed
  }

  get nextIndex(): number {
    // The store appends records of its own, too: those are only known once they are confirmed or committed.
    return Math.max(this.#appended, this.#confirmed, this.#committed) + 1
  }

  append(name: string, head: Uint8Array, body: Uint8Array, producer: number, sequence: number): number {
    const queue = this.queue(name)
    const index = this.#addMessage(queue.id, producer, sequence, head, body)
    if (index < 0) return -index // A duplicate: it is in the log already, and confirmed with that index.
    this.#appended = index
    queue.appended(index, head, body)
    this.#uncommitted.add(queue)
    return index
  }

  producer(id: string): number {
    this.#checkAlive()
    const producer = this.#session.producer(id)
    this.#appended = Math.max(this.#appended, producer)
    return producer
  }

  queue(name: string): Queue {
    this.#checkAlive()
    const known = this.#queues.get(name)
    if (known !== undefined) return known
    const id = this.#session.addQueue(name)
    this.#appended = id
    const queue = new Queue(id, name, this.#budget, 0, 0)
    this.#queues.set(name, queue)
    return queue
  }

  hasRoom(): boolean {
    return this.#session.hasRoom()
  }

  mayDispatch(): boolean {
    return this.#session.mayDispatch()
  }

  settleLater(queue: Queue): void {
    this.#toSettle.add(queue)
    this.#toDispatch.add(queue)
  }

  dispatchLater(queue: Queue): void {
    this.#toDispatch.add(queue)
  }

  flushLater(connection: ClientConnection): void {
    connection.flushing = true
    this.#toFlush.push(connection)
  }

  confirmLater(connection: ClientConnection): void {
    this.#toConfirm.add(connection)
  }

  promised(connection: ClientConnection): void {
    this.#promised.push(connection)
  }

  wantsRoom(connection: ClientConnection): void {
    this.#wantRoom.add(connection)
  }

  forget(connection: ClientConnection): void {
    if (this.#connections.get(connection.client) === connection) this.#connections.delete(connection.client)
    this.#toConfirm.delete(connection)
    this.#wantRoom.delete(connection)
  }

  sessionFailed(connection: ClientConnection, error: unknown): void {
    this.#host.sessionFailed(error)
    // It may be in the middle of anything, this engine's own loop over its consumers included: the close only leaves
    // its messages to be settled and dispatched, which `work` does when it gets there.
    connection.close()
    this.#guard(connection, () => connection.client.disconnect('internal error'))
  }

  work(): void {
    if (this.#working || !this.#alive) return
    this.#working = true
    try {
      this.#settle()
      this.#dispatch()
      this.#settle()
      this.#flush()
    } finally {
      this.#working = false
    }
    // Output that was flushed may have ended a connection.
    if (this.#toSettle.size > 0) this.work()
  }

  // Inside.

  #addMessage(queue: number, producer: number, sequence: number, head: Uint8Array, body: Uint8Array): number {
    try {
      return this.#session.addMessage(queue, producer, sequence, head, body)
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      if (error.code === 'STORE_FULL') {
        throw new BrokerError(
          { code: 'BROKER_STORE_FULL' },
          'the broker has no space for more messages: this one is not stored. Consuming messages makes space',
          { cause: error },
        )
      }
      if (error.detail.code !== 'STORE_RECORD_TOO_LARGE') throw error
      const { bytes, limit } = error.detail
      throw new BrokerError(
        { code: 'BROKER_MESSAGE_TOO_LARGE', bytes, limit },
        `message of ${bytes} bytes: the limit is ${limit}`,
        { cause: error },
      )
    }
  }

  /** Appends acknowledgements and redelivery counts, as few records as possible. */
  #settle(): void {
    let last = 0
    for (const queue of this.#toSettle) {
      this.#toSettle.delete(queue)
      last = queue.settle(this.#session) || last
    }
    if (last !== 0) this.#appended = last
    if (this.#promised.length === 0) return
    const promised = this.#promised
    this.#promised = []
    for (const connection of promised) connection.settled(last)
  }

  #dispatch(): void {
    // A set gives what is added while it is walked, too.
    for (const queue of this.#toDispatch) {
      // Without the lease the queues stay here until `leaseRenewed`.
      if (!this.#alive || !this.#session.mayDispatch()) return
      this.#toDispatch.delete(queue)
      if (queue.dispatch(this.#committed, dispatchBatch) === dispatchBatch) this.#toDispatch.add(queue)
      this.#fetch(queue)
    }
  }

  #flush(): void {
    const connections = this.#toFlush
    if (connections.length === 0) return
    this.#toFlush = []
    for (const connection of connections) {
      connection.flushing = false
      if (this.#alive) this.#guard(connection, () => connection.client.flush())
    }
  }

  #fetch(queue: Queue): void {
    const fetch = queue.nextFetch(this.#committed)
    if (fetch === undefined) return
    if (!this.#budget.fits(this.#budget.limits.queueBytes))
      for (const idle of this.#queues.values()) idle.evict()
    void this.#perform(queue, fetch)
  }

  /** Reads from the store, and comes back to `work` unless mastership ended meanwhile. */
  async #perform(queue: Queue, fetch: Fetch): Promise<void> {
    try {
      let messages = fetch.type === 'read' ? fetch.messages : []
      if (fetch.type === 'page') {
        const entries = await this.#store.page(queue.id, fetch.after, fetch.limit)
        if (!this.#alive || queue.deleted) return
        messages = queue.paged(fetch, entries)
      }
      const indices = messages.map((message) => message.index)
      const envelopes = indices.length === 0 ? [] : await this.#store.read(queue.id, indices)
      if (!this.#alive || queue.deleted) return
      queue.fetched(messages, envelopes)
    } catch (error) {
      // What is deleted may be gone from the store in the middle of it.
      if (this.#alive && !queue.deleted) this.#host.failed(error)
      return
    }
    this.#toDispatch.add(queue)
    this.work()
  }

  #guard(connection: ClientConnection, call: () => void): void {
    try {
      call()
    } catch (error) {
      this.#host.sessionFailed(error)
      connection.close()
    }
  }

  #forgetWork(): void {
    for (const { settled } of this.#awaitingCommit) settled.reject(notMaster())
    this.#awaitingCommit = []
    this.#toSettle.clear()
    this.#toDispatch.clear()
    this.#toConfirm.clear()
    this.#uncommitted.clear()
    this.#wantRoom.clear()
    this.#toFlush = []
    this.#promised = []
  }

  #checkAlive(): void {
    if (!this.#alive) throw notMaster()
  }
}

function notMaster(): StoreError {
  return new StoreError({ code: 'STORE_NOT_MASTER' }, 'this broker is no longer master')
}

import type { MasterSession } from '@levelmq/store'
import { MemoryStore, type MemoryStoreOptions } from '@levelmq/testkit'
import type { MemoryLimits } from '../../../src/destination/memory-budget.ts'
import { QueueEngine } from '../../../src/destination/queue-engine.ts'
import type {
  AcknowledgeMode,
  Client,
  Consumer,
  Engine,
  EngineConnection,
  Receiver,
} from '../../../src/engine.ts'

export interface Delivery {
  readonly index: number
  readonly redeliveryCount: number
  readonly text: string
}

/** A client that notes what the engine tells it. */
export class TestClient implements Client, Receiver {
  writable = true
  readonly confirmations: number[] = []
  readonly deliveries: Delivery[] = []
  readonly disconnects: string[] = []
  flushes = 0
  roomCalls = 0
  readonly connection: EngineConnection
  readonly #engine: Engine

  constructor(engine: Engine) {
    this.#engine = engine
    this.connection = engine.connect(this)
  }

  get texts(): string[] {
    return this.deliveries.map(({ text }) => text)
  }

  /** Highest index reported, 0 for none. */
  get confirmedIndex(): number {
    return this.confirmations.at(-1) ?? 0
  }

  deliver(index: number, redeliveryCount: number, envelope: Buffer): void {
    this.deliveries.push({ index, redeliveryCount, text: envelope.toString() })
  }

  confirmed(index: number): void {
    this.confirmations.push(index)
  }

  flush(): void {
    this.flushes += 1
  }

  roomAgain(): void {
    this.roomCalls += 1
  }

  disconnect(reason: string): void {
    this.disconnects.push(reason)
  }

  /** Sends each text as one message, in one read. */
  send(queue: string, ...texts: string[]): number[] {
    const indices = texts.map((text) => this.put(queue, text))
    this.connection.endOfRead()
    return indices
  }

  /** Sends without ending the read. */
  put(queue: string, text: string, producer?: string, sequence = 0): number {
    return this.connection.send(
      queue,
      Buffer.from(text.slice(0, 1)),
      Buffer.from(text.slice(1)),
      producer,
      sequence,
    )
  }

  subscribe(queue: string, mode: AcknowledgeMode = 'individual', prefetch = 1000): Consumer {
    const consumer = this.connection.subscribe({ queue, mode, prefetch }, this)
    this.connection.endOfRead()
    return consumer
  }

  writableAgain(): void {
    this.writable = true
    this.#engine.writableAgain(this)
  }
}

/** An engine on a store in memory, remade with each mastership. */
export class EngineFixture {
  readonly store: MemoryStore
  readonly failures: unknown[] = []
  readonly sessionFailures: unknown[] = []
  readonly #limits: Partial<MemoryLimits>
  #engine: QueueEngine | undefined
  /** For records that the store appends by itself, past the engine. */
  session: MasterSession | undefined

  constructor(options: MemoryStoreOptions = {}, limits: Partial<MemoryLimits> = {}) {
    this.store = new MemoryStore({ commit: 'manual', ...options })
    this.#limits = limits
  }

  get engine(): QueueEngine {
    if (this.#engine === undefined) throw new Error('not master')
    return this.#engine
  }

  async open(): Promise<this> {
    await this.store.open({
      promoted: (session) => this.#promoted(session),
      demoted: (reason) => {
        const engine = this.#engine
        this.#engine = undefined
        engine?.end(reason)
      },
      confirmed: (index) => this.#engine?.confirmed(index),
      committed: (index) => this.#engine?.committed(index),
      drained: () => this.#engine?.drained(),
      leaseRenewed: () => this.#engine?.leaseRenewed(),
      changed: () => undefined,
      failed: (error) => this.failures.push(error),
    })
    if (this.#engine === undefined) this.store.promote()
    return this
  }

  client(): TestClient {
    return new TestClient(this.engine)
  }

  /** Commits, reads and delivers until nothing more happens. */
  async settle(): Promise<void> {
    let before = -1
    for (;;) {
      this.store.commit()
      // Reads from the store in memory are promises that are ready: a few turns of the queue end them all.
      for (let turn = 0; turn < 20; turn++) await Promise.resolve()
      const now = this.store.lastIndex + this.store.pagesRead + this.store.messagesRead
      if (now === before) return
      before = now
    }
  }

  #promoted(session: MasterSession): void {
    this.session = session
    this.#engine = new QueueEngine(
      this.store,
      session,
      {
        failed: (error) => this.failures.push(error),
        sessionFailed: (error) => this.sessionFailures.push(error),
      },
      this.#limits,
    )
  }
}

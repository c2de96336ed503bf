import { StoreError } from '../../../src/errors.ts'
import type { MasterSession, MessageStore, StoreListener } from '../../../src/message-store.ts'
import {
  type CommittedLog,
  keyOf,
  messageRecord,
  redeliveryRecord,
  removalRecord,
  Violation,
} from './committed-log.ts'
import type { Dice, Scheduler } from './scheduler.ts'
import type { SimulatedProcess } from './simulated-process.ts'

/** What clients do in a run. */
export interface WorkloadMix {
  readonly producers: number
  readonly queues: readonly string[]
  /** Between two sends of one producer. */
  readonly sendEveryMs: number
  readonly burst: number
  /** Bodies are mostly small; at times one is this large. */
  readonly largestBody: number
  readonly consumeEveryMs: number
  /** Of the messages that are delivered, how many are acknowledged. */
  readonly acknowledged: number
}

/** A client that sends numbered messages, again and again until each is confirmed. */
export class Producer {
  readonly id: string
  /** Sent at least once, or about to be; not confirmed. */
  readonly open: Map<number, Buffer> = new Map()
  nextSequence = 1
  confirmed = 0
  /** Where it is connected. */
  broker: SimulatedBroker | undefined
  /** Of the messages that are open, those sent over the present connection. */
  readonly sentHere: Set<number> = new Set()

  constructor(id: string) {
    this.id = id
  }

  connect(broker: SimulatedBroker | undefined): void {
    this.broker = broker
    this.sentHere.clear()
  }
}

/** What all brokers and clients of a run share. */
export interface World {
  readonly scheduler: Scheduler
  readonly dice: Dice
  readonly log: CommittedLog
  readonly mix: WorkloadMix
  readonly producers: readonly Producer[]
  /** Whether a confirm means a commit at the `sync` level of this run. */
  readonly confirmIsCommit: boolean
  /** Producers make new messages. */
  producing: boolean
  /** Messages whose removal was confirmed. */
  readonly removed: Set<number>
  /** By epoch: who was master in it. */
  readonly masters: Map<number, string>
  promoted(broker: SimulatedBroker): void
  confirmed(broker: SimulatedBroker): void
  ended(broker: SimulatedBroker): void
  /** The store gave up. */
  failed(broker: SimulatedBroker, error: Error): void
  /** Throws, and remembers the violation even if whoever called swallows it. */
  violated(message: string): never
}

interface Waiting {
  readonly index: number
  readonly confirmed: () => void
}

/** A broker on top of one store: checks what the store tells it, and lets clients work while it is master. */
export class SimulatedBroker implements StoreListener {
  readonly process: SimulatedProcess
  readonly #world: World
  #store: MessageStore | undefined
  #appliedIndex: () => number = () => 0
  session: MasterSession | undefined
  /** Consumers ask for messages and acknowledge them. */
  consuming = true
  /** There was no lease when it was last asked for, and none since. */
  leaseless = false
  /** There was no room when it was last asked for, and none since. */
  #full = false
  #over = false
  #confirmedIndex = 0
  #committedIndex = 0
  #lastEpoch = 0
  readonly #queues = new Map<string, number>()
  /** In the order of their indices. */
  #waiting: Waiting[] = []
  #cursors = new Map<number, number>()
  readonly #delivered = new Map<number, { readonly queue: number; times: number }>()
  #delivering = false
  /** Highest index that was given out here, or was applied when the mastership began. */
  #lastIndex = 0

  constructor(process: SimulatedProcess, world: World) {
    this.process = process
    this.#world = world
  }

  /** @param appliedIndex - How far the store's index is, which its contract does not show. */
  attach(store: MessageStore, appliedIndex: () => number): void {
    this.#store = store
    this.#appliedIndex = appliedIndex
  }

  get name(): string {
    return this.process.name
  }

  /** The store has failed or was closed. */
  get over(): boolean {
    return this.#over
  }

  /** Changes and repetitions of this mastership that are not confirmed. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** The process ended or the store was closed: nothing may be heard of the store from now on. */
  close(): void {
    this.#over = true
    this.#leave()
  }

  // ---- What the store says

  promoted(session: MasterSession): void {
    if (!this.#hears('promoted')) return
    const { masters, log, scheduler } = this.#world
    const { epoch } = session
    if (this.session !== undefined) this.#world.violated(`${this.name} is promoted twice`)
    if (epoch <= this.#lastEpoch)
      this.#world.violated(`S2: ${this.name} is promoted in ${epoch} after ${this.#lastEpoch}`)
    const other = masters.get(epoch)
    if (other !== undefined)
      this.#world.violated(`S2: ${other} and ${this.name} are masters of epoch ${epoch}`)
    masters.set(epoch, this.name)
    this.#lastEpoch = epoch
    const applied = this.#appliedIndex()
    scheduler.note(`${this.name} is master in epoch ${epoch}, applied ${applied}`)
    if (log.lastEpoch <= epoch && applied < log.lastIndex)
      this.#world.violated(
        `S4: ${this.name} is promoted in ${epoch} with ${applied}, ${log.lastIndex} is committed`,
      )
    if (log.lastEpoch <= epoch && applied < log.confirmedIndex)
      this.#world.violated(
        `S6: ${this.name} is promoted in ${epoch} with ${applied}, ${log.confirmedIndex} was confirmed`,
      )
    this.session = session
    this.#confirmedIndex = 0
    this.#committedIndex = 0
    this.#lastIndex = applied
    this.#full = false
    this.leaseless = false
    this.#waiting = []
    this.#queues.clear()
    this.#cursors.clear()
    this.#delivered.clear()
    this.#world.promoted(this)
    const { dice } = this.#world
    if (dice.chance(0.3)) this.#serve(session)
    else this.#later(session, dice.range(0, 30), () => this.#serve(session))
  }

  demoted(reason: string): void {
    if (!this.#hears('demoted')) return
    const { session } = this
    if (session === undefined) this.#world.violated(`${this.name} is demoted and was no master`)
    this.#world.scheduler.note(`${this.name} is demoted: ${reason}`)
    try {
      session.flush()
      this.#world.violated(`${this.name} takes changes after its mastership`)
    } catch (error) {
      if (error instanceof Violation) throw error
    }
    this.#leave()
  }

  confirmed(index: number): void {
    if (!this.#hears('confirmed')) return
    const { session } = this
    if (session === undefined) this.#world.violated(`${this.name} confirms ${index} and is no master`)
    if (index <= this.#confirmedIndex)
      this.#world.violated(`${this.name} confirms ${index} after ${this.#confirmedIndex}`)
    this.#confirmedIndex = index
    this.#world.scheduler.note(`${this.name} confirms ${index}`)
    if (this.#world.confirmIsCommit) {
      const { log } = this.#world
      log.confirmedIndex = Math.max(log.confirmedIndex, index)
    }
    let done = 0
    for (const waiting of this.#waiting) {
      if (waiting.index > index) break
      waiting.confirmed()
      done++
    }
    this.#waiting.splice(0, done)
    this.#world.confirmed(this)
  }

  committed(index: number): void {
    if (!this.#hears('committed')) return
    if (this.session === undefined) this.#world.violated(`${this.name} commits ${index} and is no master`)
    if (index <= this.#committedIndex)
      this.#world.violated(`${this.name} commits ${index} after ${this.#committedIndex}`)
    this.#committedIndex = index
    if (index > this.#world.log.lastIndex)
      this.#world.violated(`${this.name} commits ${index}, which nobody applied`)
  }

  drained(): void {
    if (!this.#hears('drained')) return
    if (this.session === undefined) this.#world.violated(`${this.name} has drained and is no master`)
    this.#full = false
  }

  leaseRenewed(): void {
    if (!this.#hears('leaseRenewed')) return
    const { session } = this
    if (session === undefined) this.#world.violated(`${this.name} renews its lease and is no master`)
    this.leaseless = false
    if (this.#world.dice.chance(0.3)) this.#consume(session)
  }

  changed(): void {
    if (!this.#hears('changed')) return
    if (this.#world.dice.chance(0.1)) JSON.stringify(this.#store?.status())
  }

  failed(error: Error): void {
    if (!this.#hears('failed')) return
    this.#world.scheduler.note(`${this.name} fails: ${error.message}`)
    this.#over = true
    this.#leave()
    this.#world.failed(this, error)
  }

  // ---- Clients

  /** A step of a producer that is connected here. */
  send(producer: Producer): void {
    const { session } = this
    const { dice, mix } = this.#world
    if (session === undefined || this.#queues.size === 0 || this.#full) return
    this.#full = !session.hasRoom()
    if (this.#full) return
    if (producer.open.size === 0 && !this.#world.producing) return
    const id = this.#producer(session, producer.id)
    for (let left = 1 + dice.below(mix.burst); left > 0; left--) {
      const sequence = this.#nextOf(producer)
      if (sequence === undefined || !this.#sendOne(session, producer, id, sequence)) break
    }
    if (dice.chance(0.3) && this.session === session) session.flush()
  }

  /** What is in doubt goes first and in order, as the rule for sequences asks; at times a new one overtakes it. */
  #nextOf(producer: Producer): number | undefined {
    const { dice, producing } = this.#world
    const again = [...producer.open.keys()].filter((sequence) => !producer.sentHere.has(sequence))
    // The first number that is ever seen of a producer leaves no gap: its first message must not be overtaken.
    const orderly = producer.confirmed === 0 || !dice.chance(0.1)
    if (again.length > 0) return orderly ? again[0] : dice.pick(again)
    if (!producing || producer.open.size > 50) return undefined
    const sequence = producer.nextSequence++
    producer.open.set(sequence, this.#envelope(producer.id, sequence))
    return sequence
  }

  #envelope(id: string, sequence: number): Buffer {
    const { dice, mix } = this.#world
    const bytes = dice.chance(0.02) ? dice.below(mix.largestBody) : dice.below(200)
    return Buffer.concat([Buffer.from(`${id}:${sequence} `), Buffer.alloc(bytes, sequence & 0xff)])
  }

  /** @returns Whether the store took it. */
  #sendOne(session: MasterSession, producer: Producer, id: number, sequence: number): boolean {
    const { log, dice } = this.#world
    const envelope = producer.open.get(sequence) ?? Buffer.alloc(0)
    const queue = this.#queues.get(dice.pick(this.#world.mix.queues)) ?? 0
    const headBytes = dice.below(envelope.length)
    const copy = Buffer.from(envelope)
    let index: number
    try {
      index = session.addMessage(queue, id, sequence, copy.subarray(0, headBytes), copy.subarray(headBytes))
    } catch (error) {
      // A definite refusal (S30): the producer tries again later.
      if (error instanceof StoreError && error.code === 'STORE_FULL') return false
      throw error
    }
    copy.fill(0xee) // The arguments belong to the caller again.
    producer.sentHere.add(sequence)
    const key = keyOf(envelope)
    const done = (): void => {
      if (this.#world.confirmIsCommit && index < 0) log.confirmsKnown(key, this.#confirmedIndex)
      if (producer.broker === this) {
        producer.open.delete(sequence)
        producer.confirmed++
      }
    }
    if (index > 0) this.#appended(session, index, messageRecord(queue, id, sequence, envelope), done)
    else this.#waitFor(-index, done)
    return true
  }

  #producer(session: MasterSession, name: string): number {
    const before = this.#lastIndex
    const id = session.producer(name)
    if (id > before) this.#appended(session, id, `producer ${name}`, () => {})
    return id
  }

  #appended(session: MasterSession, index: number, record: string, done: () => void): void {
    const { log } = this.#world
    if (index <= this.#lastIndex)
      this.#world.violated(`${this.name} gives out ${index} after ${this.#lastIndex}`)
    this.#lastIndex = index
    log.appends(session.epoch, index, record)
    this.#waitFor(index, () => {
      if (this.#world.confirmIsCommit) log.confirms(index, record)
      done()
    })
  }

  #waitFor(index: number, confirmed: () => void): void {
    if (index <= this.#confirmedIndex) confirmed()
    else {
      let at = this.#waiting.length
      while (at > 0 && (this.#waiting[at - 1]?.index ?? 0) > index) at--
      this.#waiting.splice(at, 0, { index, confirmed })
    }
  }

  #serve(session: MasterSession): void {
    for (const name of this.#world.mix.queues) {
      const known = this.#store?.queues().find((queue) => queue.name === name)
      let id = known?.id
      if (id === undefined) {
        id = session.addQueue(name)
        this.#appended(session, id, `queue ${name}`, () => {})
      }
      this.#queues.set(name, id)
    }
    const consume = (): void => {
      this.#consume(session)
      this.#later(session, this.#world.dice.range(0, 2 * this.#world.mix.consumeEveryMs), consume)
    }
    consume()
  }

  #consume(session: MasterSession): void {
    const { dice } = this.#world
    const store = this.#store
    const queue = this.#queues.get(dice.pick(this.#world.mix.queues))
    if (this.session !== session || store === undefined || queue === undefined) return
    if (this.#delivering || !this.consuming || this.leaseless) return
    this.leaseless = !session.mayDispatch()
    if (this.leaseless) return
    this.#delivering = true
    const after = this.#cursors.get(queue) ?? 0
    this.#deliver(session, store, queue, after, 1 + dice.below(20)).then(
      () => {
        this.#delivering = false
      },
      (error: Error) => {
        this.#delivering = false
        this.#world.scheduler.note(`${this.name} cannot read: ${error.message}`)
        if (!this.process.diskFailed) this.#world.failed(this, error)
      },
    )
  }

  async #deliver(
    session: MasterSession,
    store: MessageStore,
    queue: number,
    after: number,
    limit: number,
  ): Promise<void> {
    const { dice, log, removed } = this.#world
    const entries = await store.page(queue, after, limit)
    const indices = entries.map(({ index }) => index)
    const contents = await store.read(queue, indices)
    if (this.session !== session) return
    this.leaseless = !session.mayDispatch()
    if (this.leaseless) return
    if ((this.#cursors.get(queue) ?? 0) !== after) return
    for (const [place, { index }] of entries.entries()) {
      const envelope = log.envelopes.get(index)
      if (envelope === undefined || !contents[place]?.equals(envelope))
        this.#world.violated(
          `S15: ${this.name} delivers ${index}, which is another message than was committed`,
        )
      if (removed.has(index))
        this.#world.violated(`S16: ${this.name} delivers ${index}, the removal of which was confirmed`)
      this.#delivered.set(index, { queue, times: 1 })
      this.#cursors.set(queue, index)
    }
    if (entries.length > 0)
      this.#later(session, dice.range(0, 100), () => this.#settle(session, queue, indices))
  }

  /** Consumers acknowledge some of what they got, keep some, and give some back. */
  #settle(session: MasterSession, queue: number, indices: readonly number[]): void {
    const { dice, mix, removed } = this.#world
    if (!this.consuming) return
    const done = indices.filter(() => dice.chance(mix.acknowledged))
    const given = indices.filter((index) => !done.includes(index) && dice.chance(0.3))
    if (done.length > 0) {
      for (const index of done) this.#delivered.delete(index)
      const at = session.removeMessages(queue, done)
      this.#appended(session, at, removalRecord(queue, done), () => {
        if (this.#world.confirmIsCommit) for (const index of done) removed.add(index)
      })
    }
    if (given.length > 0) {
      const at = session.countRedelivery(queue, given, 1)
      this.#appended(session, at, redeliveryRecord(queue, given, 1), () => {})
    }
  }

  #later(session: MasterSession, delayMs: number, run: () => void): void {
    this.#world.scheduler.in(delayMs, () =>
      this.process.enter(() => {
        if (this.session === session) run()
      }),
    )
  }

  #leave(): void {
    if (this.session === undefined) return
    this.session = undefined
    this.#waiting = []
    this.#world.ended(this)
  }

  /** A process that was killed in the middle of something does the rest of it for nobody. */
  #hears(event: string): boolean {
    if (!this.process.alive) return false
    if (this.#over) this.#world.violated(`${this.name}: ${event} after the store failed or was closed`)
    return true
  }
}

import { type Delivery, FailoverConsumer, FailoverProducer } from '../../system/failover-client.ts'
import type { Address } from '../../system/stomp-client.ts'
import { waitFor } from '../../system/wait-for.ts'
import type { History } from '../history.ts'
import { bodyOf, Ledger, Mark, readBody } from './ledger.ts'
import { PlainProducer } from './plain-producer.ts'
import type { Violations } from './violations.ts'

/** Kept until the end, and then drained by one consumer: W1, W2, W3, W6. */
const keptQueue = 'chaos.kept'
/** Consumed all the time: W1, W6, W7. */
const workedQueue = 'chaos.worked'
const queues: readonly string[] = [keptQueue, workedQueue]

const tickMs = 20
/** Messages that one producer may have under way. */
const windowSize = 30
/** Acknowledgements of which it is remembered who confirmed them, to tell a late delivery from a repeated one. */
const rememberedAcknowledgements = 50_000
const endMark = 'end-mark'
const paddings = ['', 'x'.repeat(100), 'y'.repeat(1_000), 'z'.repeat(5_000)]

/** A confirm, as faults and the report look at it. */
export interface Confirmed {
  readonly at: number
  readonly sentAt: number
  readonly port: number
}

interface Stream {
  readonly queue: string
  readonly ledger: Ledger
  readonly producer: FailoverProducer | PlainProducer
}

/** Counts of one run. */
export interface WorkloadCounts {
  readonly sent: number
  readonly confirmed: number
  readonly inDoubt: number
  readonly recovered: number
  readonly delivered: number
  readonly redelivered: number
  readonly lateDeliveries: number
  readonly acknowledged: number
  readonly longestGapMs: number
}

/**
 * Producers and consumers that live through everything, and the books that are kept of what the brokers promised them.
 *
 * Half of the producers repeat what is in doubt under the same producer id and sequence (W6: stored exactly once); the
 * others send each message once, without these headers (W1: in doubt is stored once or not at all).
 */
export class Workloads {
  readonly #brokers: readonly Address[]
  readonly #history: History
  readonly #violations: Violations
  readonly #perTick: number
  readonly #streams: Stream[] = []
  readonly #byProducer = new Map<string, Stream>()
  readonly #consumers: FailoverConsumer[] = []
  readonly #acknowledgedBy = new Map<string, { readonly port: number; readonly begunAt: number }>()
  #timer: NodeJS.Timeout | undefined
  #due = 0
  #turn = 0
  #delivered = 0
  #redelivered = 0
  #late = 0
  #lastConfirmAt = 0
  #longestGapMs = 0
  #watching = false
  onConfirm: (confirmed: Confirmed) => void = () => {}

  /** @param rate - Messages per second, all producers together. */
  constructor(brokers: readonly Address[], history: History, violations: Violations, rate: number) {
    this.#brokers = brokers
    this.#history = history
    this.#violations = violations
    this.#perTick = (rate * tickMs) / 1000
  }

  start(): void {
    const run = `${process.pid}-${Date.now()}`
    for (const queue of queues) {
      for (const kind of ['repeats-1', 'repeats-2', 'once-1'] as const) this.#addStream(queue, kind, run)
    }
    for (let i = 1; i <= 2; i++) {
      const consumer = new FailoverConsumer(
        this.#brokers,
        workedQueue,
        (delivery) => this.#work(`worker-${i}`, delivery),
        (body, port, begunAt) => this.#acknowledged(body, port, begunAt),
      )
      this.#consumers.push(consumer)
      consumer.start()
    }
    for (const { producer } of this.#streams) producer.start()
    this.#lastConfirmAt = performance.now()
    this.#watching = true
    this.#timer = setInterval(() => this.#tick(), tickMs)
  }

  get confirmed(): number {
    return this.#streams.reduce((sum, { ledger }) => sum + ledger.count(Mark.confirmed), 0)
  }

  counts(): WorkloadCounts {
    const sum = (count: (ledger: Ledger) => number): number =>
      this.#streams.reduce((total, { ledger }) => total + count(ledger), 0)
    const number = (wanted: readonly Mark[], unwanted: readonly Mark[]): number =>
      sum((ledger) => [...ledger.select(wanted, unwanted)].length)
    return {
      sent: sum((ledger) => ledger.last),
      confirmed: sum((ledger) => ledger.count(Mark.confirmed)),
      inDoubt: number([Mark.doubtful], [Mark.confirmed]),
      recovered: number([Mark.doubtful, Mark.delivered], [Mark.confirmed]),
      delivered: this.#delivered,
      redelivered: this.#redelivered,
      lateDeliveries: this.#late,
      acknowledged: sum((ledger) => ledger.count(Mark.acknowledged)),
      longestGapMs: Math.round(this.#longestGapMs),
    }
  }

  /** Sends no more, waits for what is under way, drains both queues, and closes the books. */
  async finish(timeoutMs: number): Promise<void> {
    clearInterval(this.#timer)
    this.#watching = false
    for (const { producer } of this.#streams) {
      await this.#settle(`the last confirms of ${producer.id}`, () => producer.pending === 0, timeoutMs)
    }
    await this.#settle('the workers to see every confirmed message', () => this.#worked(), timeoutMs)
    const idle = (): boolean => this.#consumers.every((consumer) => consumer.pending === 0)
    await this.#settle('the last acknowledgements of the workers', idle, timeoutMs)
    for (const consumer of this.#consumers) consumer.stop()
    await this.#drainKept(timeoutMs)
    this.stop()
    this.#closeBooks()
  }

  stop(): void {
    clearInterval(this.#timer)
    for (const { producer } of this.#streams) producer.stop()
    for (const consumer of this.#consumers) consumer.stop()
  }

  #addStream(queue: string, kind: string, run: string): void {
    const id = `${queue}-${kind}-${run}`
    const ledger = new Ledger(id)
    const producer = kind.startsWith('once')
      ? new PlainProducer(this.#brokers, queue, id, {
          confirmed: (sequence, sentAt, port) =>
            this.#confirmed(ledger, sequence, { sentAt, port, at: performance.now() }),
          doubtful: (sequence) => {
            ledger.mark(sequence, Mark.doubtful)
            this.#history.add('in doubt', { producer: id, sequence })
          },
        })
      : new FailoverProducer(this.#brokers, queue, id, ({ sequence, sentAt, port, at }) =>
          this.#confirmed(ledger, sequence, { sentAt, port, at }),
        )
    const stream = { queue, ledger, producer }
    this.#streams.push(stream)
    this.#byProducer.set(id, stream)
  }

  #tick(): void {
    this.#noteGap()
    for (this.#due = Math.min(this.#due + this.#perTick, windowSize); this.#due >= 1; this.#due--) {
      const stream = this.#streams[this.#turn++ % this.#streams.length]
      if (stream !== undefined) this.#send(stream)
    }
    for (const { producer } of this.#streams) if (producer instanceof PlainProducer) producer.expire()
  }

  #send({ ledger, producer }: Stream): void {
    if (producer.pending >= windowSize) return
    if (producer instanceof PlainProducer && !producer.ready) return
    const sequence = ledger.next()
    const body = bodyOf(producer.id, sequence, paddings[this.#turn % paddings.length] ?? '')
    this.#history.add('send', { producer: producer.id, sequence })
    if (producer instanceof PlainProducer) producer.send(sequence, body)
    else producer.send(() => body)
  }

  #confirmed(ledger: Ledger, sequence: number, confirmed: Confirmed): void {
    if (sequence > ledger.last) return // The end mark.
    ledger.mark(sequence, Mark.confirmed)
    this.#history.add('confirm', { producer: ledger.producer, sequence, port: confirmed.port })
    this.#noteGap()
    this.#lastConfirmAt = confirmed.at
    this.onConfirm(confirmed)
  }

  #noteGap(): void {
    if (this.#watching)
      this.#longestGapMs = Math.max(this.#longestGapMs, performance.now() - this.#lastConfirmAt)
  }

  #work(worker: string, delivery: Delivery): void {
    const { body, redelivered, port, begunAt } = delivery
    const { producer, sequence } = readBody(body)
    this.#delivered++
    if (redelivered) this.#redelivered++
    this.#history.add('deliver', { worker, producer, sequence, redelivered, port })
    const ledger = this.#byProducer.get(producer)?.ledger
    if (ledger === undefined || sequence > ledger.last) {
      this.#violations.add('W1 delivered and never sent', body.slice(0, 100))
      return
    }
    ledger.mark(sequence, Mark.delivered)
    if (!ledger.has(sequence, Mark.acknowledged)) return
    const by = this.#acknowledgedBy.get(`${producer} ${sequence}`)
    // What a deposed master had written before it was cut off or paused may still come, by a connection that is older
    // than the one to its successor (rule S9): its acknowledgement would be refused.
    if (by !== undefined && by.port !== port && begunAt < by.begunAt) this.#late++
    else
      this.#violations.add(
        'W7 delivered again after its confirmed acknowledgement',
        `${producer} ${sequence}: acknowledged on port ${by?.port ?? '?'}, then delivered on port ${port}${redelivered ? ' as redelivered' : ''}`,
      )
  }

  #acknowledged(body: string, port: number, begunAt: number): void {
    const { producer, sequence } = readBody(body)
    this.#history.add('acknowledged', { producer, sequence, port })
    this.#byProducer.get(producer)?.ledger.mark(sequence, Mark.acknowledged)
    this.#acknowledgedBy.set(`${producer} ${sequence}`, { port, begunAt })
    if (this.#acknowledgedBy.size <= rememberedAcknowledgements) return
    const [oldest] = this.#acknowledgedBy.keys()
    if (oldest !== undefined) this.#acknowledgedBy.delete(oldest)
  }

  #worked(): boolean {
    return this.#streams.every(
      ({ queue, ledger }) =>
        queue !== workedQueue || ledger.select([Mark.confirmed], [Mark.delivered]).next().done === true,
    )
  }

  /** Nothing fails any more: what is in the queue twice now was stored twice. */
  async #drainKept(timeoutMs: number): Promise<void> {
    const first = this.#streams.find(
      ({ queue, producer }) => queue === keptQueue && producer instanceof FailoverProducer,
    )
    // Sent when everything else is confirmed: whatever is in the queue comes before it.
    if (first?.producer instanceof FailoverProducer) first.producer.send(() => endMark)
    const last = new Map<string, number>()
    let ended = false
    const consumer = new FailoverConsumer(this.#brokers, keptQueue, ({ body, redelivered }) => {
      this.#delivered++
      if (body === endMark) {
        ended = true
        return
      }
      const { producer, sequence } = readBody(body)
      const ledger = this.#byProducer.get(producer)?.ledger
      const what = `${producer} ${sequence}${redelivered ? ' (redelivered)' : ''}`
      if (ledger === undefined || sequence > ledger.last)
        this.#violations.add('W1 delivered and never sent', body.slice(0, 100))
      else if (ledger.mark(sequence, Mark.delivered)) this.#violations.add('W6 twice in the queue', what)
      else if (sequence < (last.get(producer) ?? 0))
        this.#violations.add('W2 out of order', `${what} after ${last.get(producer)}`)
      last.set(producer, sequence)
    })
    consumer.start()
    await this.#settle('the queue to be drained', () => ended && consumer.pending === 0, timeoutMs)
    consumer.stop()
  }

  #closeBooks(): void {
    for (const { queue, ledger } of this.#streams) {
      for (const sequence of ledger.select([Mark.confirmed], [Mark.delivered])) {
        this.#violations.add('W1 confirmed and lost', `${ledger.producer} ${sequence} in ${queue}`)
      }
    }
  }

  async #settle(what: string, done: () => boolean, timeoutMs: number): Promise<void> {
    try {
      await waitFor(what, done, { timeoutMs, intervalMs: 50 })
    } catch {
      this.#violations.add('W13 no end in time', `waited ${timeoutMs} ms for ${what}`)
    }
  }
}

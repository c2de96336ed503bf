import { type Confirm, type Delivery, FailoverConsumer, FailoverProducer } from '../system/failover-client.ts'
import { waitFor } from '../system/wait-for.ts'

const tickMs = 5
/** Messages that a producer sends per tick, and may have under way. */
const perTick = 2
const windowSize = 20

/** Kept until the end, to see that nothing was lost, doubled or brought out of order. */
const keptQueue = 'chaos.kept'
/** Consumed all the time, to see that nothing acknowledged comes again. */
const workedQueue = 'chaos.worked'
const endMark = 'end'

interface Stream {
  readonly producer: FailoverProducer
  readonly queue: string
}

/** Producers and consumers that live through failovers, and remember what the brokers promised them. */
export class Load {
  readonly #ports: readonly number[]
  readonly #streams: Stream[] = []
  readonly #consumers: FailoverConsumer[] = []
  readonly #worked = new Set<string>()
  /** By body: which broker confirmed its acknowledgement, and when. */
  readonly #acknowledged = new Map<string, { readonly port: number; readonly atMs: number }>()
  readonly #violations: string[] = []
  readonly #onConfirm: (confirm: Confirm) => void
  #timer: NodeJS.Timeout | undefined
  redeliveries = 0
  /**
   * Port of a master that was paused, and another one took its place. What it was about to write when it was paused may
   * still come: rule S9 limits the harm to a delivery whose acknowledgement is refused.
   */
  deposedPort: number | undefined
  lateDeliveries = 0

  constructor(ports: readonly number[], onConfirm: (confirm: Confirm) => void) {
    this.#ports = ports
    this.#onConfirm = onConfirm
  }

  start(): void {
    const run = `${process.pid}-${Date.now()}`
    for (const [queue, count] of [
      [keptQueue, 3],
      [workedQueue, 2],
    ] as const) {
      for (let i = 1; i <= count; i++) {
        const producer = new FailoverProducer(this.#ports, queue, `${queue}-${i}-${run}`, this.#onConfirm)
        this.#streams.push({ producer, queue })
        producer.start()
      }
    }
    for (let i = 0; i < 2; i++) {
      const consumer = new FailoverConsumer(
        this.#ports,
        workedQueue,
        (delivery) => this.#work(delivery),
        (body, port) => this.#acknowledged.set(body, { port, atMs: performance.now() }),
      )
      this.#consumers.push(consumer)
      consumer.start()
    }
    this.#timer = setInterval(() => {
      for (const { producer } of this.#streams) {
        for (let i = 0; i < perTick && producer.pending < windowSize; i++) {
          producer.send((sequence) => `${producer.id} ${sequence}`)
        }
      }
    }, tickMs)
  }

  get confirmed(): number {
    return this.#streams.reduce((sum, { producer }) => sum + producer.confirmed, 0)
  }

  /** Sends no more, waits until all is confirmed and consumed, and returns what was not as promised. */
  async finish(timeoutMs: number): Promise<string[]> {
    clearInterval(this.#timer)
    await this.#settle('the last confirms', () => this.#pending() === 0, timeoutMs)
    const worked = this.#sentTo(workedQueue)
    await this.#settle('the consumers', () => this.#worked.size >= worked.length, timeoutMs)
    for (const consumer of this.#consumers) consumer.stop()
    const unworked = worked.filter((body) => !this.#worked.has(body))
    if (unworked.length > 0) this.#violations.push(`${unworked.length} messages lost, first: ${unworked[0]}`)
    await this.#drainKept(timeoutMs)
    this.stop()
    return this.#violations
  }

  stop(): void {
    clearInterval(this.#timer)
    for (const { producer } of this.#streams) producer.stop()
    for (const consumer of this.#consumers) consumer.stop()
  }

  #work({ body, redelivered, port }: Delivery): void {
    if (redelivered) this.redeliveries++
    const acknowledged = this.#acknowledged.get(body)
    if (acknowledged !== undefined && port === this.deposedPort && port !== acknowledged.port) {
      this.lateDeliveries++
    } else if (acknowledged !== undefined) {
      const laterMs = Math.round(performance.now() - acknowledged.atMs)
      this.#violations.push(
        `came again after its confirmed acknowledgement: ${body}, acknowledged on port ${acknowledged.port}, ` +
          `delivered on port ${port} ${laterMs} ms later`,
      )
    }
    this.#worked.add(body)
  }

  async #drainKept(timeoutMs: number): Promise<void> {
    const expected = this.#sentTo(keptQueue)
    const seen = new Set<string>()
    const last = new Map<string, number>()
    // Sent when everything else is confirmed: whatever is in the queue comes before it.
    this.#streams.find(({ queue }) => queue === keptQueue)?.producer.send(() => endMark)
    const consumer = new FailoverConsumer(this.#ports, keptQueue, ({ body, redelivered }) => {
      if (seen.has(body)) {
        // After the load nobody kills anything: what comes twice is twice in the store.
        this.#violations.push(`twice in the queue${redelivered ? ' (marked as redelivered)' : ''}: ${body}`)
        return
      }
      seen.add(body)
      if (body === endMark) return
      const [producer = '', number] = body.split(' ')
      const before = last.get(producer) ?? 0
      if (Number(number) < before) this.#violations.push(`out of order: ${body} after ${before}`)
      last.set(producer, Number(number))
    })
    consumer.start()
    await this.#settle('the kept messages', () => seen.has(endMark) && consumer.pending === 0, timeoutMs)
    consumer.stop()
    const lost = expected.filter((body) => !seen.has(body))
    if (lost.length > 0) this.#violations.push(`${lost.length} confirmed messages lost, first: ${lost[0]}`)
  }

  async #settle(what: string, done: () => boolean, timeoutMs: number): Promise<void> {
    try {
      await waitFor(what, done, { timeoutMs })
    } catch (error) {
      this.#violations.push(String(error))
    }
  }

  #pending(): number {
    return this.#streams.reduce((sum, { producer }) => sum + producer.pending, 0)
  }

  /** Bodies of all messages sent to a queue; all of them are confirmed when this is asked. */
  #sentTo(wanted: string): string[] {
    return this.#streams
      .filter(({ queue }) => queue === wanted)
      .flatMap(({ producer }) => Array.from({ length: producer.sent }, (_, i) => `${producer.id} ${i + 1}`))
  }
}

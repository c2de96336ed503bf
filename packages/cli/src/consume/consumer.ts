import type { BrokerUri } from '../stomp-client/broker-uri.ts'
import { StompClient } from '../stomp-client/client.ts'
import { encodeFrame, type Frame } from '../stomp-client/frame.ts'
import { type AckMode, Deliveries } from './deliveries.ts'

export interface ConsumerOptions {
  readonly uri: BrokerUri
  readonly queue: string
  readonly mode: AckMode
  readonly count: number | undefined
  /** Silence in milliseconds after which it ends; `undefined` to wait for ever. */
  readonly timeoutMs: number | undefined
  readonly prefetch: number
}

export interface ConsumerResult {
  readonly outcome: 'done' | 'timeout' | 'unreachable' | 'interrupted' | 'output closed'
  readonly reason: string | undefined
  readonly consumed: number
  /** Acknowledgements whose fate is not known: their messages may come again. */
  readonly inDoubt: number
  readonly elapsedMs: number
  readonly connected: boolean
}

export interface ConsumerOutput {
  /** Writes messages in order; calls back when they are out, with false if nobody takes them any more. */
  write(messages: readonly Frame[], done: (written: boolean) => void): void
  note(message: string): void
}

/** Ids remembered to recognise repeated deliveries. */
const remembered = 100_000

/** Quiet time after a reconnection that shows that nothing in doubt is delivered again. */
const settleMs = 1000

/** Takes messages from a queue: shows each once, then acknowledges it. */
export class Consumer {
  readonly #options: ConsumerOptions
  readonly #output: ConsumerOutput
  readonly #client: StompClient
  readonly #deliveries: Deliveries
  readonly #startedAt = performance.now()
  readonly #finished = Promise.withResolvers<ConsumerResult>()
  #connections = 0
  #writing = 0
  #heardAt = performance.now()
  #lastTrouble: string | undefined
  #ended = false
  #checker: NodeJS.Timeout | undefined

  constructor(options: ConsumerOptions, output: ConsumerOutput) {
    this.#options = options
    this.#output = output
    this.#deliveries = new Deliveries({ mode: options.mode, count: options.count, remembered })
    this.#client = new StompClient(options.uri, {
      connected: (broker) => this.#connected(broker),
      frames: (frames) => this.#receive(frames),
      lost: (reason) => {
        this.#lastTrouble = reason
        this.#deliveries.lost()
        this.#output.note(`lost ${reason}; looking for the master`)
      },
      attemptFailed: (_broker, reason) => {
        this.#lastTrouble = reason
      },
      failed: (reason) => this.#end('unreachable', reason),
    })
  }

  /** Runs to the end; never rejects. */
  run(): Promise<ConsumerResult> {
    this.#checker = setInterval(() => this.#check(), 50)
    this.#client.start()
    return this.#finished.promise
  }

  interrupt(): void {
    this.#end('interrupted', undefined)
  }

  #connected(broker: string): void {
    this.#output.note(`connected to ${broker}`)
    this.#connections++
    this.#heardAt = performance.now()
    this.#client.send(
      encodeFrame('SUBSCRIBE', {
        id: '0',
        destination: `/queue/${this.#options.queue}`,
        ack: this.#options.mode,
        'activemq.prefetchSize': String(this.#options.prefetch),
      }),
    )
  }

  #receive(frames: readonly Frame[]): void {
    if (this.#ended) return
    this.#heardAt = performance.now()
    const connection = this.#connections
    const { fresh, acknowledgements } = this.#deliveries.receive(frames)
    const acknowledge = () => {
      // An acknowledgement belongs to the connection that delivered; on a later one the broker does not know it.
      if (acknowledgements.length === 0 || connection !== this.#connections || this.#ended) return
      this.#client.send(Buffer.concat(acknowledgements))
    }
    if (fresh.length === 0) {
      acknowledge()
      this.#finishIfDone()
      return
    }
    this.#writing++
    this.#client.pause()
    this.#output.write(fresh, (written) => {
      this.#writing--
      if (!written) {
        this.#end('output closed', undefined)
        return
      }
      acknowledge()
      if (this.#writing === 0) this.#client.resume()
      this.#heardAt = performance.now()
      this.#finishIfDone()
    })
  }

  #finishIfDone(): void {
    const { isFull, open, inDoubt } = this.#deliveries
    if (isFull && open === 0 && inDoubt === 0 && this.#writing === 0) this.#end('done', undefined)
  }

  #check(): void {
    if (this.#writing > 0) return
    const quietMs = performance.now() - this.#heardAt
    if (this.#client.isConnected && quietMs > settleMs && this.#deliveries.open === 0) {
      this.#deliveries.settle()
      this.#finishIfDone()
    }
    const { timeoutMs } = this.#options
    if (timeoutMs !== undefined && quietMs > timeoutMs) {
      const idle = this.#client.isConnected ? undefined : this.#lastTrouble
      this.#end('timeout', idle)
    }
  }

  #end(outcome: ConsumerResult['outcome'], reason: string | undefined): void {
    if (this.#ended) return
    this.#ended = true
    clearInterval(this.#checker)
    const connected = this.#client.isConnected
    this.#client.close(() => {
      const { taken, open, inDoubt } = this.#deliveries
      this.#finished.resolve({
        outcome,
        reason,
        consumed: taken,
        inDoubt: open + inDoubt,
        elapsedMs: performance.now() - this.#startedAt,
        connected,
      })
    })
  }
}

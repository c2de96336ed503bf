import type { BrokerUri } from '../stomp-client/broker-uri.ts'
import { StompClient } from '../stomp-client/client.ts'
import { describeError } from '../stomp-client/connection.ts'
import type { Frame } from '../stomp-client/frame.ts'
import type { MessageSource } from './message-source.ts'
import { SendWindow } from './send-window.ts'

interface ProducerOptions {
  readonly uri: BrokerUri
  readonly queue: string
  readonly producerId: string
  readonly window: number
  /** Longest time without a confirmation while one is waited for, in milliseconds. */
  readonly timeoutMs: number
}

/** How producing ended. */
export interface ProducerResult {
  readonly outcome: 'done' | 'refused' | 'timeout' | 'unreachable' | 'source failed' | 'interrupted'
  readonly reason: string | undefined
  readonly confirmed: number
  readonly confirmedBytes: number
  /** Sent and neither confirmed nor refused: they may be stored or not. */
  readonly inDoubt: number
  readonly elapsedMs: number
}

/** What somebody who watches gets to know on the way. */
interface ProducerWatcher {
  progress(confirmed: number, confirmedBytes: number): void
  note(message: string): void
}

/** Bytes that are collected before they go to the socket in one piece. */
const flushBytes = 256 * 1024

/** Sends all messages of a source, pipelined, and repeats what a lost connection left unconfirmed. */
export class Producer {
  readonly #options: ProducerOptions
  readonly #source: MessageSource
  readonly #watcher: ProducerWatcher
  readonly #client: StompClient
  readonly #window: SendWindow
  readonly #startedAt = performance.now()
  readonly #finished = Promise.withResolvers<ProducerResult>()
  #progressAt = performance.now()
  #lastTrouble: string | undefined
  #refusedReceipt: string | undefined
  #blocked = false
  #ended = false
  #checker: NodeJS.Timeout | undefined

  constructor(options: ProducerOptions, source: MessageSource, watcher: ProducerWatcher) {
    this.#options = options
    this.#source = source
    this.#watcher = watcher
    this.#window = new SendWindow(options.queue, options.producerId, options.window)
    this.#client = new StompClient(options.uri, {
      connected: (broker) => this.#connected(broker),
      frames: (frames) => this.#receive(frames),
      lost: (reason) => {
        this.#lastTrouble = reason
        this.#watcher.note(`lost ${reason}; looking for the master`)
      },
      attemptFailed: (_broker, reason) => {
        this.#lastTrouble = reason
      },
      failed: (reason) => this.#end('unreachable', reason),
    })
  }

  /** Runs to the end; never rejects. */
  run(): Promise<ProducerResult> {
    this.#source.onChange = (error) =>
      error === undefined ? this.#pump() : this.#end('source failed', error.message)
    this.#checker = setInterval(() => this.#check(), Math.min(100, this.#options.timeoutMs))
    this.#client.start()
    return this.#finished.promise
  }

  /** Stops sending; what is unconfirmed stays in doubt. */
  interrupt(): void {
    this.#end('interrupted', undefined)
  }

  #connected(broker: string): void {
    this.#watcher.note(`connected to ${broker}`)
    this.#blocked = false
    this.#sendAll(this.#window.unconfirmedFrames())
    this.#pump()
  }

  #pump(): void {
    if (this.#ended) return
    if (this.#client.isConnected && !this.#blocked) this.#sendAll(this.#newFrames())
    if (this.#source.ended && this.#window.inDoubt === 0) this.#end('done', undefined)
  }

  *#newFrames(): Generator<Buffer> {
    while (this.#window.hasRoom && !this.#blocked) {
      const body = this.#source.take()
      if (body === undefined) return
      if (this.#window.inDoubt === 0) this.#progressAt = performance.now()
      yield this.#window.add(body)
    }
  }

  #sendAll(frames: Iterable<Buffer>): void {
    let batch: Buffer[] = []
    let bytes = 0
    for (const frame of frames) {
      batch.push(frame)
      bytes += frame.length
      if (bytes < flushBytes) continue
      this.#write(Buffer.concat(batch))
      batch = []
      bytes = 0
    }
    if (bytes > 0) this.#write(Buffer.concat(batch))
  }

  #write(bytes: Buffer): void {
    if (this.#client.send(bytes) || this.#blocked) return
    this.#blocked = true
    this.#client.whenDrained(() => {
      this.#blocked = false
      this.#pump()
    })
  }

  #receive(frames: readonly Frame[]): void {
    let confirmed = false
    for (const frame of frames) {
      const receipt = frame.headers.get('receipt-id') ?? ''
      if (frame.command === 'RECEIPT') confirmed = this.#window.confirm(receipt) || confirmed
      else if (frame.command === 'ERROR') this.#refused(frame, receipt)
    }
    if (confirmed) {
      this.#progressAt = performance.now()
      this.#watcher.progress(this.#window.confirmed, this.#window.confirmedBytes)
    }
    this.#pump()
  }

  #refused(frame: Frame, receipt: string): void {
    this.#lastTrouble = describeError(frame)
    if (!this.#window.has(receipt)) return
    // The same message refused again, after a reconnection: repeating it would never end.
    if (receipt === this.#refusedReceipt) this.#end('refused', `message ${receipt}: ${this.#lastTrouble}`)
    this.#refusedReceipt = receipt
  }

  #check(): void {
    const isWaiting = this.#window.inDoubt > 0 || !this.#client.isConnected
    if (!isWaiting) this.#progressAt = performance.now()
    else if (performance.now() - this.#progressAt > this.#options.timeoutMs)
      this.#end('timeout', this.#lastTrouble)
  }

  #end(outcome: ProducerResult['outcome'], reason: string | undefined): void {
    if (this.#ended) return
    this.#ended = true
    clearInterval(this.#checker)
    const elapsedMs = performance.now() - this.#startedAt
    const { confirmed, confirmedBytes, inDoubt } = this.#window
    this.#client.close(() =>
      this.#finished.resolve({ outcome, reason, confirmed, confirmedBytes, inDoubt, elapsedMs }),
    )
  }
}

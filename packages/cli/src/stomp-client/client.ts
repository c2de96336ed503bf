import { type BrokerUri, formatBroker } from './broker-uri.ts'
import { Connection, describeError } from './connection.ts'
import { Failover, type FailoverEvent } from './failover.ts'
import { encodeFrame, type Frame } from './frame.ts'

/** What the client tells its owner. */
interface ClientListener {
  /** Connected to a master, for the first time or again: subscribe, and repeat what is not confirmed. */
  connected(broker: string): void
  frames(frames: readonly Frame[]): void
  /** The connection is gone; the client looks for the master by itself. */
  lost(reason: string): void
  /** One more broker that was not the master or did not answer; the search goes on. */
  attemptFailed(broker: string, reason: string): void
  /** It has given up, or the broker refuses what it is sent. Nothing follows. */
  failed(reason: string): void
}

/** ERROR frames in a row, with nothing but reconnections between them, after which repeating is pointless. */
const maxErrorsInARow = 5

/** A STOMP client that stays connected to whichever broker is master. Performs the effects of {@link Failover}. */
export class StompClient {
  readonly #listener: ClientListener
  readonly #failover: Failover
  #connection: Connection | undefined
  #isConnected = false
  #wait: NodeJS.Timeout | undefined
  #closed = false
  #errorsInARow = 0

  constructor(uri: BrokerUri, listener: ClientListener) {
    this.#listener = listener
    this.#failover = new Failover(uri.addresses, uri.options, Math.random)
  }

  get isConnected(): boolean {
    return this.#isConnected
  }

  start(): void {
    this.#step({ type: 'start' })
  }

  /** Sends bytes if connected; else they are dropped, since `connected` asks for them again. False: wait for drain. */
  send(bytes: Buffer): boolean {
    return this.#isConnected && this.#connection !== undefined ? this.#connection.write(bytes) : true
  }

  whenDrained(callback: () => void): void {
    this.#connection?.whenDrained(callback)
  }

  pause(): void {
    this.#connection?.pause()
  }

  resume(): void {
    this.#connection?.resume()
  }

  /** Says goodbye, if connected, and closes; `done` runs once it has, or after a short wait for the answer. */
  close(done: () => void = () => {}): void {
    if (this.#closed) {
      done()
      return
    }
    this.#closed = true
    clearTimeout(this.#wait)
    const connection = this.#connection
    if (connection === undefined || !this.#isConnected) {
      connection?.close('closed')
      done()
      return
    }
    this.#onGoodbye = done
    connection.write(encodeFrame('DISCONNECT', { receipt: goodbye }))
    this.#wait = setTimeout(() => connection.close('closed'), 500)
    connection.resume()
  }

  #onGoodbye: (() => void) | undefined

  #step(event: FailoverEvent): void {
    const effect = this.#failover.step(event)
    if (effect === undefined || this.#closed) return
    switch (effect.type) {
      case 'connect':
        this.#connect(effect.address, effect.timeoutMs)
        break
      case 'wait':
        this.#wait = setTimeout(() => this.#step({ type: 'waited' }), effect.ms)
        break
      case 'giveUp':
        this.#closed = true
        this.#listener.failed(effect.reason)
        break
      default:
        effect satisfies never
    }
  }

  #connect(
    address: Parameters<typeof formatBroker>[0] & { connectionTimeoutMs: number },
    timeoutMs: number,
  ): void {
    const broker = formatBroker(address)
    this.#connection = new Connection(address, timeoutMs, {
      connected: () => {
        this.#isConnected = true
        this.#step({ type: 'connected' })
        this.#listener.connected(broker)
      },
      frames: (frames) => this.#receive(frames),
      closed: (reason, silent) => this.#disconnected(`${broker}: ${reason}`, broker, silent),
    })
  }

  #receive(frames: readonly Frame[]): void {
    if (this.#closed) {
      const answered = frames.some((frame) => frame.headers.get('receipt-id') === goodbye)
      if (answered) this.#connection?.close('closed')
      return
    }
    const error = frames.find((frame) => frame.command === 'ERROR')
    if (error === undefined) this.#errorsInARow = 0
    this.#listener.frames(frames)
    if (error === undefined || this.#closed) return
    this.#errorsInARow++
    const reason = describeError(error)
    if (this.#errorsInARow < maxErrorsInARow) this.#connection?.close(`ERROR: ${reason}`)
    else {
      this.#closed = true
      this.#connection?.close(reason)
      this.#listener.failed(`refused by the broker ${maxErrorsInARow} times in a row: ${reason}`)
    }
  }

  #disconnected(reason: string, broker: string, silent: boolean): void {
    const wasConnected = this.#isConnected
    this.#isConnected = false
    this.#connection = undefined
    if (this.#closed) {
      clearTimeout(this.#wait)
      this.#onGoodbye?.()
      this.#onGoodbye = undefined
      return
    }
    if (wasConnected) {
      this.#listener.lost(reason)
      this.#step({ type: 'lost', silent, reason })
    } else {
      this.#listener.attemptFailed(broker, reason)
      this.#step({ type: 'attemptFailed', timedOut: silent, reason })
    }
  }
}

const goodbye = 'goodbye'

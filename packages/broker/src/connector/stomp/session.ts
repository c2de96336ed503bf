/**
 * One STOMP client: frames in, engine calls out, and what the engine has to say as frames back.
 *
 * Pure: bytes, time and the fate of the socket come in as calls, and go out through a `StompSink`.
 * Invariants: a receipt goes out only when its frame and all before it are committed, in order; nothing is delivered
 * once the session is closing; after an ERROR nothing more is read; output is written once per turn, in one piece.
 * Source: STOMP 1.2 specification; ActiveMQ's headers and defaults where it leaves a choice.
 */
import { StoreError } from '@levelmq/store'
import type { Client, Engine, EngineConnection } from '../../engine.ts'
import { BrokerError } from '../../errors.ts'
import { EnvelopeView } from '../../message/envelope.ts'
import { StompDecoder } from './decoder.ts'
import { QueueNames } from './destination.ts'
import { type MessagePrefix, StompEncoder } from './encoder.ts'
import type { StompFrame } from './frame.ts'
import { HeartBeat, type HeartBeatIntervals, negotiateHeartBeat } from './heart-beat.ts'
import { StompProtocolError } from './protocol-error.ts'
import { PendingReceipts } from './receipts.ts'
import { envelopeHead, producerMark } from './send-frame.ts'
import { acknowledgeMode, prefetchOf, refuseUnsupported } from './subscribe-frame.ts'
import { Subscriptions } from './subscriptions.ts'
import { noTransactions, refuseTransaction } from './transaction.ts'
import { negotiateVersion, supportedVersions, UnsupportedVersion } from './version.ts'
import { StompCommand, StompHeader, type StompVersion } from './vocabulary.ts'

/** Where a session's output goes, and how it governs its input. */
export interface StompSink {
  /** Written, but not yet taken by the operating system. */
  readonly bufferedBytes: number
  /** Takes the bytes for good. */
  write(bytes: Buffer): void
  pauseInput(): void
  resumeInput(): void
  /** Closes once everything written is out; what still comes in is thrown away. */
  end(): void
  /** Closes at once. */
  destroy(): void
  /** The session wants its `tick` now, from outside of this call, and as often after it as `tick` says. */
  requestTick(): void
  /** For the log: why the session ends itself. `cause` is set for a fault of ours. */
  failed(reason: string, cause?: unknown): void
}

export interface StompSessionOptions {
  /** Value of the `session` header. */
  readonly sessionId: string
  /** Ids of messages are `ID:<this>-<index>`; the same on all brokers of a cluster. */
  readonly messageIdPrefix: string
  /** For the `server` header. */
  readonly version: string
  readonly maxFrameBytes: number
  /** From the connection to its CONNECT frame. */
  readonly connectTimeoutMs: number
  readonly heartBeat: HeartBeatIntervals
  readonly heartBeatGraceFactor: number
  /** With more output than this waiting, nothing is delivered and nothing read. */
  readonly maxOutputBytes: number
  readonly maxSubscriptions: number
  /** With more receipts than this waiting, nothing is read. */
  readonly maxPendingReceipts: number
}

/** Why a client is dropped when mastership is lost. */
export const NOT_MASTER = 'broker is no longer master'

type State = 'connecting' | 'open' | 'draining' | 'closed'

export class StompSession implements Client {
  readonly #engine: Engine
  readonly #sink: StompSink
  readonly #options: StompSessionOptions
  readonly #decoder: StompDecoder
  readonly #encoder = new StompEncoder()
  readonly #queues = new QueueNames()
  readonly #receipts = new PendingReceipts()
  readonly #view = new EnvelopeView()
  readonly #subscriptions: Subscriptions
  readonly #connectBeforeMs: number
  #connection: EngineConnection | undefined
  #heartBeat: HeartBeat | undefined
  #state: State = 'connecting'
  #version: StompVersion = '1.2'
  /** Of the frame at hand. */
  #receipt: string | undefined
  #nowMs: number
  #wallMs = 0
  #reading = false
  #paused = false
  #clogged = false
  /** The output holds messages that were not written yet: it may be written under the lease only. */
  #delivering = false

  constructor(engine: Engine, sink: StompSink, options: StompSessionOptions, nowMs: number) {
    this.#engine = engine
    this.#sink = sink
    this.#options = options
    this.#nowMs = nowMs
    this.#connectBeforeMs = nowMs + options.connectTimeoutMs
    this.#subscriptions = new Subscriptions(options.maxSubscriptions, `ID:${options.messageIdPrefix}-`)
    this.#decoder = new StompDecoder(options.maxFrameBytes, (frame) => this.#frame(frame))
  }

  // ---- What the socket says.

  /**
   * Takes the bytes of one socket read.
   *
   * @param nowMs - Monotonic.
   * @param wallMs - Milliseconds since 1970, for messages that bring no timestamp.
   */
  receive(chunk: Buffer, nowMs: number, wallMs: number): void {
    if (this.#state !== 'connecting' && this.#state !== 'open') return
    this.#nowMs = nowMs
    this.#wallMs = wallMs
    this.#heartBeat?.read(nowMs)
    this.#reading = true
    try {
      this.#decoder.push(chunk)
      this.#connection?.endOfRead()
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#reading = false
    }
    this.flush()
  }

  /** The client sends no more; it still gets what it is owed. */
  inputEnded(): void {
    if (this.#state === 'open') {
      this.#drain()
      this.#connection?.endOfRead()
    } else if (this.#state === 'connecting') this.#finish()
    this.flush()
  }

  /** All output was taken by the operating system. */
  drained(): void {
    this.#reconsiderInput()
    if (!this.#clogged || this.#isClogged()) return
    this.#clogged = false
    if (this.#state === 'open') this.#engine.writableAgain(this)
  }

  /** The socket is gone. */
  closed(): void {
    this.#state = 'closed'
    this.#leaveEngine()
  }

  /** Looks at the clock. @returns Milliseconds until it has to look again, or `undefined` if never. */
  tick(nowMs: number): number | undefined {
    if (this.#state === 'closed') return undefined
    if (this.#state === 'connecting') {
      if (nowMs < this.#connectBeforeMs) return this.#connectBeforeMs - nowMs
      const timeout = this.#options.connectTimeoutMs
      this.#fail(
        new StompProtocolError(
          'no CONNECT frame in time',
          `CONNECT comes within ${timeout} ms of connecting.`,
        ),
      )
      this.flush()
      return undefined
    }
    const beat = this.#heartBeat
    if (beat === undefined) return undefined
    // While nothing is read, silence is our doing.
    if (this.#paused) beat.read(nowMs)
    if (beat.isSilent(nowMs)) {
      this.#fail(
        new StompProtocolError('heart-beats missing', 'The client is silent for longer than it promised.'),
      )
      this.flush()
      return undefined
    }
    if (beat.isSendDue(nowMs) && this.#sink.bufferedBytes === 0) {
      this.#encoder.heartBeat()
      this.flush()
    }
    return beat.nextTickMs(nowMs)
  }

  // ---- What the engine says.

  get writable(): boolean {
    if (this.#state !== 'open') return false
    if (!this.#isClogged()) return true
    this.#clogged = true
    return false
  }

  confirmed(index: number): void {
    this.#receipts.confirmed(index)
    if (this.#state === 'open' || this.#state === 'draining') this.#sendReceipts()
  }

  flush(): void {
    if (this.#reading) return
    this.#write()
    if (this.#state === 'draining' && this.#receipts.size === 0) {
      // The engine may be the caller, so it hears of the end only once the socket is closed.
      this.#state = 'closed'
      this.#sink.end()
    }
    this.#reconsiderInput()
  }

  roomAgain(): void {
    this.#reconsiderInput()
  }

  disconnect(reason: string): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#connection = undefined
    // Messages that were not written belong to the next master; receipts with them are asked for again.
    if (this.#delivering) this.#encoder.take()
    this.#delivering = false
    this.#encoder.error(
      reason,
      'What has no receipt yet is in doubt: it may have been stored or not. Reconnect, to the master, and send it again.',
      undefined,
    )
    this.#write()
    this.#sink.destroy()
  }

  // ---- Frames.

  #frame(frame: StompFrame): void {
    if (this.#state !== 'connecting' && this.#state !== 'open') return
    this.#receipt = frame.raw(StompHeader.receipt)
    switch (frame.command) {
      case StompCommand.SEND:
        this.#send(frame)
        break
      case StompCommand.ACK:
      case StompCommand.NACK:
        this.#acknowledge(frame)
        break
      case StompCommand.SUBSCRIBE:
        this.#subscribe(frame)
        break
      case StompCommand.UNSUBSCRIBE:
        this.#unsubscribe(frame)
        break
      case StompCommand.DISCONNECT:
        this.#disconnected()
        return
      case StompCommand.CONNECT:
      case StompCommand.STOMP:
        this.#receipt = undefined
        this.#connect(frame)
        break
      case StompCommand.BEGIN:
      case StompCommand.COMMIT:
      case StompCommand.ABORT:
        throw noTransactions()
      default:
        throw new StompProtocolError(
          'a command of servers',
          'Clients do not send CONNECTED, MESSAGE, RECEIPT or ERROR.',
        )
    }
    this.#owe()
  }

  #connect(frame: StompFrame): void {
    if (this.#state === 'open')
      throw new StompProtocolError('already connected', 'One CONNECT per connection.')
    const version = negotiateVersion(frame.text(StompHeader.acceptVersion))
    const intervals = negotiateHeartBeat(frame.text(StompHeader.heartBeat), this.#options.heartBeat)
    if (intervals === undefined) {
      throw new StompProtocolError('malformed heart-beat', 'heart-beat:MILLISECONDS,MILLISECONDS')
    }
    this.#version = version
    this.#decoder.accept(version)
    this.#encoder.accept(version)
    this.#heartBeat = new HeartBeat(intervals, this.#options.heartBeatGraceFactor, this.#nowMs)
    this.#state = 'open'
    this.#connection = this.#engine.connect(this)
    this.#sink.requestTick()
    const { sendMs, receiveMs } = this.#options.heartBeat
    this.#encoder.connected([
      ['version', version],
      ['session', this.#options.sessionId],
      ['server', `LevelMQ/${this.#options.version}`],
      ['heart-beat', `${sendMs},${receiveMs}`],
    ])
  }

  #send(frame: StompFrame): void {
    refuseTransaction(frame)
    const queue = this.#queues.of(frame)
    const producer = producerMark(frame)
    const head = envelopeHead(frame, queue, producer, this.#wallMs)
    const index = this.#opened.send(queue.name, head, frame.body, producer?.id, producer?.sequence ?? 0)
    this.#receipts.stored(index)
  }

  #subscribe(frame: StompFrame): void {
    const rawId = frame.raw(StompHeader.id)
    if (rawId === undefined && this.#version !== '1.0') {
      throw new StompProtocolError(
        'no id header',
        'SUBSCRIBE has an id that tells the subscriptions of a connection apart.',
      )
    }
    refuseUnsupported(frame)
    const queue = this.#queues.of(frame)
    const rawDestination = frame.raw(StompHeader.destination) as string
    const subscription = this.#subscriptions.add(rawId ?? rawDestination)
    const mode = acknowledgeMode(frame)
    const prefix = this.#encoder.prefix(
      rawId,
      rawDestination,
      queue.name,
      `ID:${this.#options.messageIdPrefix}-`,
      mode === 'auto' || this.#version !== '1.2' ? undefined : `${subscription.number}-`,
    )
    subscription.consumer = this.#opened.subscribe(
      { queue: queue.name, mode, prefetch: prefetchOf(frame) },
      {
        deliver: (index, redeliveryCount, envelope) =>
          this.#deliver(prefix, index, redeliveryCount, envelope),
      },
    )
  }

  #unsubscribe(frame: StompFrame): void {
    const named =
      this.#version === '1.0'
        ? (frame.raw(StompHeader.id) ?? frame.raw(StompHeader.destination))
        : frame.raw(StompHeader.id)
    this.#subscriptions.take(named).consumer?.close()
  }

  #acknowledge(frame: StompFrame): void {
    refuseTransaction(frame)
    const reject = frame.command === StompCommand.NACK
    if (reject && this.#version === '1.0') {
      throw new StompProtocolError('unknown command "NACK"', 'NACK came with STOMP 1.1.')
    }
    const stored = this.#subscriptions.settle(frame, this.#version, reject)
    if (stored === 0) {
      throw new StompProtocolError(
        'unknown ack id',
        this.#version === '1.2'
          ? 'The id is that of the ack header of a MESSAGE that is not acknowledged yet; with ack:auto there is none.'
          : 'message-id (and subscription) are those of a MESSAGE that is not acknowledged yet.',
      )
    }
    this.#receipts.stored(stored)
  }

  #disconnected(): void {
    this.#owe()
    this.#drain()
  }

  // ---- Output.

  #deliver(prefix: MessagePrefix, index: number, redeliveryCount: number, envelope: Buffer): void {
    if (this.#state !== 'open') return
    this.#delivering = true
    try {
      this.#encoder.message(prefix, index, redeliveryCount, this.#view.open(envelope))
    } catch (error) {
      // The engine is in the middle of its dispatch: the socket's end is what tells it.
      this.#state = 'closed'
      this.#sink.failed(`message ${index} cannot be delivered`, error)
      this.#sink.destroy()
    }
  }

  /** Settles the receipt that the frame at hand asked for. */
  #owe(): void {
    const receipt = this.#receipt
    if (receipt === undefined) return
    this.#receipt = undefined
    if (this.#receipts.add(receipt)) this.#encoder.receipt(receipt)
  }

  #sendReceipts(): void {
    for (let id = this.#receipts.shift(); id !== undefined; id = this.#receipts.shift())
      this.#encoder.receipt(id)
  }

  #write(): void {
    if (this.#encoder.pendingBytes === 0) return
    if (this.#delivering && this.#connection?.mayDeliver() === false) return
    this.#delivering = false
    this.#heartBeat?.wrote()
    this.#sink.write(this.#encoder.take())
  }

  // ---- Flow and end.

  get #opened(): EngineConnection {
    if (this.#connection === undefined)
      throw new Error('a frame was handled without a connection to the engine')
    return this.#connection
  }

  #isClogged(): boolean {
    return this.#encoder.pendingBytes + this.#sink.bufferedBytes >= this.#options.maxOutputBytes
  }

  #reconsiderInput(): void {
    if (this.#state !== 'open') return
    const pause =
      this.#isClogged() || this.#receipts.size > this.#options.maxPendingReceipts || !this.#opened.hasRoom()
    if (pause === this.#paused) return
    this.#paused = pause
    if (pause) this.#sink.pauseInput()
    else this.#sink.resumeInput()
  }

  /** No more input, no more deliveries; the connection stays with the engine until the last receipt is out. */
  #drain(): void {
    this.#state = 'draining'
    this.#subscriptions.close()
  }

  #finish(): void {
    this.#state = 'closed'
    this.#write()
    this.#leaveEngine()
    this.#sink.end()
  }

  #fail(error: unknown): void {
    if (this.#state === 'closed') return
    // The store may know of the loss before the engine does.
    if (error instanceof StoreError && error.code === 'STORE_NOT_MASTER') {
      this.disconnect(NOT_MASTER)
      return
    }
    const ours = !(error instanceof BrokerError)
    const message = ours ? 'internal error' : error.message
    this.#sink.failed(message, ours ? error : undefined)
    const expected =
      error instanceof StompProtocolError
        ? error.expected
        : ours
          ? 'The fault is not yours; the log of the broker tells more.'
          : error.message
    this.#encoder.error(
      message,
      expected,
      this.#receipt,
      error instanceof UnsupportedVersion ? supportedVersions : undefined,
    )
    // The frames before the wrong one count: let the engine see the end of this read, but take nothing from it.
    this.#state = 'closed'
    try {
      this.#connection?.endOfRead()
    } catch (secondError) {
      this.#sink.failed('internal error', secondError)
    }
    this.#finish()
  }

  #leaveEngine(): void {
    const connection = this.#connection
    this.#connection = undefined
    connection?.close()
  }
}

import type {
  Client,
  Consumer,
  Engine,
  EngineConnection,
  Receiver,
  SubscribeOptions,
} from '../../../../src/engine.ts'
import { EnvelopeView } from '../../../../src/message/envelope.ts'

export interface SentMessage {
  readonly queue: string
  readonly envelope: Buffer
  readonly producer: string | undefined
  readonly sequence: number
  readonly index: number
}

export interface FakeConsumer extends Consumer {
  readonly options: SubscribeOptions
  readonly receiver: Receiver
  readonly outstanding: Set<number>
  readonly acknowledged: number[]
  readonly rejected: number[]
  closed: boolean
}

export interface FakeConnection extends EngineConnection {
  readonly client: Client
  readonly consumers: FakeConsumer[]
  ends: number
  closed: boolean
}

/** An engine that only notes what it is told; the test says when something is confirmed or delivered. */
export class FakeEngine implements Engine {
  readonly sent: SentMessage[] = []
  readonly connections: FakeConnection[] = []
  writableAgainCalls = 0
  room = true
  lease = true
  nextIndex = 1
  /** Thrown by the next `send`. */
  fault: Error | undefined

  connect(client: Client): FakeConnection {
    const consumers: FakeConsumer[] = []
    const connection: FakeConnection = {
      client,
      consumers,
      ends: 0,
      closed: false,
      send: (queue, head, body, producer, sequence) => {
        const fault = this.fault
        this.fault = undefined
        if (fault !== undefined) throw fault
        const index = this.nextIndex++
        this.sent.push({ queue, envelope: Buffer.concat([head, body]), producer, sequence, index })
        return index
      },
      subscribe: (options, receiver) => {
        const consumer = this.#consumer(options, receiver)
        consumers.push(consumer)
        return consumer
      },
      hasRoom: () => this.room,
      mayDeliver: () => this.lease,
      endOfRead: () => {
        connection.ends++
      },
      close: () => {
        connection.closed = true
      },
    }
    this.connections.push(connection)
    return connection
  }

  writableAgain(): void {
    this.writableAgainCalls++
  }

  /** What was sent, as a reader of envelopes sees it. */
  view(place: number): EnvelopeView {
    return new EnvelopeView(this.sent[place]?.envelope)
  }

  #consumer(options: SubscribeOptions, receiver: Receiver): FakeConsumer {
    const settle = (index: number, into: number[]): number => {
      if (!consumer.outstanding.delete(index)) return 0
      into.push(index)
      return this.nextIndex++
    }
    const consumer: FakeConsumer = {
      options,
      receiver: {
        deliver: (index, redeliveryCount, envelope) => {
          if (options.mode !== 'auto') consumer.outstanding.add(index)
          receiver.deliver(index, redeliveryCount, envelope)
        },
      },
      outstanding: new Set(),
      acknowledged: [],
      rejected: [],
      closed: false,
      acknowledge: (index) => settle(index, consumer.acknowledged),
      reject: (index) => settle(index, consumer.rejected),
      close: () => {
        consumer.closed = true
      },
    }
    return consumer
  }
}

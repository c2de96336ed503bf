import { StoreError } from '@levelmq/store'
import { describe, expect, test } from 'vitest'
import {
  StompSession,
  type StompSessionOptions,
  type StompSink,
} from '../../../../src/connector/stomp/session.ts'
import type { StompVersion } from '../../../../src/connector/stomp/vocabulary.ts'
import { BrokerError } from '../../../../src/errors.ts'
import { BodyKind, encodeEnvelopeHead } from '../../../../src/message/envelope.ts'
import { decodeAll, type PlainFrame } from './decoded.ts'
import { type FakeConnection, type FakeConsumer, FakeEngine } from './fake-engine.ts'

const options: StompSessionOptions = {
  sessionId: 'session-1',
  messageIdPrefix: 'levelmq',
  version: '0.1.0',
  maxFrameBytes: 1024 * 1024,
  connectTimeoutMs: 5000,
  heartBeat: { sendMs: 10_000, receiveMs: 10_000 },
  heartBeatGraceFactor: 2,
  maxOutputBytes: 64 * 1024,
  maxSubscriptions: 3,
  maxPendingReceipts: 10,
}
const WALL_MS = 1_700_000_000_000

/** A session on a fake engine and a fake socket. */
class Bench implements StompSink {
  readonly engine = new FakeEngine()
  readonly writes: Buffer[] = []
  readonly failures: { reason: string; cause: unknown }[] = []
  readonly calls: string[] = []
  readonly session: StompSession
  bufferedBytes = 0
  #version: StompVersion = '1.2'

  constructor(overrides: Partial<StompSessionOptions> = {}) {
    this.session = new StompSession(this.engine, this, { ...options, ...overrides }, 0)
  }

  write(bytes: Buffer): void {
    this.writes.push(bytes)
  }
  pauseInput(): void {
    this.calls.push('pause')
  }
  resumeInput(): void {
    this.calls.push('resume')
  }
  end(): void {
    this.calls.push('end')
  }
  destroy(): void {
    this.calls.push('destroy')
  }
  requestTick(): void {
    this.calls.push('tick')
  }
  failed(reason: string, cause: unknown): void {
    this.failures.push({ reason, cause })
  }

  /** One socket read. @returns The frames it led to. */
  read(text: string, nowMs = 0): PlainFrame[] {
    this.session.receive(Buffer.from(text), nowMs, WALL_MS)
    return this.written()
  }

  written(): PlainFrame[] {
    const { frames, error } = decodeAll(this.writes.splice(0), this.#version)
    expect(error).toBeUndefined()
    return frames
  }

  connect(headers = 'accept-version:1.2\nhost:/\n', version: StompVersion = '1.2'): this {
    this.#version = version
    expect(this.read(`CONNECT\n${headers}\n\0`)[0]?.command).toBe('CONNECTED')
    this.calls.length = 0
    return this
  }

  confirm(index: number): PlainFrame[] {
    this.session.confirmed(index)
    this.session.flush()
    return this.written()
  }

  deliver(
    place: number,
    index: number,
    redeliveryCount = 0,
    envelope = someEnvelope(),
  ): PlainFrame | undefined {
    this.consumer(place).receiver.deliver(index, redeliveryCount, envelope)
    this.session.flush()
    return this.written()[0]
  }

  get connection(): FakeConnection {
    return this.engine.connections[0] as FakeConnection
  }

  consumer(place: number): FakeConsumer {
    return this.connection.consumers[place] as FakeConsumer
  }
}

function someEnvelope(): Buffer {
  const head = encodeEnvelopeHead({
    persistent: true,
    priority: 4,
    bodyKind: BodyKind.text,
    timestampMs: WALL_MS,
    expirationMs: 0,
    destination: { kind: 0, name: 'a' },
  })
  return Buffer.concat([head, Buffer.from('hello')])
}

const SUBSCRIBE = 'SUBSCRIBE\nid:s\ndestination:/queue/a\nack:client-individual\n\n\0'

describe('stomp session: CONNECT', () => {
  test('the greeting names version, session, server and heart-beats', () => {
    const bench = new Bench()
    expect(bench.read('CONNECT\naccept-version:1.0,1.1,1.2\nhost:x\n\n\0')[0]).toMatchObject({
      command: 'CONNECTED',
      headers: {
        version: '1.2',
        session: 'session-1',
        server: 'LevelMQ/0.1.0',
        'heart-beat': '10000,10000',
      },
    })
    expect(bench.calls).toContain('tick')
  })

  test('the highest common version is taken, and 1.0 without accept-version', () => {
    expect(new Bench().read('STOMP\naccept-version:1.1,1.0\n\n\0')[0]?.headers.version).toBe('1.1')
    expect(new Bench().read('CONNECT\n\n\0')[0]?.headers.version).toBe('1.0')
  })

  test('no common version is an error that names ours', () => {
    const bench = new Bench()
    const [error] = bench.read('CONNECT\naccept-version:2.0\n\n\0')
    expect(error).toMatchObject({ command: 'ERROR', headers: { version: '1.0,1.1,1.2' } })
    expect(bench.calls).toContain('end')
    expect(bench.engine.connections).toHaveLength(0)
  })

  test('without CONNECT in time the client is dropped', () => {
    const bench = new Bench()
    expect(bench.session.tick(0)).toBe(5000)
    expect(bench.session.tick(4999)).toBe(1)
    expect(bench.session.tick(5000)).toBeUndefined()
    expect(bench.written()[0]?.headers.message).toBe('no CONNECT frame in time')
    expect(bench.calls).toEqual(['end'])
  })

  test('a second CONNECT and other nonsense are errors', () => {
    for (const frame of [
      'CONNECT\naccept-version:1.2\n\n\0',
      'MESSAGE\n\n\0',
      'NONSENSE\n\n\0',
      'SEND\nx:\\t\n\n\0',
    ]) {
      const bench = new Bench().connect()
      expect(bench.read(frame)[0]?.command).toBe('ERROR')
      expect(bench.calls).toEqual(['end'])
      expect(bench.connection.closed).toBe(true)
      expect(bench.failures).toHaveLength(1)
      expect(bench.read('SEND\ndestination:/queue/a\n\n\0')).toEqual([])
      expect(bench.engine.sent).toHaveLength(0)
    }
  })

  test('a malformed heart-beat is an error', () => {
    expect(new Bench().read('CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0')[0]?.command).toBe('ERROR')
  })
})

describe('stomp session: SEND', () => {
  test('headers become the envelope', () => {
    const bench = new Bench().connect()
    bench.read(
      'SEND\ndestination:/queue/a\ncontent-type:text/plain\npriority:9\nexpires:1800000000000\npersistent:true\n' +
        'correlation-id:c1\nreply-to:/topic/answers\ntype:order\nJMSXGroupID:g\nJMSXGroupSeq:-3\ncolour:red\\c\ncolour:blue\n' +
        'id:own\nack:x\nmessage-id:forged\nJMSXUserID:root\n\nbody\0',
    )
    const view = bench.engine.view(0)
    expect(view).toMatchObject({
      priority: 9,
      expirationMs: 1_800_000_000_000,
      timestampMs: WALL_MS,
      persistent: true,
      bodyKind: BodyKind.text,
      destination: { kind: 0, name: 'a' },
      correlationId: 'c1',
      replyTo: { kind: 1, name: 'answers' },
      type: 'order',
      groupId: 'g',
      groupSequence: -3,
      contentType: 'text/plain',
      messageId: undefined,
      userId: undefined,
    })
    expect([...view.properties]).toEqual([
      ['colour', { type: 'string', value: 'red:' }],
      ['id', { type: 'string', value: 'own' }],
    ])
    expect(view.body.toString()).toBe('body')
  })

  test('what was sent comes back in a MESSAGE', () => {
    const bench = new Bench().connect()
    bench.read(
      'SEND\ndestination:/queue/a\ncontent-length:3\ncontent-type:x/y\nreply-to:somewhere else\ntype:t\ngröße:\\n\\c\n\na\0b\0',
    )
    bench.read('SUBSCRIBE\nid:s\ndestination:/queue/a\n\n\0')
    expect(bench.engine.view(0).bodyKind).toBe(BodyKind.bytes)
    expect(bench.deliver(0, 1, 0, bench.engine.sent[0]?.envelope)).toMatchObject({
      headers: {
        'content-type': 'x/y',
        'reply-to': 'somewhere else',
        type: 't',
        größe: '\n:',
        expires: '0',
        priority: '4',
      },
      body: 'a\0b',
    })
  })

  test('the receipt comes once the message is committed, not before', () => {
    const bench = new Bench().connect()
    expect(bench.read('SEND\ndestination:/queue/a\nreceipt:r1\n\nx\0')).toEqual([])
    expect(bench.connection.ends).toBe(2)
    expect(bench.confirm(1)).toEqual([{ command: 'RECEIPT', headers: { 'receipt-id': 'r1' }, body: '' }])
  })

  test('receipts keep the order of their frames and wait for what came before', () => {
    const bench = new Bench().connect()
    const first = bench.read(
      'SEND\ndestination:/queue/a\n\nx\0SEND\ndestination:/queue/a\nreceipt:1\n\nx\0' +
        'SUBSCRIBE\nid:s\ndestination:/queue/b\nreceipt:2\n\n\0SEND\ndestination:/queue/a\nreceipt:3\n\nx\0',
    )
    expect(first).toEqual([])
    expect(bench.confirm(1)).toEqual([])
    expect(bench.confirm(2).map((frame) => frame.headers['receipt-id'])).toEqual(['1', '2'])
    expect(bench.confirm(3).map((frame) => frame.headers['receipt-id'])).toEqual(['3'])
    expect(
      bench.read('UNSUBSCRIBE\nid:s\nreceipt:4\n\n\0').map((frame) => frame.headers['receipt-id']),
    ).toEqual(['4'])
  })

  test('frames of one read are worked off before one endOfRead and one write', () => {
    const bench = new Bench().connect()
    bench.session.receive(
      Buffer.from(
        'SUBSCRIBE\nid:a\ndestination:/queue/a\nreceipt:1\n\n\0' +
          'SUBSCRIBE\nid:b\ndestination:/queue/a\nreceipt:2\n\n\0',
      ),
      0,
      0,
    )
    expect(bench.connection.ends).toBe(2)
    expect(bench.writes).toHaveLength(1)
  })

  test('a receipt id is handed back with its escapes', () => {
    const bench = new Bench().connect()
    bench.session.receive(Buffer.from('UNSUBSCRIBE\nid:x\nreceipt:a\\c\\n\n\n\0'), 0, 0)
    expect(bench.writes[0]?.toString()).toContain('receipt-id:a\\c\\n\n')
  })

  test('producer headers go to the engine, both or none', () => {
    const bench = new Bench().connect()
    bench.read('SEND\ndestination:/queue/a\nlevelmq.producerId:p\nlevelmq.producerSequenceId:7\n\n\0')
    expect(bench.engine.sent[0]).toMatchObject({ producer: 'p', sequence: 7 })
    expect(bench.engine.view(0)).toMatchObject({ producerId: 'p', producerSequence: 7 })
    for (const headers of [
      'levelmq.producerId:p',
      'levelmq.producerSequenceId:7',
      'levelmq.producerId:p\nlevelmq.producerSequenceId:0',
      'levelmq.producerId:p\nlevelmq.producerSequenceId:-1',
      'levelmq.producerId:\nlevelmq.producerSequenceId:1',
    ]) {
      expect(new Bench().connect().read(`SEND\ndestination:/queue/a\n${headers}\n\n\0`)[0]?.command).toBe(
        'ERROR',
      )
    }
  })

  test('what is not supported or malformed is refused by name', () => {
    for (const [frame, message] of [
      ['SEND\n\n\0', 'no destination'],
      ['SEND\ndestination:a\n\n\0', 'malformed destination'],
      ['SEND\ndestination:/queue/\n\n\0', 'malformed destination'],
      [`SEND\ndestination:/queue/${'x'.repeat(1025)}\n\n\0`, 'malformed destination'],
      ['SEND\ndestination:/queue/a\\nb\n\n\0', 'malformed destination'],
      ['SEND\ndestination:/topic/a\n\n\0', 'not supported yet'],
      ['SEND\ndestination:/temp-queue/a\n\n\0', 'not supported yet'],
      ['SEND\ndestination:/queue/a,b\n\n\0', 'not supported yet'],
      ['SUBSCRIBE\nid:1\ndestination:/queue/a.>\n\n\0', 'not supported yet'],
      ['SEND\ndestination:/queue/a\ntransaction:t\n\n\0', 'transactions are not supported yet'],
      ['BEGIN\ntransaction:t\n\n\0', 'transactions are not supported yet'],
      ['COMMIT\ntransaction:t\n\n\0', 'transactions are not supported yet'],
      ['ABORT\ntransaction:t\n\n\0', 'transactions are not supported yet'],
      ['SEND\ndestination:/queue/a\npriority:10\n\n\0', 'malformed priority'],
      ['SEND\ndestination:/queue/a\nexpires:soon\n\n\0', 'malformed expires'],
      ['SEND\ndestination:/queue/a\nJMSXGroupSeq:2147483648\n\n\0', 'malformed JMSXGroupSeq'],
      ["SUBSCRIBE\nid:1\ndestination:/queue/a\nselector:a = 'b'\n\n\0", 'selectors are not supported yet'],
      ['SUBSCRIBE\nid:1\ndestination:/queue/a\nbrowser:true\n\n\0', 'queue browsers are not supported yet'],
      ['SUBSCRIBE\nid:1\ndestination:/queue/a\nack:maybe\n\n\0', 'unknown ack mode'],
      [
        'SUBSCRIBE\nid:1\ndestination:/queue/a\nactivemq.prefetchSize:0\n\n\0',
        'malformed activemq.prefetchSize',
      ],
      [
        'SUBSCRIBE\nid:1\ndestination:/queue/a\nactivemq.prefetchSize:65536\n\n\0',
        'malformed activemq.prefetchSize',
      ],
      ['SUBSCRIBE\ndestination:/queue/a\n\n\0', 'no id header'],
      ['UNSUBSCRIBE\nid:1\n\n\0', 'unknown subscription'],
      ['ACK\nid:1-1\n\n\0', 'unknown ack id'],
      ['ACK\n\n\0', 'unknown ack id'],
    ] as const) {
      const [error] = new Bench().connect().read(frame.replace('\n\n', '\nreceipt:r\n\n'))
      expect(error?.command).toBe('ERROR')
      expect(error?.headers.message).toContain(message)
      expect(error?.headers['receipt-id']).toBe('r')
      expect(error?.body).not.toBe('')
    }
  })

  test('S30: a message for which there is no space is refused with an ERROR that says so, for this client alone', () => {
    const bench = new Bench().connect()
    bench.engine.fault = new BrokerError({ code: 'BROKER_STORE_FULL' }, 'no space for more messages')
    expect(bench.read('SEND\ndestination:/queue/a\nreceipt:9\n\nx\0')).toMatchObject([
      { command: 'ERROR', headers: { message: 'no space for more messages', 'receipt-id': '9' } },
    ])
    expect(bench.calls.at(-1)).toBe('end')
  })

  test('a fault of the engine closes this connection; what came before it counts', () => {
    const bench = new Bench().connect()
    bench.engine.fault = new BrokerError(
      { code: 'BROKER_MESSAGE_TOO_LARGE', bytes: 9, limit: 8 },
      'too large',
    )
    expect(bench.read('SEND\ndestination:/queue/a\nreceipt:9\n\nx\0')[0]).toMatchObject({
      command: 'ERROR',
      headers: { message: 'too large', 'receipt-id': '9' },
    })
    const other = new Bench().connect()
    other.engine.fault = new TypeError('secret detail')
    const [error] = other.read('SEND\ndestination:/queue/a\n\nx\0')
    expect(error?.headers.message).toBe('internal error')
    expect(JSON.stringify(error)).not.toContain('secret')
    expect(other.failures[0]?.cause).toBeInstanceOf(TypeError)
    expect(other.connection.ends).toBe(2)
  })
})

describe('stomp session: SUBSCRIBE, ACK, NACK', () => {
  test('options reach the engine', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    bench.read('SUBSCRIBE\nid:2\ndestination:/queue/b\nactivemq.prefetchSize:65535\nack:client\n\n\0')
    bench.read('SUBSCRIBE\nid:3\ndestination:/queue/b\n\n\0')
    expect(bench.connection.consumers.map((consumer) => consumer.options)).toEqual([
      { queue: 'a', mode: 'individual', prefetch: 1000 },
      { queue: 'b', mode: 'client', prefetch: 65535 },
      { queue: 'b', mode: 'auto', prefetch: 1000 },
    ])
    expect(bench.read('SUBSCRIBE\nid:4\ndestination:/queue/b\n\n\0')[0]?.headers.message).toBe(
      'too many subscriptions',
    )
  })

  test('an id is used once', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    expect(bench.read(SUBSCRIBE)[0]?.headers.message).toBe('subscription id in use')
  })

  test('a message is acknowledged by its ack header; the receipt waits for the commit', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    const message = bench.deliver(0, 500, 2)
    expect(message?.headers).toMatchObject({
      subscription: 's',
      'message-id': 'ID:levelmq-500',
      redelivered: 'true',
    })
    expect(bench.read(`ACK\nid:${message?.headers.ack}\nreceipt:1\n\n\0`)).toEqual([])
    expect(bench.consumer(0).acknowledged).toEqual([500])
    expect(bench.confirm(1)[0]?.headers['receipt-id']).toBe('1')
    expect(bench.read(`ACK\nid:${message?.headers.ack}\n\n\0`)[0]?.headers.message).toBe('unknown ack id')
  })

  test('NACK gives the message back', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    bench.read(`NACK\nid:${bench.deliver(0, 5)?.headers.ack}\n\n\0`)
    expect(bench.consumer(0).rejected).toEqual([5])
  })

  test('in mode auto a message has no ack header', () => {
    const bench = new Bench().connect()
    bench.read('SUBSCRIBE\nid:s\ndestination:/queue/a\n\n\0')
    expect(bench.deliver(0, 5)?.headers.ack).toBeUndefined()
  })

  test('UNSUBSCRIBE ends the consumer and its ack ids', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    const message = bench.deliver(0, 5)
    bench.read('UNSUBSCRIBE\nid:s\n\n\0')
    expect(bench.consumer(0).closed).toBe(true)
    bench.read(SUBSCRIBE)
    expect(bench.read(`ACK\nid:${message?.headers.ack}\n\n\0`)[0]?.headers.message).toBe('unknown ack id')
  })

  test('a message that was sent to another queue says so', () => {
    const bench = new Bench().connect()
    bench.read('SUBSCRIBE\nid:s\ndestination:/queue/ActiveMQ.DLQ\n\n\0')
    expect(bench.deliver(0, 5)?.headers).toMatchObject({
      destination: '/queue/ActiveMQ.DLQ',
      'original-destination': '/queue/a',
    })
  })

  test('1.1: by message-id and subscription; 1.0: by message-id alone', () => {
    const newer = new Bench().connect('accept-version:1.1\n', '1.1')
    newer.read(SUBSCRIBE)
    const message = newer.deliver(0, 5)
    expect(message?.headers.ack).toBeUndefined()
    newer.read(`ACK\nsubscription:s\nmessage-id:${message?.headers['message-id'] ?? ''}\n\n\0`)
    expect(newer.consumer(0).acknowledged).toEqual([5])

    const older = new Bench().connect('', '1.0')
    older.read('SUBSCRIBE\ndestination:/queue/a\nack:client\n\n\0')
    const old = older.deliver(0, 6)
    expect(old?.headers.subscription).toBeUndefined()
    older.read(`ACK\nmessage-id:${old?.headers['message-id'] ?? ''}\n\n\0`)
    expect(older.consumer(0).acknowledged).toEqual([6])
    older.read('UNSUBSCRIBE\ndestination:/queue/a\n\n\0')
    expect(older.consumer(0).closed).toBe(true)
  })

  test('a damaged envelope costs the connection, not the engine', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    bench.consumer(0).receiver.deliver(5, 0, Buffer.from('damaged'))
    expect(bench.calls).toContain('destroy')
    expect(bench.session.writable).toBe(false)
    bench.session.closed()
    expect(bench.connection.closed).toBe(true)
  })
})

describe('stomp session: flow', () => {
  test('clogged output stops deliveries and input until it is drained', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    expect(bench.session.writable).toBe(true)
    bench.bufferedBytes = options.maxOutputBytes
    expect(bench.session.writable).toBe(false)
    bench.session.flush()
    expect(bench.calls).toEqual(['pause'])
    bench.bufferedBytes = 0
    bench.session.drained()
    expect(bench.calls).toEqual(['pause', 'resume'])
    expect(bench.engine.writableAgainCalls).toBe(1)
    bench.session.drained()
    expect(bench.engine.writableAgainCalls).toBe(1)
  })

  test('a store without room pauses the input until there is some', () => {
    const bench = new Bench().connect()
    bench.engine.room = false
    bench.read('SEND\ndestination:/queue/a\n\n\0')
    expect(bench.calls).toEqual(['pause'])
    bench.engine.room = true
    bench.session.roomAgain()
    expect(bench.calls).toEqual(['pause', 'resume'])
  })

  test('too many pending receipts pause the input', () => {
    const bench = new Bench().connect()
    bench.read('SEND\ndestination:/queue/a\nreceipt:r\n\n\0'.repeat(11))
    expect(bench.calls).toEqual(['pause'])
    expect(bench.confirm(11)).toHaveLength(11)
    expect(bench.calls).toEqual(['pause', 'resume'])
  })
})

describe('stomp session: heart-beats', () => {
  test('an idle session sends one within the negotiated time', () => {
    const bench = new Bench({ heartBeat: { sendMs: 100, receiveMs: 100 } }).connect(
      'accept-version:1.2\nheart-beat:0,1000\n',
    )
    let last = 0
    for (let now = 0, next = 0; now < 10_000; now = next) {
      next = now + (bench.session.tick(now) ?? Number.NaN)
      for (const bytes of bench.writes.splice(0)) {
        expect(bytes.toString()).toBe('\n')
        expect(now - last).toBeLessThanOrEqual(1000)
        last = now
      }
    }
    expect(last).toBeGreaterThan(9000)
  })

  test('other output takes the place of a heart-beat', () => {
    const bench = new Bench({ heartBeat: { sendMs: 100, receiveMs: 0 } }).connect(
      'accept-version:1.2\nheart-beat:0,1000\n',
    )
    for (let now = 0; now < 5000; now += 450) {
      bench.session.tick(now)
      expect(bench.writes.splice(0)).toEqual([])
      bench.read(
        `SUBSCRIBE\nid:${now}\ndestination:/queue/a\nreceipt:r\n\n\0UNSUBSCRIBE\nid:${now}\n\n\0`,
        now,
      )
    }
  })

  test('a silent client is dropped after the grace time, one that sends line ends is not', () => {
    const bench = new Bench().connect('accept-version:1.2\nheart-beat:10000,0\n')
    for (let now = 0; now <= 100_000; now += 10_000) bench.read('\n', now)
    expect(bench.session.tick(120_000)).toBeGreaterThan(0)
    expect(bench.written()).toEqual([])
    bench.session.tick(120_001)
    expect(bench.written()[0]?.headers.message).toBe('heart-beats missing')
    expect(bench.connection.closed).toBe(true)
  })

  test('no silence counts while the broker does not read', () => {
    const bench = new Bench().connect('accept-version:1.2\nheart-beat:10000,0\n')
    bench.engine.room = false
    bench.read('SEND\ndestination:/queue/a\n\n\0')
    bench.session.tick(1_000_000)
    expect(bench.written()).toEqual([])
  })

  test('without the header there are none', () => {
    expect(new Bench().connect().session.tick(0)).toBeUndefined()
  })
})

describe('stomp session: the end', () => {
  test('DISCONNECT is receipted after all receipts before it, then the connection is closed', () => {
    const bench = new Bench().connect()
    bench.read(SUBSCRIBE)
    expect(
      bench.read(
        'SEND\ndestination:/queue/a\nreceipt:1\n\n\0SEND\ndestination:/queue/a\n\n\0DISCONNECT\nreceipt:2\n\n\0SEND\ndestination:/queue/a\n\n\0',
      ),
    ).toEqual([])
    expect(bench.engine.sent).toHaveLength(2)
    expect(bench.consumer(0).closed).toBe(true)
    expect(bench.session.writable).toBe(false)
    expect(bench.confirm(1).map((frame) => frame.headers['receipt-id'])).toEqual(['1'])
    expect(bench.calls).toEqual([])
    expect(bench.confirm(2).map((frame) => frame.headers['receipt-id'])).toEqual(['2'])
    expect(bench.calls).toEqual(['end'])
    bench.session.closed()
    expect(bench.connection.closed).toBe(true)
  })

  test('a client that only stops sending still gets its receipts', () => {
    const bench = new Bench().connect()
    bench.read('SEND\ndestination:/queue/a\nreceipt:1\n\n\0')
    bench.session.inputEnded()
    expect(bench.calls).toEqual([])
    expect(bench.confirm(1)).toHaveLength(1)
    expect(bench.calls).toEqual(['end'])
  })

  test('demotion tells the client that receipts are in doubt and destroys the connection at once', () => {
    const bench = new Bench().connect()
    bench.read('SEND\ndestination:/queue/a\nreceipt:1\n\n\0')
    bench.session.disconnect('broker is no longer master')
    expect(bench.written()).toMatchObject([
      {
        command: 'ERROR',
        headers: { message: 'broker is no longer master' },
        body: expect.stringContaining('in doubt'),
      },
    ])
    expect(bench.calls).toEqual(['destroy'])
    expect(bench.confirm(1)).toEqual([])
    bench.session.closed()
    expect(bench.connection.closed).toBe(false)
  })

  test('a delivery that is not written when the lease lapses waits for it, and is never written by a deposed master (S9)', () => {
    const renewed = new Bench().connect()
    renewed.read(SUBSCRIBE)
    renewed.engine.lease = false
    expect(renewed.deliver(0, 5)).toBeUndefined()
    renewed.engine.lease = true
    renewed.session.flush()
    expect(renewed.written()[0]?.headers['message-id']).toBe('ID:levelmq-5')

    const deposed = new Bench().connect()
    deposed.read(SUBSCRIBE)
    deposed.engine.lease = false
    expect(deposed.deliver(0, 5)).toBeUndefined()
    deposed.session.disconnect('broker is no longer master')
    expect(deposed.written().map((frame) => frame.command)).toEqual(['ERROR'])
  })

  test('a store that is no longer master ends the connection like a demotion, not like a fault of ours', () => {
    const bench = new Bench().connect()
    bench.engine.fault = new StoreError({ code: 'STORE_NOT_MASTER' }, 'not master')
    expect(bench.read('SEND\ndestination:/queue/a\nreceipt:1\n\nx\0')[0]).toMatchObject({
      command: 'ERROR',
      headers: { message: 'broker is no longer master' },
    })
    expect(bench.calls).toEqual(['destroy'])
    expect(bench.failures).toEqual([])
  })

  test('a lost socket leaves the engine', () => {
    const bench = new Bench().connect()
    bench.session.closed()
    expect(bench.connection.closed).toBe(true)
    expect(bench.session.tick(0)).toBeUndefined()
  })
})

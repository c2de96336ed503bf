import net from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { Connector } from '../../../../src/connector/connector.ts'
import { createStompConnector } from '../../../../src/connector/stomp/connector.ts'
import { BrokerError } from '../../../../src/errors.ts'
import { decodeAll, type PlainFrame } from './decoded.ts'
import { FakeEngine } from './fake-engine.ts'

interface Logged {
  readonly level: string
  readonly message: string
  readonly facts: Readonly<Record<string, unknown>>
}

const logged: Logged[] = []
const connectors: Connector[] = []
const peers: Peer[] = []

afterEach(async () => {
  for (const peer of peers.splice(0)) peer.socket.destroy()
  for (const connector of connectors.splice(0)) await connector.close()
  logged.length = 0
})

function connectorOn(uri: string): Connector {
  const connector = createStompConnector(
    { name: 'stomp', uri },
    {
      brokerName: 'broker-1',
      version: '0.1.0',
      log: (level, message, facts = {}) => logged.push({ level, message, facts }),
    },
  )
  connectors.push(connector)
  return connector
}

async function listening(
  options = '',
  engine = new FakeEngine(),
): Promise<{ connector: Connector; engine: FakeEngine }> {
  const connector = connectorOn(`stomp://127.0.0.1:0${options}`)
  await connector.listen(engine)
  return { connector, engine }
}

/** A client on a real socket. */
class Peer {
  readonly socket: net.Socket
  readonly closed: Promise<void>
  #received = Buffer.alloc(0)
  #wake: () => void = () => {}
  isClosed = false

  constructor(connector: Connector) {
    const url = new URL(connector.uri)
    this.socket = net.connect({ host: url.hostname, port: Number(url.port) })
    this.socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    this.socket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      this.socket.on('close', () => {
        this.isClosed = true
        resolve()
        this.#wake()
      })
    })
    peers.push(this)
  }

  send(text: string | Buffer): this {
    this.socket.write(text)
    return this
  }

  get frames(): PlainFrame[] {
    return decodeAll([this.#received], '1.2').frames
  }

  /** Waits until so many frames have come, or the connection is closed. */
  async until(count: number): Promise<PlainFrame[]> {
    while (this.frames.length < count && !this.isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.frames
  }

  async connected(): Promise<this> {
    this.send('CONNECT\naccept-version:1.2\nhost:/\n\n\0')
    expect((await this.until(1))[0]?.command).toBe('CONNECTED')
    return this
  }
}

/** Resolves when `condition` holds; events of the sockets drive it, so each turn may change it. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

describe('stomp connector', () => {
  test('clients send and get their receipts', async () => {
    const { connector, engine } = await listening()
    expect(connector.uri).toMatch(/^stomp:\/\/127\.0\.0\.1:[1-9]\d*$/)
    const peer = await new Peer(connector).connected()
    peer.send('SEND\ndestination:/queue/a\nreceipt:1\n\nhello\0')
    await until(() => engine.sent.length === 1)
    expect(peer.frames).toHaveLength(1)
    const client = engine.connections[0]?.client
    client?.confirmed(1)
    client?.flush()
    expect((await peer.until(2))[1]).toMatchObject({ command: 'RECEIPT', headers: { 'receipt-id': '1' } })
  })

  test('a bad client is told why, logged once with its address, and nobody else is affected', async () => {
    const { connector, engine } = await listening('?wireFormat.maxFrameSize=2000')
    const good = await new Peer(connector).connected()
    for (const [garbage, reason] of [
      ['GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', 'unknown command'],
      [Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 10, 65, 66, 67, 0]), 'NUL among the headers'],
      ['SEND\ndestination:/queue/a\n\nx\0', 'not connected'],
      ['CONNECT\naccept-version:1.2\n\n\0SEND\ncontent-length:5000\n\n', 'frame too large'],
      [`CONNECT\naccept-version:1.2\n\n\0SEND\n\n${'x'.repeat(3000)}`, 'frame too large'],
    ] as const) {
      logged.length = 0
      const bad = new Peer(connector).send(Buffer.from(garbage as string))
      await bad.closed
      expect(bad.frames.at(-1)?.command).toBe('ERROR')
      expect(bad.frames.at(-1)?.headers.message).toContain(reason)
      const complaints = logged.filter(({ level }) => level === 'warn')
      expect(complaints).toHaveLength(1)
      expect(complaints[0]?.facts.remote).toMatch(/^127\.0\.0\.1:\d+$/)
    }
    good.send('SEND\ndestination:/queue/a\n\nx\0')
    await until(() => engine.sent.length === 1)
    expect(good.isClosed).toBe(false)
  })

  test('an exception in a session costs its connection only', async () => {
    const { connector, engine } = await listening()
    const good = await new Peer(connector).connected()
    const bad = await new Peer(connector).connected()
    engine.fault = new TypeError('a bug')
    bad.send('SEND\ndestination:/queue/a\n\nx\0')
    await bad.closed
    expect(bad.frames.at(-1)?.headers.message).toBe('internal error')
    expect(logged.filter(({ level }) => level === 'error')).toHaveLength(1)
    good.send('SEND\ndestination:/queue/a\n\nx\0')
    await until(() => engine.sent.length === 1)
  })

  test('a client that never connects is dropped', async () => {
    const { connector } = await listening('?connectAttemptTimeout=20')
    const peer = new Peer(connector).send('CONNECT\nslow:')
    await peer.closed
    expect(peer.frames[0]?.headers.message).toBe('no CONNECT frame in time')
  })

  test('heart-beats flow on an idle connection', async () => {
    const { connector } = await listening('?transport.defaultHeartBeat=20,20')
    const peer = new Peer(connector)
    peer.send('CONNECT\naccept-version:1.2\nheart-beat:0,20\n\n\0')
    await peer.until(1)
    const chunk = await new Promise<Buffer>((resolve) => peer.socket.once('data', resolve))
    expect(chunk.toString()).toBe('\n')
  })

  test('one client too many is turned away', async () => {
    const { connector } = await listening('?maximumConnections=1')
    const first = await new Peer(connector).connected()
    await new Peer(connector).closed
    await until(() => logged.some(({ message }) => message.includes('maximumConnections')))
    first.socket.destroy()
    await first.closed
  })

  test('a client that does not read stops being writable, and is again when it reads', async () => {
    const { connector, engine } = await listening('?maximumOutputBuffer=65536')
    const peer = await new Peer(connector).connected()
    peer.socket.pause()
    peer.send('SUBSCRIBE\nid:s\ndestination:/queue/a\n\n\0')
    await until(() => (engine.connections[0]?.consumers.length ?? 0) === 1)
    const connection = engine.connections[0]
    peer.send(`SEND\ndestination:/queue/a\ncontent-length:60000\n\n${'x'.repeat(60000)}\0`)
    await until(() => engine.sent.length === 1)
    const envelope = engine.sent[0]?.envelope as Buffer
    let delivered = 0
    while (connection?.client.writable) {
      connection.consumers[0]?.receiver.deliver(++delivered, 0, envelope)
      connection.client.flush()
      if (delivered % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(delivered).toBeGreaterThan(0)
    peer.socket.resume()
    await until(() => engine.writableAgainCalls > 0)
    expect(connection?.client.writable).toBe(true)
    expect(await peer.until(delivered + 1)).toHaveLength(delivered + 1)
  })

  test('close drops everybody at once, and the connector can listen again for another engine', async () => {
    const { connector, engine } = await listening()
    const peer = await new Peer(connector).connected()
    const idle = new Peer(connector)
    await new Promise((resolve) => idle.socket.once('connect', resolve))
    engine.connections[0]?.client.disconnect('broker is no longer master')
    await connector.close()
    await Promise.all([peer.closed, idle.closed])
    expect(peer.frames.at(-1)).toMatchObject({
      command: 'ERROR',
      headers: { message: 'broker is no longer master' },
    })
    expect(engine.connections[0]?.closed).toBe(false)
    await connector.close()
    const next = new FakeEngine()
    await connector.listen(next)
    await new Peer(connector).connected()
    expect(next.connections).toHaveLength(1)
  })

  test('close while it starts to listen wins', async () => {
    const connector = connectorOn('stomp://localhost:0')
    const started = connector.listen(new FakeEngine())
    await connector.close()
    await started
    await connector.listen(new FakeEngine())
    await new Peer(connector).connected()
  })

  test('an address in use is named, by probe and by listen, and both may be tried again', async () => {
    const { connector } = await listening()
    const other = connectorOn(connector.uri)
    for (const attempt of [() => other.probe(), () => other.listen(new FakeEngine())]) {
      const error = await attempt().catch((reason: unknown) => reason)
      expect(error).toBeInstanceOf(BrokerError)
      expect(error).toMatchObject({
        code: 'BROKER_ADDRESS_IN_USE',
        detail: { address: new URL(connector.uri).host },
      })
      expect((error as Error).message).toContain('stomp')
    }
    await connector.close()
    await other.probe()
    await other.listen(new FakeEngine())
    await new Peer(other).connected()
  })
})

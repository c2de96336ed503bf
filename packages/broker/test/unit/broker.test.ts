import type { StoreAdministration } from '@levelmq/store'
import { MemoryStore } from '@levelmq/testkit'
import { expect, test } from 'vitest'
import { Broker } from '../../src/broker.ts'
import type { BrokerOptions } from '../../src/broker-options.ts'
import type { Connector } from '../../src/connector/connector.ts'
import type { Client, Engine, EngineConnection } from '../../src/engine.ts'
import { BrokerError } from '../../src/errors.ts'

test('broker: listens only while master', async () => {
  const { broker, store, connector } = await started()
  expect(connector.listening).toBe(false)
  expect(broker.status().role).toBe('slave')
  store.promote()
  await connector.changed(() => broker.status().role === 'master')
  expect(connector.listening).toBe(true)
  store.demote()
  expect(connector.listening).toBe(false)
  expect(broker.status().role).toBe('slave')
})

test('broker: an elected master that does not listen yet is shown as electing', async () => {
  const { broker, store, connector } = await started()
  connector.holdListen()
  store.promote()
  await connector.changed(() => connector.listens === 1)
  expect(broker.status().role).toBe('electing')
  expect(broker.listening()).toBe(false)
  connector.releaseListen()
  await connector.changed(() => broker.listening())
  expect(broker.status().connectors).toEqual([{ name: 'test', uri: 'test://localhost:1', listening: true }])
})

test('S10: on demotion all clients are disconnected before the call returns', async () => {
  const { broker, store, connector } = await serving()
  const clients = [connector.accept(), connector.accept()]
  expect(broker.status().clients).toBe(2)
  store.demote('a new master was elected')
  for (const client of clients) expect(client.disconnects).toEqual(['a new master was elected'])
  expect(broker.status().clients).toBe(0)
})

test('broker: demoted before its connectors listen, it ends as a slave that listens to nothing', async () => {
  const { broker, store, connector } = await started()
  connector.holdListen()
  store.promote()
  await connector.changed(() => connector.listens === 1)
  store.demote()
  connector.releaseListen()
  await connector.changed(() => connector.idle)
  expect(connector.listening).toBe(false)
  expect(broker.status().role).toBe('slave')
})

test('W28: promoted, demoted and promoted in one process before it listens, it serves the last mastership', async () => {
  const { broker, store, connector } = await started()
  connector.holdListen()
  store.promote()
  await connector.changed(() => connector.listens === 1)
  store.demote()
  store.promote()
  connector.releaseListen()
  await connector.changed(() => broker.listening())
  expect(connector.listening).toBe(true)
  expect(connector.overlaps).toBe(0)
  const client = connector.accept()
  client.connection.send('q', Buffer.from('a'), Buffer.alloc(0), undefined, 0)
  client.connection.endOfRead()
  store.commit()
  expect(client.confirmations).toEqual([store.lastIndex])
})

/** Administration that can hand mastership over, and nothing else. */
function handingOver(store: MemoryStore, transfer: StoreAdministration['transfer']): void {
  Object.assign(store, { administration: { transfer } })
}

const never = () => new Promise<void>(() => {})

test('broker: a master that stops hands mastership over first, and serves until it is taken', async () => {
  const { broker, store, connector } = await serving(never)
  const client = connector.accept()
  const taken = Promise.withResolvers<{ to: string }>()
  handingOver(store, () => taken.promise)
  const stopped = broker.stop()
  client.connection.send('q', Buffer.from('a'), Buffer.alloc(0), undefined, 0)
  client.connection.endOfRead()
  store.commit()
  expect(client.confirmations).toEqual([store.lastIndex])
  store.demote('another broker takes over')
  expect(client.disconnects).toEqual(['another broker takes over'])
  taken.resolve({ to: 'n2' })
  await stopped
  expect(connector.listening).toBe(false)
})

test.each<[string, StoreAdministration['transfer'], () => Promise<void>]>([
  ['refuses', () => Promise.reject(new Error('no other voter is connected')), never],
  ['takes too long', () => new Promise(() => {}), async () => {}],
])('broker: a master whose successor %s stops all the same', async (_what, transfer, delay) => {
  const { broker, store, connector } = await serving(delay)
  handingOver(store, transfer)
  const client = connector.accept()
  await broker.stop()
  expect(client.disconnects).toEqual(['the broker stops'])
  expect(connector.listening).toBe(false)
})

test('broker: a slave that stops hands nothing over', async () => {
  const { broker, store } = await started(never)
  let asked = 0
  handingOver(store, async () => {
    asked += 1
    return { to: 'n2' }
  })
  await broker.stop()
  expect(asked).toBe(0)
})

test('broker: deletes a queue as master only', async () => {
  const { broker, store, connector } = await serving()
  const client = connector.accept()
  client.connection.send('q', Buffer.from('a'), Buffer.alloc(0), undefined, 0)
  client.connection.endOfRead()
  const deleted = broker.deleteQueue('q')
  store.commit()
  await deleted
  expect(broker.queues()).toEqual([])
  store.demote()
  await expect(broker.deleteQueue('q')).rejects.toMatchObject({ code: 'STORE_NOT_MASTER' })
})

test('broker: many changes of mastership in a row end in the last state', async () => {
  const { broker, store, connector } = await started()
  for (let round = 0; round < 10; round++) {
    store.promote()
    for (let turn = 0; turn < round; turn++) await Promise.resolve()
    store.demote()
    for (let turn = 0; turn < round % 3; turn++) await Promise.resolve()
  }
  store.promote()
  await connector.changed(() => broker.listening())
  expect(connector.listening).toBe(true)
  expect(connector.overlaps).toBe(0)
})

test('broker: a taken address is told at start', async () => {
  const { broker, connector } = made()
  connector.inUse = Number.POSITIVE_INFINITY
  await expect(broker.start()).rejects.toMatchObject({ code: 'BROKER_ADDRESS_IN_USE' })
})

test('broker: an address that is taken at promotion for a while is tried again', async () => {
  const { broker, store, connector, fatal } = await started()
  connector.inUse = 3
  store.promote()
  await connector.changed(() => broker.listening())
  expect(connector.listens).toBe(4)
  expect(fatal).toEqual([])
})

test('W20: an address that stays taken at promotion ends the process with its name', async () => {
  const { broker, store, connector, fatal } = await started()
  connector.inUse = Number.POSITIVE_INFINITY
  store.promote()
  await connector.changed(() => fatal.length > 0)
  expect(fatal).toMatchObject([{ code: 'BROKER_ADDRESS_IN_USE' }])
  expect(broker.failure()).toBe(fatal[0])
  expect(broker.status().role).toBe('electing')
})

test('broker: a failed store drops the clients and ends the process once', async () => {
  const { store, connector, fatal } = await serving()
  const client = connector.accept()
  store.fail(new Error('disk'))
  store.fail(new Error('again'))
  expect(client.disconnects).toHaveLength(1)
  expect(fatal.map(({ message }) => message)).toEqual(['disk'])
  expect(connector.listening).toBe(false)
})

test('broker: stop disconnects the clients and closes connectors and store, also twice', async () => {
  const { broker, store, connector } = await serving()
  const client = connector.accept()
  await Promise.all([broker.stop(), broker.stop()])
  await broker.stop()
  expect(client.disconnects).toEqual(['the broker stops'])
  expect(connector.listening).toBe(false)
  expect(store.role).toBe('slave')
})

test('broker: stopped before it started, it does not open the store', async () => {
  const { broker, store } = made()
  const starting = broker.start()
  await broker.stop()
  await starting
  expect(() => store.promote()).toThrow()
})

test('broker: its status is plain JSON that names the master', async () => {
  const { broker, connector } = await serving()
  connector.accept()
  const status = JSON.parse(JSON.stringify(broker.status()))
  expect(status).toEqual(broker.status())
  expect(status).toMatchObject({
    brokerName: 'one',
    role: 'master',
    epoch: 1,
    position: 1,
    master: { brokerName: 'one', connectors: ['test://localhost:1'] },
    zookeeper: null,
    waitingFor: null,
    clients: 1,
    queues: 0,
    uptimeSeconds: 0,
    version: '1.2.3',
  })
})

test('broker: a connector of an unknown protocol is refused by name', () => {
  expect(() => made('telnet://localhost:1')).toThrow(
    expect.objectContaining({ code: 'BROKER_INVALID_CONFIGURATION' }),
  )
})

class TestClient implements Client {
  readonly writable = true
  readonly disconnects: string[] = []
  readonly confirmations: number[] = []
  readonly connection: EngineConnection

  constructor(engine: Engine) {
    this.connection = engine.connect(this)
  }

  confirmed(index: number): void {
    this.confirmations.push(index)
  }
  flush(): void {}
  roomAgain(): void {}
  disconnect(reason: string): void {
    this.disconnects.push(reason)
  }
}

/** A connector without sockets, which listens when a test lets it. */
class TestConnector implements Connector {
  readonly name: string
  readonly uri: string
  /** Times that the address is in use from now on. */
  inUse = 0
  listens = 0
  /** Times that it was asked to listen while it did, or while it closed. */
  overlaps = 0
  #engine: Engine | undefined
  #generation = 0
  #busy = 0
  #gate = Promise.resolve()
  #release: () => void = () => undefined

  constructor(name: string, uri: string) {
    this.name = name
    this.uri = uri
  }

  get listening(): boolean {
    return this.#engine !== undefined
  }

  get idle(): boolean {
    return this.#busy === 0
  }

  async probe(): Promise<void> {
    this.#take()
  }

  async listen(engine: Engine): Promise<void> {
    this.listens += 1
    if (this.#busy > 0 || this.#engine !== undefined) this.overlaps += 1
    const generation = this.#generation
    this.#busy += 1
    await this.#gate
    this.#busy -= 1
    this.#take()
    if (generation === this.#generation) this.#engine = engine
  }

  async close(): Promise<void> {
    this.#generation += 1
    this.#engine = undefined
    this.#busy += 1
    await this.#gate
    this.#busy -= 1
  }

  accept(): TestClient {
    if (this.#engine === undefined) throw new Error('nobody listens')
    return new TestClient(this.#engine)
  }

  holdListen(): void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gate = promise
    this.#release = resolve
  }

  releaseListen(): void {
    this.#release()
  }

  /** Lets promises run until it is so. */
  async changed(condition: () => boolean): Promise<void> {
    for (let turn = 0; turn < 1000; turn++) {
      if (condition()) return
      await Promise.resolve()
    }
    throw new Error('it did not come to be')
  }

  #take(): void {
    if (this.inUse === 0) return
    this.inUse -= 1
    throw new BrokerError(
      { code: 'BROKER_ADDRESS_IN_USE', address: 'localhost:1' },
      'test: localhost:1 is in use',
    )
  }
}

interface Fixture {
  readonly broker: Broker
  readonly store: MemoryStore
  readonly connector: TestConnector
  readonly fatal: Error[]
}

function made(uri = 'test://localhost:1', delay: (ms: number) => Promise<void> = async () => {}): Fixture {
  const options: BrokerOptions = {
    brokerName: 'one',
    persistenceAdapter: { kind: 'levelDB', options: { directory: 'unused' } },
    transportConnectors: [{ name: 'test', uri }],
    management: undefined,
    log: { level: 'error', format: 'text' },
  }
  let store: MemoryStore | undefined
  let connector: TestConnector | undefined
  const fatal: Error[] = []
  const broker = new Broker(options, {
    createStore: (_configuration, host) => {
      store = new MemoryStore({ commit: 'manual', memberInfo: host.memberInfo })
      return store
    },
    connectorFactories: {
      test: (connectorOptions) => {
        connector = new TestConnector(connectorOptions.name, connectorOptions.uri)
        return connector
      },
    },
    version: '1.2.3',
    log: () => undefined,
    onFatal: (error) => fatal.push(error),
    now: () => 0,
    delay,
  })
  if (store === undefined || connector === undefined)
    throw new Error('the broker made no store or no connector')
  return { broker, store, connector, fatal }
}

async function started(delay?: (ms: number) => Promise<void>): Promise<Fixture> {
  const fixture = made(undefined, delay)
  await fixture.broker.start()
  return fixture
}

async function serving(delay?: (ms: number) => Promise<void>): Promise<Fixture> {
  const fixture = await started(delay)
  fixture.store.promote()
  await fixture.connector.changed(() => fixture.broker.listening())
  return fixture
}

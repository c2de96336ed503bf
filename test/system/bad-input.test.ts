import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { type BrokerConfiguration, type Cluster, name, withCluster } from './cluster-fixture.ts'
import { free, occupy } from './port-block.ts'
import { StompConnection } from './stomp-client.ts'
import { waitFor } from './wait-for.ts'

test.each<[string, (configuration: BrokerConfiguration) => void, RegExp[]]>([
  [
    'an unknown key',
    (configuration) =>
      Object.assign(configuration.persistenceAdapter.replicatedLevelDB, { sink: 'quorum_disk' }),
    [/levelmq\.yaml:\d+/, /sink/],
  ],
  [
    'a wrong value of sync',
    (configuration) =>
      Object.assign(configuration.persistenceAdapter.replicatedLevelDB, { sync: 'quorum_disc' }),
    [/levelmq\.yaml:\d+/, /sync/, /quorum_disc/, /quorum_disk/],
  ],
  [
    'a connector of an unknown kind',
    (configuration) =>
      Object.assign(configuration, { transportConnectors: [{ name: 'x', uri: 'smtp://127.0.0.1:25' }] }),
    [/levelmq\.yaml:\d+/, /transportConnectors/, /smtp/],
  ],
])(
  'a configuration with %s: is refused, and the message names place, key, value and what is allowed (W32)',
  async (_, change, expected) => {
    await withCluster({ start: [], configure: change }, async (cluster) => {
      await expectRefusal(cluster, 1, expected)
    })
  },
)

test.each<[string, (cluster: Cluster) => number]>([
  ['STOMP', (cluster) => cluster.stompPort(1)],
  ['management', (cluster) => cluster.managementPort(1)],
  ['replication', (cluster) => cluster.replicationPort(1)],
])('a busy %s port: the broker refuses to start and names the address', async (_, portOf) => {
  await withCluster({ start: [] }, async (cluster) => {
    const other = await occupy(portOf(cluster))
    if (other === undefined) throw new Error('the port is taken by somebody else')
    try {
      await expectRefusal(cluster, 1, [new RegExp(`127\\.0\\.0\\.1:${portOf(cluster)}`)])
    } finally {
      await free(other)
    }
  })
})

test('a member with a wrong securityToken: is refused, the status tells why, the others are unaffected', async () => {
  let token = 'right-token'
  const configure = (configuration: BrokerConfiguration): void => {
    configuration.persistenceAdapter.replicatedLevelDB.securityToken = token
  }
  await withCluster({ configure }, async (cluster) => {
    const master = await cluster.waitForService()
    const before = await cluster.status(master)
    const client = await cluster.connect(master)
    const stranger = cluster.numbers().find((n) => n !== master) as number
    await cluster.kill(stranger)
    token = 'wrong-token'
    cluster.writeConfiguration(stranger, cluster.configuration(stranger))
    cluster.start(stranger)

    const isRefused = (member: { state: string; reason: string | null }): boolean =>
      member.state === 'refused' && /securityToken/.test(member.reason ?? '')
    await waitFor('the stranger to tell of the refusal', async () => {
      const { role, members } = await cluster.status(stranger)
      return role === 'electing' && members.some(isRefused)
    })
    await waitFor('the master to tell of the refusal', async () => {
      return (await cluster.status(master)).members.some(isRefused)
    })
    await client.produce('orders', ['one', 'two'])
    expect(await cluster.status(master)).toMatchObject({
      role: 'master',
      epoch: before.epoch,
      pid: before.pid,
    })
    for (const n of cluster.numbers()) expect(cluster.log(n)).not.toMatch(/right-token|wrong-token/)
  })
})

test('garbage and frames over the limit on any port: only that connection ends, others are unaffected (X17)', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const before = await cluster.status(master)
    const client = await cluster.connect(master)
    await client.produce('orders', ['one'])

    // Over the limit by its own words: it is refused before its body comes.
    const large = await cluster.connect(master)
    large.socket.write('SEND\ndestination:/queue/orders\ncontent-length:999999999999\n\n')
    expect(
      (await large.frame('an error', (frame) => frame.command === 'ERROR')).headers.get('message'),
    ).toMatch(/limit|large|long|size/i)
    await large.closed
    // Over the limit without saying so: a header without an end.
    const endless = await cluster.connect(master)
    endless.socket.on('error', () => {})
    endless.socket.write(`SEND\nx:${'x'.repeat(2_000_000)}`)
    await waitFor('the endless header to be refused', () => endless.isClosed)
    const unknown = await cluster.connect(master)
    unknown.write('SEDN', { destination: '/queue/orders' }, 'body')
    expect(
      (await unknown.frame('an error', (frame) => frame.command === 'ERROR')).headers.get('message'),
    ).toMatch(/SEDN/)

    for (const n of cluster.numbers()) {
      await throwGarbage(cluster.replicationPort(n))
    }
    await throwGarbage(cluster.stompPort(master))
    await throwGarbage(cluster.managementPort(master))

    await client.produce('orders', ['two'])
    const after = await cluster.status(await cluster.waitForService())
    expect(after).toMatchObject({ brokerName: before.brokerName, epoch: before.epoch, pid: before.pid })
    const reader = await cluster.connect(master)
    await reader.subscribe('orders', 'auto')
    await waitFor('both messages', () => reader.messages().length === 2)
    expect(cluster.running()).toEqual(cluster.numbers())
  })
})

test('a slave: refuses clients of its connectors and answers on its management port', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    for (const n of cluster.numbers().filter((other) => other !== master)) {
      await expect(StompConnection.open(cluster.stompPort(n))).rejects.toThrow(/ECONNREFUSED/)
      const status = await cluster.status(n)
      expect(status.role).toBe('slave')
      expect(status.master?.brokerName).toBe(name(master))
      expect(JSON.stringify(status.master?.connectors)).toContain(`${cluster.stompPort(master)}`)
    }
  })
})

/** The broker ends by itself with an exit code that is not 0, and says why. */
async function expectRefusal(cluster: Cluster, n: number, expected: readonly RegExp[]): Promise<void> {
  const broker = cluster.start(n)
  const exit = await waitFor('the broker to refuse', () => broker.exited)
  expect(exit.signal).toBe(null)
  expect(exit.code).toBeGreaterThan(0)
  for (const pattern of expected) expect(broker.output()).toMatch(pattern)
  expect(broker.output()).not.toMatch(/^\s+at .*\(.*:\d+:\d+\)$/m) // A message, not a stack.
}

/** Sends half a megabyte of noise; the broker has to hang up in bounded time. */
function throwGarbage(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(randomBytes(512 * 1024)))
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error(`port ${port} kept a connection that sent garbage`))
    }, 15_000)
    socket.on('error', () => {})
    socket.resume()
    socket.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { resolve } from 'node:path'
import { type Client, createClient } from 'node-zookeeper-client'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { TcpRelay } from '../../../../test/system/tcp-relay.ts'
import { waitFor } from '../../../../test/system/wait-for.ts'
import { ZooKeeperEnsemble } from '../../../../test/system/zookeeper-ensemble.ts'
import type { ElectionFacts, ElectorHost, StandReason } from '../../src/election/elector.ts'
import { ZooKeeperElector } from '../../src/election/zookeeper/elector.ts'
import type { CoordinationMember } from '../../src/io/coordination.ts'
import { SystemClock } from '../../src/io/node/clock.ts'
import { SystemRandom } from '../../src/io/node/random.ts'
import { ZooKeeperSession } from '../../src/io/node/zookeeper-session.ts'

/** With ZooKeeper's tick of 500 ms, 1 s is the least it grants. */
const sessionTimeoutMs = 3000

let ensemble: ZooKeeperEnsemble
let paths = 0
const leftovers: (() => unknown)[] = []

beforeAll(async () => {
  ensemble = await ZooKeeperEnsemble.start()
})
afterAll(async () => {
  await ensemble?.stop()
})
afterEach(async () => {
  for (const clean of leftovers.splice(0).reverse()) await clean()
})

/** A path of its own for each test, so that none sees another's members. */
function freshPath(): string {
  paths += 1
  return `/levelmq-test/group-${paths}`
}

class Node {
  readonly stands: StandReason[] = []
  readonly stepDowns: string[] = []
  readonly warnings: string[] = []
  /** When the connection was lost: it may be back before anyone can look at the status. */
  readonly lossesMs: number[] = []
  peers: readonly string[] = []
  readonly elector: ZooKeeperElector
  facts: ElectionFacts

  constructor(
    n: number,
    path: string,
    options: { address?: string; password?: string; clusterUuid?: string; lastIndex?: number } = {},
  ) {
    const address = options.address ?? ensemble.address
    this.facts = {
      nodeId: `node-${n}`,
      storeUuid: `store-${n}`,
      clusterUuid: options.clusterUuid,
      voter: true,
      epoch: 0,
      lastEpoch: 0,
      lastIndex: options.lastIndex ?? 0,
      masterNodeId: undefined,
      serving: false,
      reachableVoters: 1,
      quorum: 2,
    }
    this.elector = new ZooKeeperElector({
      session: new ZooKeeperSession({
        address,
        password: options.password,
        sessionTimeoutMs,
        log: (_, message) => this.warnings.push(message),
      }),
      address,
      path,
      profile: {
        group: 'orders',
        name: `broker-${n}`,
        container: undefined,
        weight: 1,
        connect: `127.0.0.1:${7000 + n}`,
      },
      replicas: 3,
      electionTimeoutMs: 1000,
      clock: new SystemClock(),
      random: new SystemRandom(),
    })
    const host: ElectorHost = {
      stand: (reason) => this.stands.push(reason),
      stepDown: (reason) => this.stepDowns.push(reason),
      peers: (addresses) => {
        this.peers = addresses.map(({ address }) => address)
      },
      changed: () => {},
      log: (level, message) => {
        if (level !== 'info') this.warnings.push(message)
        if (message.startsWith('ZooKeeper connection lost')) this.lossesMs.push(performance.now())
      },
    }
    this.elector.start(host, this.facts)
    leftovers.push(() => this.elector.stop())
  }

  get znode(): string | undefined {
    return this.elector.status().znode
  }

  learn(change: Partial<ElectionFacts>): void {
    this.facts = { ...this.facts, ...change }
    this.elector.observe(this.facts)
  }

  async joined(): Promise<string> {
    return waitFor('its znode', () => this.znode)
  }
}

/** Any other client of ZooKeeper: reads what is there, by its own connection to one server. */
class Reader {
  readonly #client: Client

  constructor(server = ensemble.address, auth?: string) {
    this.#client = createClient(server, { sessionTimeout: 10_000 })
    if (auth !== undefined) this.#client.addAuthInfo('digest', Buffer.from(auth))
    this.#client.connect()
    leftovers.push(async () => {
      const socket = (this.#client as unknown as { connectionManager: { socket: { destroy(): void } } })
        .connectionManager
      this.#client.close()
      socket.socket.destroy()
    })
  }

  children(path: string): Promise<string[]> {
    return new Promise((done, fail) =>
      this.#client.getChildren(path, (error, children) => (error ? fail(error) : done(children.sort()))),
    )
  }

  data(path: string): Promise<{ text: string; owner: string }> {
    return new Promise((done, fail) =>
      this.#client.getData(path, (error, data, stat) =>
        error
          ? fail(error)
          : done({ text: data?.toString() ?? '', owner: stat.ephemeralOwner.toString('hex') }),
      ),
    )
  }

  setData(path: string, text: string): Promise<void> {
    return new Promise((done, fail) =>
      this.#client.setData(path, Buffer.from(text), (error) => (error ? fail(error) : done())),
    )
  }

  remove(path: string): Promise<void> {
    return new Promise((done, fail) => this.#client.remove(path, (error) => (error ? fail(error) : done())))
  }
}

/** Number of the server that holds the connection of a session. */
async function serverOf(owner: string): Promise<number> {
  return waitFor('the server of a session', async () => {
    for (const i of ensemble.numbers()) {
      const connections = await fourLetters(ensemble.port(i), 'cons')
      if (connections.includes(`sid=0x${owner.replace(/^0+/, '')},`)) return i
    }
    return undefined
  })
}

function fourLetters(port: number, word: string): Promise<string> {
  return new Promise((done) => {
    let text = ''
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(word))
    socket.setTimeout(1000, () => socket.destroy())
    socket.on('data', (chunk) => {
      text += chunk
    })
    socket.on('error', () => {})
    socket.on('close', () => done(text))
  })
}

describe('zookeeper elector: on a real ensemble', () => {
  test("members carry ActiveMQ's fields, find each other, and the most complete one stands", async () => {
    const path = freshPath()
    const one = new Node(1, path, { lastIndex: 5, clusterUuid: 'cluster-a' })
    await one.joined()
    const two = new Node(2, path, { lastIndex: 9, clusterUuid: 'cluster-a' })
    await two.joined()
    await waitFor('peers', () => one.peers.length === 1 && two.peers.length === 1)
    expect(one.peers).toEqual(['127.0.0.1:7002'])
    await waitFor('the better one to stand', () => two.stands.length > 0)
    expect(two.stands[0]).toBe('startup')

    two.learn({ masterNodeId: 'node-2', serving: true, epoch: 1, lastEpoch: 1, lastIndex: 10 })
    one.learn({ masterNodeId: 'node-2' })
    const reader = new Reader()
    const names = await waitFor('two members', async () => {
      const children = await reader.children(path)
      return children.length === 2 && children
    })
    for (const name of names) expect(name).toMatch(/^0\d{10}$/)
    const read = async (name = '') => JSON.parse((await reader.data(`${path}/${name}`)).text)
    const elected = two.znode?.slice(1)
    await waitFor('the oldest to name the master', async () => (await read(one.znode)).elected === elected)
    expect(await read(one.znode)).toEqual({
      id: 'orders',
      container: null,
      address: null,
      position: -1,
      weight: 1,
      elected,
      epoch: 0,
      storeUuid: 'store-1',
      nodeId: 'node-1',
      clusterUuid: 'cluster-a',
      voter: true,
      connect: 'tcp://127.0.0.1:7001',
      name: 'broker-1',
    })
    await waitFor('the address', async () => (await read(two.znode)).address === 'tcp://127.0.0.1:7002')
    expect(await read(two.znode)).toMatchObject({ position: -1, elected: null, epoch: 1 })
  })

  test('the death of its server costs neither session nor znode', async () => {
    const path = freshPath()
    const node = new Node(1, path)
    const znode = await node.joined()
    const { owner } = await new Reader().data(`${path}/${znode}`)
    const server = await serverOf(owner)
    await ensemble.kill(server)
    try {
      await waitFor('the loss', () => node.lossesMs.length > 0)
      await waitFor('another server', () => node.znode === znode)
      const after = await new Reader(`127.0.0.1:${ensemble.port((server % 3) + 1)}`).data(`${path}/${znode}`)
      expect(after.owner).toBe(owner)
      expect(node.stepDowns).toEqual([])
    } finally {
      await ensemble.up()
    }
  })

  test('a paused server is noticed within the session timeout, and another one keeps the session', async () => {
    const path = freshPath()
    const node = new Node(1, path)
    const znode = await node.joined()
    const { owner } = await new Reader().data(`${path}/${znode}`)
    const server = await serverOf(owner)
    const pausedMs = performance.now()
    await ensemble.pause(server)
    try {
      const noticedMs = await waitFor('the silence to be noticed', () => node.lossesMs[0])
      expect(noticedMs - pausedMs).toBeLessThan(sessionTimeoutMs)
      await waitFor('another server', () => node.elector.status().state === 'connected', {
        timeoutMs: 30_000,
      })
      // A paused leader halts the ensemble for a while, but sessions only time out at a leader.
      expect(await waitFor('its znode', () => node.znode, { timeoutMs: 30_000 })).toBe(znode)
    } finally {
      await ensemble.resume(server)
      await ensemble.up()
    }
  })

  test('an expired session is replaced, with a new znode, and mastership is given up', async () => {
    const path = freshPath()
    const relay = await TcpRelay.start(ensemble.port(1))
    leftovers.push(() => relay.stop())
    const node = new Node(1, path, { address: `127.0.0.1:${relay.port}` })
    const znode = await node.joined()
    node.learn({ masterNodeId: 'node-1', serving: true })
    relay.cut()
    const reader = new Reader()
    await waitFor('the session to expire', async () => (await reader.children(path)).length === 0)
    expect(node.stepDowns).toEqual([])
    relay.heal()
    const next = await waitFor('a new znode', () => node.znode !== znode && node.znode)
    expect(node.stepDowns).toEqual(['ZooKeeper session expired'])
    await waitFor('one znode', async () => (await reader.children(path)).join() === next)
  })

  test('all servers down and back: every node has one znode again', async () => {
    const path = freshPath()
    const nodes = [new Node(1, path), new Node(2, path), new Node(3, path)]
    for (const node of nodes) await node.joined()
    for (const i of ensemble.numbers()) await ensemble.kill(i)
    await waitFor('the loss', () => nodes.every((node) => node.lossesMs.length > 0))
    await ensemble.up()
    for (const node of nodes) await waitFor('its znode', () => node.znode, { timeoutMs: 30_000 })
    const reader = new Reader()
    await waitFor(
      'one znode per node',
      async () => {
        const children = await reader.children(path)
        const own = nodes.map((node) => node.znode ?? '').sort()
        return children.join() === own.join()
      },
      { timeoutMs: 30_000 },
    )
    for (const node of nodes) expect(node.peers).toHaveLength(2)
  })

  test('all data of all servers lost: the members write themselves in again (T19)', async () => {
    const path = freshPath()
    const nodes = [new Node(1, path), new Node(2, path), new Node(3, path)]
    for (const node of nodes) await node.joined()
    for (const i of ensemble.numbers()) await ensemble.kill(i)
    await waitFor('the loss', () => nodes.every((node) => node.lossesMs.length > 0))
    ensemble.wipe()
    await ensemble.up()
    // They have seen more than these servers ever wrote, and are refused as long as they insist on it.
    for (const node of nodes) await waitFor('its znode', () => node.znode, { timeoutMs: 30_000 })
    const reader = new Reader()
    await waitFor('three znodes', async () => (await reader.children(path)).length === 3)
  })

  test('a znode that somebody removes is created again', async () => {
    const path = freshPath()
    const node = new Node(1, path)
    const znode = await node.joined()
    await new Reader().remove(`${path}/${znode}`)
    await waitFor('a new znode', () => node.znode !== undefined && node.znode !== znode)
  })

  test('with a password nobody else can read, change or join', async () => {
    const path = freshPath()
    const parent = `${path}/secret`
    const node = new Node(1, parent, { password: 'correct horse' })
    const znode = await node.joined()
    for (const reader of [new Reader(), new Reader(ensemble.address, 'levelmq:wrong')]) {
      await expect(reader.data(`${parent}/${znode}`)).rejects.toMatchObject({ name: 'NO_AUTH' })
      await expect(reader.children(parent)).rejects.toMatchObject({ name: 'NO_AUTH' })
      await expect(reader.setData(`${parent}/${znode}`, 'x')).rejects.toMatchObject({ name: 'NO_AUTH' })
      await expect(reader.remove(`${parent}/${znode}`)).rejects.toMatchObject({ name: 'NO_AUTH' })
    }
    const wrong = new Node(2, parent, { password: 'not-this-phrase' })
    const none = new Node(3, parent)
    await waitFor('refusals', () => [wrong, none].every((one) => one.elector.status().state === 'refused'))
    expect(wrong.elector.status().reason).toContain('zkPassword')
    expect(none.elector.status().reason).toContain('zkPassword')
    expect([...wrong.warnings, wrong.elector.status().reason].join()).not.toContain('not-this-phrase')
    expect(node.elector.status().members).toBe(1)
    const right = new Node(4, parent, { password: 'correct horse' })
    await right.joined()
  })

  test('a chroot and host names that do not resolve are coped with', async () => {
    const address = `no-such-host.invalid:2181,127.0.0.1:${ensemble.port(1)}/levelmq-test/chroot-${process.pid}`
    const node = new Node(1, '/orders', { address })
    const znode = await waitFor('its znode', () => node.znode, { timeoutMs: 30_000 })
    const reader = new Reader()
    expect(await reader.children(`/levelmq-test/chroot-${process.pid}/orders`)).toEqual([znode])
  })

  test('a server that accepts and says nothing does not hold it up', async () => {
    const mute = createServer((socket) => socket.on('error', () => {}))
    mute.listen(0, '127.0.0.1')
    await once(mute, 'listening')
    leftovers.push(() => mute.close())
    const port = (mute.address() as { port: number }).port
    const node = new Node(1, freshPath(), { address: `127.0.0.1:${port},127.0.0.1:${ensemble.port(1)}` })
    await node.joined()
  })

  test('a reply that is cut anywhere leaves nothing behind', async () => {
    const path = freshPath()
    let budget = 55
    const proxy = createServer((near) => {
      const far = connect({ port: ensemble.port(1), host: '127.0.0.1' })
      let left = budget
      budget += 60
      near.on('data', (chunk) => far.write(chunk))
      far.on('data', (chunk: Buffer) => {
        near.write(chunk.subarray(0, left))
        left -= chunk.length
        if (left <= 0) near.end()
      })
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        socket.on('error', () => {})
        socket.on('close', () => other.destroy())
      }
    })
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    leftovers.push(() => proxy.close())
    const port = (proxy.address() as { port: number }).port
    const node = new Node(1, path, { address: `127.0.0.1:${port}` })
    await waitFor('its znode', () => node.znode, { timeoutMs: 60_000 })
    const reader = new Reader()
    await waitFor(
      'one znode',
      async () => (await reader.children(path)).length === 1 && budget > 500 && node.znode !== undefined,
      { timeoutMs: 60_000 },
    )
  })

  test('close removes the znode at once, also of a session whose server hangs, and lets the process end', async () => {
    const path = freshPath()
    const session = new ZooKeeperSession({
      address: ensemble.address,
      password: undefined,
      sessionTimeoutMs: 10_000,
      log: () => {},
    })
    let members: CoordinationMember[] = []
    session.open({
      connected: async () => {
        await session.makePath(path)
        await session.createMember(`${path}/0`, '{}')
        members = await session.members(path)
      },
      disconnected: () => {},
      expired: () => {},
      membersChanged: () => {},
    })
    await waitFor('its member', () => members.length === 1)
    expect(members[0]).toMatchObject({ own: true, data: '{}' })
    await session.close()
    expect(await new Reader().children(path)).toEqual([])

    const module = resolve(import.meta.dirname, '../../src/io/node/zookeeper-session.ts')
    const script = `
      import { ZooKeeperSession } from ${JSON.stringify(module)}
      const open = async (address, act) => {
        const session = new ZooKeeperSession({ address, password: undefined, sessionTimeoutMs: 10000, log() {} })
        const connected = Promise.withResolvers()
        session.open({ connected: connected.resolve, disconnected() {}, expired() {}, membersChanged() {} })
        await act(session, connected.promise)
        const from = performance.now()
        await session.close()
        if (performance.now() - from > 1000) throw new Error('close took long')
      }
      const all = ${JSON.stringify(ensemble.address)}
      await open(all, () => {}) // Before it is connected.
      await open('127.0.0.1:1', () => {}) // Nobody there.
      await open(all, (_, connected) => connected) // Right after.
      await open(all, async (session, connected) => {
        await connected
        process.stdout.write('connected\\n')
        await new Promise((resolve) => process.stdin.once('data', resolve))
        process.stdin.destroy()
      }) // While its server hangs.
      process.stdout.write('closed\\n')`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    leftovers.push(() => child.kill('SIGKILL'))
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
    })
    const exited = once(child, 'exit')
    await waitFor('it to connect', () => output.includes('connected'))
    for (const i of ensemble.numbers()) await ensemble.pause(i)
    try {
      child.stdin.write('go\n')
      await waitFor('it to close', () => output.includes('closed'), { timeoutMs: 2000 })
      expect((await exited)[0]).toBe(0)
    } finally {
      for (const i of ensemble.numbers()) await ensemble.resume(i)
    }
  })
})

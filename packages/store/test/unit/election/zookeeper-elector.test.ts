import {
  SeededRandom,
  VirtualClock,
  type VirtualCoordinationSession,
  VirtualZooKeeper,
} from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import type { ElectionFacts } from '../../../src/election/elector.ts'
import { ZooKeeperElector } from '../../../src/election/zookeeper/elector.ts'
import { RecordingHost } from './recording-host.ts'

const path = '/orders'
const sessionTimeoutMs = 2000
const electionTimeoutMs = 1000

interface NodeOptions {
  readonly weight?: number
  readonly lastIndex?: number
  readonly clusterUuid?: string
  readonly voter?: boolean
}

class Node {
  readonly host = new RecordingHost()
  readonly session: VirtualCoordinationSession
  readonly elector: ZooKeeperElector
  readonly name: string
  facts: ElectionFacts

  constructor(cluster: Cluster, name: string, options: NodeOptions = {}) {
    this.name = name
    this.session = cluster.zooKeeper.session(sessionTimeoutMs)
    this.facts = {
      nodeId: name,
      storeUuid: `store-${name}`,
      clusterUuid: options.clusterUuid,
      voter: options.voter ?? true,
      epoch: 0,
      lastEpoch: 0,
      lastIndex: options.lastIndex ?? 0,
      masterNodeId: undefined,
      serving: false,
      reachableVoters: 1,
      quorum: Math.floor(cluster.replicas / 2) + 1,
    }
    this.elector = new ZooKeeperElector({
      session: this.session,
      address: 'zk:2181',
      path,
      profile: {
        group: 'orders',
        name,
        container: undefined,
        weight: options.weight ?? 1,
        connect: `${name}:1`,
      },
      replicas: cluster.replicas,
      electionTimeoutMs,
      clock: cluster.clock,
      random: new SeededRandom(name.charCodeAt(0)),
    })
    this.elector.start(this.host, this.facts)
  }

  get stands(): readonly string[] {
    return this.host.stands
  }

  get status() {
    return this.elector.status()
  }

  learn(change: Partial<ElectionFacts>): void {
    this.facts = { ...this.facts, ...change }
    this.elector.observe(this.facts)
  }

  follow(master: Node | undefined): void {
    this.learn({ masterNodeId: master?.name, serving: master === this })
  }

  lose(reason: 'link lost' | 'timeout' | 'resigned'): void {
    this.follow(undefined)
    this.elector.masterLost(reason)
  }
}

class Cluster {
  readonly clock = new VirtualClock()
  readonly zooKeeper = new VirtualZooKeeper(this.clock)
  readonly replicas: number
  readonly nodes: Node[] = []

  constructor(replicas: number) {
    this.replicas = replicas
  }

  /** Starts a node; those started first are the oldest. */
  async add(name: string, options?: NodeOptions): Promise<Node> {
    const node = new Node(this, name, options)
    this.nodes.push(node)
    await this.run(5)
    return node
  }

  /** Starts three nodes; `a`, the oldest, is master. */
  async settled(): Promise<readonly [Node, Node, Node]> {
    const nodes = [await this.add('a'), await this.add('b'), await this.add('c')] as const
    for (const node of nodes) node.follow(nodes[0])
    await this.run(1000)
    for (const { host } of nodes) host.stands.length = 0
    return nodes
  }

  run(ms: number): Promise<void> {
    return this.clock.run(ms)
  }

  members(): Record<string, unknown>[] {
    return [...this.zooKeeper.children(path).values()].map((data) => JSON.parse(data))
  }
}

describe('zookeeper elector: start', () => {
  test.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [5, 3],
  ])('of %i replicas, nobody stands before %i are present', async (replicas, needed) => {
    const cluster = new Cluster(replicas)
    for (let n = 1; n < needed; n += 1) await cluster.add(`n${n}`)
    await cluster.run(20_000)
    for (const node of cluster.nodes) expect(node.stands).toEqual([])
    await cluster.add(`n${needed}`)
    await cluster.run(20)
    expect(cluster.nodes[0]?.stands).toEqual(['startup'])
    for (const node of cluster.nodes.slice(1)) expect(node.stands).toEqual([])
  })

  test('the most complete member stands, others only if it does not win', async () => {
    const cluster = new Cluster(3)
    const a = await cluster.add('a', { lastIndex: 5 })
    const b = await cluster.add('b', { lastIndex: 9 })
    await cluster.run(250)
    expect(b.stands).toEqual(['startup'])
    expect(a.stands).toEqual([])
    b.learn({ masterNodeId: 'b', serving: true })
    a.follow(b)
    await cluster.run(20_000)
    expect(b.stands).toEqual(['startup'])
    expect(a.stands).toEqual([])
  })

  test('a hung best member is bypassed, and the next as well', async () => {
    const cluster = new Cluster(5)
    const turns: [string, number][] = []
    for (const [name, lastIndex] of [
      ['a', 1],
      ['b', 7],
      ['c', 9],
    ] as const) {
      const node = new Node(cluster, name, { lastIndex })
      node.host.onStand = () => turns.push([name, cluster.clock.monotonicMs()])
      await cluster.run(5)
    }
    await cluster.run(900)
    expect(turns.map(([name]) => name)).toEqual(['c', 'b', 'a'])
    const [c = 0, b = 0, a = 0] = turns.map(([, atMs]) => atMs)
    expect(b - c).toBeLessThanOrEqual(310)
    expect(a - b).toBeLessThanOrEqual(310)
  })

  test('ties go to the weight, then to the oldest', async () => {
    const cluster = new Cluster(5)
    await cluster.add('a')
    await cluster.add('b', { weight: 5 })
    await cluster.add('c', { weight: 5 })
    await cluster.run(100)
    expect(cluster.nodes.map((node) => node.stands.length)).toEqual([0, 1, 0])
  })

  test('a newcomer lets a master that is published introduce itself first', async () => {
    const cluster = new Cluster(3)
    const [a, b] = [await cluster.add('a'), await cluster.add('b')]
    for (const node of [a, b]) node.follow(a)
    await cluster.run(300)
    const c = await cluster.add('c', { lastIndex: 100 })
    await cluster.run(900)
    expect(c.stands).toEqual([])
    c.follow(a)
    await cluster.run(10_000)
    expect(c.stands).toEqual([])
  })

  test('a learner publishes itself and never stands', async () => {
    const cluster = new Cluster(3)
    const a = await cluster.add('a', { voter: false })
    const b = await cluster.add('b')
    await cluster.run(5000)
    expect(a.stands).toEqual([])
    expect(b.stands.length).toBeGreaterThan(0)
    expect(cluster.members().map(({ voter }) => voter)).toEqual([false, true])
  })

  test('it tries again for the same reason, soon after a defeat and ever later', async () => {
    const cluster = new Cluster(1)
    const a = await cluster.add('a')
    const times: number[] = []
    a.host.onStand = () => {
      times.push(cluster.clock.monotonicMs())
      a.elector.defeated()
    }
    a.elector.defeated()
    await cluster.run(10_000)
    const gaps = times.slice(1).map((time, at) => time - (times[at] ?? 0))
    expect(gaps[0]).toBeLessThanOrEqual(300)
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(electionTimeoutMs / 2)
    expect(gaps.at(-1)).toBeLessThanOrEqual(electionTimeoutMs)
    expect(new Set(a.stands)).toEqual(new Set(['startup']))
  })
})

describe('zookeeper elector: loss of the master', () => {
  test.each(['link lost', 'timeout', 'resigned'] as const)(
    '%s: the next stands at once, while the znode lives',
    async (reason) => {
      const cluster = new Cluster(3)
      const [a, b, c] = await cluster.settled()
      a.session.cut()
      b.lose(reason)
      c.lose(reason)
      expect(b.stands).toEqual([reason])
      await cluster.run(60)
      expect(c.stands).toEqual([reason])
      expect(cluster.zooKeeper.children(path).size).toBe(3)
    },
  )

  test('a loss announced before the facts tell of it keeps its reason', async () => {
    const cluster = new Cluster(3)
    const [, b] = await cluster.settled()
    b.elector.masterLost('link lost')
    expect(b.stands).toEqual([])
    b.follow(undefined)
    expect(b.stands).toEqual(['link lost'])
  })

  test("the master's znode goes before its link: who follows stands once, for session expiry", async () => {
    const cluster = new Cluster(3)
    const [a, b, c] = await cluster.settled()
    a.session.cut()
    await cluster.run(sessionTimeoutMs + 40)
    expect(b.stands).toEqual(['session expiry'])
    await cluster.run(20_000)
    expect(b.stands).toEqual(['session expiry'])
    expect(c.stands).toEqual(['session expiry'])
    expect(a.host.stepDowns).toEqual([])
  })

  test('without ZooKeeper nobody stands; with it back, they do', async () => {
    const cluster = new Cluster(3)
    const [, b, c] = await cluster.settled()
    cluster.zooKeeper.down()
    b.lose('link lost')
    c.lose('link lost')
    await cluster.run(600_000)
    expect([...b.stands, ...c.stands]).toEqual([])
    expect(b.status).toMatchObject({
      state: 'disconnected',
      reason: expect.stringContaining('no new master'),
    })
    cluster.zooKeeper.startAgain()
    await cluster.run(100)
    expect(b.stands[0]).toBe('link lost')
  })

  test('a demoted master that hears nothing waits out an election timeout', async () => {
    const cluster = new Cluster(3)
    const [a] = await cluster.settled()
    a.follow(undefined)
    await cluster.run(electionTimeoutMs - 10)
    expect(a.stands).toEqual([])
    await cluster.run(electionTimeoutMs + 200)
    expect(a.stands[0]).toBe('timeout')
  })
})

describe('zookeeper elector: session', () => {
  test('a blip shorter than the session timeout costs nothing', async () => {
    const cluster = new Cluster(3)
    const nodes = await cluster.settled()
    const before = [...cluster.zooKeeper.children(path).keys()]
    for (const node of nodes) node.session.cut()
    await cluster.run(sessionTimeoutMs - 100)
    for (const node of nodes) node.session.heal()
    await cluster.run(10_000)
    expect([...cluster.zooKeeper.children(path).keys()]).toEqual(before)
    for (const node of nodes) {
      expect(node.stands).toEqual([])
      expect(node.host.stepDowns).toEqual([])
    }
  })

  test('ten minutes without ZooKeeper depose no master', async () => {
    const cluster = new Cluster(3)
    const nodes = await cluster.settled()
    cluster.zooKeeper.down()
    await cluster.run(600_000)
    expect(nodes[0].host.stepDowns).toEqual([])
    cluster.zooKeeper.startAgain()
    await cluster.run(1000)
    expect(cluster.members()).toHaveLength(3)
    for (const node of nodes) expect(node.status.state).toBe('connected')
  })

  test('an expired session deposes the master, and it joins anew', async () => {
    const cluster = new Cluster(3)
    const [a, b] = await cluster.settled()
    const znode = a.status.znode
    a.session.expire()
    b.session.expire()
    await cluster.run(100)
    expect(a.host.stepDowns).toEqual(['ZooKeeper session expired'])
    expect(b.host.stepDowns).toEqual([])
    expect(a.status.znode).not.toBe(znode)
    expect(cluster.members()).toHaveLength(3)
  })

  test('wiped data: all join again under a path made anew', async () => {
    const cluster = new Cluster(3)
    await cluster.settled()
    cluster.zooKeeper.down()
    cluster.zooKeeper.wipe()
    cluster.zooKeeper.startAgain()
    await cluster.run(1000)
    expect(
      cluster
        .members()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['a', 'b', 'c'])
  })

  test.each(['makePath', 'createMember', 'setData', 'members'] as const)(
    'a connection lost in %s, before or after it took effect, leaves one znode',
    async (operation) => {
      for (const lost of ['loseNextReply', 'loseNextRequest'] as const) {
        const cluster = new Cluster(1)
        const node = new Node(cluster, 'a')
        for (let times = 0; times < 3; times += 1) node.session[lost](operation)
        await cluster.run(1000)
        node.follow(node)
        await cluster.run(5000)
        expect(cluster.members()).toHaveLength(1)
        expect(cluster.members()[0]).toMatchObject({ address: 'tcp://a:1', position: -1 })
      }
    },
  )

  test('a znode that was removed, or written by somebody else, is put right', async () => {
    const cluster = new Cluster(1)
    const a = await cluster.add('a')
    const first = `${path}/${a.status.znode}`
    cluster.zooKeeper.write(first, 'garbage')
    await cluster.run(500)
    expect(cluster.members()).toEqual([expect.objectContaining({ nodeId: 'a' })])
    cluster.zooKeeper.delete(first)
    await cluster.run(500)
    expect(cluster.members()).toHaveLength(1)
    expect(`${path}/${a.status.znode}`).not.toBe(first)
  })

  test('refused access is told, retried with growing pauses, and heals', async () => {
    const cluster = new Cluster(1)
    const a = new Node(cluster, 'a')
    a.session.refusal = 'its ACL does not admit this zkPassword'
    await cluster.run(600_000)
    expect(a.status).toMatchObject({ state: 'refused', reason: 'its ACL does not admit this zkPassword' })
    expect(a.session.requests.get('makePath')).toBeLessThan(200)
    expect(a.host.warnings).toHaveLength(1)
    a.session.refusal = undefined
    await cluster.run(6000)
    expect(a.status).toMatchObject({ state: 'connected', members: 1 })
  })

  test('a node restarted within the session timeout counts once', async () => {
    const cluster = new Cluster(3)
    const a = await cluster.add('a')
    a.session.cut()
    const again = await cluster.add('a')
    await cluster.run(500)
    expect(cluster.zooKeeper.children(path).size).toBe(2)
    expect(again.status.members).toBe(1)
    expect(again.stands).toEqual([])
  })

  test('stop removes the znode and leaves no timer', async () => {
    const cluster = new Cluster(1)
    const a = await cluster.add('a')
    await a.elector.stop()
    expect(cluster.zooKeeper.children(path).size).toBe(0)
    await cluster.run(10)
    expect(cluster.clock.pendingTimers).toBe(0)
  })
})

describe('zookeeper elector: what is published and found', () => {
  test('the oldest member names the master, positions are hidden while there is one', async () => {
    const cluster = new Cluster(3)
    const [a, b, c] = await cluster.settled()
    a.follow(b)
    b.follow(b)
    c.follow(b)
    await cluster.run(500)
    expect(
      cluster.members().map(({ elected, address, position }) => ({ elected, address, position })),
    ).toEqual([
      { elected: b.status.znode?.slice(1), address: null, position: -1 },
      { elected: null, address: 'tcp://b:1', position: -1 },
      { elected: null, address: null, position: -1 },
    ])
    for (const node of [a, b, c]) node.learn({ masterNodeId: undefined, serving: false, lastIndex: 12 })
    await cluster.run(500)
    expect(cluster.members().map(({ elected, position }) => ({ elected, position }))).toEqual(
      Array.from({ length: 3 }, () => ({ elected: null, position: 12 })),
    )
  })

  test('messages cost ZooKeeper nothing', async () => {
    const cluster = new Cluster(3)
    const [a] = await cluster.settled()
    const before = a.session.requests.get('setData')
    for (let lastIndex = 1; lastIndex <= 1000; lastIndex += 1) {
      a.learn({ lastIndex })
      await cluster.run(1)
    }
    expect(a.session.requests.get('setData')).toBe(before)
  })

  test('changes in quick succession are written a few times, the last one for sure', async () => {
    const cluster = new Cluster(1)
    const a = await cluster.add('a')
    await cluster.run(1000)
    const before = a.session.requests.get('setData') ?? 0
    for (let lastIndex = 1; lastIndex <= 100; lastIndex += 1) {
      a.learn({ lastIndex })
      await cluster.run(10)
    }
    await cluster.run(500)
    expect((a.session.requests.get('setData') ?? 0) - before).toBeLessThanOrEqual(7)
    expect(cluster.members()[0]).toMatchObject({ position: 100 })
  })

  test('peers are told when they change, and kept while ZooKeeper is away', async () => {
    const cluster = new Cluster(3)
    const [a, b] = await cluster.settled()
    expect(a.host.peerLists.at(-1)).toEqual(['b:1', 'c:1'])
    const told = a.host.peerLists.length
    await b.elector.stop()
    cluster.zooKeeper.down()
    await cluster.run(10_000)
    cluster.zooKeeper.startAgain()
    await cluster.run(10_000)
    expect(a.host.peerLists).toHaveLength(told)
  })

  test('a second cluster on the same path: refused by name, never a peer, never counted', async () => {
    const cluster = new Cluster(3)
    const a = await cluster.add('a', { clusterUuid: 'cluster-one' })
    const x = await cluster.add('x', { clusterUuid: 'cluster-two' })
    await cluster.run(20_000)
    for (const node of [a, x]) {
      expect(node.stands).toEqual([])
      expect(node.host.peerLists).toEqual([])
      expect(node.host.warnings).toHaveLength(1)
      expect(node.status.members).toBe(1)
      for (const uuid of ['cluster-one', 'cluster-two']) expect(node.status.reason).toContain(uuid)
    }
  })

  test('garbage among the members is warned of once and harms nothing', async () => {
    const cluster = new Cluster(3)
    const a = await cluster.add('a')
    cluster.zooKeeper.write(`${path}/00000000777`, '\u0000{')
    const b = await cluster.add('b')
    await cluster.run(20)
    expect(a.stands).toEqual(['startup'])
    a.follow(a)
    b.follow(a)
    await cluster.run(60_000)
    expect(a.host.warnings).toHaveLength(1)
    expect(a.status.members).toBe(2)
  })
})

import { SeededRandom, VirtualClock, VirtualNetwork } from '@levelmq/testkit'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Address, Connection, Listener, Network } from '../../../src/io/network.ts'
import { decodeMessage, encodeJsonFrame, encodeMessage, FrameType } from '../../../src/replication/frame.ts'
import { Handshake, type NodeIdentity, type ProtocolRange } from '../../../src/replication/handshake.ts'
import { Mesh, parseAddress } from '../../../src/replication/mesh.ts'

describe('mesh', () => {
  let network: VirtualNetwork
  let clock: VirtualClock
  let nodes: Node[]

  beforeEach(() => {
    network = new VirtualNetwork()
    clock = new VirtualClock()
    nodes = []
  })

  afterEach(async () => {
    for (const node of nodes) await node.mesh.close()
    await clock.run(2000)
    expect(network.openEnds).toBe(0)
    expect(clock.pendingTimers).toBe(0)
  })

  async function started(port: number, changes: NodeChanges = {}) {
    const node = new Node(port, changes, network, clock)
    nodes.push(node)
    await node.mesh.listen()
    return node
  }

  /** What members do by themselves all the time, until something is the case. */
  async function ticked(condition: () => boolean, ...members: Node[]): Promise<void> {
    for (let turn = 0; turn < 500 && !condition(); turn++) {
      await clock.run(10)
      for (const { mesh } of members) mesh.tick(clock.monotonicMs())
    }
    expect(condition()).toBe(true)
  }

  /** Each tells those that it has a link to of its links. */
  function gossip(...members: Node[]): void {
    for (const from of members) {
      const told = from.mesh.known()
      from.mesh.broadcast([encodeJsonFrame(FrameType.info, {})])
      for (const to of members) if (isLinked(from, to)) to.mesh.heard(from.identity.nodeId, told)
    }
  }

  function isLinked(one: Node, other: Node): boolean {
    const sees = (node: Node, { identity }: Node): boolean =>
      node.mesh.peers().some((peer) => peer.connected && peer.identity?.bootId === identity.bootId)
    return sees(one, other) && sees(other, one)
  }

  function all(...members: Node[]): void {
    for (const { mesh } of members) mesh.setPeers(members.map(({ address }) => address))
  }

  test('links: each pair has one, whoever starts first, and frames go both ways', async () => {
    const [one, two, three] = [await started(1001), await started(1002), await started(1003)]
    all(three, two, one)
    await clock.run(1000)
    expect(one.up).toEqual(['node-1002', 'node-1003'])
    expect(two.up).toEqual(['node-1001', 'node-1003'])
    expect(network.openEnds).toBe(6)
    one.mesh.send('node-1003', encodeMessage({ type: 'resign', epoch: 1, handedOver: false }))
    three.mesh.broadcast(encodeMessage({ type: 'resign', epoch: 2, handedOver: false }))
    await clock.run(0)
    expect(three.frames).toEqual(['16 from node-1001'])
    expect([one.frames, two.frames]).toEqual([['16 from node-1003'], ['16 from node-1003']])
  })

  test('peers: one that was not reached is dialled until it is there', async () => {
    const one = await started(1001)
    one.mesh.setPeers(['h:1001', 'h:1002'])
    await clock.run(5000)
    expect(one.peer(1002)).toMatchObject({ connected: false, refused: false, identity: undefined })
    expect(one.peer(1002)?.reason).toContain('ECONNREFUSED')
    const two = await started(1002)
    two.mesh.setPeers(['h:1001'])
    await clock.run(700)
    expect(one.peer(1002)).toMatchObject({ connected: true, reason: undefined, identity: { name: 'b-1002' } })
    // Said once, not at each try.
    expect(one.logged.filter((line) => line.includes('ECONNREFUSED'))).toHaveLength(1)
  })

  test('loss: both sides report the peer down, know why, and meet again', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    one.mesh.drop('node-1002', 'for a test')
    await clock.run(10)
    expect(one.peer(1002)).toMatchObject({ connected: false, reason: 'for a test' })
    expect(two.peer(1001)).toMatchObject({ connected: false, reason: 'refused by the peer: for a test' })
    await clock.run(1000)
    expect(one.events).toEqual(['up node-1002', 'down node-1002', 'up node-1002'])
    expect(two.events).toEqual(['up node-1001', 'down node-1001', 'up node-1001'])
  })

  test('silence: a link of which nothing is heard is closed, one whose store has nothing to say is not', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    for (let turn = 0; turn < 1000; turn++) {
      await clock.run(10)
      for (const { mesh } of [one, two]) mesh.tick(clock.monotonicMs())
    }
    expect(one.events).toEqual(['up node-1002'])
    await two.network.freeze()
    const fromMs = clock.monotonicMs()
    await ticked(() => one.events.length > 1, one)
    expect(one.events).toEqual(['up node-1002', 'down node-1002'])
    expect(one.logged.join()).toMatch(/nothing heard for 3000 ms/)
    expect(clock.monotonicMs() - fromMs).toBeLessThan(3020)
  })

  test('restart: a process whose links are closed is replaced by its successor at once', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    await one.mesh.close()
    const again = await started(1001, { bootId: 'boot-1001-b' })
    again.mesh.setPeers(['h:1002'])
    await clock.run(1)
    expect(two.events).toEqual(['up node-1001', 'down node-1001', 'up node-1001'])
    expect(two.worst).toBe('info')
  })

  test('restart: a half-open link of a process that is gone makes room for its successor in bounded time', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    // As after a loss of power: nothing comes from it any more, and nothing arrives.
    await one.network.freeze()
    const again = new Node(1001, { bootId: 'boot-1001-b' }, network, clock)
    nodes.push(again)
    again.mesh.setPeers(['h:1002'])
    const fromMs = clock.monotonicMs()
    await ticked(() => again.up.length === 1, two)
    expect(clock.monotonicMs() - fromMs).toBeLessThan(1700)
    expect(two.events).toEqual(['up node-1001', 'down node-1001', 'up node-1001'])
    expect(two.mesh.peers()).toHaveLength(1)
    expect(two.worst).toBe('info')
  })

  test('restart: a newer link of the same process replaces the older at once', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    const again = new Node(1001, {}, network, clock)
    nodes.push(again)
    again.mesh.setPeers(['h:1002'])
    await clock.run(20)
    expect(two.events).toEqual(['up node-1001', 'down node-1001', 'up node-1001'])
    expect(two.mesh.peers()).toHaveLength(1)
    one.mesh.setPeers([])
  })

  test('W31: a member with another securityToken is shown refused on both sides, told once, the rest go on', async () => {
    const [one, two, three] = [
      await started(1001),
      await started(1002, { token: 'other' }),
      await started(1003),
    ]
    all(one, two, three)
    await clock.run(10_000)
    for (const [node, port] of [
      [one, 1002],
      [three, 1002],
      [two, 1001],
      [two, 1003],
    ] as const) {
      expect(node.peer(port)).toMatchObject({ connected: false, refused: true })
      expect(node.peer(port)?.reason).toContain('securityToken differs')
      expect(node.logged.filter((line) => line.includes('securityToken')).length).toBeLessThanOrEqual(2)
    }
    expect(one.up).toEqual(['node-1003'])
    expect(two.up).toEqual([])
  })

  test('T8: a copied directory at another address is refused on both sides, and never reported up', async () => {
    const [one, two, copy] = [
      await started(1001),
      await started(1002),
      await started(1003, { nodeId: 'node-1001', storeUuid: 'store-1001' }),
    ]
    all(one, two)
    await clock.run(100)
    copy.mesh.setPeers(['h:1001', 'h:1002'])
    one.mesh.setPeers(['h:1002', 'h:1003'])
    two.mesh.setPeers(['h:1001', 'h:1003'])
    await clock.run(10_000)
    expect(two.events).toEqual(['up node-1001'])
    expect(copy.events).toEqual([])
    expect(two.peer(1003)).toMatchObject({ connected: false, refused: true })
    expect(two.peer(1003)?.reason).toMatch(/already connected from h:1001: .* A copied directory/)
    expect(copy.peer(1002)).toMatchObject({ connected: false, refused: true })
    expect(copy.peer(1002)?.reason).toMatch(/already connected from h:1001: .* A copied directory/)
    expect(one.peer(1003)?.reason).toMatch(/same store/)
  })

  test.each<[string, Partial<NodeIdentity>, RegExp]>([
    [
      'a copied directory',
      { nodeId: 'node-1001', storeUuid: 'store-1001' },
      /both have the store store-1001/,
    ],
    [
      'another store with the same nodeId',
      { nodeId: 'node-1001' },
      /both have the nodeId "node-1001", with diff/,
    ],
    ['another node', {}, /they have one address.*connectUrl/],
  ])(
    'T8, N38: of two processes at one address the second, %s, is refused on both sides as long as the first lives',
    async (_name, changes, reason) => {
      const [one, two] = [await started(1001), await started(1002)]
      all(one, two)
      await clock.run(100)
      // Behind the same name, on another machine: it can call, and be called by nobody.
      const second = new Node(
        1001,
        { nodeId: 'node-b', storeUuid: 'store-b', name: 'second', ...changes, bootId: 'boot-b' },
        network,
        clock,
      )
      nodes.push(second)
      second.mesh.setPeers(['h:1002'])
      for (let turn = 0; turn < 100; turn++) {
        await clock.run(100)
        two.mesh.tick(clock.monotonicMs())
        one.mesh.broadcast([encodeJsonFrame(FrameType.info, {})])
      }
      expect(two.events).toEqual(['up node-1001'])
      expect(second.events).toEqual([])
      const [first, refused, ...more] = two.mesh.peers()
      expect(first).toMatchObject({ connected: true, identity: { bootId: 'boot-1001' } })
      expect(refused).toMatchObject({
        connected: false,
        refused: true,
        identity: { name: 'second', bootId: 'boot-b' },
      })
      expect(refused?.reason).toMatch(reason)
      expect(more).toEqual([])
      expect(second.peer(1002)).toMatchObject({ connected: false, refused: true })
      expect(second.peer(1002)?.reason).toMatch(reason)
      for (const side of [two, second]) {
        const errors = side.logged.filter((line) => reason.test(line))
        expect(errors).toHaveLength(1)
        expect(side.worst).toBe('error')
      }

      // Gone for good, it is not shown for ever; and when the first one goes, the second takes its place.
      await one.mesh.close()
      await clock.run(200)
      expect(two.events.slice(1)).toEqual(['down node-1001', `up ${changes.nodeId ?? 'node-b'}`])
      await second.mesh.close()
      await clock.run(4000)
      expect(two.mesh.peers()).toHaveLength(1)
    },
  )

  test('T8: of two processes that each reached another member first, the one started later is let go', async () => {
    const [two, three] = [await started(1002), await started(1003)]
    all(two, three)
    const identity = { nodeId: 'node-x', storeUuid: 'store-x' }
    const elder = await started(1001, { ...identity, bootId: 'boot-1' })
    const copy = await started(1004, { ...identity, bootId: 'boot-2' })
    elder.mesh.setPeers(['h:1003'])
    two.mesh.setPeers(['h:1003', 'h:1004'])
    await clock.run(100)
    expect([two.up, three.up]).toEqual([
      ['node-1003', 'node-x'],
      ['node-1002', 'node-x'],
    ])
    gossip(two, three)
    await clock.run(100)
    expect(two.events.at(-1)).toBe('down node-x')
    expect(three.up).toEqual(['node-1002', 'node-x'])
    for (const node of [two, copy])
      expect(node.peer(node === two ? 1004 : 1002)?.reason).toMatch(
        /started before it, is connected to node-1003 from h:1001/,
      )
    expect([two.worst, copy.worst]).toEqual(['error', 'error'])

    // Nobody speaks of the first one any more: the second is taken.
    await elder.mesh.close()
    await clock.run(10)
    gossip(two, three)
    await clock.run(200)
    expect(two.events.at(-1)).toBe('up node-x')
  })

  test('T8: what a member said long ago of a process does not keep its successor out', async () => {
    const [two, three] = [await started(1002), await started(1003)]
    all(two, three)
    const elder = await started(1001, { bootId: 'boot-1' })
    elder.mesh.setPeers(['h:1003'])
    await clock.run(100)
    gossip(three, two)
    await clock.run(1500)
    await elder.mesh.close()
    const next = await started(1001, { bootId: 'boot-2' })
    next.mesh.setPeers(['h:1002'])
    await clock.run(50)
    expect(two.peer(1001)).toMatchObject({ connected: true, identity: { bootId: 'boot-2' } })
    expect(two.worst).toBe('info')
  })

  test('T8: a process that another one like it is seen of says so itself', async () => {
    const [one, two] = [await started(1001), await started(1002, { bootId: 'boot-9' })]
    all(one, two)
    await clock.run(100)
    for (let count = 0; count < 3; count++)
      two.mesh.heard('node-1001', [{ nodeId: 'node-1002', bootId: 'boot-8', address: 'h:9', silentMs: 5 }])
    expect(
      two.logged.filter((line) => /another process of node "node-1002".* from h:9/.test(line)),
    ).toHaveLength(1)
    expect(two.worst).toBe('error')
  })

  test('introduction: a member whose address nobody was told joins by itself, and comes to know all', async () => {
    const [one, two, three] = [await started(1001), await started(1002), await started(1003)]
    one.mesh.setPeers(['h:1002'])
    two.mesh.setPeers(['h:1001'])
    await clock.run(500)
    // Told of one of the two only, whose address is the lower one: that one has to call.
    three.mesh.setPeers(['h:1001'])
    await clock.run(1400)
    expect(three.up).toEqual(['node-1001'])
    for (let turn = 0; turn < 3; turn++) {
      gossip(one, two, three)
      await clock.run(100)
    }
    expect(three.up).toEqual(['node-1001', 'node-1002'])
    expect(two.up).toEqual(['node-1001', 'node-1003'])
    // One link for each pair, and nothing to worry about.
    expect(network.openEnds).toBe(6)
    expect([one.worst, two.worst, three.worst]).toEqual(['info', 'info', 'info'])
    expect(two.peer(1003)).toMatchObject({ connected: true, protocol: 2 })
  })

  test('W27: a member that cannot be called back is told so, and shown by the one that cannot call', async () => {
    const one = await started(1001)
    const hidden = new Node(1002, {}, network, clock)
    nodes.push(hidden)
    hidden.mesh.setPeers(['h:1001'])
    await clock.run(4000)
    expect(one.peer(1002)).toMatchObject({ connected: false, refused: false })
    expect(one.peer(1002)?.reason).toContain('ECONNREFUSED')
    expect(hidden.peer(1001)?.reason).toMatch(
      /knows of this broker at h:1002, and has not called it.*connectUrl/,
    )
  })

  test('told: an address that nobody speaks of any more is let go, a configured one never', async () => {
    const one = await started(1001)
    one.mesh.setPeers(['h:1002'])
    one.mesh.heard('node-1002', [{ nodeId: 'node-1003', bootId: 'b', address: 'h:1003', silentMs: 0 }])
    await clock.run(1000)
    expect(one.mesh.peers().map(({ address }) => address)).toEqual(['h:1002', 'h:1003'])
    await clock.run(60_000)
    one.mesh.tick(clock.monotonicMs())
    expect(one.mesh.peers().map(({ address }) => address)).toEqual(['h:1002'])
  })

  test('told: a node that is waited for is looked for and shown, however long it is away', async () => {
    const [one, two, three] = [await started(1001), await started(1002), await started(1003)]
    one.awaited.push('node-1002')
    two.mesh.setPeers(['h:1001'])
    three.mesh.setPeers(['h:1001'])
    await clock.run(2000)
    expect(one.up).toEqual(['node-1002', 'node-1003'])
    await Promise.all([two.mesh.close(), three.mesh.close()])
    await clock.run(100_000)
    one.mesh.tick(clock.monotonicMs())
    expect(one.mesh.peers().map(({ identity }) => identity?.nodeId)).toEqual(['node-1002'])
    expect(one.peer(1002)?.reason).toContain('ECONNREFUSED')
  })

  test('X2: however many addresses members tell, no more are kept than clusters have', async () => {
    const one = await started(1001)
    for (let teller = 0; teller < 20; teller++) {
      one.mesh.heard(
        `node-${teller}`,
        Array.from({ length: 20 }, (_, place) => ({
          nodeId: `node-${teller}-${place}`,
          bootId: 'b',
          address: `h${teller}:${2000 + place}`,
          silentMs: 0,
        })),
      )
    }
    expect(one.mesh.peers().length).toBeLessThanOrEqual(24)
    await clock.run(100)
  })

  test('S36: members of releases that do not speak a common protocol show each other refused, and why', async () => {
    const [old, one] = [
      await started(1002, { protocols: { lowest: 1, highest: 2 } }),
      await started(1001, { protocols: { lowest: 3, highest: 4 } }),
    ]
    all(old, one)
    await clock.run(2000)
    for (const [node, port] of [
      [old, 1001],
      [one, 1002],
    ] as const) {
      expect(node.peer(port)).toMatchObject({ connected: false, refused: true })
      expect(node.peer(port)?.reason).toMatch(/b-1002.* 1 to 2.*upgrade b-1002$|upgrade b-1002/)
      expect(node.logged.filter((line) => line.includes('upgrade b-1002'))).toHaveLength(1)
    }
  })

  test('S36: a member that is too old for a level the cluster has been raised to is let go, and knows why', async () => {
    const self = { levels: { lowest: 1, highest: 2 }, level: 1 }
    const [one, two, three] = [await started(1001, self), await started(1002, self), await started(1003)]
    all(one, two, three)
    await clock.run(500)
    for (const node of [one, two]) node.identity = { ...node.identity, level: 2 }
    one.mesh.tick(clock.monotonicMs())
    two.mesh.tick(clock.monotonicMs())
    await clock.run(2000)
    expect(three.events.slice(-2)).toEqual(['down node-1001', 'down node-1002'])
    expect(three.peer(1001)?.reason).toMatch(/uses level 2 .*start b-1003 with a newer release/)
    expect(two.peer(1003)).toMatchObject({ connected: false, refused: true })
    expect(one.peer(1002)?.connected).toBe(true)
  })

  test("S36: members of neighbouring releases speak the older one's protocol; one of a lower level is refused", async () => {
    const [one, two, three] = [
      await started(1001, {
        protocols: { lowest: 2, highest: 4 },
        levels: { lowest: 1, highest: 2 },
        level: 2,
      }),
      await started(1002, {
        protocols: { lowest: 2, highest: 3 },
        levels: { lowest: 2, highest: 2 },
        level: 2,
      }),
      await started(1003, { clusterUuid: undefined, level: undefined }),
    ]
    all(one, two, three)
    await clock.run(2000)
    expect([one.peer(1002)?.protocol, two.peer(1001)?.protocol]).toEqual([3, 3])
    for (const node of [one, two]) {
      expect(node.peer(1003)).toMatchObject({ connected: false, refused: true })
      expect(node.peer(1003)?.reason).toMatch(
        /uses level 2 .*b-1003 supports levels 1 to 1: start b-1003 with a newer release/,
      )
      expect(three.peer(node === one ? 1001 : 1002)?.reason).toMatch(/start b-1003 with a newer release/)
    }
  })

  test.each(Array.from({ length: 12 }, (_, seed) => seed))(
    'T8: restarts, losses of power and copies in any order: one process for each node, and one link for each pair at the end (seed %i)',
    async (seed) => {
      const random = new SeededRandom(1000 + seed)
      const draw = (count: number): number => Math.floor(random.fraction() * count)
      const ports = [1001, 1002, 1003, 1004].slice(0, 3 + draw(2))
      const alive = new Map<number, Node>()
      const copies: Node[] = []
      let boots = 0
      const boot = async (port: number, of = port): Promise<Node> => {
        const identity = { nodeId: `node-${of}`, storeUuid: `store-${of}`, name: `b-${of}` }
        const bootId = `boot-${String(1000 + ++boots)}`
        const node = new Node(port, { ...identity, bootId }, network, clock)
        nodes.push(node)
        await node.mesh.listen()
        // Not everybody is told of everybody; the first one is told of by all.
        node.mesh.setPeers(
          ports.filter((each) => each === ports[0] || draw(2) === 0).map((each) => `h:${each}`),
        )
        return node
      }
      const passed = async (ms: number): Promise<void> => {
        for (let spent = 0; spent < ms; spent += 50) {
          await clock.run(50)
          const running = [...alive.values(), ...copies]
          if (clock.monotonicMs() % 500 < 50) gossip(...running)
          for (const node of running) {
            node.mesh.tick(clock.monotonicMs())
            const connected = node.mesh.peers().filter((peer) => peer.connected)
            const unique = (facts: unknown[]): void => expect(new Set(facts).size).toBe(facts.length)
            unique(connected.map(({ identity }) => identity?.nodeId))
            unique(connected.map(({ identity }) => identity?.storeUuid))
            unique(connected.map(({ address }) => address))
          }
        }
      }
      for (const port of ports) alive.set(port, await boot(port))
      for (let turn = 0; turn < 25; turn++) {
        await passed(50 * draw(40))
        const port = ports[draw(ports.length)] as number
        const node = alive.get(port) as Node
        const action = draw(4)
        if (action === 0 && copies.length === 0) copies.push(await boot(1000 + 9 * draw(2), port))
        else if (action === 1 && copies.length > 0) await copies.pop()?.mesh.close()
        else if (action < 3) {
          await node.mesh.close()
          alive.set(port, await boot(port))
        } else {
          await node.network.freeze()
          alive.set(port, await boot(port))
        }
      }
      for (const copy of copies.splice(0)) await copy.mesh.close()
      await passed(10_000)
      const all = [...alive.values()]
      for (const node of all) {
        const connected = node.mesh.peers().filter((peer) => peer.connected)
        const others = all.filter((each) => each !== node).map(({ identity }) => identity.bootId)
        expect(connected.map(({ identity }) => identity?.bootId).sort()).toEqual(others.sort())
        expect(
          node.mesh
            .peers()
            .filter(({ refused }) => refused)
            .map(({ reason }) => reason),
        ).toEqual([])
      }
    },
  )

  test('strangers: garbage ends its own connection only, with a line in the log', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    const stranger = await dial(network, 1002)
    stranger.connection.write([Buffer.from('GET / HTTP/1.1\r\n\r\n')])
    await clock.run(10)
    expect(stranger.closed).toBe(true)
    expect(two.logged.at(-1)).toMatch(/connection from virtual ended: protocol error/)
    expect(two.events).toEqual(['up node-1001'])
    expect(one.events).toEqual(['up node-1002'])
  })

  test.each<[string, Buffer]>([
    ['a frame of members', Buffer.concat(encodeMessage({ type: 'resign', epoch: 1, handedOver: false }))],
    ['a probe', encodeJsonFrame(FrameType.probe, {})],
    ['a piece of a large frame', encodeJsonFrame(FrameType.piece, {})],
    ['the head of a frame of 4 KiB and one byte', Buffer.from([0x01, 0x10, 0, 0, FrameType.hello])],
  ])(
    'X1: a stranger that sends %s instead of its proof is let go, and heard by nobody',
    async (_name, bytes) => {
      const one = await started(1001)
      const stranger = await dial(network, 1001)
      const handshake = new Handshake('dialer', identityOf(1000, {}), 'secret', Buffer.alloc(32))
      stranger.connection.write([...handshake.start(), bytes])
      await clock.run(1)
      expect(stranger.closed).toBe(true)
      expect([one.events, one.frames]).toEqual([[], []])
    },
  )

  test('X1: strangers that call again and again are told of once each, not at each call', async () => {
    const one = await started(1001)
    for (let call = 0; call < 50; call++) {
      const stranger = await dial(network, 1001)
      stranger.connection.write([Buffer.from('GET / HTTP/1.1\r\n\r\n')])
      await clock.run(1)
    }
    expect(one.logged).toHaveLength(1)
  })

  test('S36: a frame of a type that nobody knows ends the link, of a member too', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    one.reads = true
    all(one, two)
    await clock.run(100)
    two.mesh.send('node-1001', [encodeJsonFrame(99 as FrameType, {})])
    await clock.run(10)
    expect(one.events).toEqual(['up node-1002', 'down node-1002'])
    expect(one.peer(1002)?.reason).toMatch(/unknown frame type 99/)
  })

  test('X1: a stranger that says nothing is let go after the time for a handshake', async () => {
    await started(1002)
    const stranger = await dial(network, 1002)
    await clock.run(5100)
    expect(stranger.closed).toBe(true)
  })

  test('X1: strangers, however many keep silent, they are bounded and do not shut a member out', async () => {
    const two = await started(1002)
    two.mesh.setPeers(['h:1001'])
    for (let count = 0; count < 100; count++) await dial(network, 1002)
    await clock.run(0)
    expect(network.openEnds).toBeLessThanOrEqual(2 * 64)
    const one = await started(1001)
    one.mesh.setPeers(['h:1002'])
    await clock.run(200)
    expect(one.up).toEqual(['node-1002'])
    await clock.run(5000)
  })

  test('strangers: a member that breaks the protocol after the handshake loses its link', async () => {
    const one = await started(1001)
    const stranger = await dial(network, 1001)
    const handshake = new Handshake('dialer', identityOf(1000, {}), 'secret', Buffer.alloc(32))
    stranger.connection.write(handshake.start())
    await clock.run(1)
    const [hello] = stranger.frames
    stranger.connection.write(handshake.receive(FrameType.hello, hello ?? Buffer.alloc(0)).send)
    await clock.run(1)
    expect(one.up).toEqual(['node-1000'])
    stranger.connection.write([encodeJsonFrame(FrameType.hello, {}), Buffer.alloc(5)])
    await clock.run(1)
    expect(one.events.at(-1)).toBe('down node-1000')
    one.mesh.setPeers([])
  })

  test('close: a handshake that its acceptor never answers is given up at once', async () => {
    await network.listen({ host: 'h', port: 1002 }, (connection) =>
      connection.handle({ data: () => undefined, drained: () => undefined, closed: () => undefined }),
    )
    const one = await started(1001)
    one.mesh.setPeers(['h:1002'])
    await clock.run(100)
    expect(network.openEnds).toBe(2)
    await one.mesh.close()
    await clock.run(0)
    expect(network.openEnds).toBe(0)
    expect(clock.pendingTimers).toBe(0)
  })

  test('close: nothing is reported up after it, and nobody is dialled any more', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    // In the middle of the handshake.
    for (let turn = 0; turn < 3; turn++) await undefined
    await one.mesh.close()
    await clock.run(10_000)
    expect(one.events).toEqual([])
    one.mesh.setPeers(['h:1002'])
    await clock.run(1000)
    expect(one.events).toEqual([])
  })

  test('peers: one that is dropped from the list in the middle of its handshake is not reported up', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    for (let turn = 0; turn < 3; turn++) await undefined
    one.mesh.setPeers([])
    await clock.run(1000)
    expect(one.mesh.peers()).toEqual([])
    expect(one.up).toEqual([])
  })

  test('address: a busy one is STORE_ADDRESS_IN_USE and names it', async () => {
    await started(1001)
    await expect(new Node(1001, {}, network, clock).mesh.listen()).rejects.toMatchObject({
      code: 'STORE_ADDRESS_IN_USE',
      detail: { address: 'h:1001' },
      message: expect.stringContaining('h:1001'),
    })
  })

  test('address: host names, IPv4 and bracketed IPv6 are read', () => {
    expect(parseAddress('broker-1:61619')).toEqual({ host: 'broker-1', port: 61619 })
    expect(parseAddress('[::1]:61619')).toEqual({ host: '::1', port: 61619 })
  })
})

function identityOf(port: number, changes: Partial<NodeIdentity>): NodeIdentity {
  return {
    brokerName: 'group',
    nodeId: `node-${port}`,
    storeUuid: `store-${port}`,
    clusterUuid: 'cluster',
    name: `b-${port}`,
    address: `h:${port}`,
    bootId: `boot-${port}`,
    replicas: 3,
    levels: { lowest: 1, highest: 1 },
    level: 1,
    ...changes,
  }
}

type NodeChanges = Partial<NodeIdentity> & { token?: string; protocols?: ProtocolRange }

/** A mesh, and what it reported. */
class Node {
  readonly mesh: Mesh
  readonly address: string
  identity: NodeIdentity
  readonly network: FreezingNetwork
  readonly awaited: string[] = []
  readonly events: string[] = []
  readonly frames: string[] = []
  readonly logged: string[] = []
  /** Reads what it is sent, as a store does. */
  reads = false
  /** Levels of what was logged. */
  readonly levels = new Set<string>()

  constructor(
    port: number,
    { token = 'secret', protocols, ...changes }: NodeChanges,
    network: VirtualNetwork,
    clock: VirtualClock,
  ) {
    this.address = `h:${port}`
    this.network = new FreezingNetwork(network)
    this.identity = identityOf(port, changes)
    this.mesh = new Mesh(
      { bind: { host: 'h', port }, address: this.address, securityToken: token, silenceMs: 3000, protocols },
      { network: this.network, clock, random: new SeededRandom(port) },
      () => this.identity,
      {
        peerUp: (peer) => this.events.push(`up ${peer.nodeId}`),
        peerDown: (peer) => this.events.push(`down ${peer.nodeId}`),
        frame: (peer, type, body) => {
          this.frames.push(`${type} from ${peer.nodeId}`)
          if (this.reads) decodeMessage(type, body)
        },
        awaits: (peer) => this.awaited.includes(peer.nodeId),
        changed: () => undefined,
        log: (level, message) => {
          this.levels.add(level)
          this.logged.push(message)
        },
      },
    )
  }

  /** Those reported up, sorted. */
  get up(): string[] {
    return this.events
      .filter((event) => event.startsWith('up '))
      .map((event) => event.slice(3))
      .sort()
  }

  /** The worst level that anything was logged with. */
  get worst(): string {
    return ['error', 'warn'].find((level) => this.levels.has(level)) ?? 'info'
  }

  peer(port: number) {
    return this.mesh.peers().find(({ address }) => address === `h:${port}`)
  }
}

/** A network of which a node can fall silent: its connections stay open, and nothing goes either way. */
class FreezingNetwork implements Network {
  readonly #network: VirtualNetwork
  #frozen = false
  #listener: Listener | undefined

  constructor(network: VirtualNetwork) {
    this.#network = network
  }

  async freeze(): Promise<void> {
    this.#frozen = true
    await this.#listener?.close()
  }

  async listen(bind: Address, accept: (connection: Connection) => void): Promise<Listener> {
    const listener = await this.#network.listen(bind, (connection) => accept(this.#freezing(connection)))
    let open = true
    this.#listener = {
      address: listener.address,
      close: async () => {
        // Its successor may listen there by then.
        if (open) await listener.close()
        open = false
      },
    }
    return this.#listener
  }

  async connect(to: Address): Promise<Connection> {
    if (this.#frozen) throw new Error('frozen')
    return this.#freezing(await this.#network.connect(to))
  }

  #freezing(connection: Connection): Connection {
    return {
      remoteAddress: connection.remoteAddress,
      bufferedBytes: 0,
      handle: (handler) =>
        connection.handle({
          data: (chunk) => this.#frozen || handler.data(chunk),
          drained: () => handler.drained(),
          closed: (cause) => handler.closed(cause),
        }),
      write: (chunks) => this.#frozen || connection.write(chunks),
      end: () => connection.end(),
      destroy: () => connection.destroy(),
    }
  }
}

/** A connection of somebody who is no mesh. */
async function dial(network: VirtualNetwork, port: number) {
  const connection: Connection = await network.connect({ host: 'h', port })
  const stranger = { connection, closed: false, frames: [] as Buffer[] }
  connection.handle({
    data: (chunk) => stranger.frames.push(chunk.subarray(5)),
    drained: () => undefined,
    closed: () => {
      stranger.closed = true
    },
  })
  return stranger
}

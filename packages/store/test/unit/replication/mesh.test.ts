import { SeededRandom, VirtualClock, VirtualNetwork } from '@levelmq/testkit'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Connection } from '../../../src/io/network.ts'
import { encodeJsonFrame, encodeMessage, FrameType } from '../../../src/replication/frame.ts'
import { Handshake, type NodeIdentity } from '../../../src/replication/handshake.ts'
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

  async function started(port: number, changes: Partial<NodeIdentity> & { token?: string } = {}) {
    const node = new Node(port, changes, network, clock)
    nodes.push(node)
    await node.mesh.listen()
    return node
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
    one.mesh.send('node-1003', encodeMessage({ type: 'resign', epoch: 1 }))
    three.mesh.broadcast(encodeMessage({ type: 'resign', epoch: 2 }))
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
    expect(two.peer(1001)).toMatchObject({ connected: false, reason: 'connection closed by the peer' })
    await clock.run(1000)
    expect(one.events).toEqual(['up node-1002', 'down node-1002', 'up node-1002'])
    expect(two.events).toEqual(['up node-1001', 'down node-1001', 'up node-1001'])
  })

  test('silence: a link that says nothing for long is closed', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    await clock.run(4000)
    one.mesh.tick(clock.monotonicMs())
    expect(one.events).toEqual(['up node-1002', 'down node-1002'])
    expect(one.peer(1002)?.reason).toBe('nothing heard for 3000 ms')
    two.mesh.tick(clock.monotonicMs())
  })

  test('restart: a newer link of the same node at the same address replaces the older', async () => {
    const [one, two] = [await started(1001), await started(1002)]
    all(one, two)
    await clock.run(100)
    // As after a loss of power: the peer knows nothing of its old connection, and ours is still open.
    const again = new Node(1001, {}, network, clock)
    nodes.push(again)
    again.mesh.setPeers(['h:1002'])
    await clock.run(20)
    expect(two.events).toEqual(['up node-1001', 'down node-1001', 'up node-1001'])
    expect(two.mesh.peers()).toHaveLength(1)
    one.mesh.setPeers([])
  })

  test('securityToken: a member with another one is shown refused on both sides, told once, the rest go on', async () => {
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
    expect(two.peer(1003)?.reason).toMatch(/already connected from h:1001: a copied directory/)
    expect(copy.peer(1002)).toMatchObject({ connected: false, refused: true })
    expect(copy.peer(1002)?.reason).toMatch(/already connected from h:1001: a copied directory/)
    expect(one.peer(1003)?.reason).toMatch(/same store/)
  })

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

  test('strangers: one that says nothing is let go after the time for a handshake', async () => {
    await started(1002)
    const stranger = await dial(network, 1002)
    await clock.run(5100)
    expect(stranger.closed).toBe(true)
  })

  test('strangers: however many keep silent, they are bounded and do not shut a member out', async () => {
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
    ...changes,
  }
}

/** A mesh, and what it reported. */
class Node {
  readonly mesh: Mesh
  readonly address: string
  readonly events: string[] = []
  readonly frames: string[] = []
  readonly logged: string[] = []

  constructor(
    port: number,
    { token = 'secret', ...changes }: Partial<NodeIdentity> & { token?: string },
    network: VirtualNetwork,
    clock: VirtualClock,
  ) {
    this.address = `h:${port}`
    this.mesh = new Mesh(
      { bind: { host: 'h', port }, address: this.address, securityToken: token, silenceMs: 3000 },
      { network, clock, random: new SeededRandom(port) },
      () => identityOf(port, changes),
      {
        peerUp: (peer) => this.events.push(`up ${peer.nodeId}`),
        peerDown: (peer) => this.events.push(`down ${peer.nodeId}`),
        frame: (peer, type) => this.frames.push(`${type} from ${peer.nodeId}`),
        changed: () => undefined,
        log: (_level, message) => this.logged.push(message),
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

  peer(port: number) {
    return this.mesh.peers().find(({ address }) => address === `h:${port}`)
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

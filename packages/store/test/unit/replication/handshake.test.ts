import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  encodeJsonFrame,
  FrameDecoder,
  FrameFault,
  FrameType,
  maxHandshakeFrameBytes,
} from '../../../src/replication/frame.ts'
import {
  type Claim,
  Handshake,
  type HandshakeResult,
  type NodeIdentity,
  type ProtocolRange,
} from '../../../src/replication/handshake.ts'

interface Frame {
  readonly type: number
  readonly body: Buffer
}

const dialerSelf: NodeIdentity = {
  brokerName: 'group',
  nodeId: 'node-1',
  storeUuid: 'store-1',
  clusterUuid: 'cluster-1',
  name: 'broker-1',
  address: '10.0.0.1:61619',
  bootId: 'boot-1',
  replicas: 3,
  levels: { lowest: 1, highest: 2 },
  level: 1,
}
const acceptorSelf: NodeIdentity = {
  ...dialerSelf,
  nodeId: 'node-2',
  storeUuid: 'store-2',
  name: 'broker-2',
  address: '10.0.0.2:61619',
  bootId: 'boot-2',
}

describe('handshake', () => {
  test('success: each side learns who the other is', () => {
    const { dialer, acceptor } = shakeHands({})
    expect(dialer?.peer).toEqual(acceptorSelf)
    expect(acceptor?.peer).toEqual(dialerSelf)
  })

  test.each([
    ['both blank', undefined, undefined],
    ['the dialer blank', undefined, 'cluster-1'],
    ['the acceptor blank', 'cluster-1', undefined],
  ])('success: %s, since a blank store may join', (_name, mine, theirs) => {
    const { dialer, acceptor } = shakeHands({
      dialer: { clusterUuid: mine },
      acceptor: { clusterUuid: theirs },
    })
    expect(dialer?.peer?.clusterUuid).toBe(theirs)
    expect(acceptor?.peer?.clusterUuid).toBe(mine)
  })

  test.each([
    ['wrong at the dialer', 'wrong', 'secret'],
    ['wrong at the acceptor', 'secret', 'wrong'],
    ['absent at the dialer', '', 'secret'],
    ['absent at the acceptor', 'secret', ''],
  ])('securityToken: %s, both sides refuse and say why, without naming it', (_name, mine, theirs) => {
    const { dialer, acceptor } = shakeHands({ dialerToken: mine, acceptorToken: theirs })
    expect(dialer?.refused?.reason).toBe('securityToken differs')
    expect(acceptor?.refused?.reason).toBe('securityToken differs')
    expect(dialer?.peer ?? acceptor?.peer).toBeUndefined()
  })

  test('securityToken: a dialer that gives no valid proof is refused by the acceptor', () => {
    const acceptor = new Handshake('acceptor', acceptorSelf, 'secret', Buffer.alloc(32, 2))
    const dialer = new Handshake('dialer', dialerSelf, 'guess', Buffer.alloc(32, 1))
    for (const { type, body } of framesIn(dialer.start())) acceptor.receive(type, body)
    const result = acceptor.receive(FrameType.proof, Buffer.from(JSON.stringify({ proof: 'f'.repeat(64) })))
    expect(result.refused).toEqual({ kind: 'stranger', reason: 'securityToken differs', byPeer: false })
    expect(framesIn(result.send).map(({ type }) => type)).toEqual([FrameType.refuse])
  })

  test.each<[string, Partial<NodeIdentity>, RegExp]>([
    [
      'S26: of another cluster',
      { clusterUuid: 'cluster-9' },
      /broker-2 belongs to cluster cluster-1, that of broker-1 to cluster-9/,
    ],
    [
      'of another group',
      { brokerName: 'other' },
      /broker-2 belongs to the group "group", broker-1 to "other".*brokerName/,
    ],
    ['with the same nodeId', { nodeId: 'node-2' }, /broker-2 at .* and broker-1 at .* same nodeId "node-2"/],
    ['T8: with the same store, a copied directory', { storeUuid: 'store-2' }, /same store.*copied directory/],
    ['that is this process itself', { bootId: 'boot-2', storeUuid: 'store-2' }, /this broker itself/],
  ])(
    'refusal: of a dialer %s both sides know why, and the acceptor knows who it is',
    (_name, identity, reason) => {
      const { dialer, acceptor, proven } = shakeHands({ dialer: identity })
      expect(dialer?.refused).toMatchObject({ reason: expect.stringMatching(reason), byPeer: false })
      expect(acceptor?.refused).toEqual({ ...dialer?.refused, byPeer: true })
      expect(dialer?.peer ?? acceptor?.peer).toBeUndefined()
      expect(proven.acceptor).toMatchObject(identity)
    },
  )

  test('refusal: of a dialer that does not know the token nobody knows who it is', () => {
    const { acceptor, proven } = shakeHands({ dialer: { brokerName: 'other' }, dialerToken: 'guess' })
    expect(acceptor?.refused?.byPeer).toBe(true)
    expect(proven.acceptor).toBeUndefined()
  })

  test.each<[string, Partial<NodeIdentity>, RegExp]>([
    ['S26: of another cluster', { clusterUuid: 'cluster-9' }, /cluster-9/],
    ['of another group', { brokerName: 'other' }, /brokerName/],
    ['T8: with the same store', { storeUuid: 'store-1' }, /copied directory/],
  ])('refusal: an acceptor %s that lets everyone in is refused by the dialer', (_name, identity, reason) => {
    // The acceptor's own check is passed by answering as if the identities were in order.
    const dialer = new Handshake('dialer', dialerSelf, 'secret', Buffer.alloc(32, 1))
    dialer.start()
    const hello = {
      ...helloFields({ ...acceptorSelf, ...identity }),
    }
    const body = Buffer.from(JSON.stringify({ ...hello, nonce: '00', proof: '00' }))
    expect(dialer.receive(FrameType.hello, body).refused).toMatchObject({
      reason: expect.stringMatching(reason),
      byPeer: false,
    })
  })

  test.each(['dialer', 'acceptor'] as const)(
    'T8: a peer that proved itself and is not welcome at the %s is told why',
    (side) => {
      const { dialer, acceptor, proven } = shakeHands({ objector: side })
      const [objector, other] = side === 'dialer' ? [dialer, acceptor] : [acceptor, dialer]
      expect(objector?.refused).toEqual({ kind: 'clone', reason: 'seen elsewhere', byPeer: false })
      expect(other?.refused).toEqual({ kind: 'clone', reason: 'seen elsewhere', byPeer: true })
      // Only then it is known who it is that was refused.
      expect(objector === acceptor ? proven.acceptor?.nodeId : 'node-1').toBe('node-1')
    },
  )

  test('securityToken: what a stranger says is never objected to before it has proved itself', () => {
    const { dialer, acceptor } = shakeHands({ dialerToken: 'wrong', objector: 'acceptor' })
    expect([dialer?.refused?.reason, acceptor?.refused?.reason]).toEqual(
      Array(2).fill('securityToken differs'),
    )
  })

  test.each<[string, ProtocolRange, ProtocolRange, number | undefined, RegExp]>([
    ['the same', { lowest: 2, highest: 2 }, { lowest: 2, highest: 2 }, 2, /^$/],
    ['an older dialer', { lowest: 2, highest: 3 }, { lowest: 3, highest: 5 }, 3, /^$/],
    ['an older acceptor', { lowest: 3, highest: 5 }, { lowest: 1, highest: 4 }, 4, /^$/],
    [
      'a dialer that is too old',
      { lowest: 1, highest: 2 },
      { lowest: 3, highest: 5 },
      undefined,
      /broker-1 speaks versions 1 to 2 .* broker-2 3 to 5: upgrade broker-1$/,
    ],
    [
      'an acceptor that is too old',
      { lowest: 6, highest: 7 },
      { lowest: 3, highest: 5 },
      undefined,
      /broker-1 speaks versions 6 to 7 .* broker-2 3 to 5: upgrade broker-2$/,
    ],
  ])(
    'S36: of %s, the highest common version is spoken, or both sides say what to upgrade',
    (_name, mine, theirs, spoken, reason) => {
      const { dialer, acceptor, claimed } = shakeHands({ dialerProtocols: mine, acceptorProtocols: theirs })
      expect([dialer?.protocol, acceptor?.protocol]).toEqual([spoken, spoken])
      expect(dialer?.refused?.reason ?? '').toMatch(reason)
      expect(acceptor?.refused?.reason ?? '').toMatch(reason)
      // So that the status of the acceptor can say who it is that does not fit.
      expect(claimed.acceptor).toEqual({ name: 'broker-1', address: '10.0.0.1:61619' })
    },
  )

  test('S36: a build of before there were levels is told so, whatever else it does not say', () => {
    const acceptor = new Handshake('acceptor', acceptorSelf, '', Buffer.alloc(32))
    const { bootId, replicas, levels, level, ...old } = dialerSelf
    const hello = {
      protocol: 'LevelMQ replication',
      minimumVersion: 1,
      maximumVersion: 1,
      ...old,
      nonce: '00',
    }
    const { refused } = acceptor.receive(FrameType.hello, Buffer.from(JSON.stringify(hello)))
    expect(refused?.reason).toMatch(/broker-1 speaks versions 1 to 1 .*: upgrade broker-1/)
    expect([bootId, replicas, levels, level]).toHaveLength(4)
  })

  test.each<[string, Partial<NodeIdentity>, Partial<NodeIdentity>, RegExp | undefined]>([
    ['both support it', { level: 2 }, { level: 1 }, undefined],
    [
      'the dialer is too old',
      { levels: { lowest: 1, highest: 1 }, level: 1 },
      { level: 2 },
      /cluster of broker-2 uses level 2 .* broker-1 supports levels 1 to 1: start broker-1 with a newer release/,
    ],
    [
      'the acceptor is too old, and blank',
      { levels: { lowest: 3, highest: 4 }, level: 3 },
      { level: undefined, clusterUuid: undefined },
      /cluster of broker-1 uses level 3 .* broker-2 supports levels 1 to 2: start broker-2 with a newer release/,
    ],
    [
      'the dialer is too new',
      { levels: { lowest: 3, highest: 4 }, level: undefined, clusterUuid: undefined },
      {},
      /uses level 1 .* broker-1 supports levels 3 to 4: raise the cluster to level 3 before broker-1 joins/,
    ],
  ])("S36: the cluster's level, and %s", (_name, mine, theirs, reason) => {
    const { dialer, acceptor } = shakeHands({ dialer: mine, acceptor: theirs })
    for (const side of [dialer, acceptor]) {
      if (reason === undefined) expect(side?.peer).toBeDefined()
      else expect(side?.refused?.reason).toMatch(reason)
    }
  })

  test('proof: recorded from an earlier handshake, it is refused in a later one', () => {
    const earlier: Frame[] = []
    shakeHands({ dialerNonce: 1, acceptorNonce: 2, seen: (_from, frame) => earlier.push(frame) })
    const [hello, proof] = [FrameType.hello, FrameType.proof].map((type) =>
      earlier.find((frame) => frame.type === type),
    ) as [Frame, Frame]
    const acceptor = new Handshake('acceptor', acceptorSelf, 'secret', Buffer.alloc(32, 3))
    expect(acceptor.receive(hello.type, hello.body).refused).toBeUndefined()
    expect(acceptor.receive(proof.type, proof.body).refused?.reason).toBe('securityToken differs')
  })

  test('proof: reflected, the own proof of the dialer is refused', () => {
    const dialer = new Handshake('dialer', dialerSelf, 'secret', Buffer.alloc(32, 1))
    const stranger = new Handshake('acceptor', acceptorSelf, 'unknown', Buffer.alloc(32, 2))
    const [hello] = framesIn(dialer.start()) as [Frame]
    const [answer] = framesIn(stranger.receive(hello.type, hello.body).send) as [Frame]
    const [proof] = framesIn(dialer.receive(answer.type, answer.body).send) as [Frame]
    expect(dialer.receive(FrameType.welcome, proof.body).refused?.reason).toBe('securityToken differs')
  })

  test('proof: who calls without the token gets nothing that it could be guessed from', () => {
    const acceptor = new Handshake('acceptor', acceptorSelf, 'secret', Buffer.alloc(32, 2))
    const stranger = new Handshake('dialer', dialerSelf, 'unknown', Buffer.alloc(32, 1))
    const [hello] = framesIn(stranger.start()) as [Frame]
    const [answer] = framesIn(acceptor.receive(hello.type, hello.body).send) as [Frame]
    expect(JSON.parse(answer.body.toString())).not.toHaveProperty('proof')
    const [guess] = framesIn(stranger.receive(answer.type, answer.body).send) as [Frame]
    const [refusal] = framesIn(acceptor.receive(guess.type, guess.body).send) as [Frame]
    expect(refusal.type).toBe(FrameType.refuse)
  })

  test('proof: made for one node, it does not serve another that says the rest the same', () => {
    const frames: Frame[] = []
    shakeHands({ seen: (from, frame) => from === 'dialer' && frames.push(frame) })
    const [hello, proof] = frames as [Frame, Frame]
    const said = JSON.parse(hello.body.toString()) as Record<string, unknown>
    const numbers: Record<string, number> = {
      replicas: 5,
      lowestLevel: 0,
      highestLevel: 3,
      level: 2,
      minimumVersion: 1,
      maximumVersion: 9,
    }
    const texts = ['nodeId', 'storeUuid', 'clusterUuid', 'brokerName', 'name', 'address', 'bootId']
    for (const field of [...texts, ...Object.keys(numbers)]) {
      // In transit the group and the cluster can only be replaced by ones that the acceptor takes.
      const other =
        numbers[field] ??
        (field === 'clusterUuid' ? null : field === 'brokerName' ? 'group ' : `other-${said[field]}`)
      const self = field === 'brokerName' ? { ...acceptorSelf, brokerName: 'group ' } : acceptorSelf
      const acceptor = new Handshake('acceptor', self, 'secret', Buffer.alloc(32, 2))
      acceptor.receive(FrameType.hello, Buffer.from(JSON.stringify({ ...said, [field]: other })))
      expect(acceptor.receive(proof.type, proof.body).peer, field).toBeUndefined()
    }
  })

  test('order: after a refusal nothing makes it a success', () => {
    const acceptor = new Handshake('acceptor', acceptorSelf, 'wrong', Buffer.alloc(32, 2))
    const dialer = new Handshake('dialer', dialerSelf, 'secret', Buffer.alloc(32, 1))
    const [hello] = framesIn(dialer.start()) as [Frame]
    const [answer] = framesIn(acceptor.receive(hello.type, hello.body).send) as [Frame]
    const [proof] = framesIn(dialer.receive(answer.type, answer.body).send) as [Frame]
    expect(acceptor.receive(proof.type, proof.body).refused).toBeDefined()
    expect(() => acceptor.receive(proof.type, proof.body)).toThrow(FrameFault)
  })

  test.each<[string, 'dialer' | 'acceptor', number]>([
    ['a proof before hello', 'acceptor', FrameType.proof],
    ['a welcome before hello', 'dialer', FrameType.welcome],
    ['a welcome to the acceptor', 'acceptor', FrameType.welcome],
    ['an append', 'acceptor', FrameType.append],
    ['an info', 'dialer', FrameType.info],
  ])('order: %s is a FrameFault', (_name, side, type) => {
    const handshake = new Handshake(side, dialerSelf, '', Buffer.alloc(32))
    handshake.start()
    expect(() => handshake.receive(type, Buffer.from('{}'))).toThrow(FrameFault)
  })

  test('order: a second hello is a FrameFault', () => {
    const acceptor = new Handshake('acceptor', acceptorSelf, '', Buffer.alloc(32))
    acceptor.receive(FrameType.hello, helloOf({}))
    expect(() => acceptor.receive(FrameType.hello, helloOf({}))).toThrow(FrameFault)
  })

  test.each([
    ['an HTTP request', 'GET / HTTP/1.1\r\nHost: broker\r\n\r\n'],
    ['a STOMP frame', 'CONNECT\naccept-version:1.2\nhost:/\n\n\0'],
    [
      'a replication login of ActiveMQ',
      '\0\0\0\x2e{"action":"login","body":{"security_token":null,"node_id":"a"}}\n',
    ],
    ['a TLS hello', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'],
    ['the magic of another protocol', frameText(FrameType.hello, { protocol: 'something else' })],
    ['a hello without a nonce', frameText(FrameType.hello, { ...helloFields({}), nonce: undefined })],
    [
      'a hello with a name that is too long',
      frameText(FrameType.hello, { ...helloFields({}), name: 'x'.repeat(300) }),
    ],
    [
      'X1: a hello of more than 4 KiB',
      frameText(FrameType.hello, { ...helloFields({}), more: 'x'.repeat(4096) }),
    ],
    ['a hello without levels', frameText(FrameType.hello, { ...helloFields({}), lowestLevel: undefined })],
    ['a hello with half a version', frameText(FrameType.hello, helloFields({ maximumVersion: 2.5 }))],
    ['a refusal without a reason', frameText(FrameType.refuse, {})],
  ])('foreign bytes: %s is a FrameFault', (_name, bytes) => {
    const acceptor = new Handshake('acceptor', acceptorSelf, '', Buffer.alloc(32))
    const decoder = new FrameDecoder(maxHandshakeFrameBytes)
    expect(() =>
      decoder.push(Buffer.from(bytes, 'latin1'), (type, body) => acceptor.receive(type, body)),
    ).toThrow(FrameFault)
  })

  test('foreign bytes: any JSON in any frame gives a result or a FrameFault, never a link', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<('dialer' | 'acceptor')[]>('dialer', 'acceptor'),
        fc.array(fc.tuple(fc.nat(7), fc.json()), { maxLength: 3 }),
        (side, frames) => {
          const handshake = new Handshake(side, dialerSelf, 'secret', Buffer.alloc(32))
          handshake.start()
          try {
            for (const [type, body] of frames)
              expect(handshake.receive(type, Buffer.from(body)).peer).toBeUndefined()
          } catch (error) {
            expect(error).toBeInstanceOf(FrameFault)
          }
        },
      ),
    )
  })
})

/** Runs a whole handshake; the results are those that ended each side. */
function shakeHands(parts: {
  readonly dialer?: Partial<NodeIdentity>
  readonly acceptor?: Partial<NodeIdentity>
  readonly dialerToken?: string
  readonly acceptorToken?: string
  readonly dialerNonce?: number
  readonly acceptorNonce?: number
  readonly dialerProtocols?: ProtocolRange
  readonly acceptorProtocols?: ProtocolRange
  readonly objector?: 'dialer' | 'acceptor'
  readonly seen?: (from: 'dialer' | 'acceptor', frame: Frame) => void
}): {
  dialer: HandshakeResult | undefined
  acceptor: HandshakeResult | undefined
  proven: { acceptor: NodeIdentity | undefined }
  claimed: { acceptor: Claim | undefined }
} {
  const { dialerToken = 'secret', acceptorToken = 'secret', dialerNonce = 1, acceptorNonce = 2 } = parts
  const objectionOf = (side: 'dialer' | 'acceptor') => () =>
    parts.objector === side ? { kind: 'clone' as const, reason: 'seen elsewhere' } : undefined
  const sides = {
    dialer: new Handshake(
      'dialer',
      { ...dialerSelf, ...parts.dialer },
      dialerToken,
      Buffer.alloc(32, dialerNonce),
      objectionOf('dialer'),
      parts.dialerProtocols,
    ),
    acceptor: new Handshake(
      'acceptor',
      { ...acceptorSelf, ...parts.acceptor },
      acceptorToken,
      Buffer.alloc(32, acceptorNonce),
      objectionOf('acceptor'),
      parts.acceptorProtocols,
    ),
  }
  const ended: { dialer?: HandshakeResult; acceptor?: HandshakeResult } = {}
  const under = framesIn(sides.dialer.start()).map((frame) => ({ from: 'dialer' as const, frame }) as Flight)
  for (let flight = under.shift(); flight !== undefined; flight = under.shift()) {
    parts.seen?.(flight.from, flight.frame)
    const to = flight.from === 'dialer' ? 'acceptor' : 'dialer'
    if (ended[to] !== undefined) continue
    const result = sides[to].receive(flight.frame.type, flight.frame.body)
    for (const frame of framesIn(result.send)) under.push({ from: to, frame })
    if (result.peer !== undefined || result.refused !== undefined) ended[to] = result
  }
  const { acceptor } = sides
  return {
    ...{ dialer: ended.dialer, acceptor: ended.acceptor },
    proven: { acceptor: acceptor.proven },
    claimed: { acceptor: acceptor.claimed },
  }
}

interface Flight {
  readonly from: 'dialer' | 'acceptor'
  readonly frame: Frame
}

function framesIn(chunks: readonly Buffer[]): Frame[] {
  const frames: Frame[] = []
  const decoder = new FrameDecoder(maxHandshakeFrameBytes)
  for (const chunk of chunks) decoder.push(chunk, (type, body) => frames.push({ type, body }))
  return frames
}

function helloFields(fields: Record<string, unknown>): Record<string, unknown> {
  return {
    protocol: 'LevelMQ replication',
    minimumVersion: 2,
    maximumVersion: 2,
    ...dialerSelf,
    lowestLevel: 1,
    highestLevel: 2,
    nonce: '00',
    ...fields,
  }
}

function helloOf(fields: Record<string, unknown>): Buffer {
  return Buffer.from(JSON.stringify(helloFields(fields)))
}

function frameText(type: FrameType, body: unknown): string {
  return encodeJsonFrame(type, body).toString('latin1')
}

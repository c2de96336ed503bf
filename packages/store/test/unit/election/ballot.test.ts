import { describe, expect, test } from 'vitest'
import type { ElectionFacts } from '../../../src/election/elector.ts'
import { Ballot } from '../../../src/election/zookeeper/ballot.ts'
import { formatMember, type MemberProfile } from '../../../src/election/zookeeper/member.ts'
import { PeerBook } from '../../../src/election/zookeeper/peer-book.ts'
import type { CoordinationMember } from '../../../src/io/coordination.ts'

interface Sketch {
  readonly node: string
  readonly sequence: number
  readonly epoch?: number
  readonly position?: number
  readonly weight?: number
  readonly master?: string
  readonly cluster?: string
  readonly group?: string
  readonly store?: string
  readonly voter?: boolean
  readonly own?: boolean
}

function profileOf(sketch: Sketch): MemberProfile {
  return {
    group: sketch.group ?? 'orders',
    name: sketch.node,
    container: undefined,
    weight: sketch.weight ?? 1,
    connect: `${sketch.node}:1`,
  }
}

function factsOf(sketch: Sketch): ElectionFacts {
  return {
    nodeId: sketch.node,
    storeUuid: sketch.store ?? `store-${sketch.node}`,
    clusterUuid: sketch.cluster,
    voter: sketch.voter ?? true,
    epoch: sketch.epoch ?? 0,
    lastEpoch: sketch.epoch ?? 0,
    lastIndex: sketch.position ?? 0,
    masterNodeId: sketch.master,
    serving: sketch.master === sketch.node,
    reachableVoters: 1,
    quorum: 2,
  }
}

function child(sketch: Sketch, own = false): CoordinationMember {
  return {
    name: `0${String(sketch.sequence).padStart(10, '0')}`,
    data: formatMember(profileOf(sketch), factsOf(sketch), undefined),
    own,
  }
}

/** The ballot as the first of the sketches sees it. */
function ballotOf(
  sketches: readonly Sketch[],
  raw: readonly CoordinationMember[] = [],
  replicas = 3,
): Ballot {
  const [self, ...others] = sketches
  if (self === undefined) throw new TypeError('nobody looks')
  const children = [...raw, ...others.map((other) => child(other)), child(self, true)]
  const facts = { ...factsOf(self), quorum: Math.floor(replicas / 2) + 1 }
  return new Ballot({ children, profile: profileOf(self), facts, replicas })
}

/** Who is where in the line, each by its own look. */
function line(sketches: readonly Sketch[], lost?: string): (string | undefined)[] {
  const places: (string | undefined)[] = []
  for (const self of sketches) {
    const ballot = ballotOf([self, ...sketches.filter((other) => other !== self)])
    const rank = lost === undefined ? ballot.rank() : ballot.rankWithout(lost)
    if (rank !== undefined) places[rank] = self.node
  }
  return places
}

describe('ballot: the line', () => {
  test.each<[string, Sketch[], string[]]>([
    [
      'the higher index first',
      [
        { node: 'a', sequence: 1, position: 5 },
        { node: 'b', sequence: 2, position: 9 },
        { node: 'c', sequence: 3, position: 7 },
      ],
      ['b', 'c', 'a'],
    ],
    [
      'the higher epoch before the higher index',
      [
        { node: 'a', sequence: 1, epoch: 1, position: 50, weight: 9 },
        { node: 'b', sequence: 2, epoch: 2, position: 9 },
      ],
      ['b', 'a'],
    ],
    [
      'weight breaks a tie, and never outweighs a position',
      [
        { node: 'a', sequence: 1, position: 5 },
        { node: 'b', sequence: 2, position: 5, weight: 2 },
        { node: 'c', sequence: 3, position: 4, weight: 100 },
      ],
      ['b', 'a', 'c'],
    ],
    [
      'age breaks the rest',
      [
        { node: 'c', sequence: 30 },
        { node: 'a', sequence: 10 },
        { node: 'b', sequence: 20 },
      ],
      ['a', 'b', 'c'],
    ],
    [
      'who still believes in a master is last',
      [
        { node: 'a', sequence: 1, epoch: 9, position: 99, master: 'x' },
        { node: 'b', sequence: 2, position: 1 },
      ],
      ['b', 'a'],
    ],
    [
      'a learner is not in line',
      [
        { node: 'a', sequence: 1, position: 9, voter: false },
        { node: 'b', sequence: 2, position: 1 },
      ],
      ['b'],
    ],
  ])('%s', (_, sketches, expected) => {
    expect(line(sketches)).toEqual(expected)
  })

  test('after a loss the lost master is not in line', () => {
    const sketches: Sketch[] = [
      { node: 'm', sequence: 1, epoch: 1, position: 9, master: 'm' },
      { node: 'a', sequence: 2, epoch: 1, position: 8 },
      { node: 'b', sequence: 3, epoch: 1, position: 9 },
    ]
    const places = line(sketches.slice(0), 'm').filter((node) => node !== 'm')
    expect(places).toEqual(['b', 'a'])
  })

  test('after a loss, positions count only once all have told theirs', () => {
    const a: Sketch = { node: 'a', sequence: 2, epoch: 1, position: 8 }
    const b: Sketch = { node: 'b', sequence: 3, epoch: 1, position: 9, master: 'm' }
    expect(ballotOf([a, b]).rankWithout('m')).toBe(0)
    expect(ballotOf([{ ...b }, { ...a, master: 'm' }]).rankWithout('m')).toBe(1)
  })
})

describe('ballot: who counts', () => {
  test.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
    [5, 3],
  ])('of %i replicas %i are needed', (replicas, needed) => {
    const members = Array.from({ length: needed }, (_, n) => ({ node: `n${n}`, sequence: n }))
    expect(ballotOf(members, [], replicas).hasQuorum).toBe(true)
    expect(ballotOf([...members.slice(0, -1), ...members.slice(0, 1)], [], replicas).members.length).toBe(
      Math.max(1, needed - 1),
    )
  })

  test('S35: of a cluster the voters do, by what its log says of them; those that learn do not, and are no surprise', () => {
    const cluster = 'one'
    const learners = [3, 4, 5].map((n) => ({ node: `n${n}`, sequence: n, cluster, voter: false }))
    const [a, b] = [1, 2].map((n) => ({ node: `n${n}`, sequence: n, cluster })) as [Sketch, Sketch]
    const alone = ballotOf([a, ...learners])
    expect([alone.counted, alone.needed, alone.hasQuorum]).toEqual([1, 2, false])
    expect(ballotOf([a, b, ...learners]).hasQuorum).toBe(true)
    expect(ballotOf([a, b, ...learners]).warnings).toEqual([])
    // Five vote now, whatever was configured.
    const children = [child(b), child(a, true)]
    const facts = { ...factsOf(a), quorum: 3 }
    expect(new Ballot({ children, profile: profileOf(a), facts, replicas: 3 }).hasQuorum).toBe(false)
  })

  test('members of other ids on the same path do not, silently', () => {
    const ballot = ballotOf([
      { node: 'a', sequence: 1 },
      { node: 'b', sequence: 2, group: 'invoices' },
    ])
    expect(ballot.members.map((member) => member.nodeId)).toEqual(['a'])
    expect(ballot.warnings).toEqual([])
  })

  test('a member of another cluster does not, and is refused by both names', () => {
    const ballot = ballotOf([
      { node: 'a', sequence: 2, cluster: 'cluster-one' },
      { node: 'b', sequence: 1, cluster: 'cluster-two' },
      { node: 'c', sequence: 3 },
    ])
    expect(ballot.members.map((member) => member.nodeId)).toEqual(['a', 'c'])
    expect(ballot.refusals).toHaveLength(1)
    expect(ballot.refusals[0]).toContain('cluster-one')
    expect(ballot.refusals[0]).toContain('cluster-two')
    expect(ballot.warnings).toEqual(ballot.refusals)
  })

  test('a blank store goes with the oldest member that has a cluster', () => {
    const ballot = ballotOf([
      { node: 'a', sequence: 3 },
      { node: 'b', sequence: 2, cluster: 'cluster-two' },
      { node: 'c', sequence: 1, cluster: 'cluster-one' },
    ])
    expect(ballot.members.map((member) => member.nodeId)).toEqual(['c', 'a'])
  })

  test('what a former run of this node left does not', () => {
    const ballot = ballotOf([
      { node: 'a', sequence: 7 },
      { node: 'a', sequence: 2 },
    ])
    expect(ballot.members.map((member) => member.znode)).toEqual(['00000000007'])
    expect(ballot.warnings).toEqual([])
  })

  test('another store under this node id is told', () => {
    const ballot = ballotOf([
      { node: 'a', sequence: 7 },
      { node: 'a', sequence: 2, store: 'store-x' },
    ])
    expect(ballot.members).toHaveLength(1)
    expect(ballot.warnings[0]).toContain('store-x')
  })

  test("of another node's znodes only the newest does", () => {
    const ballot = ballotOf([
      { node: 'a', sequence: 1 },
      { node: 'b', sequence: 2, position: 3 },
      { node: 'b', sequence: 5, position: 4 },
    ])
    expect(ballot.members.map((member) => member.position)).toEqual([0, 4])
  })

  test('a second own znode is named for removal', () => {
    const self = { node: 'a', sequence: 1 }
    const ballot = ballotOf(
      [self],
      [child({ ...self, sequence: 4 }, true), child({ ...self, sequence: 3 }, true)],
    )
    expect(ballot.own?.znode).toBe('00000000001')
    expect(ballot.extras).toEqual(['00000000003', '00000000004'])
    expect(ballot.members).toHaveLength(1)
  })

  test('more members than replicas are told', () => {
    const sketches = ['a', 'b', 'c', 'd'].map((node, sequence) => ({ node, sequence }))
    expect(ballotOf(sketches).warnings).toEqual(['4 members of "orders" for replicas: 3'])
  })

  test.each([
    ['', 'not JSON'],
    ['{', 'not JSON'],
    ['null', 'not a JSON object'],
    ['17', 'not a JSON object'],
    ['[]', '"id"'],
    ['{"id":"orders"}', '"nodeId"'],
    ['{"id":"orders","container":null,"address":null,"position":0,"weight":1,"elected":null}', '"nodeId"'],
    ['{"id":"orders","nodeId":"x","storeUuid":"y","connect":"http://a","epoch":0,"position":0}', 'connect'],
    ['{"id":"orders","nodeId":"x","storeUuid":"y","connect":"tcp://a:0","epoch":0,"position":0}', 'connect'],
    [
      '{"id":"orders","nodeId":"x","storeUuid":"y","connect":"tcp://a:70000","epoch":0,"position":0}',
      'connect',
    ],
    [
      '{"id":"orders","nodeId":"x","storeUuid":"y","connect":"tcp://a:1","epoch":-1,"position":0}',
      'position',
    ],
    [
      '{"id":"orders","nodeId":"x","storeUuid":"y","connect":"tcp://a:1","epoch":0,"position":1e99}',
      'position',
    ],
    [JSON.stringify({ id: 'orders', padding: 'x'.repeat(70_000) }), '65536'],
  ])('data that is not a member does not: %.40s', (data, problem) => {
    const ballot = ballotOf([{ node: 'a', sequence: 1 }], [{ name: '00000000000', data, own: false }])
    expect(ballot.members).toHaveLength(1)
    expect(ballot.warnings).toHaveLength(1)
    expect(ballot.warnings[0]).toContain(problem)
  })

  test('a znode that may not be read is told', () => {
    const denied = { name: '00000000000', data: '', own: false, denied: true }
    expect(ballotOf([{ node: 'a', sequence: 1 }], [denied]).warnings[0]).toContain('zkPassword')
  })

  test('children with other names are no members', () => {
    const stray = { name: 'lock-0000000001', data: 'x', own: false }
    expect(ballotOf([{ node: 'a', sequence: 1 }], [stray]).warnings).toEqual([])
  })
})

describe('ballot: elected', () => {
  test('only the oldest member names the master', () => {
    const a: Sketch = { node: 'a', sequence: 1, master: 'b' }
    const b: Sketch = { node: 'b', sequence: 2, master: 'b' }
    expect(ballotOf([a, b]).elected('b')).toBe('00000000002')
    expect(ballotOf([b, a]).elected('b')).toBeUndefined()
    expect(ballotOf([a, b]).elected(undefined)).toBeUndefined()
  })
})

describe('peer book', () => {
  const members = (...sketches: Sketch[]) => {
    const self: Sketch = { node: 'self', sequence: 999 }
    return ballotOf([self, ...sketches], [], 99).members
  }

  test('keeps a peer whose znode is gone, and takes its new address', () => {
    const book = new PeerBook()
    expect(book.note(members({ node: 'a', sequence: 1 }, { node: 'b', sequence: 2 }), 'self:1')).toBe(true)
    expect(book.note(members({ node: 'b', sequence: 2 }), 'self:1')).toBe(false)
    expect(book.addresses).toEqual(['a:1', 'b:1'])
    const moved = members({ node: 'a', sequence: 3 }).map((member) => ({ ...member, connect: 'z:9' }))
    expect(book.note(moved, 'self:1')).toBe(true)
    expect(book.addresses).toEqual(['b:1', 'z:9'])
  })

  test('holds 16 at most, the latest', () => {
    const book = new PeerBook()
    for (let n = 0; n < 40; n += 1) book.note(members({ node: `n${n}`, sequence: n }), 'self:1')
    expect(book.addresses).toHaveLength(16)
    expect(book.addresses).toContain('n39:1')
  })

  test('a replaced store at an old address is one peer', () => {
    const book = new PeerBook()
    book.note(members({ node: 'a', sequence: 1 }), 'self:1')
    const replaced = members({ node: 'a', sequence: 2 }).map((member) => ({ ...member, nodeId: 'a2' }))
    book.note(replaced, 'self:1')
    expect(book.addresses).toEqual(['a:1'])
  })
})

import { describe, expect, test } from 'vitest'
import {
  accepted,
  append,
  connected,
  core,
  electionTimeoutMs,
  heartbeatMs,
  leading,
  leaseMs,
  logOf,
  noBytes,
  preVote,
  said,
  vote,
  voteReply,
} from './core-driver.ts'

/** How long another leader may still dispatch, as far as this elector knows, when it votes for `to`. */
function leaseTold(node: ReturnType<typeof core>, to: string, epoch: number, nowMs: number): number {
  node.receive(to, vote(epoch, 9, 99), nowMs)
  const [reply] = said(node.promised(epoch, nowMs), to)
  if (reply?.type !== 'voteReply' || !reply.granted) throw new Error(`no vote: ${JSON.stringify(reply)}`)
  return reply.leaseMs
}

describe('S9: lease', () => {
  test('leader: dispatches only while a majority answers', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    expect(node.mayDispatch(1000)).toBe(false)
    node.receive('b', accepted(1, 1, { sentAtMs: 1000 }), 1010)
    expect(node.serving).toBe(false) // Its own disk is not done, and c has not answered.
    node.durable(1, 1020)
    expect(node.serving).toBe(true)
    expect(node.mayDispatch(1020)).toBe(true)
    expect(node.mayDispatch(1000 + leaseMs - 1)).toBe(true)
    expect(node.mayDispatch(1000 + leaseMs)).toBe(false) // Counted from the question, not from the answer.
    node.receive('c', accepted(1, 1, { sentAtMs: 1500 }), 1700)
    expect(node.mayDispatch(1700)).toBe(true)
  })

  test('paused leader: answers that waited in its buffer renew nothing (T2)', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    node.receive('b', accepted(1, 1, { sentAtMs: 1000 }), 1010)
    expect(node.mayDispatch(9000)).toBe(false)
    node.receive('c', accepted(1, 1, { sentAtMs: 1050 }), 9000)
    expect(node.mayDispatch(9000)).toBe(false)
  })

  test('learner: its answers renew nothing', () => {
    const node = leading(1, 1000)
    node.peerUp('d', 'd2', 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    node.receive('b', accepted(1, 1, { sentAtMs: 1000 }), 1010)
    node.receive('d', accepted(1, 1, { sentAtMs: 1500 }), 1510)
    expect(node.mayDispatch(1000 + leaseMs)).toBe(false)
  })

  test('new leader: waits out the lease that an elector told it of, and its own', () => {
    const node = connected({ nowMs: -10_000 })
    node.stand('link lost', 1000)
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 1000)
    node.promised(1, 1000)
    node.receive('b', voteReply(1, { leaseMs: 300 }), 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    node.receive('b', accepted(1, 1, { sentAtMs: 1100 }), 1100)
    expect(node.serving).toBe(true)
    expect(node.mayDispatch(1299)).toBe(false)
    expect(node.mayDispatch(1300)).toBe(true)
  })

  test('elector: tells how long a leader may rely on its last answer, with a tenth to spare', () => {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    node.peerDown('b')
    expect(leaseTold(node, 'c', 2, 1200)).toBeCloseTo(leaseMs * 1.1 - 200)
  })

  test('elector: having started anew takes its last answer to have been just then', () => {
    const node = connected({ nowMs: 5000, promise: { epoch: 1, votedFor: 'b' } })
    expect(leaseTold(node, 'c', 2, 5100)).toBeCloseTo(leaseMs * 1.1 - 100)
  })

  test('elector: its refusal of an append renews the lease, so it remembers that too', () => {
    const node = connected({ nowMs: -10_000, promise: { epoch: 2, votedFor: 'b' }, log: logOf([1]) })
    const effects = node.receive('b', append(2, [1, 5], [], { sentAtMs: 1000 }), 1000)
    expect(said(effects, 'b')).toMatchObject([{ type: 'appendReply', accepted: false, epoch: 2 }])
    node.peerDown('b')
    expect(leaseTold(node, 'c', 3, 1000)).toBeCloseTo(leaseMs * 1.1)
  })

  test('elector: a resignation ends the lease of the one who resigned', () => {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    node.receive('b', { type: 'resign', epoch: 1, handedOver: false }, 1010)
    expect(leaseTold(node, 'c', 2, 1020)).toBe(0)
  })

  test('elector: a resignation does not end the lease of a leader before', () => {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    node.peerDown('b')
    expect(leaseTold(node, 'c', 2, 1010)).toBeGreaterThan(0)
    node.receive('c', append(2, [0, 0]), 1020)
    node.receive('c', { type: 'resign', epoch: 2, handedOver: false }, 1030)
    node.peerUp('b', 'b1', 1030)
    expect(leaseTold(node, 'c', 3, 1040)).toBeCloseTo(leaseMs * 1.1 - 40)
  })

  test('leader: having resigned, it remembers whom it answered before it led', () => {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    node.peerDown('b')
    node.stand('link lost', 1010)
    node.receive('c', { type: 'preVoteReply', epoch: 2, granted: true, owing: false, promised: 1 }, 1010)
    node.promised(2, 1010)
    node.receive('c', voteReply(2), 1010)
    expect(node.role).toBe('leader')
    node.resign('asked to')
    expect(leaseTold(node, 'c', 3, 1030)).toBeCloseTo(leaseMs * 1.1 - 30)
  })

  test('cluster of one: dispatches as soon as it serves, and for ever', () => {
    const node = core({ voters: new Set(['a']) })
    node.stand('startup', 0)
    node.promised(1, 0)
    node.sealed(1, 1, 1, noBytes, 0)
    node.durable(1, 5)
    expect(node.mayDispatch(5)).toBe(true)
    node.tick(1e9)
    expect(node.mayDispatch(1e9)).toBe(true)
  })
})

describe('S13, S9: a leader without a majority', () => {
  test('leader: cut from a majority steps down after an election time-out', () => {
    const node = leading(1, 1000)
    node.tick(1000 + electionTimeoutMs - 1)
    expect(node.role).toBe('leader')
    const effects = node.tick(1000 + electionTimeoutMs)
    expect(effects).toContainEqual({ type: 'deposed', reason: expect.any(String) })
    expect(effects).toContainEqual({ type: 'leaderLost', reason: 'timeout' })
    expect(node.role).toBe('follower')
  })

  test('T21: a leader that is not heard of, but hears nobody, steps down though it can send', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    node.receive('b', accepted(1, 1, { sentAtMs: 1000 }), 1005)
    expect(node.mayDispatch(1005)).toBe(true)
    for (let nowMs = 1010; nowMs < 1000 + electionTimeoutMs; nowMs += heartbeatMs / 4) node.tick(nowMs)
    expect(node.mayDispatch(1000 + leaseMs)).toBe(false)
    node.tick(1000 + electionTimeoutMs)
    expect(node.role).toBe('follower')
  })

  test('T21: a follower that hears nobody does not unseat a leader that others hear', () => {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    const effects = node.receive('c', preVote(2), 1500)
    expect(said(effects, 'c')).toMatchObject([{ type: 'preVoteReply', granted: false }])
    expect(node.leader).toBe('b')
    expect(said(node.receive('c', vote(2), 1500), 'c')).toMatchObject([{ granted: false }])
    expect(node.epoch).toBe(1)
  })

  test('leader: refuses pre-votes and votes while it leads', () => {
    const node = leading(1, 1000)
    expect(said(node.receive('c', preVote(2), 1500), 'c')).toMatchObject([{ granted: false }])
    expect(said(node.receive('c', vote(2), 1500), 'c')).toMatchObject([{ granted: false }])
    expect(node.role).toBe('leader')
  })

  test('follower: silence of a time-out loses the leader, and only then a vote is given', () => {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    expect(node.tick(1000 + electionTimeoutMs - 1)).toEqual([])
    expect(node.tick(1000 + electionTimeoutMs)).toContainEqual({ type: 'leaderLost', reason: 'timeout' })
    const effects = node.receive('c', preVote(2), 1000 + electionTimeoutMs)
    expect(said(effects, 'c')).toMatchObject([{ granted: true }])
  })
})

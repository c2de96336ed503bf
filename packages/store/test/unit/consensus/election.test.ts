import { describe, expect, test } from 'vitest'
import {
  accepted,
  append,
  connected,
  core,
  electionTimeoutMs,
  leading,
  logOf,
  noBytes,
  preVote,
  said,
  types,
  vote,
  voteReply,
} from './core-driver.ts'

describe('S2: promise', () => {
  test('vote: goes out only when the promise is on disk', () => {
    const node = connected()
    expect(types(node.receive('b', vote(1), 0))).toEqual(['role', 'promise'])
    expect(said(node.promised(1, 5), 'b')).toMatchObject([{ type: 'voteReply', epoch: 1, granted: true }])
  })

  test('vote: one to a candidate in an epoch, also after a restart', () => {
    const node = connected()
    node.receive('b', vote(1), 0)
    expect(said(node.receive('c', vote(1), 0), 'c')).toMatchObject([{ granted: false }])
    node.promised(1, 0)
    expect(said(node.receive('c', vote(1), 0), 'c')).toMatchObject([{ granted: false }])
    expect(said(node.receive('b', vote(1), 0), 'b')).toMatchObject([{ granted: true }])
    const again = connected({ promise: { epoch: 1, votedFor: 'b' } })
    expect(said(again.receive('c', vote(1), 0), 'c')).toMatchObject([{ granted: false }])
    expect(said(again.receive('b', vote(1), 0), 'b')).toMatchObject([{ granted: true }])
  })

  test('vote: is not given any more when a later promise overtook it', () => {
    const node = connected()
    node.receive('b', vote(1), 0)
    node.receive('c', vote(2), 0)
    expect(node.promised(1, 0)).toEqual([])
    const effects = node.promised(2, 0)
    expect(said(effects, 'b')).toEqual([])
    expect(said(effects, 'c')).toMatchObject([{ epoch: 2, granted: true }])
  })

  test('vote: none in an epoch that the own log proves to be promised', () => {
    const node = connected({ promise: { epoch: 1, votedFor: 'b' }, log: logOf([1, 3]) })
    expect(node.epoch).toBe(3)
    expect(said(node.receive('b', vote(3, 9, 9), 0), 'b')).toMatchObject([{ granted: false }])
  })

  test('candidate: asks for votes only when its own promise is on disk', () => {
    const node = connected()
    node.stand('timeout', 0)
    const grant = { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 } as const
    expect(types(node.receive('b', grant, 1))).toEqual(['promise', 'role'])
    expect(types(node.promised(1, 2))).toEqual(['vote', 'vote'])
  })

  test('candidate: an epoch that another was promised meanwhile is not stood in', () => {
    const node = connected()
    node.stand('timeout', 0)
    node.receive('c', append(1, [0, 0]), 1)
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 2)
    expect(node.role).toBe('follower')
    expect(node.leader).toBe('c')
  })

  test('candidate: its next epoch is above any that it heard of', () => {
    const node = connected()
    node.stand('timeout', 0)
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: false, owing: false, promised: 7 }, 1)
    node.receive('c', { type: 'preVoteReply', epoch: 1, granted: false, owing: false, promised: 0 }, 1)
    expect(said(node.stand('timeout', 2), 'b')).toMatchObject([{ type: 'preVote', epoch: 8 }])
    expect(node.epoch).toBe(0) // Nothing is promised by asking.
  })

  test('candidate: an own promise that takes long does not end the campaign', () => {
    const node = connected()
    node.stand('timeout', 0)
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 1)
    expect(node.tick(5 * electionTimeoutMs)).toEqual([])
    expect(types(node.promised(1, 5 * electionTimeoutMs))).toEqual(['vote', 'vote'])
    expect(node.tick(5 * electionTimeoutMs + 1)).toEqual([])
    expect(types(node.tick(6 * electionTimeoutMs))).toContain('defeated')
  })

  test('cluster of one: a slow disk delays leadership, and does not prevent it', () => {
    const node = core({ voters: new Set(['a']) })
    node.stand('startup', 0)
    node.tick(2 * electionTimeoutMs)
    expect(types(node.promised(1, 2 * electionTimeoutMs))).toEqual(['role', 'lead'])
  })

  test('candidate: votes of another epoch, of a learner or of a stranger do not count', () => {
    const node = connected()
    node.peerUp('d', 'd2', 0)
    node.stand('timeout', 0)
    node.receive('d', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 1)
    expect(node.role).toBe('follower')
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 1)
    node.promised(1, 2)
    node.receive('b', voteReply(2), 3)
    node.receive('d', voteReply(1), 3)
    node.receive('x', voteReply(1), 3)
    expect(node.role).toBe('candidate')
    node.receive('c', voteReply(1), 4)
    expect(node.role).toBe('leader')
  })

  test('five voters: one voter that says yes twice is one vote', () => {
    const node = connected({ voters: new Set(['a', 'b', 'c', 'd', 'e']) })
    node.stand('timeout', 0)
    const grant = { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 } as const
    node.receive('b', grant, 1)
    node.receive('b', grant, 1)
    expect(node.role).toBe('follower')
    node.receive('c', grant, 1)
    node.promised(1, 1)
    node.receive('b', voteReply(1), 2)
    node.receive('b', voteReply(1), 2)
    expect(node.role).toBe('candidate')
    node.receive('d', voteReply(1), 2)
    expect(node.role).toBe('leader')
  })
})

describe('S3: fence', () => {
  test('append of an older epoch: is refused and told the newer epoch', () => {
    const node = connected({ promise: { epoch: 3, votedFor: 'c' } })
    const effects = node.receive('b', append(2, [0, 0], [2]), 0)
    expect(types(effects)).toEqual(['appendReply'])
    expect(said(effects, 'b')).toMatchObject([{ accepted: false, epoch: 3 }])
    expect(node.lastIndex).toBe(0)
  })

  test('append of a newer epoch: is acknowledged only when the promise is on disk', () => {
    const node = connected()
    expect(types(node.receive('b', append(4, [0, 0]), 0))).toEqual(['role', 'promise', 'role'])
    node.receive('b', append(4, [0, 0], [4]), 1)
    expect(node.durable(1, 2)).toEqual([])
    expect(said(node.promised(4, 3), 'b')).toMatchObject([{ accepted: true, epoch: 4, durableIndex: 1 }])
  })

  test('leader: a newer epoch in an answer deposes it', () => {
    const node = leading(2, 1000)
    const effects = node.receive('b', accepted(5, 0, { accepted: false }), 1001)
    expect(types(effects)).toContain('deposed')
    expect(effects).toContainEqual({ type: 'promise', epoch: 5, votedFor: undefined })
    expect(node.role).toBe('follower')
  })

  test('leader: a newer leader deposes it, and it follows', () => {
    const node = leading(2, 1000)
    const effects = node.receive('b', append(3, [0, 0]), 1001)
    expect(types(effects)).toContain('deposed')
    expect(node.leader).toBe('b')
    expect(node.epoch).toBe(3)
  })
})

describe('S4: eligibility', () => {
  const log = logOf([1, 1, 3])
  test.each([
    ['a shorter log of the same epoch', 3, 2, false],
    ['a longer log of an older epoch', 2, 9, false],
    ['an equal log', 3, 3, true],
    ['a longer log of the same epoch', 3, 4, true],
    ['a shorter log of a newer epoch', 4, 1, true],
  ])('vote and pre-vote: %s', (_, lastEpoch, lastIndex, granted) => {
    const asked = connected({ log }).receive('b', preVote(9, lastEpoch, lastIndex), 0)
    expect(said(asked, 'b')).toMatchObject([{ type: 'preVoteReply', granted }])
    const node = connected({ log })
    const effects = [...node.receive('b', vote(9, lastEpoch, lastIndex), 0), ...node.promised(9, 0)]
    expect(said(effects, 'b')).toMatchObject([{ type: 'voteReply', granted }])
  })

  test('pre-vote: promises nothing and disturbs nobody', () => {
    const node = connected({ promise: { epoch: 3, votedFor: 'c' } })
    expect(types(node.receive('b', preVote(4), 0))).toEqual(['preVoteReply'])
    expect(node.epoch).toBe(3)
  })

  test('pre-vote: of two that stand, the longer log, then the weight, then the lower id goes on', () => {
    for (const [other, wins] of [
      [preVote(4, 3, 4, 0), true],
      [preVote(4, 3, 3, 2), true],
      [preVote(4, 3, 3, 1), false],
      [preVote(4, 3, 3, 0), false],
    ] as const) {
      const node = connected({ log })
      node.stand('timeout', 0)
      const effects = node.receive('b', other, 1)
      expect(said(effects, 'b')).toMatchObject([{ granted: wins }])
      expect(types(effects).includes('defeated')).toBe(wins)
    }
  })

  test('campaign: is given up when the answers, or the lost links, leave no majority', () => {
    const refused = connected()
    refused.stand('timeout', 0)
    refused.receive('b', { type: 'preVoteReply', epoch: 1, granted: false, owing: false, promised: 0 }, 1)
    const lost = refused.peerDown('c')
    expect(types(lost)).toEqual(['defeated'])
    expect(types(core().stand('timeout', 0))).toEqual(['defeated'])
  })
})

describe('S23: a blank store is a learner', () => {
  test('learner: does not stand, promises nothing of itself, and follows', () => {
    const node = connected({ storeUuid: 'a2' })
    expect(node.stand('startup', 0)).toEqual([])
    expect([node.voter, node.eligible, node.epoch]).toEqual([false, false, 0])
    node.receive('b', append(1, [0, 0], [1]), 0)
    node.promised(1, 0)
    expect(said(node.durable(1, 0), 'b')).toMatchObject([{ accepted: true, durableIndex: 1 }])
  })

  test('learner: answers whoever asks, since the asker may know that it has become a voter', () => {
    const node = connected({ storeUuid: 'a2' })
    expect(said(node.receive('b', preVote(1), 0), 'b')).toMatchObject([{ granted: true }])
    node.receive('b', vote(1), 0)
    expect(said(node.promised(1, 0), 'b')).toMatchObject([{ granted: true }])
  })

  test('learner: is not asked for its vote, and neither its pre-vote nor its vote counts', () => {
    const node = connected({ voters: new Set(['a', 'b', 'c']) })
    node.peerUp('c', 'c2', 0)
    expect(said(node.stand('timeout', 0), 'c')).toEqual([])
    node.receive('c', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 0)
    expect(node.epoch).toBe(0)
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 0)
    node.promised(1, 0)
    node.receive('c', voteReply(1), 0)
    expect(node.role).toBe('candidate')
    expect(node.reachableVoters).toBe(2)
  })

  test('T6: with one voter stopped and one wiped there is no leader', () => {
    const node = connected()
    node.peerDown('b')
    node.peerUp('c', 'c2', 0)
    expect(types(node.stand('link lost', 0))).toEqual(['defeated'])
    expect(node.role).toBe('follower')
  })

  test('voter that comes back as a learner: what it held before does not count any more', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.receive('b', accepted(1, 1), 1001)
    node.peerDown('b')
    node.peerUp('b', 'b2', 1002)
    node.receive('b', accepted(1, 1), 1003)
    node.durable(1, 1004)
    expect(node.commitIndex).toBe(0)
    node.receive('c', accepted(1, 1), 1005)
    expect(node.commitIndex).toBe(1)
  })
})

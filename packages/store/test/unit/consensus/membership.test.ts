import { describe, expect, test } from 'vitest'
import type { Consensus } from '../../../src/consensus/consensus.ts'
import {
  accepted,
  append,
  connected,
  leading,
  logOf,
  noBytes,
  preVote,
  said,
  types,
  vote,
  voteReply,
  votersOf,
} from './core-driver.ts'

/** `a` serves in epoch 1 with voters `a`, `b` and `c`; `d` is a learner that is level. */
function serving(): Consensus {
  const node = leading(1, 1000)
  node.sealed(1, 1, 1, noBytes, 1000, votersOf('a', 'b', 'c'))
  node.durable(1, 1001)
  for (const peer of ['b', 'c']) node.receive(peer, accepted(1, 1, { sentAtMs: 1000 }), 1002)
  node.peerUp('d', 'd1', 1002)
  node.receive('d', accepted(1, 1, { sentAtMs: 1002 }), 1003)
  return node
}

describe('S35: the leader changes the voters', () => {
  test('adding a learner: takes effect when it is sealed, and its own commit needs the new majority', () => {
    const node = serving()
    const effects = node.changeVoters(votersOf('a', 'b', 'c', 'd'), 1004)
    expect(effects).toEqual([{ type: 'configure', epoch: 1, voters: votersOf('a', 'b', 'c', 'd') }])
    expect([node.quorum, node.changing]).toEqual([2, true])
    const sealed = node.sealed(1, 2, 2, noBytes, 1005, votersOf('a', 'b', 'c', 'd'))
    expect(said(sealed, 'd')).toMatchObject([{ batches: [{ voters: votersOf('a', 'b', 'c', 'd') }] }])
    expect([node.quorum, node.changing]).toEqual([3, true])
    node.durable(2, 1006)
    node.receive('b', accepted(1, 2), 1007)
    expect(node.commitIndex).toBe(1)
    node.receive('d', accepted(1, 2), 1008)
    expect([node.commitIndex, node.changing]).toEqual([2, false])
  })

  test('a learner never counts before', () => {
    const node = serving()
    node.sealed(1, 2, 2, noBytes, 1005)
    node.durable(2, 1006)
    node.receive('d', accepted(1, 2), 1008)
    expect(node.commitIndex).toBe(1)
  })

  test.each([
    ['two at a time', votersOf('a', 'b'), votersOf('a', 'b', 'c'), undefined],
    [
      'a replacement in one step',
      [...votersOf('a', 'b'), { nodeId: 'd', storeUuid: 'd1' }],
      undefined,
      'one',
    ],
    [
      'two stores of one node',
      [...votersOf('a', 'b', 'c'), { nodeId: 'b', storeUuid: 'b2' }],
      undefined,
      'twice',
    ],
    ['one that is not connected', votersOf('a', 'b', 'c', 'e'), undefined, 'not connected'],
    [
      'one with another store',
      [...votersOf('a', 'b', 'c'), { nodeId: 'd', storeUuid: 'd2' }],
      undefined,
      'store',
    ],
    ['nobody', [], undefined, 'nobody'],
    ['the same', votersOf('c', 'b', 'a'), undefined, 'one'],
  ])('refused: %s', (_, voters, then, reason) => {
    const node = serving()
    if (then === undefined) expect(node.refusesChange(voters, 1004)).toContain(reason)
    else {
      // One less is fine, but not a second one before the first is committed.
      node.changeVoters(voters, 1004)
      expect(node.refusesChange(then, 1004)).toContain('under way')
      node.sealed(1, 2, 2, noBytes, 1005, voters)
      expect(node.changeVoters(then, 1005)).toEqual([])
    }
  })

  test('refused: by a follower, before a record of the own epoch is committed, and while an old lease runs', () => {
    expect(connected().refusesChange(votersOf('a', 'b'), 0)).toContain('not the master')
    const node = leading(2, 1000, { log: logOf([1]) })
    node.sealed(2, 2, 2, noBytes, 1000, votersOf('a', 'b', 'c'))
    expect(node.refusesChange(votersOf('a', 'b'), 9000)).toContain('own epoch')
    const hasty = connected({ nowMs: -10_000 })
    hasty.stand('link lost', 1000)
    hasty.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 1000)
    hasty.promised(1, 1000)
    hasty.receive('b', voteReply(1, { leaseMs: 300 }), 1000)
    hasty.sealed(1, 1, 1, noBytes, 1000)
    hasty.durable(1, 1000)
    hasty.receive('b', accepted(1, 1, { sentAtMs: 1000 }), 1001)
    expect(hasty.refusesChange(votersOf('a', 'b'), 1299)).toContain('lease')
    expect(hasty.refusesChange(votersOf('a', 'b'), 1300)).toBeUndefined()
  })

  test('T23: a leader that removes itself does not count itself, and gives up when that is committed', () => {
    const node = serving()
    node.changeVoters(votersOf('b', 'c'), 1004)
    node.sealed(1, 2, 2, noBytes, 1005, votersOf('b', 'c'))
    node.durable(2, 1006)
    node.receive('b', accepted(1, 2), 1007)
    expect([node.role, node.commitIndex]).toEqual(['leader', 1])
    const effects = node.receive('c', accepted(1, 2), 1008)
    expect(said(effects, 'c').at(-2)).toMatchObject({ type: 'append', commitIndex: 2 })
    expect(said(effects, 'b').at(-1)).toEqual({ type: 'resign', epoch: 1, handedOver: false })
    expect([node.role, node.voter, node.eligible]).toEqual(['follower', false, false])
    expect(node.stand('timeout', 9000)).toEqual([])
  })

  test('two voters: removing the other one commits with the own disk alone', () => {
    const node = connected({ voters: new Set(['a', 'b']) })
    node.stand('timeout', 1000)
    node.receive('b', { type: 'preVoteReply', epoch: 1, granted: true, owing: false, promised: 0 }, 1000)
    node.promised(1, 1000)
    node.receive('b', voteReply(1), 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    node.receive('b', accepted(1, 1, { sentAtMs: 1000 }), 1001)
    node.changeVoters(votersOf('a'), 1002)
    node.sealed(1, 2, 2, noBytes, 1003, votersOf('a'))
    node.durable(2, 1004)
    expect(node.commitIndex).toBe(2)
    expect(node.mayDispatch(1e9)).toBe(true)
  })

  test('one voter and a second: the lease needs the second one from then on', () => {
    const node = connected({ voters: new Set(['a']) })
    node.stand('startup', 0)
    node.promised(1, 0)
    node.sealed(1, 1, 1, noBytes, 0)
    node.durable(1, 1)
    node.peerUp('b', 'b1', 1)
    node.receive('b', accepted(1, 1, { sentAtMs: 1 }), 2)
    node.changeVoters(votersOf('a', 'b'), 3)
    node.sealed(1, 2, 2, noBytes, 3, votersOf('a', 'b'))
    expect(node.mayDispatch(100)).toBe(true)
    expect(node.mayDispatch(700)).toBe(false)
  })
})

describe('S35: a follower', () => {
  const joined = (from: string) => {
    const node = connected({ promise: { epoch: 1, votedFor: 'b' } })
    const [batch] = append(1, [0, 0], [1]).batches
    if (batch === undefined) throw new Error('no batch')
    node.receive(from, append(1, [0, 0], [], { batches: [{ ...batch, voters: votersOf('b', 'c') }] }), 0)
    return node
  }

  test('counts by the last configuration in its log, committed or not', () => {
    const node = joined('b')
    expect([node.voter, node.quorum]).toEqual([false, 2])
    // Not committed: it may be the only one whose log is complete.
    expect(node.eligible).toBe(true)
    node.receive('b', append(1, [1, 1], [], { commitIndex: 1 }), 1)
    expect(node.eligible).toBe(false)
  })

  test('takes the one before back when it is truncated', () => {
    const node = joined('b')
    node.receive('c', append(2, [0, 0], [2]), 1)
    expect([node.voter, node.voters]).toEqual([true, votersOf('a', 'b', 'c')])
  })

  test('that is removed and stands does not count itself', () => {
    const node = joined('b')
    node.peerDown('b')
    node.peerUp('b', 'b1', 2)
    expect(said(node.stand('link lost', 5000), 'b')).toMatchObject([{ type: 'preVote' }])
    node.receive('b', { type: 'preVoteReply', epoch: 2, granted: true, owing: false, promised: 1 }, 5001)
    expect(node.role).toBe('follower')
    node.receive('c', { type: 'preVoteReply', epoch: 2, granted: true, owing: false, promised: 1 }, 5001)
    expect(node.role).toBe('candidate')
  })

  test('a removed node that asks disturbs neither a live leader nor an attempt', () => {
    const node = connected({ voters: new Set(['a', 'b', 'c']) })
    node.peerUp('x', 'x1', 0)
    node.receive('b', append(1, [0, 0]), 0)
    expect(said(node.receive('x', preVote(9, 9, 9), 1), 'x')).toMatchObject([{ granted: false }])
    expect(said(node.receive('x', vote(9, 9, 9), 1), 'x')).toMatchObject([{ granted: false }])
    expect(node.epoch).toBe(1)
    const standing = connected()
    standing.peerUp('x', 'x1', 0)
    standing.stand('timeout', 0)
    expect(types(standing.receive('x', preVote(9, 9, 9), 1))).toEqual(['preVoteReply'])
  })

  test('its peers are voters or not as the configuration says, also without a new connection', () => {
    const node = connected({ voters: new Set(['a', 'b', 'c', 'd', 'e']) })
    expect([node.reachableVoters, node.quorum]).toEqual([5, 3])
    const [batch] = append(1, [0, 0], [1]).batches
    if (batch === undefined) throw new Error('no batch')
    const batches = [{ ...batch, voters: votersOf('a', 'b', 'c', 'd') }]
    node.receive('b', append(1, [0, 0], [], { batches }), 0)
    expect([node.reachableVoters, node.quorum]).toEqual([4, 3])
  })
})

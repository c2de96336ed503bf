import { describe, expect, test } from 'vitest'
import type { Consensus } from '../../../src/consensus/consensus.ts'
import type { PreVoteReply } from '../../../src/consensus/message.ts'
import {
  accepted,
  append,
  connected,
  core,
  leading,
  logOf,
  noBytes,
  preVote,
  said,
  types,
  vote,
  voteReply,
} from './core-driver.ts'

const owed = { epoch: 2, index: 5 }
const log = logOf([1, 1, 2, 2], 2)
const owing = (): Consensus => connected({ log, promise: { epoch: 2, votedFor: undefined, owed } })

function preVoteReply(epoch: number, answer: 'yes' | 'no' | 'owing'): PreVoteReply {
  return { type: 'preVoteReply', epoch, granted: answer === 'yes', owing: answer === 'owing', promised: 0 }
}

describe('S24, S27: a store that may have acknowledged what it does not hold', () => {
  test.each([
    ['its own log is not enough', 2, 4, false],
    ['up to what is owed', 2, 5, true],
    ['of a later epoch', 3, 1, true],
  ])('votes for a log %s: %s %s', (_, lastEpoch, lastIndex, granted) => {
    const asked = said(owing().receive('b', preVote(9, lastEpoch, lastIndex), 0), 'b')
    expect(asked).toMatchObject([{ granted, owing: !granted }])
    const node = owing()
    const effects = [...node.receive('b', vote(9, lastEpoch, lastIndex), 0), ...node.promised(9, 0)]
    expect(said(effects, 'b')).toMatchObject([{ granted }])
    // What is owed is kept with each promise.
    expect(effects).toContainEqual({ type: 'promise', epoch: 9, votedFor: granted ? 'b' : undefined, owed })
  })

  test('does not stand with a majority alone', () => {
    const node = owing()
    node.stand('timeout', 0)
    expect(node.receive('b', preVoteReply(3, 'yes'), 1)).toEqual([])
    expect(types(node.receive('c', preVoteReply(3, 'no'), 1))).toEqual(['defeated'])
    const other = owing()
    other.peerDown('c')
    expect(types(other.stand('timeout', 0))).toEqual(['defeated'])
  })

  test('stands if all voters have answered and nobody has more', () => {
    const node = owing()
    node.stand('timeout', 0)
    node.receive('b', preVoteReply(3, 'owing'), 1)
    expect(types(node.receive('c', preVoteReply(3, 'yes'), 1))).toEqual(['promise', 'role'])
    expect(said(node.promised(3, 2), 'b')).toMatchObject([{ type: 'vote', all: true }])
    node.receive('b', voteReply(3), 3)
    expect(node.role).toBe('leader')
  })

  test('votes for a log that ends before it if all have answered, and still not for one below its own', () => {
    const node = owing()
    node.receive('b', vote(9, 2, 4, true), 0)
    expect(said(node.promised(9, 0), 'b')).toMatchObject([{ granted: true }])
    const other = owing()
    expect(said(other.receive('b', vote(9, 2, 3, true), 0), 'b')).toMatchObject([{ granted: false }])
  })

  test('alone: leads, since nobody else can have more', () => {
    const promise = { epoch: 2, votedFor: 'a', owed }
    const node = core({ voters: new Set(['a']), log: logOf([1]), promise })
    node.stand('startup', 0)
    node.promised(3, 0)
    expect(node.role).toBe('leader')
    node.sealed(3, 2, 2, noBytes, 0)
    expect(types(node.durable(2, 1))).toContain('promise')
    expect(node.owed).toBeUndefined()
  })

  test('is quit of it when a record at or above it is committed and on its disk', () => {
    const node = connected({ log, promise: { epoch: 3, votedFor: 'b', owed } })
    node.receive('b', append(3, [2, 4], [2, 3], { commitIndex: 4, commitEpoch: 2 }), 0)
    expect(node.owed).toEqual(owed)
    node.durable(6, 1)
    expect(node.owed).toEqual(owed)
    const effects = node.receive('b', append(3, [3, 6], [], { commitIndex: 5, commitEpoch: 2 }), 2)
    expect(effects).toContainEqual({ type: 'promise', epoch: 3, votedFor: 'b', owed: undefined })
    expect(node.owed).toBeUndefined()
    const slow = connected({ log, promise: { epoch: 3, votedFor: 'b', owed } })
    slow.receive('b', append(3, [2, 4], [3], { commitIndex: 5, commitEpoch: 3 }), 0)
    expect(slow.owed).toEqual(owed) // Committed, and not on the own disk.
    slow.durable(5, 1)
    expect(slow.owed).toBeUndefined()
  })

  test('two that owe: the better one goes on; one that owes gives way to one that does not', () => {
    const node = owing()
    node.stand('timeout', 0)
    expect(said(node.receive('c', preVote(3, 2, 5), 1), 'c')).toMatchObject([{ granted: true }])
    const level = owing()
    level.stand('timeout', 0)
    expect(said(level.receive('c', preVote(3, 2, 4), 1), 'c')).toMatchObject([
      { granted: false, owing: false },
    ])
  })
})

describe('S24: a leader remembers what was acknowledged', () => {
  /** `b` has acknowledged 1 to 3 of epoch 2 to `a`, lost its link, and come back. */
  function cameBack(): Consensus {
    const node = leading(2, 1000)
    node.sealed(2, 1, 3, noBytes, 1000)
    node.receive('b', accepted(2, 3), 1001)
    node.peerDown('b')
    node.peerUp('b', 'b1', 1002)
    return node
  }

  test('T7: a member that comes back with less is told what it owes, and its acknowledgement counts no more', () => {
    const node = cameBack()
    const effects = node.receive(
      'b',
      accepted(2, 2, { accepted: false, previousIndex: 3, hintEpoch: 2 }),
      1003,
    )
    expect(said(effects, 'b')).toContainEqual({ type: 'recall', epoch: 2, owed: { epoch: 2, index: 3 } })
    node.durable(3, 1004)
    expect(node.commitIndex).toBe(0)
    // It is told again if it comes back once more, until it holds it again.
    node.peerDown('b')
    node.peerUp('b', 'b1', 1005)
    const again = node.receive('b', accepted(2, 1, { accepted: false, previousIndex: 3, hintEpoch: 2 }), 1006)
    expect(said(again, 'b')).toContainEqual({ type: 'recall', epoch: 2, owed: { epoch: 2, index: 3 } })
    node.receive('b', accepted(2, 1), 1007)
    node.receive('b', accepted(2, 3), 1008)
    expect(node.commitIndex).toBe(3)
  })

  test('a member that comes back with all of it counts as before', () => {
    const node = cameBack()
    node.sealed(2, 4, 4, noBytes, 1003)
    const effects = node.receive(
      'b',
      accepted(2, 3, { accepted: false, previousIndex: 4, hintEpoch: 2 }),
      1004,
    )
    expect(types(effects)).not.toContain('recall')
    node.durable(3, 1005)
    expect(node.commitIndex).toBe(3)
  })

  test('member: believes its leader alone, and keeps it on disk', () => {
    const node = connected({ log, promise: { epoch: 2, votedFor: 'b' } })
    node.receive('b', append(2, [2, 3]), 0)
    expect(node.receive('c', { type: 'recall', epoch: 2, owed }, 1)).toEqual([])
    expect(node.receive('b', { type: 'recall', epoch: 1, owed }, 1)).toEqual([])
    const effects = node.receive('b', { type: 'recall', epoch: 2, owed }, 1)
    expect(effects).toEqual([{ type: 'promise', epoch: 2, votedFor: 'b', owed }])
    expect(node.receive('b', { type: 'recall', epoch: 2, owed }, 1)).toEqual([])
  })
})

describe('S24: the highest commit index that was heard of', () => {
  const heard = (): Consensus => {
    const node = connected({ nowMs: -10_000, log, promise: { epoch: 2, votedFor: 'b' } })
    node.receive('b', append(2, [2, 9], [], { commitIndex: 6, commitEpoch: 2 }), 0)
    node.peerDown('b')
    node.peerUp('b', 'b1', 1)
    return node
  }

  test('T7: is a floor for votes, although the records never came', () => {
    expect(said(heard().receive('c', preVote(9, 2, 5), 1), 'c')).toMatchObject([
      { granted: false, owing: true },
    ])
    expect(said(heard().receive('c', vote(9, 2, 5), 1), 'c')).toMatchObject([{ granted: false }])
    expect(said(heard().receive('c', preVote(9, 2, 6), 1), 'c')).toMatchObject([{ granted: true }])
  })

  test('is a floor for standing', () => {
    const node = heard()
    node.stand('link lost', 1)
    node.receive('b', preVoteReply(3, 'yes'), 2)
    expect(node.role).toBe('follower')
    expect(types(node.receive('c', preVoteReply(3, 'no'), 2))).toEqual(['defeated'])
  })
})

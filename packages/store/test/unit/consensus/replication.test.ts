import { describe, expect, test } from 'vitest'
import type { Consensus } from '../../../src/consensus/consensus.ts'
import {
  accepted,
  append,
  connected,
  core,
  heartbeatMs,
  leading,
  logOf,
  noBytes,
  said,
  types,
} from './core-driver.ts'

const commits = (effects: ReturnType<Consensus['tick']>): number[] =>
  effects.flatMap((effect) => (effect.type === 'commit' ? [effect.index] : []))

/** `a` follows `b` in `epoch`, its promise durable. */
function following(epoch: number, log = logOf([])): Consensus {
  const node = connected({ promise: { epoch, votedFor: 'b' }, log })
  node.receive('b', append(epoch, [0, 0]), 0)
  return node
}

describe('S5: a record of the own epoch first', () => {
  test('T5: records of an older epoch are not committed by count', () => {
    // Figure 8 of the Raft paper: record 2 of epoch 1 is on a majority, and may still be replaced.
    const node = leading(3, 1000, { log: logOf([1, 1]) })
    expect(commits(node.receive('b', accepted(3, 2), 1001))).toEqual([])
    expect(commits(node.receive('c', accepted(3, 2), 1001))).toEqual([])
    node.sealed(3, 3, 3, noBytes, 1002)
    expect(commits(node.receive('b', accepted(3, 2), 1003))).toEqual([])
    node.durable(3, 1004)
    expect(commits(node.receive('b', accepted(3, 3), 1005))).toEqual([3])
  })

  test('leader: serves and confirms only when its first batch is committed', () => {
    const node = leading(2, 1000, { log: logOf([1]) })
    node.sealed(2, 2, 3, noBytes, 1000)
    node.durable(3, 1001)
    expect(node.serving).toBe(false)
    const effects = node.receive('c', accepted(2, 3), 1002)
    expect(types(effects)).toEqual(['commit', 'serving', 'confirm'])
    expect(node.serving).toBe(true)
  })

  test.each(['local_mem', 'local_disk', 'remote_mem'])(
    'sync %s: confirms nothing before it serves',
    (sync) => {
      const node = leading(2, 1000, { sync })
      expect(types(node.sealed(2, 1, 1, noBytes, 1000))).not.toContain('confirm')
      expect(types(node.durable(1, 1001))).toEqual([])
      expect(types(node.receive('b', accepted(2, 1), 1002))).toEqual(['commit', 'serving', 'confirm'])
    },
  )
})

describe('S6, S14: commit', () => {
  test('leader: its own disk is one vote, and only when it is done', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    expect(commits(node.receive('b', accepted(1, 1), 1001))).toEqual([])
    expect(commits(node.durable(1, 1002))).toEqual([1])
  })

  test('S31 leader: a slow own disk does not hold up a majority of the others', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.receive('b', accepted(1, 1), 1001)
    expect(commits(node.receive('c', accepted(1, 1), 1002))).toEqual([1])
    expect(node.durableIndex).toBe(0)
  })

  test('leader: one member that acknowledges twice is one', () => {
    const node = leading(1, 1000, { voters: new Set(['a', 'b', 'c']) })
    node.sealed(1, 1, 1, noBytes, 1000)
    node.receive('b', accepted(1, 1), 1001)
    expect(commits(node.receive('b', accepted(1, 1), 1002))).toEqual([])
  })

  test('leader: an acknowledgement of another epoch does not count', () => {
    const node = leading(3, 1000)
    node.sealed(3, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    expect(node.receive('b', accepted(2, 1), 1001)).toEqual([])
    expect(node.commitIndex).toBe(0)
  })

  test('leader: what was written and is not on disk does not count', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    expect(commits(node.receive('b', accepted(1, 0, { writtenIndex: 1 }), 1001))).toEqual([])
  })

  test('leader: a late, lower acknowledgement moves nothing back', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 2, noBytes, 1000)
    node.durable(2, 1000)
    node.receive('b', accepted(1, 2), 1001)
    expect(node.receive('b', accepted(1, 1), 1002)).toEqual([])
    expect(node.commitIndex).toBe(2)
  })

  test('follower: commits no record that it has not compared with the leader of the epoch', () => {
    // Record 3 is of an older leader; this leader's commit index says nothing about it.
    const node = connected({ promise: { epoch: 2, votedFor: 'b' }, log: logOf([1, 1, 1]) })
    expect(commits(node.receive('b', append(2, [1, 2], [], { commitIndex: 3 }), 0))).toEqual([2])
    expect(commits(node.receive('b', append(2, [1, 1], [], { commitIndex: 1 }), 0))).toEqual([])
    expect(node.commitIndex).toBe(2)
  })

  test('follower: acknowledges no record that it has not compared with the leader of the epoch', () => {
    const node = connected({ promise: { epoch: 2, votedFor: 'b' }, log: logOf([1, 1, 1]) })
    const effects = node.receive('b', append(2, [1, 2]), 0)
    expect(said(effects, 'b')).toMatchObject([{ accepted: true, durableIndex: 2, writtenIndex: 2 }])
  })

  test('follower: acknowledges batches when they are on its disk, and what it has already at once', () => {
    const node = following(1)
    expect(types(node.receive('b', append(1, [0, 0], [1, 1]), 0))).toEqual(['append'])
    expect(said(node.durable(1, 1), 'b')).toMatchObject([{ durableIndex: 1 }])
    expect(said(node.durable(2, 2), 'b')).toMatchObject([{ durableIndex: 2 }])
    const again = node.receive('b', append(1, [0, 0], [1, 1]), 3)
    expect(said(again, 'b')).toMatchObject([{ accepted: true, durableIndex: 2 }])
    expect(types(again)).toEqual(['appendReply'])
  })

  test('sync quorum_mem: confirms what was written, and commits what is on disk', () => {
    const node = leading(1, 1000, { sync: 'quorum_mem' })
    node.sealed(1, 1, 1, noBytes, 1000)
    node.durable(1, 1000)
    node.receive('b', accepted(1, 1), 1001)
    node.sealed(1, 2, 2, noBytes, 1002)
    const effects = node.receive('b', accepted(1, 1, { writtenIndex: 2 }), 1003)
    expect(effects).toContainEqual({ type: 'confirm', index: 2 })
    expect(node.commitIndex).toBe(1)
  })
})

describe('S7: truncation', () => {
  test('follower: drops what contradicts the leader, above its commit index, and takes the rest', () => {
    const node = connected({ promise: { epoch: 3, votedFor: 'b' }, log: logOf([1, 1, 2, 2], 2) })
    const effects = node.receive('b', append(3, [1, 2], [3, 3]), 0)
    expect(types(effects)).toEqual(['role', 'truncate', 'append'])
    expect(effects[1]).toEqual({ type: 'truncate', index: 2 })
    expect(node.lastEpoch).toBe(3)
    expect(node.durableIndex).toBe(2)
  })

  test('follower: keeps what it has already, also behind what the message holds', () => {
    const node = connected({ promise: { epoch: 3, votedFor: 'b' }, log: logOf([1, 1, 2, 2]) })
    expect(types(node.receive('b', append(3, [1, 1], [1, 2]), 0))).not.toContain('truncate')
    expect(node.lastIndex).toBe(4)
  })

  test('follower: asked to give up what is committed it stops', () => {
    const log = logOf([1, 1, 2], 3)
    const replaced = connected({ promise: { epoch: 3, votedFor: 'b' }, log })
    expect(types(replaced.receive('b', append(3, [1, 2], [3]), 0))).toContain('diverged')
    const contradicted = connected({ promise: { epoch: 3, votedFor: 'b' }, log })
    expect(types(contradicted.receive('b', append(3, [3, 3]), 0))).toContain('diverged')
  })

  test('T3: an uncommitted tail goes when its leader comes back, and what was committed without it comes', () => {
    const node = connected({ promise: { epoch: 1, votedFor: 'a' }, log: logOf([1, 1, 1, 1, 1], 2) })
    const probe = node.receive('b', append(2, [2, 4]), 0)
    node.promised(2, 0)
    expect(said(probe, 'b')).toMatchObject([{ accepted: false, hintEpoch: 1, durableIndex: 5 }])
    expect(types(node.receive('b', append(2, [1, 2], [2, 2], { commitIndex: 4 }), 1))).toEqual([
      'truncate',
      'append',
      'commit',
    ])
    expect([node.lastEpoch, node.lastIndex, node.commitIndex]).toEqual([2, 4, 4])
  })

  test('T4: leader finds where the logs part by epoch, in few steps', () => {
    const node = leading(9, 1000, { log: logOf([1, 1, 1, 4, 4, 4, 8]) })
    node.sealed(9, 8, 8, noBytes, 1000)
    // b has 1 1 1 1 1 6 6: the logs part behind 3.
    const first = node.receive('b', accepted(9, 5, { accepted: false, previousIndex: 7, hintEpoch: 6 }), 1001)
    expect(said(first, 'b')).toMatchObject([{ previousIndex: 6, previousEpoch: 4 }])
    const second = node.receive(
      'b',
      accepted(9, 5, { accepted: false, previousIndex: 6, hintEpoch: 1 }),
      1002,
    )
    expect(said(second, 'b')).toMatchObject([{ previousIndex: 3, previousEpoch: 1 }])
    const third = node.receive('b', accepted(9, 3, { previousIndex: 3 }), 1003)
    expect(third).toContainEqual({ type: 'fetch', to: 'b', fromIndex: 4, epoch: 9 })
  })
})

describe('sending', () => {
  const spans = (from: number, to: number, epoch: number) =>
    append(
      1,
      [0, from - 1],
      Array.from({ length: to - from + 1 }, () => epoch),
    ).batches

  test('leader: what was read for an earlier leadership or place is dropped', () => {
    const node = leading(2, 1000, { log: logOf([1, 1]) })
    node.sealed(2, 3, 3, noBytes, 1000)
    node.peerUp('b', 'b1', 1001)
    node.receive('b', accepted(2, 0, { accepted: false, previousIndex: 3, hintEpoch: 0 }), 1002)
    const found = node.receive('b', accepted(2, 0, { previousIndex: 0 }), 1003)
    expect(found).toContainEqual({ type: 'fetch', to: 'b', fromIndex: 1, epoch: 2 })
    expect(node.fetched('b', 1, 1, spans(1, 2, 1), noBytes, 1004)).toEqual([])
    expect(node.fetched('b', 2, 2, spans(2, 2, 1), noBytes, 1004)).toEqual([])
    expect(types(node.fetched('b', 2, 1, spans(1, 2, 1), noBytes, 1005))).toEqual(['append', 'fetch'])
    expect(node.fetched('b', 2, 1, spans(1, 2, 1), noBytes, 1006)).toEqual([]) // The same once more.
  })

  test('leader: sends no more than may be under way, and goes on from the log', () => {
    const node = leading(1, 1000, { maxFlyingBytes: 10 })
    const bytes = Buffer.alloc(8)
    expect(said(node.sealed(1, 1, 1, bytes, 1000), 'b')).toHaveLength(1)
    expect(said(node.sealed(1, 2, 2, bytes, 1000), 'b')).toHaveLength(1)
    expect(said(node.sealed(1, 3, 3, bytes, 1000), 'b')).toHaveLength(0)
    expect(node.receive('b', accepted(1, 1), 1001)).toContainEqual({
      type: 'fetch',
      to: 'b',
      fromIndex: 3,
      epoch: 1,
    })
  })

  test('S38 leader: asks a member whose disk is slow as often as an idle one, so that it keeps the lease', () => {
    const node = leading(1, 1000)
    let asked = 0
    for (let nowMs = 1000; nowMs < 1000 + 5 * heartbeatMs; nowMs += heartbeatMs / 4) {
      node.sealed(1, node.lastIndex + 1, node.lastIndex + 1, noBytes, nowMs)
      const told = said(node.tick(nowMs), 'b')
      asked += told.filter((message) => message.type === 'append' && message.batches.length === 0).length
    }
    expect(asked).toBeGreaterThanOrEqual(4)
  })

  test('message of one who is not connected: is ignored', () => {
    const node = core()
    expect(node.receive('b', append(1, [0, 0]), 0)).toEqual([])
    expect(node.epoch).toBe(0)
  })

  test('T20: quorum lost and regained without a restart: the same nodes elect and commit again', () => {
    const node = leading(1, 1000)
    node.sealed(1, 1, 1, noBytes, 1000)
    node.peerDown('b')
    node.peerDown('c')
    expect(types(node.tick(3000))).toContain('deposed')
    expect(types(node.stand('timeout', 3001))).toEqual(['defeated'])
    node.peerUp('b', 'b1', 600_000)
    node.stand('timeout', 600_000)
    node.receive('b', { type: 'preVoteReply', epoch: 2, granted: true, owing: false, promised: 1 }, 600_001)
    node.promised(2, 600_001)
    node.receive('b', { type: 'voteReply', epoch: 2, granted: true, leaseMs: 0 }, 600_002)
    node.sealed(2, 2, 2, noBytes, 600_003)
    node.durable(2, 600_003)
    expect(types(node.receive('b', accepted(2, 2), 600_004))).toEqual(['commit', 'serving', 'confirm'])
    expect(node.commitIndex).toBe(2)
  })
})

import { describe, expect, test } from 'vitest'
import type { Consensus } from '../../../src/consensus/consensus.ts'
import { LogTail } from '../../../src/consensus/log-tail.ts'
import {
  accepted,
  append,
  connected,
  heartbeatMs,
  leading,
  logOf,
  noBytes,
  said,
  types,
} from './core-driver.ts'

const modeOf = (node: Consensus, id: string) => [...node.progress].find(({ nodeId }) => nodeId === id)?.mode

describe('S33: a log that begins later', () => {
  // Records 1 to 9 of epochs 1 1 1 2 2 4 4 4 4; 1 to 5 are gone.
  const later = () =>
    new LogTail({
      firstIndex: 6,
      lastIndex: 9,
      commitIndex: 3,
      epochStarts: [
        { epoch: 1, index: 1 },
        { epoch: 2, index: 4 },
        { epoch: 4, index: 6 },
      ],
    })

  test('knows the epoch of the record before its first, and takes what is below for committed', () => {
    const tail = later()
    expect([tail.epochAt(5), tail.epochAt(6), tail.lastEpoch]).toEqual([2, 4, 4])
    expect(tail.commitIndex).toBe(5)
    expect([tail.holds(2, 5), tail.holds(1, 5), tail.holds(1, 3), tail.holds(4, 10)]).toEqual([
      true,
      false,
      true,
      false,
    ])
  })

  test('finds ends of epochs as far as they are known', () => {
    const tail = later()
    expect(tail.endOfEpochUpTo(4)).toEqual({ epoch: 4, index: 9 })
    expect(tail.endOfEpochUpTo(3)).toEqual({ epoch: 2, index: 5 })
    expect(tail.endOfEpochUpTo(1)).toEqual({ epoch: 0, index: 0 })
    tail.discardBelow(8)
    expect(tail.epochAt(7)).toBe(4)
    expect(tail.endOfEpochUpTo(3)).toEqual({ epoch: 0, index: 0 })
  })

  test('holds nothing yet, and is as complete as what it begins behind', () => {
    const tail = new LogTail({
      firstIndex: 6,
      lastIndex: 5,
      commitIndex: 0,
      epochStarts: [{ epoch: 2, index: 4 }],
    })
    expect([tail.lastEpoch, tail.epochAt(5)]).toEqual([2, 2])
    expect([tail.coveredBy(2, 5), tail.coveredBy(2, 4)]).toEqual([true, false])
  })

  test('follower: a leader that asks about what is gone here is answered yes, and what comes is passed over', () => {
    const log = { ...logOf([1, 1, 1, 1], 4), firstIndex: 4 }
    const node = connected({ promise: { epoch: 1, votedFor: 'b' }, log })
    const effects = node.receive('b', append(1, [1, 1], [1, 1, 1, 1]), 0)
    expect(types(effects)).toEqual(['role', 'append'])
    expect(effects.at(-1)).toMatchObject({ fromBatch: 3 })
  })
})

describe('S33: a member that needs log that is gone', () => {
  /** `a` leads with records 3 and 4 only; `b` has an empty log. */
  function leader(): Consensus {
    const node = leading(2, 1000, { log: logOf([1, 1, 1]) })
    node.sealed(2, 4, 4, noBytes, 1000)
    node.discarded(3, 1001)
    return node
  }

  test('is told so, again after ten heartbeats, and counts for nothing that the log is kept for', () => {
    const node = leader()
    expect(node.neededFrom).toBe(1)
    const refusal = accepted(2, 0, { accepted: false, previousIndex: 3, hintEpoch: 0 })
    const effects = node.receive('b', refusal, 1002)
    expect(said(effects, 'b')).toEqual([{ type: 'behind', epoch: 2, firstIndex: 3 }])
    expect(modeOf(node, 'b')).toBe('gone')
    node.receive('c', accepted(2, 4), 1003)
    expect(node.neededFrom).toBe(5)
    const behind = () => said(node.tick(1002 + 10 * heartbeatMs), 'b').filter(({ type }) => type === 'behind')
    node.receive('c', accepted(2, 4, { sentAtMs: 1900 }), 1901)
    expect(said(node.tick(1001 + 10 * heartbeatMs), 'b').map(({ type }) => type)).toEqual(['append'])
    expect(behind()).toHaveLength(1)
    expect(behind()).toHaveLength(0)
  })

  test('comes back when it refuses with a place that is still there, or accepts the beginning', () => {
    const node = leader()
    node.receive('b', accepted(2, 0, { accepted: false, previousIndex: 3, hintEpoch: 0 }), 1002)
    const better = accepted(2, 2, { accepted: false, previousIndex: 3, hintEpoch: 1 })
    expect(said(node.receive('b', better, 1003), 'b')).toMatchObject([{ type: 'append', previousIndex: 2 }])
    expect(modeOf(node, 'b')).toBe('probe')
    const other = leader()
    other.receive('b', accepted(2, 0, { accepted: false, previousIndex: 3, hintEpoch: 0 }), 1002)
    expect(other.receive('b', accepted(2, 2), 1004)).toContainEqual({
      type: 'fetch',
      to: 'b',
      fromIndex: 3,
      epoch: 2,
    })
  })

  test('is found out by a read that failed, and starts over when it reconnects', () => {
    const node = leading(2, 1000, { log: logOf([1, 1, 1]) })
    node.sealed(2, 4, 4, noBytes, 1000)
    node.receive('b', accepted(2, 0, { accepted: false, previousIndex: 3, hintEpoch: 0 }), 1002)
    expect(types(node.receive('b', accepted(2, 0), 1003))).toEqual(['fetch'])
    expect(node.fetchFailed('b', 2, 1004)).toEqual([]) // Not yet told of it.
    expect(types(node.receive('b', accepted(2, 0), 1005))).toEqual(['fetch'])
    expect(types(node.discarded(3, 1006))).toEqual(['role', 'behind'])
    expect(node.fetchFailed('b', 2, 1007)).toEqual([])
    node.peerDown('b')
    node.peerUp('b', 'b1', 1008)
    expect(modeOf(node, 'b')).toBe('probe')
  })

  test('member: hears of it from its leader alone, and not if it has what is asked for', () => {
    const node = connected({ promise: { epoch: 2, votedFor: 'b' }, log: logOf([1, 1], 2) })
    node.receive('b', append(2, [2, 9]), 0)
    const behind = (firstIndex: number, epoch = 2) => ({ type: 'behind', epoch, firstIndex }) as const
    expect(node.receive('b', behind(8), 1)).toEqual([{ type: 'behind', leader: 'b', firstIndex: 8 }])
    expect(node.receive('b', behind(3), 1)).toEqual([])
    expect(node.receive('b', behind(8, 1), 1)).toEqual([])
    expect(node.receive('c', behind(8), 1)).toEqual([])
  })
})

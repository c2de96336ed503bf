import { describe, expect, test } from 'vitest'
import type { Consensus } from '../../../src/consensus/consensus.ts'
import {
  accepted,
  append,
  connected,
  electionTimeoutMs,
  leading,
  noBytes,
  preVote,
  said,
  types,
  vote,
  votersOf,
} from './core-driver.ts'

/** `a` serves in epoch 1 since 1000; its second record is with nobody but itself yet. */
function serving(): Consensus {
  const node = leading(1, 1000)
  node.sealed(1, 1, 1, noBytes, 1000)
  node.durable(1, 1000)
  for (const peer of ['b', 'c']) node.receive(peer, accepted(1, 1, { sentAtMs: 1000 }), 1001)
  node.sealed(1, 2, 2, noBytes, 1002)
  node.durable(2, 1003)
  return node
}

describe('transfer: the leader', () => {
  test('gives up when the member that was named holds everything, and tells it to stand', () => {
    const node = serving()
    expect(node.transfer('c', 1004)).toEqual([])
    expect(node.transferringTo).toBe('c')
    node.receive('b', accepted(1, 2), 1005)
    expect(node.role).toBe('leader')
    const effects = node.receive('c', accepted(1, 2, { sentAtMs: 1002 }), 1006)
    expect(types(effects)).toEqual(['deposed', 'role', 'standNow', 'handedOver', 'resign'])
    expect(said(effects, 'c')).toEqual([{ type: 'standNow', epoch: 1 }])
    expect(said(effects, 'b')).toEqual([{ type: 'resign', epoch: 1, handedOver: true }])
    expect([node.role, node.mayDispatch(1006), node.transferringTo]).toEqual(['follower', false, undefined])
  })

  test('takes the voter that has most of the log if nobody is named, and leaves nothing uncommitted', () => {
    const node = serving()
    node.peerUp('d', 'd1', 1003)
    node.receive('d', accepted(1, 2), 1003)
    node.receive('b', accepted(1, 1), 1004)
    node.sealed(1, 3, 3, noBytes, 1004)
    node.receive('c', accepted(1, 2), 1005)
    node.transfer(undefined, 1006)
    expect(node.transferringTo).toBe('c')
    node.receive('c', accepted(1, 3), 1007)
    expect(node.role).toBe('leader') // Not committed: the own disk is not done.
    expect(types(node.durable(3, 1008))).toContain('handedOver')
  })

  test('goes on if the member does not get level in time, or is lost', () => {
    const late = serving()
    late.transfer('c', 1004)
    late.receive('b', accepted(1, 2, { sentAtMs: 1900 }), 1901)
    const effects = late.tick(1004 + electionTimeoutMs)
    expect(effects).toContainEqual({ type: 'transferFailed', reason: expect.stringContaining('level') })
    expect([late.role, late.transferringTo]).toEqual(['leader', undefined])
    const lost = serving()
    lost.transfer('c', 1004)
    expect(types(lost.peerDown('c'))).toContain('transferFailed')
    expect(lost.role).toBe('leader')
    const deposed = serving()
    deposed.transfer('c', 1004)
    expect(types(deposed.resign('told to'))).toContain('transferFailed')
  })

  test.each([
    ['a', 'no voter'],
    ['d', 'no voter'],
    ['x', 'no voter'],
  ])('refuses to give up for %s', (to, reason) => {
    const node = serving()
    node.peerUp('d', 'd1', 1003)
    expect(node.refusesTransfer(to)).toContain(reason)
    expect(node.transfer(to, 1004)).toEqual([])
    expect(node.transferringTo).toBeUndefined()
  })

  test('refuses while it does not serve, during another, and during a change of voters; and no change during it', () => {
    expect(connected().refusesTransfer('b')).toContain('not the master')
    expect(leading(1, 1000).refusesTransfer('b')).toContain('begun')
    const node = serving()
    node.transfer('c', 1004)
    expect(node.refusesTransfer('b')).toContain('already')
    expect(node.refusesChange(votersOf('a', 'b'), 1005)).toContain('handed over')
    const changing = serving()
    changing.changeVoters(votersOf('a', 'b'), 1004)
    expect(changing.refusesTransfer('b')).toContain('changed')
  })
})

describe('transfer: the others', () => {
  /** `a` has followed `b` in epoch 1 since 0, and answered it last at 1000. */
  function following(): Consensus {
    const node = connected({ nowMs: -10_000 })
    node.receive('b', append(1, [0, 0]), 1000)
    node.promised(1, 1000)
    return node
  }

  test('the one that is told to stand asks for votes at once, and waits for no lease of the one that told it', () => {
    const node = following()
    const effects = node.receive('b', { type: 'standNow', epoch: 1 }, 1010)
    expect(types(effects)).toEqual(['role', 'promise', 'role'])
    const asked = node.promised(2, 1011)
    expect(said(asked, 'c')).toMatchObject([{ type: 'vote', epoch: 2, handedOver: 1, all: false }])
    node.receive('c', { type: 'voteReply', epoch: 2, granted: true, leaseMs: 0 }, 1012)
    node.sealed(2, 1, 1, noBytes, 1012)
    node.durable(1, 1013)
    node.receive('c', accepted(2, 1, { sentAtMs: 1012 }), 1014)
    expect(node.mayDispatch(1014)).toBe(true)
  })

  test('only its leader may tell it, in its epoch', () => {
    const node = following()
    expect(node.receive('c', { type: 'standNow', epoch: 1 }, 1010)).toEqual([])
    expect(node.receive('b', { type: 'standNow', epoch: 2 }, 1010)).toEqual([])
    expect(node.leader).toBe('b')
  })

  test('the others vote for it, also before they hear of it from the leader, and tell of no lease', () => {
    const node = following()
    node.receive('c', { ...vote(2), handedOver: 1 }, 1010)
    expect(said(node.promised(2, 1011), 'c')).toMatchObject([{ granted: true, leaseMs: 0 }])
    const other = following()
    expect(said(other.receive('c', { ...vote(2), handedOver: 0 }, 1010), 'c')).toMatchObject([
      { granted: false },
    ])
  })

  test('the others give it a head start', () => {
    const node = following()
    const effects = node.receive('b', { type: 'resign', epoch: 1, handedOver: true }, 1010)
    expect(types(effects)).toEqual(['role'])
    expect(said(node.receive('c', preVote(2), 1011), 'c')).toMatchObject([{ granted: true }])
    expect(types(node.tick(1009 + electionTimeoutMs / 2))).toEqual([])
    expect(node.tick(1010 + electionTimeoutMs / 2)).toEqual([{ type: 'leaderLost', reason: 'resigned' }])
    const led = following()
    led.receive('b', { type: 'resign', epoch: 1, handedOver: true }, 1010)
    led.receive('c', append(2, [0, 0]), 1020)
    expect(types(led.tick(1010 + electionTimeoutMs / 2))).toEqual([])
  })
})

import { describe, expect, test } from 'vitest'
import type { ElectionFacts } from '../../../src/election/elector.ts'
import { RaftCandidacy } from '../../../src/election/raft/candidacy.ts'

const timeoutMs = 1000

function facts(change: Partial<ElectionFacts> = {}): ElectionFacts {
  return {
    nodeId: 'a',
    storeUuid: 'store-a',
    clusterUuid: undefined,
    voter: true,
    epoch: 0,
    lastEpoch: 0,
    lastIndex: 0,
    masterNodeId: undefined,
    serving: false,
    reachableVoters: 1,
    quorum: 2,
    ...change,
  }
}

/** A candidacy that has followed `m`. */
function follower(): RaftCandidacy {
  const candidacy = new RaftCandidacy(timeoutMs)
  candidacy.step({ type: 'facts', facts: facts({ masterNodeId: 'm', reachableVoters: 3 }) }, 0)
  return candidacy
}

const orphan = { type: 'facts', facts: facts({ reachableVoters: 2 }) } as const

describe('raft candidacy: when to stand', () => {
  test('as soon as a quorum is reachable at the start, after 20 to 100 ms', () => {
    for (const [fraction, delayMs] of [
      [0, 20],
      [0.5, 60],
    ] as const) {
      const candidacy = new RaftCandidacy(timeoutMs)
      candidacy.step({ type: 'facts', facts: facts() }, 0.5)
      expect(candidacy.step(orphan, fraction)).toEqual([{ type: 'wait', delayMs }])
      expect(candidacy.step({ type: 'timer' }, 0)).toContainEqual({ type: 'stand', reason: 'startup' })
    }
  })

  test('more voters coming do not put it off', () => {
    const candidacy = new RaftCandidacy(timeoutMs)
    candidacy.step(orphan, 0)
    expect(candidacy.step({ type: 'facts', facts: facts({ reachableVoters: 3 }) }, 0)).toEqual([])
  })

  test.each(['link lost', 'resigned', 'timeout'] as const)(
    'at once when the master is lost by %s',
    (reason) => {
      const candidacy = follower()
      candidacy.step(orphan, 0.5)
      expect(candidacy.step({ type: 'masterLost', reason }, 0)).toEqual([
        { type: 'wait', delayMs: timeoutMs },
        { type: 'stand', reason },
      ])
    },
  )

  test('a loss announced before the facts tell of it waits for them', () => {
    const candidacy = follower()
    expect(candidacy.step({ type: 'masterLost', reason: 'link lost' }, 0)).toEqual([])
    expect(candidacy.step(orphan, 0)).toContainEqual({ type: 'stand', reason: 'link lost' })
  })

  test('an announced loss is forgotten when another master appears', () => {
    const candidacy = follower()
    candidacy.step({ type: 'masterLost', reason: 'link lost' }, 0)
    candidacy.step({ type: 'facts', facts: facts({ masterNodeId: 'n', reachableVoters: 2 }) }, 0)
    expect(candidacy.step(orphan, 0)).toEqual([{ type: 'wait', delayMs: timeoutMs }])
  })

  test('after silence of one to two election timeouts', () => {
    for (const [fraction, delayMs] of [
      [0, 1000],
      [0.25, 1250],
    ] as const) {
      const candidacy = follower()
      expect(candidacy.step(orphan, fraction)).toEqual([{ type: 'wait', delayMs }])
      expect(candidacy.step({ type: 'timer' }, fraction)).toContainEqual({ type: 'stand', reason: 'timeout' })
    }
  })

  test('again after each defeat, ever later up to the election timeout, for the same reason', () => {
    const candidacy = follower()
    candidacy.step(orphan, 0)
    candidacy.step({ type: 'masterLost', reason: 'link lost' }, 0)
    const delays: [number, number][] = []
    for (let round = 0; round < 7; round += 1) {
      const twin = candidacy.step({ type: 'defeated' }, 0)[0]
      expect(twin?.type).toBe('wait')
      delays.push([round, twin?.type === 'wait' ? twin.delayMs : Number.NaN])
      expect(candidacy.step({ type: 'timer' }, 0)).toContainEqual({ type: 'stand', reason: 'link lost' })
    }
    expect(delays.map(([, delayMs]) => delayMs)).toEqual([30, 60, 120, 240, 480, 500, 500])
  })

  test('the first defeat is followed by a round within 150 ms', () => {
    const candidacy = follower()
    candidacy.step(orphan, 0)
    candidacy.step({ type: 'masterLost', reason: 'link lost' }, 0)
    expect(candidacy.step({ type: 'defeated' }, 0.999)).toEqual([
      { type: 'wait', delayMs: expect.closeTo(149.88) },
    ])
  })

  test('a short election timeout bounds the retries too', () => {
    const candidacy = new RaftCandidacy(100)
    candidacy.step(orphan, 0)
    for (let round = 0; round < 9; round += 1) {
      const [effect] = candidacy.step({ type: 'defeated' }, 0.999)
      expect(effect?.type === 'wait' && effect.delayMs <= 100).toBe(true)
    }
  })

  test('not while a master is known', () => {
    const candidacy = follower()
    for (const type of ['timer', 'defeated'] as const) expect(candidacy.step({ type }, 0)).toEqual([])
    const again = { type: 'facts', facts: facts({ masterNodeId: 'm', reachableVoters: 1 }) } as const
    expect(candidacy.step(again, 0)).toEqual([])
  })

  test('a timer that is set is cancelled when a master appears', () => {
    const candidacy = new RaftCandidacy(timeoutMs)
    candidacy.step(orphan, 0)
    const known = { type: 'facts', facts: facts({ masterNodeId: 'm', reachableVoters: 3 }) } as const
    expect(candidacy.step(known, 0)).toEqual([{ type: 'idle' }])
  })

  test('never as a learner, at once when it becomes a voter', () => {
    const candidacy = new RaftCandidacy(timeoutMs)
    const learner = { type: 'facts', facts: facts({ voter: false, reachableVoters: 3 }) } as const
    expect(candidacy.step(learner, 0)).toEqual([{ type: 'idle' }])
    for (const type of ['timer', 'defeated'] as const) expect(candidacy.step({ type }, 0)).toEqual([])
    expect(candidacy.step({ type: 'masterLost', reason: 'timeout' }, 0)).toEqual([])
    expect(candidacy.step(orphan, 0)).toEqual([{ type: 'wait', delayMs: 20 }])
  })
})

import { SeededRandom, VirtualClock } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import type { ElectionFacts } from '../../../src/election/elector.ts'
import { RaftElector } from '../../../src/election/raft/elector.ts'
import { RecordingHost } from './recording-host.ts'

const peers = ['a:1', 'b:1', 'c:1']

function factsOf(nodeId: string, change: Partial<ElectionFacts> = {}): ElectionFacts {
  return {
    nodeId,
    storeUuid: `store-${nodeId}`,
    clusterUuid: undefined,
    voter: true,
    epoch: 0,
    lastEpoch: 0,
    lastIndex: 0,
    masterNodeId: undefined,
    serving: false,
    reachableVoters: 1,
    quorum: 1,
    ...change,
  }
}

function start(facts: ElectionFacts, seed = 1) {
  const clock = new VirtualClock()
  const host = new RecordingHost()
  const elector = new RaftElector({
    peers,
    address: 'A:1',
    electionTimeoutMs: 1000,
    clock,
    random: new SeededRandom(seed),
  })
  elector.start(host, facts)
  return { clock, host, elector }
}

describe('raft elector', () => {
  test('calls nobody before start returned, then names the peers without itself, once', () => {
    const { clock, host } = start(factsOf('a'))
    expect(host.peerLists).toEqual([])
    clock.advance(10_000)
    expect(host.peerLists).toEqual([['b:1', 'c:1']])
  })

  test('a single node stands within 100 ms', () => {
    for (let seed = 0; seed < 50; seed += 1) {
      const { clock, host } = start(factsOf('a'), seed)
      clock.advance(19)
      expect(host.stands).toEqual([])
      clock.advance(81)
      expect(host.stands).toEqual(['startup'])
    }
  })

  test('with nobody reachable it stands at most once per election timeout', () => {
    const { clock, host } = start(factsOf('a', { quorum: 2 }))
    clock.advance(20_000)
    expect(host.stands.length).toBeGreaterThanOrEqual(9)
    expect(host.stands.length).toBeLessThanOrEqual(20)
    expect(new Set(host.stands)).toEqual(new Set(['timeout']))
  })

  test("a follower's growing log sets no timer and stands never", () => {
    const { clock, host, elector } = start(factsOf('a', { masterNodeId: 'b', quorum: 2, reachableVoters: 3 }))
    clock.advance(1)
    for (let lastIndex = 1; lastIndex < 100; lastIndex += 1) {
      elector.observe(factsOf('a', { masterNodeId: 'b', quorum: 2, reachableVoters: 3, lastIndex }))
    }
    expect(clock.pendingTimers).toBe(0)
    clock.advance(60_000)
    expect(host.stands).toEqual([])
  })

  test('after stop nothing is left', async () => {
    const { clock, host, elector } = start(factsOf('a'))
    await elector.stop()
    expect(clock.pendingTimers).toBe(0)
    elector.masterLost('timeout')
    elector.defeated()
    elector.observe(factsOf('a', { reachableVoters: 3 }))
    clock.advance(10_000)
    expect(host.stands).toEqual([])
    expect(elector.status()).toBeUndefined()
  })
})

import { describe, expect, test } from 'vitest'
import { foundingObstacle, foundingVoters } from '../../../src/formation.ts'
import type { NodeIdentity } from '../../../src/replication/handshake.ts'

/** `name` is a blank store; `name@cluster` one of a cluster. */
function node(text: string, replicas = 3): NodeIdentity {
  const [nodeId = '', clusterUuid] = text.split('@')
  return {
    brokerName: 'group',
    nodeId,
    storeUuid: `store-${nodeId}`,
    clusterUuid,
    name: nodeId,
    address: `${nodeId}:1`,
    bootId: `boot-${nodeId}`,
    replicas,
    levels: { lowest: 1, highest: 1 },
    level: clusterUuid === undefined ? undefined : 1,
  }
}

describe('founding (S26)', () => {
  test.each<[string, string, string[], number, string[] | undefined]>([
    ['all blank, the lowest founds', 'a', ['b', 'c'], 3, ['a', 'b', 'c']],
    ['the order of arrival does not matter', 'a', ['c', 'b'], 3, ['a', 'b', 'c']],
    ['not the lowest, in the middle', 'b', ['a', 'c'], 3, undefined],
    ['not the lowest, the last', 'c', ['a', 'b'], 3, undefined],
    ['too few', 'a', ['b'], 3, undefined],
    ['alone of three', 'a', [], 3, undefined],
    ['too many', 'a', ['b', 'c', 'd'], 3, undefined],
    ['one of them belongs to a cluster', 'a', ['b', 'c@x'], 3, undefined],
    ['all others belong to a cluster', 'a', ['b@x', 'c@x'], 3, undefined],
    ['five', 'a', ['e', 'd', 'c', 'b'], 5, ['a', 'b', 'c', 'd', 'e']],
    ['one replica needs nobody', 'a', [], 1, ['a']],
  ])('%s', (_name, self, peers, replicas, founders) => {
    const voters = foundingVoters(
      node(self, replicas),
      peers.map((peer) => node(peer, replicas)),
    )
    expect(voters?.map(({ nodeId }) => nodeId)).toEqual(founders)
  })

  test('voters are named with the stores they have now (S23)', () => {
    expect(foundingVoters(node('a', 2), [node('b', 2)])).toEqual([
      { nodeId: 'a', storeUuid: 'store-a', name: 'a', address: 'a:1' },
      { nodeId: 'b', storeUuid: 'store-b', name: 'b', address: 'b:1' },
    ])
  })

  test('of one set of blank nodes that all see each other exactly one founds', () => {
    const nodes = ['n3', 'n1', 'n2'].map((name) => node(name))
    const founders = nodes.filter((self) =>
      foundingVoters(
        self,
        nodes.filter((other) => other !== self),
      ),
    )
    expect(founders.map(({ nodeId }) => nodeId)).toEqual(['n1'])
  })

  test('S35: those who are to found it have to agree on replicas, and the one that differs is named', () => {
    const peers = [node('b', 3), node('c', 5)]
    expect(foundingVoters(node('a', 3), peers)).toBeUndefined()
    expect(foundingObstacle(node('a', 3), peers)).toMatch(/set replicas .* 3 for a and 5 for c/)
    // Nor by the one that waits for more.
    const four = ['a', 'b', 'd', 'e'].map((name) => node(name, 3))
    expect(foundingVoters(node('0', 5), four)).toBeUndefined()
  })

  test('S35: with more stores than replicas it is said who they are', () => {
    const peers = ['b', 'c', 'd'].map((name) => node(name))
    expect(foundingObstacle(node('a'), peers)).toMatch(/no more than 3 .* 4 are here \(a, b, c, d\)/)
    expect(foundingObstacle(node('a'), peers.slice(1))).toBeUndefined()
  })

  test('S26: to a blank store that has met a cluster, replicas are no obstacle', () => {
    expect(foundingObstacle(node('a', 5), [node('b@x', 3), node('c', 3)])).toBeUndefined()
  })
})

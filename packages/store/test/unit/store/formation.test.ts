import { describe, expect, test } from 'vitest'
import { foundingVoters } from '../../../src/formation.ts'
import type { NodeIdentity } from '../../../src/replication/handshake.ts'

/** `name` is a blank store; `name@cluster` one of a cluster. */
function node(text: string): NodeIdentity {
  const [nodeId = '', clusterUuid] = text.split('@')
  return {
    brokerName: 'group',
    nodeId,
    storeUuid: `store-${nodeId}`,
    clusterUuid,
    name: nodeId,
    address: `${nodeId}:1`,
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
    expect(foundingVoters(node(self), peers.map(node), replicas)?.map(({ nodeId }) => nodeId)).toEqual(
      founders,
    )
  })

  test('voters are named with the stores they have now (S23)', () => {
    expect(foundingVoters(node('a'), [node('b')], 2)).toEqual([
      { nodeId: 'a', storeUuid: 'store-a' },
      { nodeId: 'b', storeUuid: 'store-b' },
    ])
  })

  test('of one set of blank nodes that all see each other exactly one founds', () => {
    const nodes = ['n3', 'n1', 'n2'].map(node)
    const founders = nodes.filter((self) =>
      foundingVoters(
        self,
        nodes.filter((other) => other !== self),
        3,
      ),
    )
    expect(founders.map(({ nodeId }) => nodeId)).toEqual(['n1'])
  })
})

import { voterOf } from './membership.ts'
import type { NodeIdentity } from './replication/handshake.ts'
import type { Voter } from './store-identity.ts'

/**
 * The founding of a cluster (rule S26). A cluster is founded once, when as many blank stores as it has replicas are
 * there at the same time, and by one of them alone: the one with the lowest node id. A node that meets a member of a
 * cluster joins that cluster, and never founds one.
 *
 * The founder writes its own decision down before it tells anyone, so that it can only ever repeat it; a store that
 * was wiped since has another UUID and is no voter of what was founded.
 *
 * @param self - This node, with a blank store.
 * @param peers - The nodes that this one is connected to.
 * @returns The voters, if it is for this node to found the cluster now.
 */
export function foundingVoters(self: NodeIdentity, peers: readonly NodeIdentity[]): Voter[] | undefined {
  if (peers.length !== self.replicas - 1 || peers.some((peer) => peer.clusterUuid !== undefined))
    return undefined
  if (foundingObstacle(self, peers) !== undefined) return undefined
  const nodes = [self, ...peers].sort((left, right) => (left.nodeId < right.nodeId ? -1 : 1))
  if (nodes[0] !== self) return undefined
  return nodes.map(voterOf)
}

/**
 * What has to be changed before a cluster can be founded with the blank stores that are here. Those that are to found it
 * have to agree on how many they are, or two overlapping groups could each found a cluster (rule S35).
 */
export function foundingObstacle(self: NodeIdentity, peers: readonly NodeIdentity[]): string | undefined {
  if (peers.some((peer) => peer.clusterUuid !== undefined)) return undefined
  const other = peers.find((peer) => peer.replicas !== self.replicas)
  if (other !== undefined)
    return `one number of replicas for the founding of the cluster: set replicas to the same on all, it is ${self.replicas} for ${self.name} and ${other.replicas} for ${other.name}`
  if (peers.length >= self.replicas)
    return `no more than ${self.replicas} members (replicas) for the founding of the cluster: ${1 + peers.length} are here (${[self, ...peers].map(({ name }) => name).join(', ')})`
  return undefined
}

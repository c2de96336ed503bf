import type { Voter } from '../store-identity.ts'
import type { ZooKeeperStatus } from '../store-status.ts'

/** Why a node stands for election; shown in the status and in logs. */
export type StandReason = 'startup' | 'link lost' | 'timeout' | 'session expiry' | 'resigned'

/** What the elector is told of this node. Given anew whenever one of these changes. */
export interface ElectionFacts {
  readonly nodeId: string
  readonly storeUuid: string
  readonly clusterUuid: string | undefined
  /** False for a learner: it publishes itself but never stands. */
  readonly voter: boolean
  readonly epoch: number
  /** Last position in the own log. */
  readonly lastEpoch: number
  readonly lastIndex: number
  /** The master that this node follows, or itself; `undefined` while electing. */
  readonly masterNodeId: string | undefined
  /** True once this node serves as master. */
  readonly serving: boolean
  /** Voters that this node is connected to, itself included. */
  readonly reachableVoters: number
  /** By the own log, which one of them may not have read yet. @defaultValue what each says of itself */
  readonly voters?: readonly Voter[]
  readonly quorum: number
}

/** How a peer is found. */
export interface PeerAddress {
  /** `host:port` of its replication listener; the peer's identity is learnt in the handshake. */
  readonly address: string
}

/** What an elector may ask of the node. None of it is needed for safety: every wish may be wrong, late or repeated. */
export interface ElectorHost {
  /** Stand for election now. Ignored by a master and by a node that must not lead. */
  stand(reason: StandReason): void
  /** Give mastership up. Ignored by others. */
  stepDown(reason: string): void
  /** The peers to connect to, all of them each time, without this node itself. */
  peers(addresses: readonly PeerAddress[]): void
  /** Something shown by `status()` changed. */
  changed(): void
  log(level: 'info' | 'warn' | 'error', message: string, facts?: Readonly<Record<string, unknown>>): void
}

/**
 * Decides when this node stands for election and where its peers are found. Never what is committed: safety rests on
 * the consensus core alone, an elector is a hint and may be slow, wiped or wrong.
 */
export interface Elector {
  readonly kind: 'raft' | 'zookeeper' | 'none'
  /** Starts work; must not wait for any server to answer. Calls the host only after this returned. */
  start(host: ElectorHost, facts: ElectionFacts): void
  observe(facts: ElectionFacts): void
  /** The master that this node followed is gone: its connection closed, it fell silent, or it resigned. */
  masterLost(reason: 'link lost' | 'timeout' | 'resigned'): void
  /** A round that this node stood in ended without it becoming master. */
  defeated(): void
  status(): ZooKeeperStatus | undefined
  /** Stops; leaves no socket and no timer behind, within two seconds whatever the servers do. */
  stop(): Promise<void>
}

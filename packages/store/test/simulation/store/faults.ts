import type { Dice } from './scheduler.ts'
import type { WorkloadMix } from './workload.ts'

/**
 * How a run goes wrong. Rates are per second of virtual time; about half of them are nought in any one run, so that
 * some runs have many faults of one kind and none of another.
 */
export interface FaultMix {
  /** A machine loses power: what was not synced is lost, torn or kept. */
  readonly powerLosses: number
  /** Deaths while the cluster is being founded. */
  readonly earlyDeaths: number
  /** Power is lost everywhere at once. */
  readonly blackouts: number
  /** A process is killed; the page cache stays. */
  readonly kills: number
  /** A process is killed in the middle of what it is doing. */
  readonly killsWithin: number
  /** A broker is stopped and started in order. */
  readonly restarts: number
  readonly pauses: number
  readonly longestPauseMs: number
  /** Longest time that a node stays down. */
  readonly downMs: number
  readonly resets: number
  /** Nothing passes in one direction, or in both, for a while. */
  readonly cuts: number
  /** A node is cut off from some or all others for a while; at times one node still sees both sides. */
  readonly isolations: number
  readonly slowLinks: number
  readonly slowDisks: number
  readonly diskErrors: number
  readonly fullDisks: number
  /** What was durable goes bad in one place, on a minority of the machines. */
  readonly damage: number
  readonly wipes: number
  /** A disk reports syncs that it does not carry out, until its machine loses power. */
  readonly lies: number
  /** A store is put back to what it was a while ago. */
  readonly rollbacks: number
  readonly damagedIndexes: number
  readonly wallJumps: number
  /** ZooKeeper: sessions cut off, sessions expired, all servers down, data wiped. */
  readonly zooKeeper: number
  /** An elector has a node stand, or a master step down, without any reason. */
  readonly wrongHints: number
  /** A master is cut off for as long as it takes to elect another; when it is back, that one ends (T3). */
  readonly coups: number
  /** A new master ends right after its promotion (T4): chance per promotion. */
  readonly deathsAtPromotion: number
  /** A process ends, or its machine loses power, in the middle of cutting its log: chance per cut. */
  readonly deathsInCuts: number
  /** A master, or everyone, loses power right after something was confirmed: chance per confirm. */
  readonly deathsAtConfirm: number
}

/** Everything that a seed decides before a run begins. */
export interface Scenario {
  readonly voters: number
  readonly elector: 'raft' | 'zookeeper' | 'none'
  readonly sync: string
  readonly electionTimeoutMs: number
  readonly logSize: number
  readonly flushDelay: number
  readonly asyncBufferSize: number
  readonly networkMs: number
  readonly diskMs: number
  /** Clocks run at the same rate within a tenth: each differs from true time by less than half of that. */
  readonly drift: number
  readonly faultyMs: number
  readonly faults: FaultMix
  /** What keeps a minority away while the healed cluster has to make progress. */
  readonly awayAtHeal: 'nobody' | 'down' | 'stopped' | 'cut off'
  /** There is a master before any fault, and one slave only has faults: the master stays (S4). */
  readonly victim: boolean
  readonly workload: WorkloadMix
}

/** @param more - For what was added later, so that earlier seeds keep most of their history. */
export function drawScenario(dice: Dice, more: Dice): Scenario {
  const voters = dice.pick([1, 3, 3, 3, 3, 3, 3, 5, 5])
  return {
    voters,
    elector: voters === 1 ? dice.pick(['none', 'raft']) : dice.pick(['raft', 'raft', 'zookeeper']),
    sync: dice.chance(0.85)
      ? 'quorum_disk'
      : dice.pick(['quorum_mem', 'remote_disk', 'remote_mem', 'local_disk', 'local_mem']),
    electionTimeoutMs: dice.pick([200, 300, 500, 1000]),
    logSize: dice.pick([4096, 8192, 8192, 32768, 131072]),
    flushDelay: dice.pick([10, 50, 200, 1000]),
    asyncBufferSize: dice.pick([4096, 65536, 1048576]),
    networkMs: dice.pick([0.1, 0.5, 2, 10]),
    diskMs: dice.pick([0.05, 0.5, 2, 8]),
    drift: dice.pick([0, 0.005, 0.045]),
    faultyMs: dice.pick([2000, 4000, 8000]),
    faults: drawFaults(dice, more),
    awayAtHeal: more.pick(['nobody', 'nobody', 'nobody', 'down', 'stopped', 'cut off']),
    victim: false,
    workload: {
      producers: dice.pick([1, 2, 4]),
      queues: dice.pick([['one'], ['one', 'two', 'three']]),
      sendEveryMs: dice.pick([10, 30, 80]),
      burst: dice.pick([1, 2, 5]),
      largestBody: dice.pick([500, 5000, 20000]),
      consumeEveryMs: dice.pick([10, 50, 300]),
      acknowledged: dice.pick([0.3, 0.9, 1]),
    },
  }
}

function drawFaults(dice: Dice, more: Dice): FaultMix {
  const rate = (usual: number): number => (dice.chance(0.55) ? 0 : usual * dice.pick([0.3, 1, 1, 3]))
  const seldom = (usual: number): number => (dice.chance(0.8) ? 0 : usual * dice.pick([0.5, 1, 3]))
  return {
    powerLosses: rate(0.8),
    earlyDeaths: dice.chance(0.8) ? 0 : dice.pick([1, 3, 8]),
    blackouts: seldom(0.4),
    kills: rate(0.8),
    killsWithin: rate(0.8),
    restarts: seldom(0.6),
    pauses: rate(0.8),
    longestPauseMs: dice.pick([100, 800, 2500]),
    downMs: dice.pick([50, 500, 2000]),
    resets: rate(1),
    cuts: rate(0.7),
    isolations: rate(0.6),
    slowLinks: rate(0.5),
    slowDisks: rate(0.5),
    diskErrors: seldom(1),
    fullDisks: seldom(0.5),
    damage: seldom(0.7),
    wipes: seldom(0.3),
    damagedIndexes: seldom(1),
    wallJumps: seldom(0.5),
    zooKeeper: rate(1),
    wrongHints: seldom(2),
    lies: 0,
    rollbacks: 0,
    coups: more.chance(0.8) ? 0 : more.pick([0.3, 1]),
    deathsAtPromotion: more.chance(0.8) ? 0 : more.pick([0.1, 0.5]),
    deathsInCuts: more.chance(0.7) ? 0 : more.pick([0.1, 0.5]),
    deathsAtConfirm: dice.chance(0.75) ? 0 : dice.pick([0.002, 0.02]),
  }
}

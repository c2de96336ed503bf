import type { SeededRandom } from './random.ts'

/**
 * How a run goes wrong. Rates are per second of virtual time; about half of them are nought in any one run, so that
 * some runs have many faults of one kind and none of another.
 */
export interface FaultMix {
  /** A connection breaks; the two ends learn of it at different times. */
  readonly breaks: number
  /** Nothing passes in one direction for a while. */
  readonly cuts: number
  /** A node is cut off from some or all others for a while. */
  readonly isolations: number
  readonly pauses: number
  readonly crashes: number
  /** A store is lost, and the node comes back with a blank one. */
  readonly wipes: number
  /** An operator adds or removes a voter, or tries to. */
  /**
   * How stores forget in a crash. `lies`: the disk of a minority never had what it reported as durable. `rollbacks`: an
   * older copy of the log takes its place, on a minority. `damages`: the end of the log is ambiguous, on any node, and the
   * node knows what it may have acknowledged.
   */
  readonly amnesia: 'none' | 'lies' | 'rollbacks' | 'damages'
  readonly changes: number
  /** A node drops the beginning of its log. */
  readonly discards: number
  readonly resignations: number
  /** A master is to hand over, to one of the others or to whom it likes. */
  readonly transfers: number
  /** Chance that a master resigns within a lease of beginning to serve. */
  readonly hastyResignations: number
  /** Chance that a connection breaks right behind a message. */
  readonly fragile: number
  /** An elector stands without any reason. */
  readonly stands: number
  readonly slowDisks: number
  readonly delayMs: number
  readonly diskMs: number
  readonly fetchMs: number
  /** How far a clock may run from true time, up to 0.02. */
  readonly drift: number
  /** How long a broken connection may go unnoticed. */
  readonly noticeMs: number
  /** How long a node is down at most, and how long two nodes wait before they connect again. */
  readonly downMs: number
  readonly reconnectMs: number
  /** Chance that what was not yet durable survives a crash all the same. */
  readonly keptUnsynced: number
  /** How long a slave's elector waits after the link to its master is lost. */
  readonly standDelayMs: number
}

export function drawFaults(random: SeededRandom): FaultMix {
  const rate = (usual: number): number => (random.chance(0.5) ? 0 : usual * random.pick([0.3, 1, 1, 3]))
  const amnesia = random.pick([
    'none',
    'none',
    'none',
    'none',
    'none',
    'lies',
    'rollbacks',
    'damages',
  ] as const)
  return {
    amnesia,
    breaks: rate(2),
    cuts: rate(1),
    isolations: rate(0.8),
    pauses: rate(1),
    crashes: amnesia === 'none' ? rate(1.2) : 1.5,
    // What is lost for good as well would leave nobody to wait for.
    wipes: random.chance(0.7) || amnesia !== 'none' ? 0 : 0.3,
    // The voters themselves could be forgotten by a majority.
    changes: random.chance(0.5) || amnesia === 'damages' ? 0 : random.pick([0.5, 2, 6]),
    discards: random.chance(0.5) ? 0 : random.pick([0.5, 2, 6]),
    resignations: random.chance(0.7) ? 0 : random.pick([0.5, 2]),
    transfers: random.chance(0.6) ? 0 : random.pick([0.5, 2, 6]),
    hastyResignations: random.chance(0.7) ? 0 : random.pick([0.2, 0.7]),
    fragile: random.chance(0.6) ? 0 : random.pick([0.001, 0.01, 0.1]),
    stands: random.chance(0.7) ? 0 : random.pick([1, 5]),
    slowDisks: rate(0.7),
    delayMs: random.pick([1, 5, 5, 30, 80]),
    diskMs: random.pick([1, 5, 5, 20, 60]),
    fetchMs: random.pick([1, 5, 50]),
    drift: random.pick([0, 0.005, 0.02]),
    noticeMs: random.pick([1, 20, 300]),
    downMs: random.pick([50, 300, 1500]),
    reconnectMs: random.pick([20, 100, 300]),
    keptUnsynced: random.pick([0, 0.3, 0.8]),
    standDelayMs: random.pick([0, 5, 100]),
  }
}

import type { FaultMix, Scenario } from './faults.ts'

/** No faults. */
export const quiet: FaultMix = {
  powerLosses: 0,
  earlyDeaths: 0,
  blackouts: 0,
  kills: 0,
  killsWithin: 0,
  restarts: 0,
  pauses: 0,
  longestPauseMs: 500,
  downMs: 200,
  resets: 0,
  cuts: 0,
  isolations: 0,
  slowLinks: 0,
  slowDisks: 0,
  diskErrors: 0,
  fullDisks: 0,
  damage: 0,
  wipes: 0,
  damagedIndexes: 0,
  wallJumps: 0,
  zooKeeper: 0,
  wrongHints: 0,
  lies: 0,
  rollbacks: 0,
  coups: 0,
  deathsAtPromotion: 0,
  deathsInCuts: 0,
  deathsAtConfirm: 0,
}

/** Faults of one theme, for what the mix of all seldom brings about. */
const flavours: Readonly<Record<FlavourName, (drawn: Scenario) => Scenario>> = {
  victim: (drawn) => ({
    ...replicated(drawn),
    victim: true,
    faults: {
      ...quiet,
      powerLosses: 0.3,
      kills: 0.3,
      pauses: 0.5,
      longestPauseMs: 3000,
      downMs: 1000,
      resets: 0.5,
      cuts: 2,
    },
  }),
  amnesia: (drawn) => ({
    ...replicated(drawn),
    victim: true,
    faults: { ...quiet, lies: 3, powerLosses: 1.5, rollbacks: 0.5, kills: 0.3, cuts: 0.5, downMs: 500 },
  }),
  failovers: (drawn) => ({
    ...replicated(drawn),
    electionTimeoutMs: 200,
    faults: {
      ...quiet,
      kills: 1.5,
      pauses: 1.5,
      longestPauseMs: 800,
      cuts: 1.5,
      isolations: 1.5,
      resets: 0.5,
    },
  }),
  coups: (drawn) => ({
    ...replicated(drawn),
    electionTimeoutMs: 200,
    asyncBufferSize: 1048576,
    faults: { ...quiet, coups: 3, deathsAtPromotion: 0.5, kills: 0.3, downMs: 50 },
  }),
  wipes: (drawn) => ({
    ...replicated(drawn),
    electionTimeoutMs: 200,
    faults: { ...quiet, wipes: 1.5, powerLosses: 1, kills: 1, isolations: 1.5, coups: 1, downMs: 800 },
  }),
  links: (drawn) => ({
    ...replicated(drawn),
    electionTimeoutMs: 1000,
    networkMs: 0.5,
    faults: { ...quiet, resets: 8, wrongHints: 4, wipes: 0 },
  }),
  truncations: (drawn) => ({
    ...replicated(drawn),
    electionTimeoutMs: 200,
    logSize: 4096,
    asyncBufferSize: 1048576,
    faults: { ...quiet, coups: 3, isolations: 1, kills: 0.5, deathsInCuts: 0.9, downMs: 50 },
  }),
  rot: (drawn) => ({
    ...replicated(drawn),
    faults: { ...quiet, damage: 1, restarts: 1, kills: 1, powerLosses: 1, isolations: 0.5 },
  }),
  power: (drawn) => ({
    ...replicated(drawn),
    electionTimeoutMs: 200,
    faults: { ...quiet, powerLosses: 3, blackouts: 0.7, deathsAtConfirm: 0.02, slowDisks: 0.5 },
  }),
  cache: (drawn) => ({
    ...replicated(drawn),
    faults: { ...quiet, kills: 2, killsWithin: 2, diskErrors: 2, blackouts: 1, downMs: 50 },
  }),
}

export type FlavourName =
  /** One slave suffers, and the master must not: it is cut off, in one direction too, stopped and killed. */
  | 'victim'
  /** One slave has a disk that lies, or is put back to an older copy; whoever knows better is there (S24). */
  | 'amnesia'
  /** One master after the other is stopped, cut off or killed. */
  | 'failovers'
  /** Cut off, deposed, and back when the next master ends, or ends in its turn. */
  | 'coups'
  /** A minority of the disks is emptied, while others are away. */
  | 'wipes'
  /** Connections break, and electors are wrong: elections while the last master may still be at work. */
  | 'links'
  /** Old masters have records that nobody else has, in many small segments, and end while they cut them. */
  | 'truncations'
  /** What was durable goes bad on a minority, and the machines start again. */
  | 'rot'
  /** Machines lose power all the time, at times all at once. */
  | 'power'
  /** Processes end with much in the page cache only, disks fail, then the power goes. */
  | 'cache'

/** Confirms that count, on more than one voter. */
function replicated(drawn: Scenario): Scenario {
  const elector = drawn.elector === 'none' ? 'raft' : drawn.elector
  return { ...drawn, voters: Math.max(3, drawn.voters), elector, sync: 'quorum_disk' }
}

/** Options of a run in which the faults that a seed draws are of one theme. */
export function flavoured(name: FlavourName | undefined): {
  readonly scenario?: (drawn: Scenario) => Scenario
} {
  return name === undefined ? {} : { scenario: flavours[name] }
}

/** @throws Error if there is no such flavour. */
export function flavourNamed(name: string): FlavourName {
  if (!Object.hasOwn(flavours, name))
    throw new Error(`"${name}" is none of ${Object.keys(flavours).join(', ')}`)
  return name as FlavourName
}

import type { Consensus } from '../../src/consensus/consensus.ts'
import type { Position } from '../../src/consensus/debt.ts'
import type { SimulatedBatch } from './history.ts'
import type { SimulatedDisk } from './simulated-disk.ts'

/** One node: its core, its disk, its clock, and whether it runs at all. */
export class SimulatedNode {
  readonly at: number
  readonly nodeId: string
  readonly weight: number
  /** How fast its clock runs, and how far off it is. */
  readonly rate: number
  readonly offsetMs: number
  disk: SimulatedDisk
  /** Rises with each crash: events of an earlier run reach nobody. */
  run = 0
  core: Consensus | undefined
  /** What the shell has appended, durable or not. */
  log: SimulatedBatch[] = []
  /** Commit index that the core has reported in this run. */
  commitIndex = 0
  /** Epoch that the log proved to be promised when this run began. */
  bootEpoch = 0
  /** Its mastership began to serve and is not over. */
  serving = false
  /** It copies another node's log. */
  installing = false
  /** Its disk may lose what it reported as durable. */
  forgetful = false
  /** The run that began with less than the one before had acknowledged; -1 if there was none. */
  lostRun = -1
  /** As leader of `heardEpoch`: in which run each other node answered last. */
  readonly heardRuns: Map<number, number> = new Map()
  /** What it was told, or found, to owe, and what it heard to be committed in this run. */
  owes: Position | undefined
  heard: Position = { epoch: 0, index: 0 }
  paused = false
  /** Events that wait for the end of the pause. */
  readonly held: (() => void)[] = []
  /** Effects that are still carried out before the node crashes; negative: no crash is due. */
  crashAfter = -1
  /** When its elector stands, by its own clock. */
  standAtMs = 0
  /** When the present leader was last heard, by its own clock. */
  heardMs: number = Number.NEGATIVE_INFINITY
  diskFreeAtMs = 0
  promiseFreeAtMs = 0
  slowUntilMs = 0

  constructor(at: number, weight: number, rate: number, offsetMs: number, disk: SimulatedDisk) {
    this.at = at
    this.nodeId = `n${at}`
    this.weight = weight
    this.rate = rate
    this.offsetMs = offsetMs
    this.disk = disk
  }

  localMs(nowMs: number): number {
    return this.offsetMs + nowMs * this.rate
  }
}

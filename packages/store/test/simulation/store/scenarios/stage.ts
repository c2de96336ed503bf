import type { Scenario } from '../faults.ts'
import { quiet } from '../flavours.ts'
import { directory, SimulatedCluster, type SimulatedNode } from '../simulated-cluster.ts'

export interface StageOptions {
  readonly seed?: number
  /** What differs from three voters with the elector of their own, and clients that send all the time. */
  readonly scenario?: Partial<Scenario>
  readonly trace?: (line: string) => void
}

const foreverMs = Number.MAX_SAFE_INTEGER

/**
 * Plays a script on a cluster of whole stores. Whatever the script does, the rules of the store are checked at each step;
 * at its end everything is healed, and has to come to rest with equal stores that hold what was confirmed.
 */
export async function play(
  script: (stage: Stage) => Promise<void>,
  options: StageOptions = {},
): Promise<void> {
  const stage = new Stage(options)
  const rejected = (error: unknown): void => stage.cluster.remember(error)
  process.on('unhandledRejection', rejected)
  try {
    stage.cluster.begin()
    await stage.master()
    await stage.progress()
    await script(stage)
    await stage.end()
  } finally {
    process.off('unhandledRejection', rejected)
  }
}

/** What a script may do. */
export class Stage {
  readonly cluster: SimulatedCluster
  /** True time. */
  get nowMs(): number {
    return this.cluster.scheduler.nowMs
  }

  constructor({ seed = 1, scenario, trace }: StageOptions) {
    this.cluster = new SimulatedCluster(
      {
        seed,
        ...(trace === undefined ? {} : { trace }),
        scenario: (drawn) => ({ ...drawn, ...script, ...scenario }),
      },
      { promoted: () => {}, confirmed: () => {}, ended: () => {}, cutting: () => {} },
    )
  }

  // ---- Who is who

  get nodes(): readonly SimulatedNode[] {
    return this.cluster.nodes
  }

  /** Waits for a master besides those that were stopped or paused. */
  async master(): Promise<SimulatedNode> {
    await this.until('master', () => this.serving() !== undefined)
    return this.serving() as SimulatedNode
  }

  serving(): SimulatedNode | undefined {
    return this.nodes.find(
      (node) => node.broker?.session !== undefined && !this.cluster.absent.includes(node),
    )
  }

  slaves(): readonly SimulatedNode[] {
    const master = this.serving()
    return this.nodes.filter((node) => node !== master)
  }

  // ---- Time

  async sleep(ms: number): Promise<void> {
    await this.cluster.runUntil(this.nowMs + ms)
  }

  async until(what: string, condition: () => boolean, boundMs = 30_000): Promise<void> {
    await this.cluster.await(what, boundMs, condition)
  }

  /** For so long a condition must not come true. */
  async never(what: string, forMs: number, condition: () => boolean): Promise<void> {
    for (const untilMs = this.nowMs + forMs; this.nowMs < untilMs; ) {
      await this.cluster.step()
      if (condition()) this.cluster.violated(`${what}, at ${this.nowMs.toFixed(0)}`)
    }
  }

  /** Every producer gets something confirmed, by the only master there is. */
  async progress(): Promise<void> {
    await this.cluster.progress(this.cluster.settleBoundMs())
  }

  // ---- What befalls them

  /** A process ends, or a machine loses power, and stays down until it is started. */
  stop(node: SimulatedNode, how: 'killed' | 'power lost' = 'killed'): void {
    this.cluster.kill(node, how, foreverMs)
  }

  async start(node: SimulatedNode): Promise<void> {
    this.cluster.startIn(node, 0)
    await this.until(`opening of ${node.name}`, () => node.opened)
  }

  /** The process stands still, and its clients turn to others. */
  pause(node: SimulatedNode): void {
    this.cluster.absent = [...this.cluster.absent, node]
    this.cluster.pause(node, foreverMs)
  }

  resume(node: SimulatedNode): void {
    this.cluster.absent = this.cluster.absent.filter((each) => each !== node)
    if (node.process !== undefined) this.cluster.resume(node, node.process)
  }

  /** Nothing that `from` sends reaches `to`. */
  cut(from: SimulatedNode, to: SimulatedNode): void {
    this.cluster.network.block(from.name, to.name, foreverMs)
  }

  isolate(node: SimulatedNode): void {
    for (const other of this.nodes) {
      if (other === node) continue
      this.cut(node, other)
      this.cut(other, node)
    }
  }

  mend(): void {
    this.cluster.network.heal()
  }

  /** A machine that is down gets an empty disk. */
  wipe(node: SimulatedNode): void {
    if (!node.damaged) this.cluster.losses++
    node.damaged = true
    this.cluster.replaceDisk(node)
  }

  /** Files below the store's directory of a node. */
  files(node: SimulatedNode, pattern: RegExp): readonly string[] {
    return node.disk.paths().filter((path) => path.startsWith(directory) && pattern.test(path))
  }

  // ---- The end

  async end(): Promise<void> {
    const { cluster } = this
    cluster.scheduler.note('the script is over')
    cluster.faulty = false
    cluster.absent = []
    this.mend()
    cluster.startZooKeeper()
    for (const node of this.nodes) {
      Object.assign(node.diskFaults, { slowUntilMs: 0, failNext: [], fullUntilMs: 0 })
      cluster.return(node)
    }
    await this.progress()
    await cluster.rest()
  }
}

/** Clients that take their time, for scripts that take long. */
export const fewClients: Pick<Scenario, 'workload'> = {
  workload: {
    producers: 1,
    queues: ['one'],
    sendEveryMs: 100,
    burst: 1,
    largestBody: 500,
    consumeEveryMs: 500,
    acknowledged: 1,
  },
}

const script: Partial<Scenario> = {
  voters: 3,
  elector: 'raft',
  sync: 'quorum_disk',
  electionTimeoutMs: 500,
  logSize: 8192,
  flushDelay: 50,
  asyncBufferSize: 1_048_576,
  networkMs: 0.5,
  diskMs: 0.5,
  drift: 0,
  faults: quiet,
  awayAtHeal: 'nobody',
  victim: false,
  workload: {
    producers: 2,
    queues: ['one', 'two'],
    sendEveryMs: 10,
    burst: 3,
    largestBody: 2000,
    consumeEveryMs: 50,
    acknowledged: 0.9,
  },
}

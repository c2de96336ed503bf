import { name } from '../system/cluster-fixture.ts'
import { waitFor } from '../system/wait-for.ts'
import type { Fault } from './faults/fault.ts'
import { History } from './history.ts'
import type { Lab } from './lab.ts'
import { differences, liveMessages, readStore, type StoredLog } from './log-equality.ts'
import { MasterWatch } from './master-watch.ts'
import { seededRandom } from './random.ts'
import { Violations } from './workload/violations.ts'
import { type WorkloadCounts, Workloads } from './workload/workloads.ts'
import { World } from './world.ts'

export interface RunOptions {
  readonly seed: number
  readonly durationMs: number
  /** Messages per second. */
  readonly rate: number
  readonly faults: readonly Fault[]
}

/** One fault, or two at a time, and what came of it. */
export interface FaultRecord {
  readonly atMs: number
  readonly ids: readonly string[]
  readonly names: string
  readonly target: string
  readonly outcome: string
  /** From the heal until all were in sync again. */
  readonly inSyncMs: number | undefined
  readonly master: string
  readonly epoch: number
}

export interface RunResult {
  readonly records: readonly FaultRecord[]
  readonly counts: WorkloadCounts
  readonly violations: Violations
  readonly failovers: number
  readonly polls: number
  readonly drainedMs: number
  readonly committed: number
}

const serviceMs = 60_000
const drainMs = 120_000
const overlapShare = 0.2

/** Draws faults from a seed and lets them come true, one after another, under a load; then heals, and looks at everything. */
export class ChaosRun {
  readonly #lab: Lab
  readonly #options: RunOptions
  readonly #world: World
  readonly #watch: MasterWatch
  readonly #workloads: Workloads
  readonly #history: History
  readonly #violations = new Violations()
  #bag: Fault[] = []
  #drainedMs = 0
  #committed = 0

  constructor(lab: Lab, options: RunOptions) {
    this.#lab = lab
    this.#options = options
    this.#history = new History(`${lab.directory}/history.jsonl`)
    this.#watch = new MasterWatch(lab.cluster, 50)
    this.#world = new World({
      ...lab,
      storeDirectory: (n) => lab.storeDirectory(n),
      random: seededRandom(options.seed),
      history: this.#history,
      violations: this.#violations,
    })
    this.#workloads = new Workloads(
      [...lab.cluster.numbers(), ...lab.cluster.spares()].map((n) => lab.network.clientAddress(n)),
      this.#history,
      this.#violations,
      options.rate,
    )
    this.#workloads.onConfirm = (confirmed) => this.#world.confirmed(confirmed)
  }

  async run(onRecord: (record: FaultRecord) => void): Promise<RunResult> {
    const records: FaultRecord[] = []
    this.#watch.start()
    try {
      await this.#lab.cluster.waitForService(serviceMs)
      this.#workloads.start()
      await waitFor('the load to flow', () => this.#workloads.confirmed > 100, { timeoutMs: serviceMs })
      const end = performance.now() + this.#options.durationMs
      while (performance.now() < end) {
        const record = await this.#strike()
        records.push(record)
        onRecord(record)
        if (record.inSyncMs === undefined) throw new Error('no service again: broken off')
        await this.#world.pass(this.#world.between(500, 2_500))
      }
      await this.#finish()
    } catch (error) {
      this.#violations.add(
        'the run broke off',
        error instanceof Error ? (error.stack ?? error.message) : `${error}`,
      )
    } finally {
      this.#workloads.stop()
      for (const wrong of await this.#watch.finish()) this.#violations.add('W4 one master per epoch', wrong)
      await this.#history.close()
    }
    return {
      records,
      counts: this.#workloads.counts(),
      violations: this.#violations,
      failovers: Math.max(this.#watch.epochs - 1, 0),
      polls: this.#watch.polls,
      drainedMs: this.#drainedMs,
      committed: this.#committed,
    }
  }

  async #strike(): Promise<FaultRecord> {
    const atMs = this.#history.nowMs
    const faults = this.#draw()
    const names = faults.map((fault) => fault.name).join(' + ')
    this.#history.add('fault', { names })
    this.#world.overlapping = faults.length > 1
    const struck = await Promise.all(
      faults.map(async (fault) => {
        try {
          return await fault.strike(this.#world)
        } catch (error) {
          this.#violations.add(
            'a fault broke off',
            `${fault.id} ${fault.name}: ${error instanceof Error ? error.stack : error}`,
          )
          return { target: '?', outcome: 'broke off' }
        }
      }),
    )
    this.#noteEnds()
    this.#history.add('heal', { names })
    await this.#world.heal()
    const inSyncMs = await this.#world.recovered(serviceMs)
    this.#noteEnds()
    const master = await this.#world.master()
    const status = await this.#lab.cluster.status(master).catch(() => undefined)
    if (status !== undefined) this.#watch.see(status)
    return {
      atMs,
      ids: faults.map((fault) => fault.id),
      names,
      target: struck.map(({ target }) => target).join('; '),
      outcome: struck.map(({ outcome }) => outcome).join('; '),
      inSyncMs,
      master: name(master),
      epoch: status?.epoch ?? 0,
    }
  }

  /** Each kind comes once before any comes again; now and then one of processes and one of the network together. */
  #draw(): Fault[] {
    const first = this.#next(() => true)
    if (first === undefined) throw new TypeError('no fault to draw from')
    const other = first.kind === 'process' ? 'network' : first.kind === 'network' ? 'process' : undefined
    if (other === undefined || this.#world.random() >= overlapShare) return [first]
    const second = this.#next((fault) => fault.kind === other)
    return second === undefined ? [first] : [first, second]
  }

  #next(wanted: (fault: Fault) => boolean): Fault | undefined {
    if (this.#bag.length === 0) this.#bag = this.#world.shuffled(this.#options.faults)
    const at = this.#bag.findIndex(wanted)
    return at < 0 ? undefined : this.#bag.splice(at, 1)[0]
  }

  #noteEnds(): void {
    const { cluster } = this.#lab
    for (const n of cluster.numbers()) {
      if (cluster.running().includes(n)) continue
      const ended = cluster.endedByThemselves().find((line) => line.startsWith(`${name(n)} `))
      if (ended === undefined) continue
      this.#violations.add('a broker ended by itself', `${ended}; ${lastLine(cluster.log(n))}`)
      cluster.expectEnd(n)
    }
  }

  /** Nothing fails any more: full service, everything drained, then all stores are stopped and compared. */
  async #finish(): Promise<void> {
    const { cluster } = this.#lab
    await this.#world.heal()
    await this.#world.recovered(serviceMs)
    const since = performance.now()
    await this.#workloads.finish(drainMs)
    this.#drainedMs = performance.now() - since
    this.#committed = await waitFor(
      'all brokers to have everything',
      async () => {
        const statuses = [...(await cluster.statuses(1_000)).values()]
        const [first] = statuses
        if (first === undefined || statuses.length !== cluster.size) return undefined
        const level = statuses.every(
          ({ position, commitIndex, durableIndex }) =>
            position === first.position && commitIndex === position && durableIndex === position,
        )
        return level ? first.position : undefined
      },
      { timeoutMs: serviceMs, intervalMs: 100 },
    )
    const exits = await Promise.all(cluster.numbers().map((n) => cluster.kill(n, 'SIGTERM')))
    for (const [i, exit] of exits.entries())
      if (exit.code !== 0)
        this.#violations.add(
          'the last SIGTERM: exit code is not 0',
          `${name(i + 1)}: ${exit.signal ?? exit.code}`,
        )
    await this.#compareStores()
  }

  async #compareStores(): Promise<void> {
    const logs: StoredLog[] = []
    for (const n of this.#lab.cluster.numbers()) {
      const log = await readStore(name(n), this.#lab.storeDirectory(n))
      logs.push(log)
      for (const damage of log.damage) this.#violations.add('W12 damaged store', `${name(n)}: ${damage}`)
    }
    const live = await liveMessages(this.#lab.storeDirectory(1))
    if (live > 0) this.#violations.add('W13 queues not empty', `${live} messages in the log of ${name(1)}`)
    for (const difference of await differences(logs, this.#committed))
      this.#violations.add('W12 stores differ', difference)
  }
}

function lastLine(log: string): string {
  return log.trimEnd().split('\n').slice(-2).join(' | ').slice(0, 600)
}

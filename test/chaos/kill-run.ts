import { type Cluster, name } from '../system/cluster-fixture.ts'
import type { Confirm } from '../system/failover-client.ts'
import { waitFor } from '../system/wait-for.ts'
import type { KillRecord } from './kill-report.ts'
import { Load } from './load.ts'
import { MasterWatch } from './master-watch.ts'
import { type Random, seededRandom } from './random.ts'

export interface KillRunOptions {
  readonly mode: 'kill' | 'pause'
  readonly count: number
  readonly seed: number
}

export interface KillRunResult {
  readonly records: readonly KillRecord[]
  /** What should not have been; empty if all is well. */
  readonly violations: readonly string[]
  readonly facts: {
    readonly confirmed: number
    readonly redeliveries: number
    /** Deliveries of acknowledged messages that a paused master was about to write. */
    readonly lateDeliveries: number
    readonly epochs: number
    readonly polls: number
  }
}

const masterShare = 0.7
/** The longest that a kill waits for its moment once all brokers are in sync. */
const momentMs = 400
const serviceMs = 30_000
const finishMs = 60_000

/** A row of kills on one cluster under one load. */
export class KillRun {
  readonly #cluster: Cluster
  readonly #options: KillRunOptions
  readonly #random: Random
  readonly #watch: MasterWatch
  readonly #load: Load
  readonly #violations: string[] = []
  /** The kill that waits for its next confirm. */
  #waiting:
    | { readonly since: number; readonly deadPort: number | undefined; at: number | undefined }
    | undefined
  #start = 0

  constructor(cluster: Cluster, options: KillRunOptions) {
    this.#cluster = cluster
    this.#options = options
    this.#random = seededRandom(options.seed)
    this.#watch = new MasterWatch(cluster)
    this.#load = new Load(cluster.stompPorts(), (confirm) => this.#confirmed(confirm))
  }

  async run(onRecord: (record: KillRecord) => void): Promise<KillRunResult> {
    const records: KillRecord[] = []
    this.#watch.start()
    try {
      await this.#cluster.waitForService(serviceMs)
      this.#load.start()
      this.#start = performance.now()
      await waitFor('the load to flow', () => this.#load.confirmed > 100)
      for (let number = 1; number <= this.#options.count; number++) {
        const record = await this.#strike(number)
        records.push(record)
        onRecord(record)
        const ended = this.#cluster.endedByThemselves()
        this.#violations.push(...ended)
        if (ended.length > 0 || record.toConfirmMs === undefined || record.toSyncMs === undefined) break
      }
      this.#violations.push(...(await this.#load.finish(finishMs)))
    } catch (error) {
      this.#violations.push(String(error))
    } finally {
      this.#load.stop()
      this.#violations.push(...(await this.#watch.finish()))
    }
    const { confirmed, redeliveries, lateDeliveries } = this.#load
    const { epochs, polls } = this.#watch
    return {
      records,
      violations: this.#violations,
      facts: { confirmed, redeliveries, lateDeliveries, epochs, polls },
    }
  }

  async #strike(number: number): Promise<KillRecord> {
    const master = await this.#cluster.waitForService(serviceMs)
    const slaves = this.#cluster.numbers().filter((n) => n !== master)
    const hitsMaster = this.#options.mode === 'pause' || this.#random() < masterShare
    const victim = hitsMaster ? master : (slaves[Math.floor(this.#random() * slaves.length)] ?? master)
    await this.#moment()

    const since = performance.now()
    this.#load.deposedPort = this.#options.mode === 'pause' ? this.#cluster.stompPort(victim) : undefined
    this.#waiting = {
      since,
      deadPort: hitsMaster ? this.#cluster.stompPort(victim) : undefined,
      at: undefined,
    }
    if (this.#options.mode === 'kill') this.#cluster.kill(victim)
    else this.#cluster.pause(victim)
    const toConfirmMs = await this.#nextConfirm(since)

    const successor = await this.#orUndefined(
      'a master',
      this.#cluster.waitForMaster({ except: hitsMaster ? victim : 0 }),
    )
    const status =
      successor === undefined ? undefined : await this.#cluster.status(successor).catch(() => undefined)
    if (status !== undefined) this.#watch.see(status)

    const restartedAt = performance.now()
    await this.#bringBack(victim)
    const inSync = await this.#orUndefined('all to be in sync', this.#cluster.waitForService(serviceMs))
    return {
      number,
      victim: name(victim),
      role: hitsMaster ? 'master' : 'slave',
      atMs: since - this.#start,
      toConfirmMs,
      newMaster: status?.brokerName ?? '?',
      epoch: status?.epoch ?? 0,
      reason: this.#watch.reason(status?.epoch ?? 0),
      toSyncMs: inSync === undefined ? undefined : performance.now() - restartedAt,
    }
  }

  async #bringBack(victim: number): Promise<void> {
    if (this.#options.mode === 'pause') {
      await this.#moment()
      this.#cluster.resume(victim)
      return
    }
    await this.#cluster.process(victim).exit
    this.#cluster.start(victim)
  }

  /** A moment that the seed chooses, so that a kill meets the cluster in any stage of its work. */
  async #moment(): Promise<void> {
    const from = performance.now()
    const length = this.#random() * momentMs
    await waitFor('the moment', () => performance.now() - from >= length, { intervalMs: 1 })
  }

  #confirmed(confirm: Confirm): void {
    const waiting = this.#waiting
    if (waiting === undefined || waiting.at !== undefined) return
    // Receipts that were on their way when their broker was hit prove nothing.
    if (confirm.sentAt < waiting.since || confirm.port === waiting.deadPort) return
    waiting.at = confirm.at
  }

  async #nextConfirm(since: number): Promise<number | undefined> {
    const at = await this.#orUndefined(
      'the next confirm',
      waitFor('the next confirm', () => this.#waiting?.at, { timeoutMs: serviceMs, intervalMs: 5 }),
    )
    this.#waiting = undefined
    return at === undefined ? undefined : at - since
  }

  async #orUndefined<T>(what: string, promise: Promise<T>): Promise<T | undefined> {
    try {
      return await promise
    } catch (error) {
      this.#violations.push(`no service (${what}): ${error}`)
      return undefined
    }
  }
}

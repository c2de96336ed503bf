import { setTimeout as sleep } from 'node:timers/promises'
import { memberOf } from '../system/broker-status.ts'
import { type Cluster, name } from '../system/cluster-fixture.ts'
import { waitFor } from '../system/wait-for.ts'
import type { ZooKeeperEnsemble } from '../system/zookeeper-ensemble.ts'
import type { History } from './history.ts'
import { brokerHost, type Host, type HostNetwork, zooKeeperHost } from './hosts/host-network.ts'
import type { Volume } from './hosts/volume.ts'
import type { Random } from './random.ts'
import type { Violations } from './workload/violations.ts'
import type { Confirmed } from './workload/workloads.ts'

/** How long a majority that is left in peace may take to serve. Generous: the machine may be busy. */
const serviceMs = 30_000
const exitMs = 30_000

export type Target = 'master' | 'slave' | 'majority' | 'all'

export interface WorldParts {
  readonly cluster: Cluster
  readonly network: HostNetwork
  /** Disks of their own, if this machine can. */
  readonly volumes: ReadonlyMap<number, Volume>
  readonly ensemble: ZooKeeperEnsemble | undefined
  readonly random: Random
  readonly history: History
  readonly violations: Violations
  readonly storeDirectory: (n: number) => string
  /** For what faults write. */
  readonly directory: string
  readonly adminTokenFile: string
}

/** What faults act on: brokers, network, disks and ZooKeeper of one run, and the moments at which messages were confirmed. */
export class World implements WorldParts {
  readonly cluster: Cluster
  readonly network: HostNetwork
  readonly volumes: ReadonlyMap<number, Volume>
  readonly ensemble: ZooKeeperEnsemble | undefined
  readonly random: Random
  readonly history: History
  readonly violations: Violations
  readonly storeDirectory: (n: number) => string
  readonly directory: string
  readonly adminTokenFile: string
  /** Two faults at a time: what one leaves standing the other may take. */
  overlapping = false
  readonly #paused = new Set<number>()
  readonly #waiting = new Set<(confirmed: Confirmed) => void>()

  constructor(parts: WorldParts) {
    this.cluster = parts.cluster
    this.network = parts.network
    this.volumes = parts.volumes
    this.ensemble = parts.ensemble
    this.random = parts.random
    this.history = parts.history
    this.violations = parts.violations
    this.storeDirectory = parts.storeDirectory
    this.directory = parts.directory
    this.adminTokenFile = parts.adminTokenFile
  }

  confirmed(confirmed: Confirmed): void {
    for (const waiting of this.#waiting) waiting(confirmed)
  }

  // What the seed chooses.

  between(least: number, most: number): number {
    return least + this.random() * (most - least)
  }

  oneOf<const T>(choices: readonly T[]): T {
    const chosen = choices[Math.floor(this.random() * choices.length)]
    if (chosen === undefined) throw new TypeError('nothing to choose from')
    return chosen
  }

  shuffled<T>(items: readonly T[]): T[] {
    const rest = [...items]
    const drawn: T[] = []
    while (rest.length > 0) drawn.push(...rest.splice(Math.floor(this.random() * rest.length), 1))
    return drawn
  }

  // Brokers.

  get quorum(): number {
    return Math.floor(this.cluster.size / 2) + 1
  }

  /** The present master, or any broker if there is none. */
  async master(): Promise<number> {
    try {
      return await this.cluster.waitForMaster({ timeoutMs: 5_000 })
    } catch {
      return this.oneOf(this.cluster.numbers())
    }
  }

  async slave(): Promise<number> {
    const master = await this.master()
    return this.oneOf(this.cluster.numbers().filter((n) => n !== master))
  }

  async members(target: Target): Promise<number[]> {
    const master = await this.master()
    const slaves = this.shuffled(this.cluster.numbers().filter((n) => n !== master))
    switch (target) {
      case 'master':
        return [master]
      case 'slave':
        return slaves.slice(0, 1)
      case 'majority':
        return this.shuffled(this.cluster.numbers()).slice(0, this.quorum)
      case 'all':
        return this.cluster.numbers()
      default:
        return target satisfies never
    }
  }

  isRunning(n: number): boolean {
    return this.cluster.running().includes(n)
  }

  /** Ends brokers that run, at once, and waits until they have ended. */
  async kill(numbers: readonly number[], signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    const running = numbers.filter((n) => this.isRunning(n))
    const exits = running.map((n) => this.cluster.kill(n, signal))
    for (const n of running) if (signal === 'SIGKILL') this.#paused.delete(n)
    const ended = await this.#within(exitMs, Promise.all(exits))
    if (ended === undefined) {
      this.violations.add('does not end', `${running.join(', ')} after ${signal}`)
      for (const n of running) this.cluster.kill(n)
      await Promise.all(exits)
    }
  }

  start(numbers: readonly number[], nodeOptions: readonly string[] = []): void {
    for (const n of numbers) if (!this.isRunning(n)) this.cluster.start(n, nodeOptions)
  }

  /** Whether the master says so. */
  async isInSync(n: number): Promise<boolean> {
    for (const [other, status] of await this.cluster.statuses()) {
      if (status.role !== 'master') continue
      return other === n || memberOf(status, name(n))?.state === 'in sync'
    }
    return false
  }

  pause(n: number): void {
    this.#paused.add(n)
    this.cluster.pause(n)
  }

  resume(n: number): void {
    if (this.#paused.delete(n) && this.isRunning(n)) this.cluster.resume(n)
  }

  /** Waits until a broker has ended by itself, as expected; its exit code, or `undefined` if it does not. */
  async endOf(n: number, timeoutMs: number): Promise<string | undefined> {
    this.cluster.expectEnd(n)
    const exit = await this.#within(timeoutMs, this.cluster.process(n).exit)
    return exit === undefined ? undefined : `${exit.signal ?? `exit code ${exit.code}`}`
  }

  hosts(): Host[] {
    return this.cluster.numbers().map(brokerHost)
  }

  zooKeeperHosts(): Host[] {
    return this.ensemble?.numbers().map(zooKeeperHost) ?? []
  }

  // Time.

  pass(ms: number): Promise<void> {
    return sleep(ms)
  }

  /**
   * From `since` to the next confirm of a message that was sent after it; receipts of the brokers named in `except`
   * do not count. `undefined` if none comes in time.
   */
  nextConfirm(
    since: number,
    except: readonly number[] = [],
    timeoutMs: number = serviceMs,
  ): Promise<number | undefined> {
    const ports = new Set(except.flatMap((n) => this.portsOf(n)))
    return new Promise((resolve) => {
      const end = (result: number | undefined): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve(result)
      }
      const look = (confirmed: Confirmed): void => {
        if (confirmed.sentAt >= since && !ports.has(confirmed.port)) end(confirmed.at - since)
      }
      const timer = setTimeout(() => end(undefined), timeoutMs)
      this.#waiting.add(look)
    })
  }

  /** A majority is left in peace: it has to serve. Returns what to print. */
  async service(since: number, except: readonly number[] = []): Promise<string> {
    const ms = await this.nextConfirm(since, except)
    if (ms !== undefined) return `next confirm after ${Math.round(ms)} ms`
    if (!this.overlapping) this.violations.add('no service', `a majority was left alone for ${serviceMs} ms`)
    return `no confirm for ${serviceMs} ms`
  }

  /** Undoes every fault. */
  async heal(): Promise<void> {
    await this.network.heal()
    for (const volume of this.volumes.values()) {
      volume.thaw()
      volume.free()
    }
    for (const n of this.cluster.numbers()) this.resume(n)
    for (const n of this.cluster.running()) {
      const process = this.cluster.process(n)
      if (process.exited !== undefined) await process.exit
    }
    this.start(this.cluster.numbers())
    await this.ensemble?.up()
  }

  /** Waits until everybody is there and in sync; returns how long it took. */
  async recovered(timeoutMs: number): Promise<number | undefined> {
    const since = performance.now()
    try {
      await this.cluster.waitForService(timeoutMs)
      return performance.now() - since
    } catch (error) {
      this.violations.add('W13 not in service again after the heal', String(error))
      return undefined
    }
  }

  /** Ports that tell which broker gave a confirm. */
  portsOf(n: number): number[] {
    const address = this.network.clientAddress(n)
    return [typeof address === 'number' ? address : address.port]
  }

  async #within<T>(timeoutMs: number, promise: Promise<T>): Promise<T | undefined> {
    let result: { value: T } | undefined
    void promise.then((value) => {
      result = { value }
    })
    await waitFor('the end', () => result !== undefined, { timeoutMs }).catch(() => {})
    return result?.value
  }
}

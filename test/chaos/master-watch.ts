import type { BrokerStatus } from '../system/broker-status.ts'
import { type Cluster, name } from '../system/cluster-fixture.ts'
import { waitFor } from '../system/wait-for.ts'

/** Looks at the status of every broker all the time, and remembers who called itself master of which epoch. */
export class MasterWatch {
  readonly #cluster: Cluster
  readonly #pollMs: number
  readonly #masters = new Map<number, Set<string>>()
  readonly #reasons = new Map<number, string>()
  #stopped = false
  #loop: Promise<void> | undefined
  polls = 0

  constructor(cluster: Cluster, pollMs: number = 20) {
    this.#cluster = cluster
    this.#pollMs = pollMs
  }

  start(): void {
    this.#loop = waitFor(
      'the end of the watch',
      async () => {
        const statuses = await this.#cluster.statuses(250)
        this.polls++
        for (const status of statuses.values()) this.see(status)
        return this.#stopped
      },
      { timeoutMs: Number.POSITIVE_INFINITY, intervalMs: this.#pollMs },
    ).then(() => {})
  }

  see(status: BrokerStatus): void {
    if (status.role !== 'master') return
    this.#claim(status.epoch, status.brokerName)
    if (status.electionReason) this.#reasons.set(status.epoch, status.electionReason)
  }

  /** How the master of an epoch came about, in its own words. */
  reason(epoch: number): string {
    return this.#reasons.get(epoch) ?? '?'
  }

  /** Stops, reads the logs as well, and returns what should not be. */
  async finish(): Promise<string[]> {
    this.#stopped = true
    await this.#loop
    for (const n of [...this.#cluster.numbers(), ...this.#cluster.spares()]) {
      for (const line of this.#cluster.log(n).split('\n')) this.#readLog(name(n), line)
    }
    return [...this.#masters]
      .filter(([, names]) => names.size > 1)
      .map(([epoch, names]) => `two masters in epoch ${epoch}: ${[...names].join(' and ')}`)
  }

  get epochs(): number {
    return this.#masters.size
  }

  #claim(epoch: number, brokerName: string): void {
    const names = this.#masters.get(epoch) ?? new Set()
    names.add(brokerName)
    this.#masters.set(epoch, names)
  }

  #readLog(brokerName: string, line: string): void {
    if (!line.startsWith('{')) return
    try {
      const { msg } = JSON.parse(line) as { msg?: unknown }
      const epoch = /^master in epoch (\d+)$/.exec(String(msg))?.[1]
      if (epoch !== undefined) this.#claim(Number(epoch), brokerName)
    } catch {
      // A line that the kill cut off.
    }
  }
}

import type { BrokerStatus } from '@levelmq/broker'

/** A master as it is announced. */
export interface Mastership {
  readonly name: string
  readonly epoch: number
  readonly reason: string | undefined
}

export interface MasterChange {
  readonly previous: Mastership | undefined
  readonly current: Mastership
}

/**
 * Notices which broker is master, from what the brokers say about themselves.
 *
 * Pure. Invariant: an epoch never falls; who claims an older one is a former master that does not know it yet.
 */
export class MasterWatch {
  #current: Mastership | undefined

  get current(): Mastership | undefined {
    return this.#current
  }

  /** Takes what the brokers said at one time; returns a change to announce. */
  observe(statuses: readonly BrokerStatus[]): MasterChange | undefined {
    const masters = statuses.filter((status) => status.role === 'master')
    const newest = masters.sort((a, b) => b.epoch - a.epoch)[0]
    if (newest === undefined || newest.epoch <= (this.#current?.epoch ?? -1)) return undefined
    const previous = this.#current
    const { brokerName: name, epoch, electionReason } = newest
    this.#current = { name, epoch, reason: electionReason ?? undefined }
    return { previous, current: this.#current }
  }
}

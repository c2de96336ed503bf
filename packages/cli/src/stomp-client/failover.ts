import type { BrokerAddress, FailoverOptions } from './broker-uri.ts'

export type FailoverEvent =
  | { readonly type: 'start' }
  | { readonly type: 'connected' }
  /** `timedOut`: it took the connection, perhaps, and said nothing. */
  | { readonly type: 'attemptFailed'; readonly timedOut: boolean; readonly reason: string }
  /** `silent`: its heart-beats stopped, though the connection did not. */
  | { readonly type: 'lost'; readonly silent: boolean; readonly reason: string }
  | { readonly type: 'waited' }

export type FailoverEffect =
  | { readonly type: 'connect'; readonly address: BrokerAddress; readonly timeoutMs: number }
  | { readonly type: 'wait'; readonly ms: number }
  | { readonly type: 'giveUp'; readonly reason: string }

/** First wait for a broker that was last found silent, and what each further silence adds to it. */
const suspectTimeoutMs = 100

/**
 * Which broker to try next, and when: ActiveMQ's failover transport.
 *
 * Pure: randomness comes as an argument, time as events. Each event leads to one effect at most.
 * Slaves refuse connections, so a sweep tries each address once, until one of them is the master. A broker that was
 * silent comes last and gets little time at first: a paused one must not hold up the way to its successor.
 */
export class Failover {
  readonly #addresses: readonly BrokerAddress[]
  readonly #options: FailoverOptions
  /** From 0 up to, not including, 1. */
  readonly #random: () => number
  #sweep: BrokerAddress[] = []
  #current: BrokerAddress | undefined
  #everConnected = false
  #failedSweeps = 0
  #delayMs: number
  #lastLost: BrokerAddress | undefined
  readonly #silences = new Map<BrokerAddress, number>()

  constructor(addresses: readonly BrokerAddress[], options: FailoverOptions, random: () => number) {
    this.#addresses = addresses
    this.#options = options
    this.#random = random
    this.#delayMs = options.initialReconnectDelayMs
  }

  /** The broker that is connected or being tried. */
  get current(): BrokerAddress | undefined {
    return this.#current
  }

  step(event: FailoverEvent): FailoverEffect | undefined {
    switch (event.type) {
      case 'start':
      case 'waited':
        this.#sweep = this.#order()
        return this.#tryNext()
      case 'connected':
        this.#everConnected = true
        this.#failedSweeps = 0
        this.#delayMs = this.#options.initialReconnectDelayMs
        if (this.#current !== undefined) this.#silences.delete(this.#current)
        return undefined
      case 'attemptFailed':
        this.#note(event.timedOut)
        return this.#sweep.length > 0 ? this.#tryNext() : this.#sweepFailed(event.reason)
      case 'lost':
        this.#note(event.silent)
        this.#lastLost = this.#current
        this.#current = undefined
        if (this.#options.maxReconnectAttempts === 0) return { type: 'giveUp', reason: event.reason }
        return { type: 'wait', ms: this.#delayMs }
      default:
        return event satisfies never
    }
  }

  #tryNext(): FailoverEffect | undefined {
    this.#current = this.#sweep.shift()
    if (this.#current === undefined) return undefined
    const silences = this.#silences.get(this.#current)
    const patience = silences === undefined ? Number.POSITIVE_INFINITY : silences * suspectTimeoutMs
    return {
      type: 'connect',
      address: this.#current,
      timeoutMs: Math.min(this.#current.connectionTimeoutMs, patience),
    }
  }

  #sweepFailed(reason: string): FailoverEffect {
    this.#current = undefined
    this.#failedSweeps++
    const { maxReconnectAttempts, startupMaxReconnectAttempts, maxReconnectDelayMs } = this.#options
    const atStartup = !this.#everConnected && startupMaxReconnectAttempts !== -1
    const limit = atStartup ? startupMaxReconnectAttempts : maxReconnectAttempts
    if (limit !== -1 && this.#failedSweeps >= limit) return { type: 'giveUp', reason }
    const ms = Math.min(this.#delayMs, maxReconnectDelayMs)
    if (this.#options.useExponentialBackOff) {
      this.#delayMs = Math.min(maxReconnectDelayMs, Math.max(1, ms * this.#options.reconnectDelayExponent))
    }
    return { type: 'wait', ms }
  }

  /** The order of a sweep: the broker that just failed comes last but for the silent ones. */
  #order(): BrokerAddress[] {
    const order = [...this.#addresses]
    if (this.#options.randomize) {
      for (let index = order.length - 1; index > 0; index--) {
        const other = Math.floor(this.#random() * (index + 1))
        const [a, b] = [order[index], order[other]]
        if (a !== undefined && b !== undefined) [order[index], order[other]] = [b, a]
      }
    }
    const rank = (address: BrokerAddress) =>
      this.#silences.has(address) ? 2 : address === this.#lastLost ? 1 : 0
    return order.sort((a, b) => rank(a) - rank(b))
  }

  #note(silent: boolean): void {
    if (this.#current === undefined) return
    if (silent) this.#silences.set(this.#current, (this.#silences.get(this.#current) ?? 0) + 1)
    else this.#silences.delete(this.#current)
  }
}

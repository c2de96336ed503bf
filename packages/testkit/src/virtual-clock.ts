import type { Clock, Timer } from '../../store/src/io/clock.ts'

interface PendingTimer {
  readonly atMs: number
  readonly order: number
  readonly fire: () => void
}

/** Time that stands still until a test moves it. Timers that fall due together fire in the order they were set. */
export class VirtualClock implements Clock {
  readonly #pending = new Set<PendingTimer>()
  readonly #wallOriginMs: number
  #nowMs = 0
  #order = 0

  constructor(wallOriginMs: number = Date.UTC(2026, 0, 1)) {
    this.#wallOriginMs = wallOriginMs
  }

  /** Timers that are set: 0 once everything under test has stopped. */
  get pendingTimers(): number {
    return this.#pending.size
  }

  /** When the next timer fires, on the monotonic clock; `undefined` if none is set. */
  get nextTimerMs(): number | undefined {
    return this.#next()?.atMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#wallOriginMs + Math.floor(this.#nowMs)
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    this.#order += 1
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, fire }
    this.#pending.add(timer)
    return { cancel: () => void this.#pending.delete(timer) }
  }

  soon(run: () => void): void {
    this.setTimer(0, run)
  }

  /** Moves time on and fires what falls due, also what is set meanwhile. Promises do not run on. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs
    while (this.#fireNext(untilMs)) {}
    this.#nowMs = untilMs
  }

  /** As {@link advance}, and lets promises run on before the first timer and after each. */
  async run(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs
    await promisesSettled()
    while (this.#fireNext(untilMs)) await promisesSettled()
    this.#nowMs = untilMs
  }

  #fireNext(untilMs: number): boolean {
    const timer = this.#next()
    if (timer === undefined || timer.atMs > untilMs) return false
    this.#pending.delete(timer)
    this.#nowMs = Math.max(this.#nowMs, timer.atMs)
    timer.fire()
    return true
  }

  #next(): PendingTimer | undefined {
    let first: PendingTimer | undefined
    for (const timer of this.#pending) {
      if (
        first === undefined ||
        timer.atMs < first.atMs ||
        (timer.atMs === first.atMs && timer.order < first.order)
      ) {
        first = timer
      }
    }
    return first
  }
}

/** The event loop comes to its next turn only after every promise that can go on has done so. */
function promisesSettled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

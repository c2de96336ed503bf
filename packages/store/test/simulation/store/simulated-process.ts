import type { Clock, Timer } from '../../../src/io/clock.ts'
import type { Dice, Scheduler } from './scheduler.ts'

/** How a machine's clocks differ from true time. */
export interface ClockFault {
  /** Local milliseconds per true one. */
  readonly rate: number
  readonly originMs: number
  wallOffsetMs: number
}

/**
 * One life of a broker process. Everything that reaches the store inside goes through {@link SimulatedProcess.enter}:
 * it waits while the process is stopped, and is lost once it is dead, also in the middle of what the store is doing.
 */
export class SimulatedProcess implements Clock {
  readonly name: string
  readonly #scheduler: Scheduler
  readonly #dice: Dice
  readonly #clock: ClockFault
  alive = true
  paused = false
  /** Operations of the outside world after which this process dies; negative for never. */
  dieAfter = -1
  /** Called when `dieAfter` is used up. */
  died: () => void = () => {}
  /** A disk operation was made to fail: the store has to give up. */
  diskFailed = false
  #held: { readonly timer: boolean; readonly run: () => void }[] = []

  constructor(name: string, scheduler: Scheduler, dice: Dice, clock: ClockFault) {
    this.name = name
    this.#scheduler = scheduler
    this.#dice = dice
    this.#clock = clock
  }

  monotonicMs(): number {
    return this.#clock.originMs + this.#scheduler.nowMs * this.#clock.rate
  }

  wallMs(): number {
    return Math.floor(Date.UTC(2026, 0, 1) + this.#scheduler.nowMs + this.#clock.wallOffsetMs)
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    let cancelled = false
    const lateMs = this.#dice.chance(0.1) ? this.#dice.range(0, 3) : this.#dice.range(0, 0.3)
    this.#scheduler.in(Math.max(0, delayMs) / this.#clock.rate + lateMs, () =>
      this.#enter(true, () => {
        if (!cancelled) fire()
      }),
    )
    return {
      cancel: () => {
        cancelled = true
      },
    }
  }

  soon(run: () => void): void {
    this.#scheduler.in(0, () => this.enter(run))
  }

  /** Something happens in this process: now, when it goes on, or never. */
  enter(run: () => void): void {
    this.#enter(false, run)
  }

  #enter(timer: boolean, run: () => void): void {
    if (!this.alive) return
    if (this.paused) this.#held.push({ timer, run })
    else run()
  }

  /**
   * The store asks something of the outside world: the moment at which a process may die.
   *
   * @returns False if it is dead: then nothing happens.
   */
  acts(): boolean {
    if (this.alive && this.dieAfter >= 0 && this.dieAfter-- === 0) this.died()
    return this.alive
  }

  resume(): void {
    this.paused = false
    const held = this.#held
    this.#held = []
    // Node's event loop looks at timers first, unless it was stopped among its sockets.
    const timersFirst = this.#dice.chance(0.5)
    const order = timersFirst
      ? [...held.filter(({ timer }) => timer), ...held.filter(({ timer }) => !timer)]
      : held
    for (const { run } of order) this.#scheduler.in(0, () => this.enter(run))
  }

  kill(): void {
    this.alive = false
    this.#held = []
  }
}

/** What a dead process waits for. */
export function never<T>(): Promise<T> {
  return new Promise(() => undefined)
}

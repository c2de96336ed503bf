/** A timer that has been set; cancelling it twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void
}

/**
 * Time, as the store sees it. Everything that decides takes `nowMs` as an argument; only shells hold a `Clock`.
 *
 * Leases and timeouts use {@link Clock.monotonicMs}, which goes on while the process is stopped, so that a paused
 * master finds its lease expired when it resumes. {@link Clock.wallMs} is only ever recorded in the log.
 */
export interface Clock {
  /** Milliseconds from an arbitrary origin; never goes back, goes on while the process is paused. */
  monotonicMs(): number
  /** Milliseconds since 1970-01-01 UTC; may jump. */
  wallMs(): number
  /** Calls `fire` once, at least `delayMs` from now. A pending timer keeps the process alive. */
  setTimer(delayMs: number, fire: () => void): Timer
  /** Calls `run` once, when the events at hand have been worked off: the end of this turn. */
  soon(run: () => void): void
}

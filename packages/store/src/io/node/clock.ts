import { performance } from 'node:perf_hooks'
import type { Clock, Timer } from '../clock.ts'

/** The machine's clocks. Linux' monotonic clock goes on while the process is stopped, though not while the machine sleeps. */
export class SystemClock implements Clock {
  monotonicMs(): number {
    return performance.now()
  }

  wallMs(): number {
    return Date.now()
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    // Node fires up to 1 ms early; a lease that is checked then would seem to run on.
    const timer = setTimeout(fire, Math.ceil(delayMs) + 1)
    return { cancel: () => clearTimeout(timer) }
  }

  soon(run: () => void): void {
    setImmediate(run)
  }
}

import type { Clock, Timer } from '../io/clock.ts'
import type { Journal, ScrubPlace } from './journal.ts'

export interface ScrubberParts {
  readonly journal: Pick<Journal, 'scrub'>
  readonly clock: Clock
  /** How fast the log is read, in bytes a second. */
  readonly bytesPerSecond: number
  /** Bytes that are read at a time. @defaultValue 1048576 */
  readonly pieceBytes?: number
  /** From the end of a pass to the beginning of the next, in milliseconds. */
  readonly restMs: number
  /** Every segment has been read to its end. */
  readonly passed?: () => void
  /** The log could not be read; it is tried again after the rest. */
  readonly troubled: (error: unknown) => void
}

/**
 * Reads the whole log again and again in the background, so that damage is found, and repaired, while another copy is
 * still intact (rule S32). The journal tells its listener what is damaged.
 *
 * It reads through the operating system's cache: what is still in there is not read from the disk.
 */
export class Scrubber {
  readonly #parts: ScrubberParts
  #timer: Timer | undefined
  #running: Promise<void> | undefined
  #stopped = false
  #place: ScrubPlace | undefined
  #lastPassMs: number | undefined

  constructor(parts: ScrubberParts) {
    this.#parts = parts
  }

  /** When the last full pass ended, by the wall clock; `undefined` before. */
  get lastPassMs(): number | undefined {
    return this.#lastPassMs
  }

  /** First record of the segment that is read next in the present pass. */
  get atIndex(): number {
    return this.#place?.segment ?? 0
  }

  start(): void {
    if (this.#timer === undefined && !this.#stopped) this.#setTimer(0)
  }

  /** Resolves once nothing is read any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#running
  }

  #setTimer(delayMs: number): void {
    if (this.#stopped) return
    this.#timer = this.#parts.clock.setTimer(delayMs, () => {
      this.#running = this.#step()
    })
  }

  async #step(): Promise<void> {
    const { journal, clock, bytesPerSecond, pieceBytes = 1024 * 1024, restMs, passed, troubled } = this.#parts
    try {
      const { next, bytes } = await journal.scrub(this.#place, pieceBytes)
      this.#place = next
      if (next !== undefined) {
        this.#setTimer((bytes / bytesPerSecond) * 1000)
        return
      }
      this.#lastPassMs = clock.wallMs()
      passed?.()
    } catch (error) {
      this.#place = undefined
      if (!this.#stopped) troubled(error)
    }
    this.#setTimer(restMs)
  }
}

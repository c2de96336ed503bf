import { crc32 } from 'node:zlib'
import { SeededRandom as TestkitRandom } from '../../../../testkit/src/seeded-random.ts'
import { EventQueue } from '../event-queue.ts'

/** All randomness of a run, with the draws that faults are made of. */
export class Dice extends TestkitRandom {
  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  /** Any number from `low` up to `high`. */
  range(low: number, high: number): number {
    return low + (high - low) * this.fraction()
  }

  /** A whole number from 0 up to, but not, `end`. */
  below(end: number): number {
    return Math.floor(this.fraction() * end)
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)]
    if (value === undefined) throw new Error('nothing to pick from')
    return value
  }

  /** Another sequence of numbers, so that more draws in one place do not change those in another. */
  fork(): Dice {
    return new Dice(this.below(2 ** 32))
  }
}

/**
 * Virtual time, and the one queue of everything that happens. After each event all promises that can go on do so,
 * before the next one: the code under test has no other source of events.
 */
export class Scheduler {
  readonly #queue = new EventQueue<() => void>()
  readonly #trace: ((line: string) => void) | undefined
  nowMs = 0
  events = 0
  /** Stands for everything noted so far: equal for equal runs. */
  digest = 0

  constructor(trace?: (line: string) => void) {
    this.#trace = trace
  }

  at(atMs: number, what: () => void): void {
    this.#queue.push(Math.max(atMs, this.nowMs), what)
  }

  in(delayMs: number, what: () => void): void {
    this.#queue.push(this.nowMs + Math.max(0, delayMs), what)
  }

  async step(): Promise<void> {
    const event = this.#queue.pop()
    if (event === undefined) throw new Error('nothing is going to happen any more')
    this.nowMs = event.atMs
    this.events++
    event.what()
    await promisesSettled()
  }

  /** Notes what happened: for the reader of a trace, and for the digest. */
  note(line: string): void {
    const text = `${this.nowMs.toFixed(3)} ${line}`
    this.digest = crc32(text, this.digest)
    this.#trace?.(text)
  }
}

function promisesSettled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** What queues may hold in memory. */
export interface MemoryLimits {
  /** Waiting messages per queue. @defaultValue 1000 */
  readonly queueMessages: number
  /** Bytes of envelopes per queue. @defaultValue 8 MiB */
  readonly queueBytes: number
  /** Bytes of envelopes over all queues. @defaultValue 256 MiB */
  readonly totalBytes: number
  /** Most messages read from the store at a time, per queue. @defaultValue 400 */
  readonly pageMessages: number
}

export const defaultMemoryLimits: MemoryLimits = {
  queueMessages: 1000,
  queueBytes: 8 * 1024 * 1024,
  totalBytes: 256 * 1024 * 1024,
  pageMessages: 400,
}

/** Bytes of envelopes that all queues of the broker hold together. */
export class MemoryBudget {
  readonly limits: MemoryLimits
  #used = 0

  constructor(limits: MemoryLimits) {
    this.limits = limits
  }

  get used(): number {
    return this.#used
  }

  fits(bytes: number): boolean {
    return this.#used + bytes <= this.limits.totalBytes
  }

  take(bytes: number): void {
    this.#used += bytes
  }

  release(bytes: number): void {
    this.#used -= bytes
  }
}

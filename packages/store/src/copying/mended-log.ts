import { StoreError } from '../errors.ts'
import type { Damage } from '../journal/damage.ts'
import type { Log, LogStart, SegmentExtent } from '../journal/log.ts'

/**
 * The log of a node that has others to ask: reading what turns out to be damaged takes longer, and does not fail (rule S27).
 *
 * Everything else is the journal's.
 */
export class MendedLog implements Log {
  readonly #log: Log
  readonly #mend: () => Promise<void>

  /** @param mend - Has what is known to be damaged repaired; resolves when nothing is any more. */
  constructor(log: Log, mend: () => Promise<void>) {
    this.#log = log
    this.#mend = mend
  }

  get start(): LogStart {
    return this.#log.start
  }
  get firstIndex(): number {
    return this.#log.firstIndex
  }
  get lastIndex(): number {
    return this.#log.lastIndex
  }
  get lastEpoch(): number {
    return this.#log.lastEpoch
  }
  get lastChecksum(): number {
    return this.#log.lastChecksum
  }
  get lastTimeMs(): number {
    return this.#log.lastTimeMs
  }
  get durableIndex(): number {
    return this.#log.durableIndex
  }
  get pendingBytes(): number {
    return this.#log.pendingBytes
  }
  get space(): 'enough' | 'low' {
    return this.#log.space
  }
  get damage(): Damage | undefined {
    return this.#log.damage
  }

  append(bytes: Buffer, firstIndex: number, lastIndex: number): void {
    this.#log.append(bytes, firstIndex, lastIndex)
  }
  truncate(index: number): void {
    this.#log.truncate(index)
  }
  segments(): readonly SegmentExtent[] {
    return this.#log.segments()
  }
  discardBelow(index: number, replayTo: number): Promise<void> {
    return this.#log.discardBelow(index, replayTo)
  }
  repair(damage: Damage, batches: Buffer): Promise<Damage | undefined> {
    return this.#log.repair(damage, batches)
  }
  close(): Promise<void> {
    return this.#log.close()
  }

  read(fromIndex: number, maxBytes: number): Promise<Buffer> {
    return this.#mended(() => this.#log.read(fromIndex, maxBytes))
  }
  batchWith(index: number): Promise<Buffer> {
    return this.#mended(() => this.#log.batchWith(index))
  }

  async #mended(read: () => Promise<Buffer>): Promise<Buffer> {
    for (;;) {
      try {
        return await read()
      } catch (error) {
        // What is no known damage cannot be mended.
        const damaged =
          error instanceof StoreError && error.code === 'STORE_CORRUPT' && this.#log.damage !== undefined
        if (!damaged) throw error
        await this.#mend()
      }
    }
  }
}

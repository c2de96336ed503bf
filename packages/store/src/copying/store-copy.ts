import { StoreError } from '../errors.ts'
import { generationIn, removeGeneration } from '../generation.ts'
import type { Clock, Timer } from '../io/clock.ts'
import type { Disk } from '../io/disk.ts'
import { decodeBatchHeader } from '../journal/batch.ts'
import { type Journal, openJournal } from '../journal/journal.ts'
import type { LogStart } from '../journal/log.ts'
import { FrameFault, spansOf } from '../replication/frame.ts'
import type { StoreHost } from '../store-factory.ts'
import type { LogPiece } from './log-source.ts'

/** Without an answer for so long it is asked again. */
const answerMs = 5_000

export interface StoreCopyParts {
  readonly disk: Disk
  /** The store's directory. */
  readonly directory: string
  /** Generation that the copy is to become. */
  readonly generation: number
  readonly segmentBytes: number
  readonly clock: Clock
  /** Asks a member for its committed log from a record on; 0 for its beginning. */
  readonly ask: (nodeId: string, fromIndex: number) => void
  /** Whether a log that ends so holds everything that this store may have acknowledged. */
  readonly covers: (lastEpoch: number, lastIndex: number) => boolean
  /** The copy is whole and durable: it can take the store's place, once it is closed. The store must not change before. */
  readonly complete: () => void
  readonly failed: (error: Error) => void
  readonly log: StoreHost['log']
}

/**
 * A copy of another member's log, made beside the own store: for a member whose log ends before every other one begins, a blank one
 * among them (rule S33).
 *
 * The log is all that is copied. It can be folded from where it begins, so the message index is built from it afterwards.
 *
 * Invariants:
 * - The own store stays as it is, and in use, until the copy is whole: then one file names the new generation.
 * - A copy is whole when it is durable up to the record from which on its fold is that of the whole log, and at least as
 *   complete as the own log: that may have grown meanwhile, under another master, and what was acknowledged of it counts.
 * - What was copied is kept over an interruption: the next source goes on where the one before stopped. Each piece is verified by its
 *   checksums and by the chain; what does not fit makes it begin anew.
 */
export class StoreCopy {
  readonly #parts: StoreCopyParts
  #journal: Journal | undefined
  #source: string | undefined
  /** Something is being written, opened or closed. */
  #busy: Promise<void> | undefined
  #opened = false
  #closed = false
  #timer: Timer | undefined
  #waiting: { readonly index: number; readonly go: () => void } | undefined

  constructor(parts: StoreCopyParts) {
    this.#parts = parts
  }

  /** Records copied so far, for the status: the last one, and the one that makes the copy whole. */
  get progress(): { readonly index: number; readonly of: number } {
    return { index: this.#journal?.lastIndex ?? 0, of: this.#journal?.start.replayTo ?? 0 }
  }

  /** Whether an answer is awaited, or being taken. */
  get underWay(): boolean {
    return this.#timer !== undefined || this.#busy !== undefined
  }

  /** A member has the log that is needed: goes on with it, unless it is already under way. */
  from(nodeId: string): void {
    if (this.#closed || (this.#source === nodeId && this.#timer !== undefined)) return
    this.#source = nodeId
    if (this.#busy === undefined) this.#run(() => this.#ask())
  }

  /** A member answered. */
  received(nodeId: string, piece: LogPiece): void {
    if (nodeId !== this.#source || this.#busy !== undefined || this.#timer === undefined) return
    this.#pause()
    this.#run(async () => {
      const more = await this.#take(piece)
      if (more && !this.#closed) await this.#ask()
    })
  }

  /** A member cannot give what it was asked for. */
  refused(nodeId: string, reason: string): void {
    if (nodeId !== this.#source) return
    this.#parts.log('warn', `the copying of the store stopped: ${reason}`, { nodeId })
    this.lost(nodeId)
  }

  /** The link to a member was lost: what was copied waits for the next source. */
  lost(nodeId: string): void {
    if (nodeId !== this.#source) return
    this.#source = undefined
    this.#pause()
  }

  /** Leaves what was copied on the disk, to be gone on with. */
  async close(): Promise<void> {
    this.#closed = true
    this.#pause()
    this.#waiting?.go()
    await this.#busy
    await this.#journal?.close()
    this.#journal = undefined
  }

  #run(work: () => Promise<void>): void {
    this.#busy = work()
      .catch((error: Error) => {
        if (!this.#closed) this.#parts.failed(error)
      })
      .finally(() => {
        this.#busy = undefined
      })
  }

  async #ask(): Promise<void> {
    if (!this.#opened) await this.#reopen()
    const source = this.#source
    if (this.#closed || source === undefined) return
    const journal = this.#journal
    this.#parts.ask(source, journal === undefined ? 0 : journal.lastIndex + 1)
    this.#timer = this.#parts.clock.setTimer(answerMs, () => {
      this.#timer = undefined
      if (this.#busy === undefined && !this.#closed) this.#run(() => this.#ask())
    })
  }

  #pause(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** @returns Whether there is more to ask for now; otherwise whoever lacks log is told so again. */
  async #take({ start, batches }: LogPiece): Promise<boolean> {
    let journal = this.#journal
    if (journal !== undefined && start.firstIndex > journal.lastIndex + 1) {
      this.#parts.log('warn', 'the copying of the store begins anew: the log that was still to come is gone')
      await this.#discard()
      return true
    }
    if (journal === undefined) {
      await this.#begin(start)
      journal = this.#journal
    }
    if (journal === undefined) return false
    if (batches.length > 0 && !(await this.#append(journal, batches))) return true
    const whole = journal.durableIndex >= journal.start.replayTo
    if (this.#closed || !whole || !this.#parts.covers(journal.lastEpoch, journal.lastIndex))
      return batches.length > 0
    this.#closed = true
    this.#pause()
    this.#parts.complete()
    return false
  }

  /** @returns Whether the batches fitted; the copy begins anew if not. */
  async #append(journal: Journal, batches: Buffer): Promise<boolean> {
    const fault = faultOf(journal, batches)
    if (fault !== undefined) {
      this.#parts.log('warn', `the copying of the store begins anew: ${fault}`)
      await this.#discard()
      return false
    }
    const spans = spansOf(batches, journal.lastIndex + 1, false)
    const last = spans.at(-1)?.lastIndex ?? 0
    journal.append(batches, journal.lastIndex + 1, last)
    await this.#durable(journal, last)
    return true
  }

  async #durable(journal: Journal, index: number): Promise<void> {
    if (journal.durableIndex >= index) return
    await new Promise<void>((go) => {
      this.#waiting = { index, go }
    })
    this.#waiting = undefined
  }

  /** Goes on with what an interrupted copying left, if it can be used. */
  async #reopen(): Promise<void> {
    const { disk, directory, generation } = this.#parts
    const { journal } = generationIn(directory, generation)
    this.#opened = true
    if ((await disk.list(journal)).length === 0) return
    try {
      this.#journal = await this.#open(undefined)
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === 'STORE_DISK_FAILED') throw error
      this.#parts.log('warn', `what was copied before is of no use: ${error.message}`)
      await removeGeneration(disk, directory, generation)
    }
  }

  async #begin(start: LogStart): Promise<void> {
    this.#parts.log('info', 'copying the store', { fromIndex: start.firstIndex, toIndex: start.replayTo })
    await removeGeneration(this.#parts.disk, this.#parts.directory, this.#parts.generation)
    this.#journal = await this.#open(start)
  }

  async #discard(): Promise<void> {
    await this.#journal?.close()
    this.#journal = undefined
    await removeGeneration(this.#parts.disk, this.#parts.directory, this.#parts.generation)
  }

  async #open(start: LogStart | undefined): Promise<Journal> {
    const { disk, directory, generation, segmentBytes } = this.#parts
    const { log } = await openJournal({
      disk,
      directory: generationIn(directory, generation).journal,
      segmentBytes,
      verifiedTo: 0,
      epochStarts: [],
      start,
      clock: this.#parts.clock,
      listener: {
        written: () => undefined,
        durable: (index) => {
          if (this.#waiting !== undefined && index >= this.#waiting.index) this.#waiting.go()
        },
        // Nobody reads it before it is whole.
        damaged: () => undefined,
        spaceChanged: () => undefined,
        failed: (error) => this.#parts.failed(error),
      },
    })
    return log
  }
}

/** Why batches cannot be put behind a journal's last record; `undefined` if they can. */
function faultOf(journal: Journal, batches: Buffer): string | undefined {
  try {
    spansOf(batches, journal.lastIndex + 1, true)
  } catch (error) {
    if (error instanceof FrameFault) return error.message
    throw error
  }
  const first = decodeBatchHeader(batches, 0)
  if (typeof first === 'string') return first
  const empty = journal.lastIndex < journal.start.firstIndex
  if (!empty && first.previousChecksum !== journal.lastChecksum) return 'its checksums do not chain'
  return first.epoch < journal.lastEpoch ? `epoch ${first.epoch} behind ${journal.lastEpoch}` : undefined
}

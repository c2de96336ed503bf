import { StoreError } from '../errors.ts'
import type { Clock } from '../io/clock.ts'
import type { Disk } from '../io/disk.ts'
import { batchesUpTo } from '../journal/batch-run.ts'
import type { Journal } from '../journal/journal.ts'
import { maxTransferBytes, type Transfer } from '../replication/transfer.ts'
import type { StoreHost } from '../store-factory.ts'
import { LogSource } from './log-source.ts'
import { Repairer } from './repairer.ts'
import { StoreCopy } from './store-copy.ts'

export interface TransfersParts {
  readonly disk: Disk
  readonly clock: Clock
  /** The store's directory, and its present generation. */
  readonly directory: string
  readonly generation: number
  readonly segmentBytes: number
  readonly journal: Journal
  readonly commitIndex: () => number
  readonly connected: () => readonly string[]
  readonly send: (nodeId: string, transfer: Transfer) => void
  /** The store is not in use: if nobody has what is damaged in it, a copy of another one is to take its place. */
  readonly replaceable: boolean
  /** A copy of the store is whole, as the next generation. */
  readonly copied: () => void
  /** Whether a log that ends so is at least as complete as the own one. */
  readonly covers: (lastEpoch: number, lastIndex: number) => boolean
  readonly failed: (error: Error) => void
  readonly log: StoreHost['log']
}

/**
 * What members fetch from each other besides what a master sends by itself: this node gives of its log to those that copy or repair
 * theirs, and does the same itself when it has to.
 *
 * Invariant: a reply counts only for the request that is open.
 */
export class Transfers {
  readonly #parts: TransfersParts
  /** For other copies of the log than those that members ask for. */
  readonly source: LogSource
  readonly repairer: Repairer
  #copy: StoreCopy | undefined
  #lastId = 0
  #copyId = 0
  /** Members that a copy was asked of, for lack of what is damaged. */
  #tried = 0
  #repairId = 0
  #closed = false

  constructor(parts: TransfersParts) {
    this.#parts = parts
    const { journal, clock, connected, send, log } = parts
    this.source = new LogSource(journal, parts.commitIndex)
    this.repairer = new Repairer({
      journal,
      clock,
      members: connected,
      ask: (nodeId, fromIndex, toIndex) => {
        this.#repairId = ++this.#lastId
        send(nodeId, {
          type: 'repairRequest',
          id: this.#repairId,
          fromIndex,
          toIndex,
          maxBytes: maxTransferBytes,
        })
      },
      inVain: () => {
        if (!parts.replaceable || this.#copy?.underWay === true) return
        // One after the other: a member that is blank, or damaged itself, has nothing to give.
        const members = connected()
        const member = members[this.#tried++ % members.length]
        if (member !== undefined) this.copyFrom(member)
      },
      log,
    })
  }

  /** How far the copy is that is being made of another member's store. */
  get copying(): { readonly index: number; readonly of: number } | undefined {
    return this.#copy?.progress
  }

  /** Lowest record that another member still has to get from here; plus infinity if there is none. */
  pinnedFrom(): number {
    return this.source.pinnedFrom(this.#parts.clock.monotonicMs())
  }

  /** A member has log that this one needs and no longer gets record by record: copies its store. */
  copyFrom(nodeId: string): void {
    if (this.#closed) return
    const { disk, directory, generation, segmentBytes, clock, send, covers, copied, failed, log } =
      this.#parts
    this.#copy ??= new StoreCopy({
      disk,
      directory,
      generation: generation + 1,
      segmentBytes,
      clock,
      ask: (to, fromIndex) => {
        this.#copyId = ++this.#lastId
        send(to, { type: 'snapshotRequest', id: this.#copyId, fromIndex, maxBytes: maxTransferBytes })
      },
      covers,
      complete: copied,
      failed,
      log,
    })
    this.#copy.from(nodeId)
  }

  connected(nodeId: string): void {
    this.repairer.connected(nodeId)
  }

  lost(nodeId: string): void {
    this.repairer.lost(nodeId)
    this.#copy?.lost(nodeId)
  }

  received(from: string, transfer: Transfer): void {
    if (this.#closed) return
    switch (transfer.type) {
      case 'snapshotRequest':
        void this.#give(from, transfer.id, transfer.fromIndex, transfer.maxBytes)
        break
      case 'snapshotChunk': {
        if (transfer.id !== this.#copyId) return
        const { content } = transfer
        if ('refused' in content) this.#copy?.refused(from, content.refused)
        else this.#copy?.received(from, content)
        break
      }
      case 'repairRequest':
        void this.#mend(from, transfer.id, transfer.fromIndex, transfer.toIndex, transfer.maxBytes)
        break
      case 'repairReply':
        if (transfer.id !== this.#repairId) return
        this.repairer.received(from, transfer.batches === 'unknown' ? undefined : transfer.batches)
        break
      default:
        transfer satisfies never
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.repairer.close()
    await this.#copy?.close()
  }

  async #give(to: string, id: number, fromIndex: number, maxBytes: number): Promise<void> {
    const { clock, send } = this.#parts
    try {
      const { start, batches } = await this.source.give(to, fromIndex, maxBytes, clock.monotonicMs())
      if (this.#closed) return
      const content = {
        start,
        fromIndex: fromIndex === 0 ? start.firstIndex : fromIndex,
        batches,
        last: batches.length === 0,
      }
      send(to, { type: 'snapshotChunk', id, content })
    } catch (error) {
      if (this.#closed) return
      if (!(error instanceof StoreError)) throw error
      if (error.code !== 'STORE_LOG_GONE') {
        send(to, { type: 'snapshotChunk', id, content: { refused: error.message } })
        return
      }
      // It came too late, and has to begin anew: where the log begins now says so.
      const { start } = this.#parts.journal
      const content = { start, fromIndex: start.firstIndex, batches: Buffer.alloc(0), last: false }
      send(to, { type: 'snapshotChunk', id, content })
    }
  }

  async #mend(to: string, id: number, fromIndex: number, toIndex: number, maxBytes: number): Promise<void> {
    const { journal, send } = this.#parts
    let batches: Buffer | 'unknown' = 'unknown'
    try {
      const read = batchesUpTo(await journal.read(fromIndex, maxBytes), toIndex)
      if (read.length > 0) batches = read
    } catch (error) {
      // Gone, or damaged here too.
      if (!(error instanceof StoreError)) throw error
    }
    if (!this.#closed) send(to, { type: 'repairReply', id, fromIndex, batches })
  }
}

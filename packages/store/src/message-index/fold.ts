import { type BatchHeader, batchHeaderBytes, decodeBatchHeader, lastIndexOf } from '../journal/batch.ts'
import type { EpochStart } from '../journal/log.ts'
import { RecordFault, type RecordVisitor, readRecords } from '../journal/record.ts'
import type { QueueInfo } from '../message-store.ts'
import { type Generation, type PagePlan, QueueOverlay, type Reach } from './overlay.ts'
import { type ProducerRow, Producers } from './producers.ts'
import type { GapWindow } from './sequence-window.ts'

/** A queue as the index holds it. */
interface Queue {
  readonly id: number
  readonly name: string
  readonly overlay: QueueOverlay
  count: number
  changed: boolean
}

export interface Configuration {
  readonly index: number
  readonly json: string
}

/** Everything but the messages, as read from a database. */
export interface FoldContent {
  readonly position: number
  readonly epochStarts: readonly EpochStart[]
  readonly configuration: Configuration | undefined
  readonly queues: readonly { id: number; name: string; count: number; lowMark: number }[]
  readonly producers: readonly { id: number; value: Buffer }[]
}

/** What a checkpoint has to write: everything that changed since the one before, as of `position`. */
export interface FrozenChanges {
  readonly position: number
  /** Where the messages that LevelDB already holds end. */
  readonly storedTo: number
  readonly epochStarts: readonly EpochStart[]
  readonly configuration: Configuration | undefined
  readonly queues: readonly FrozenQueue[]
  readonly producers: readonly ProducerRow[]
}

export interface FrozenQueue {
  readonly id: number
  readonly name: string
  readonly count: number
  /** Low mark before this checkpoint. */
  readonly lowMark: number
  readonly messages: Generation | undefined
}

/**
 * The fold of the committed log in memory: all of the small state, and the messages that are not yet in LevelDB.
 *
 * Pure: `level-index.ts` feeds it, reads LevelDB for it and writes what it freezes.
 * Invariants: each record is applied once and in order; what it comes to depends on the records alone, not on when
 * checkpoints were taken; between `freeze` and `retire` nothing that was frozen changes.
 */
export class IndexFold implements RecordVisitor {
  readonly statistics: { cancelledMessages: number } = { cancelledMessages: 0 }
  readonly #reach: Reach
  readonly #queues = new Map<number, Queue>()
  readonly #byName = new Map<string, Queue>()
  readonly #producers: Producers
  readonly #epochStarts: EpochStart[]
  #configuration: Configuration | undefined
  #position: number
  /** What of the small state is in LevelDB, or on its way there. */
  #savedEpochStarts: number
  #savedConfiguration: Configuration | undefined
  #changedQueues: Queue[] = []
  /** Message entries that the active generation would write, and those being written. */
  #activeEntries = 0
  #frozenEntries = 0
  #frozenQueues: Queue[] = []
  #epoch = 0
  #lastQueue: Queue | undefined
  #fault: unknown

  /** @throws RangeError if a producer's row is cut short. */
  constructor(content: FoldContent, maxProducers: number, maxGaps: number) {
    this.#position = content.position
    this.#reach = { storedTo: content.position, frozenTo: content.position }
    this.#epochStarts = [...content.epochStarts]
    this.#savedEpochStarts = content.epochStarts.length
    this.#configuration = this.#savedConfiguration = content.configuration
    for (const { id, name, count, lowMark } of content.queues) this.#addQueue(id, name, count, lowMark)
    this.#producers = new Producers(maxProducers, maxGaps)
    this.#producers.restore(content.producers)
  }

  get position(): number {
    return this.#position
  }

  get epochStarts(): readonly EpochStart[] {
    return this.#epochStarts
  }

  get lastConfiguration(): Configuration | undefined {
    return this.#configuration
  }

  get pendingChanges(): number {
    return (
      this.#activeEntries + this.#frozenEntries + this.#changedQueues.length + this.#producers.pendingChanges
    )
  }

  queues(): QueueInfo[] {
    return Array.from(this.#queues.values(), infoOf)
  }

  queueNamed(name: string): QueueInfo | undefined {
    const queue = this.#byName.get(name)
    return queue && infoOf(queue)
  }

  producerNamed(name: string): number | undefined {
    return this.#producers.named(name)
  }

  producerWindow(producer: number): GapWindow | undefined {
    return this.#producers.window(producer)
  }

  /** @returns How to read the page, or undefined if there is no such queue. */
  page(queue: number, after: number, limit: number): PagePlan | undefined {
    return this.#queues.get(queue)?.overlay.page(after, limit, this.#position)
  }

  /** Applies whole batches that follow on; see `MessageIndex.apply`. */
  apply(bytes: Buffer): void {
    this.assertWhole()
    for (let at = 0; at < bytes.length; ) {
      const header = headerAt(bytes, at)
      if (lastIndexOf(header) > this.#position) this.#applyBatch(bytes, at, header)
      at += batchHeaderBytes + header.payloadBytes
    }
  }

  /** Throws what stopped `apply` in the middle of a batch, if anything did. */
  assertWhole(): void {
    if (this.#fault !== undefined) throw this.#fault
  }

  #applyBatch(bytes: Buffer, at: number, header: BatchHeader): void {
    if (header.firstIndex !== this.#position + 1) {
      throw new TypeError(`batch of ${header.firstIndex} does not follow record ${this.#position}`)
    }
    this.#epoch = header.epoch
    try {
      readRecords(bytes, at + batchHeaderBytes, header.payloadBytes, header.firstIndex, header.count, this)
    } catch (error) {
      this.#fault = error // Half a batch is applied: this must never reach a checkpoint.
      throw error
    }
    this.#position = lastIndexOf(header)
  }

  /** Starts a checkpoint: hands out what has changed, and takes further changes apart from it. */
  freeze(): FrozenChanges {
    this.assertWhole()
    const frozen: FrozenChanges = {
      position: this.#position,
      storedTo: this.#reach.storedTo,
      epochStarts: this.#epochStarts.slice(this.#savedEpochStarts),
      configuration: this.#configuration === this.#savedConfiguration ? undefined : this.#configuration,
      queues: this.#changedQueues.map(freezeQueue),
      producers: this.#producers.takeChanges(),
    }
    this.#savedEpochStarts = this.#epochStarts.length
    this.#savedConfiguration = this.#configuration
    this.#frozenQueues = this.#changedQueues
    this.#changedQueues = []
    this.#frozenEntries = this.#activeEntries
    this.#activeEntries = 0
    this.#reach.frozenTo = this.#position
    return frozen
  }

  /**
   * Ends a checkpoint: what was frozen is in LevelDB.
   *
   * @param lowMarks - The new one of each frozen queue, in the order of `FrozenChanges.queues`.
   */
  retire(lowMarks: readonly number[]): void {
    for (const [place, queue] of this.#frozenQueues.entries()) queue.overlay.retire(lowMarks[place] as number)
    this.#frozenQueues = []
    this.#frozenEntries = 0
    this.#reach.storedTo = this.#reach.frozenTo
  }

  epochStart(index: number): void {
    this.#epochStarts.push({ epoch: this.#epoch, index })
  }

  configuration(index: number, json: string): void {
    this.#configuration = { index, json }
  }

  queueAdded(index: number, name: string): void {
    this.#note(this.#addQueue(index, name, 0, 0))
  }

  producerAdded(index: number, id: string): void {
    this.#producers.register(index, id)
  }

  messageAdded(
    index: number,
    queueId: number,
    producer: number,
    sequence: number,
    _batch: Buffer,
    _envelopeAt: number,
    envelopeBytes: number,
  ): void {
    const queue = this.#queue(index, queueId)
    queue.overlay.add(index, envelopeBytes)
    queue.count++
    this.#activeEntries++
    if (!queue.changed) this.#note(queue)
    if (producer !== 0) this.#producers.see(producer, sequence, index)
  }

  messageRemoved(index: number, queueId: number, message: number): void {
    const queue = this.#queue(index, queueId)
    const removal = queue.overlay.remove(message, index)
    if (removal === 'none') return
    if (removal === 'cancelled') {
      this.#activeEntries--
      this.statistics.cancelledMessages++
    } else {
      this.#activeEntries++
    }
    if (queue.count > 0) queue.count--
    if (!queue.changed) this.#note(queue)
  }

  redeliveryCounted(index: number, queueId: number, message: number, count: number): void {
    const queue = this.#queue(index, queueId)
    if (queue.overlay.countRedelivery(message, count, index)) this.#activeEntries++
    if (!queue.changed) this.#note(queue)
  }

  queueKept(): void {
    throw new Error('not there yet')
  }

  producerKept(): void {
    throw new Error('not there yet')
  }

  messageKept(): void {
    throw new Error('not there yet')
  }

  queueRemoved(): void {
    throw new Error('not there yet')
  }

  #queue(index: number, id: number): Queue {
    if (this.#lastQueue?.id === id) return this.#lastQueue
    const queue = this.#queues.get(id)
    if (queue === undefined) throw new RecordFault(index, `names queue ${id}, which does not exist`)
    this.#lastQueue = queue
    return queue
  }

  #addQueue(id: number, name: string, count: number, lowMark: number): Queue {
    const queue = { id, name, count, overlay: new QueueOverlay(this.#reach, lowMark), changed: false }
    this.#queues.set(id, queue)
    this.#byName.set(name, queue)
    return queue
  }

  #note(queue: Queue): void {
    queue.changed = true
    this.#changedQueues.push(queue)
  }
}

function headerAt(bytes: Buffer, at: number): BatchHeader {
  if (bytes.length - at < batchHeaderBytes) throw new TypeError(`no whole batch at offset ${at}`)
  const header = decodeBatchHeader(bytes, at)
  if (typeof header === 'string') throw new TypeError(`no batch at offset ${at}: ${header}`)
  if (header.payloadBytes > bytes.length - at - batchHeaderBytes) {
    throw new TypeError(`no whole batch at offset ${at}`)
  }
  return header
}

function freezeQueue(queue: Queue): FrozenQueue {
  queue.changed = false
  const { id, name, count, overlay } = queue
  return { id, name, count, lowMark: overlay.lowMark, messages: overlay.freeze() }
}

function infoOf({ id, name, count }: Queue): QueueInfo {
  return { id, name, messageCount: count }
}

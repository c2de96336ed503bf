import { type BatchHeader, batchHeaderBytes, decodeBatchHeader, lastIndexOf } from '../journal/batch.ts'
import type { EpochStart } from '../journal/log.ts'
import { RecordFault, type RecordVisitor, readRecords } from '../journal/record.ts'
import type { QueueInfo } from '../message-store.ts'
import { IndexSet } from './index-set.ts'
import type { Statement } from './message-index.ts'
import { type Generation, type PagePlan, type Place, QueueOverlay, type Reach } from './overlay.ts'
import { type ProducerRow, Producers } from './producers.ts'
import type { GapWindow } from './sequence-window.ts'
import { type Stated, Statements } from './statements.ts'

/** A queue as the index holds it. */
class Queue implements Stated {
  readonly id: number
  /** Undefined while it is not known yet, in a rebuild. */
  name: string | undefined
  readonly overlay: QueueOverlay
  count = 0
  changed = false
  statedAt = 0

  constructor(id: number, name: string | undefined, overlay: QueueOverlay) {
    this.id = id
    this.name = name
    this.overlay = overlay
  }

  statement(): Statement {
    return { kind: 'queue', id: this.id, name: this.name ?? '' }
  }
}

/** The last configuration record, with its index. */
class Configuration implements Stated {
  readonly index: number
  readonly json: string
  statedAt: number

  constructor(index: number, json: string) {
    this.index = this.statedAt = index
    this.json = json
  }

  statement(): Statement {
    return { kind: 'configuration', json: this.json }
  }
}

/** Everything but the messages, as read from a database. */
export interface FoldContent {
  readonly position: number
  readonly epochStarts: readonly EpochStart[]
  readonly configuration: { readonly index: number; readonly json: string } | undefined
  readonly queues: readonly { id: number; name: string; count: number; lowMark: number; statedAt: number }[]
  readonly producers: readonly { id: number; value: Buffer }[]
  /** Last stray record; 0 for none. */
  readonly strayAt: number
}

/** What a checkpoint has to write: everything that changed since the one before, as of `position`. */
export interface FrozenChanges {
  readonly position: number
  /** Where the messages that LevelDB already holds end. */
  readonly storedTo: number
  readonly epochStarts: readonly EpochStart[]
  readonly configuration: { readonly index: number; readonly json: string } | undefined
  readonly queues: readonly FrozenQueue[]
  /** Ids of queues that were removed. */
  readonly removedQueues: readonly number[]
  readonly producers: readonly ProducerRow[]
  /** Where the oldest of the last statements is. */
  readonly oldestStatement: number | undefined
  readonly strayAt: number
  /** First record of the log that the index is being rebuilt from, and has not been up to its `replayTo`. */
  readonly rebuildingFrom: number | undefined
}

export interface FrozenQueue {
  readonly id: number
  readonly name: string
  readonly count: number
  readonly statedAt: number
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
 *
 * A rebuild folds a log that begins above record 1. It comes to the same state as a fold of the whole log once every
 * live thing was stated, and as long as no record is read otherwise for lack of what was before. Those that would be
 * are strays: messages of a producer that is forgotten (the rebuild does not know which are), and things kept that do
 * not live. The last one is noted, and whoever deletes log leaves none between a log's `firstIndex` and `replayTo`.
 */
export class IndexFold implements RecordVisitor {
  readonly statistics: { cancelledMessages: number } = { cancelledMessages: 0 }
  readonly #reach: Reach
  readonly #queues = new Map<number, Queue>()
  readonly #byName = new Map<string, Queue>()
  readonly #statements = new Statements()
  readonly #producers: Producers
  readonly #epochStarts: EpochStart[]
  #configuration: Configuration | undefined
  #position: number
  #strayAt: number
  /** What of the small state is in LevelDB, or on its way there. */
  #savedEpochStarts: number
  #savedConfiguration: Configuration | undefined
  #changedQueues: Queue[] = []
  #removedQueues: number[] = []
  /** Message entries that the active generation would write, and those being written. */
  #activeEntries = 0
  #frozenEntries = 0
  #frozenQueues: Queue[] = []
  /** First record of the log in a rebuild, until it has reached `replayTo`. */
  #rebuildingFrom: number | undefined
  /** The messages from below the log that live; until a checkpoint behind `rebuilt` has taken them over. */
  #carried: IndexSet | undefined
  #carriedBelow = 0
  #carriedFrozen = false
  #epoch = 0
  #lastQueue: Queue | undefined
  #fault: unknown

  /** @throws RangeError if a producer's row is cut short. */
  constructor(content: FoldContent, maxProducers: number, maxGaps: number) {
    this.#position = content.position
    this.#reach = { storedTo: content.position, frozenTo: content.position }
    this.#epochStarts = [...content.epochStarts]
    this.#savedEpochStarts = content.epochStarts.length
    this.#strayAt = content.strayAt
    this.#producers = new Producers(maxProducers, maxGaps, this.#statements)
    const stated: Stated[] = []
    if (content.configuration !== undefined) {
      const { index, json } = content.configuration
      this.#configuration = this.#savedConfiguration = new Configuration(index, json)
      stated.push(this.#configuration)
    }
    for (const { id, name, count, lowMark, statedAt } of content.queues) {
      const queue = this.#addQueue(id, name, lowMark)
      queue.count = count
      queue.statedAt = statedAt
      stated.push(queue)
    }
    for (const producer of this.#producers.restore(content.producers)) stated.push(producer)
    this.#statements.restore(stated)
  }

  get position(): number {
    return this.#position
  }

  get epochStarts(): readonly EpochStart[] {
    return this.#epochStarts
  }

  get lastConfiguration(): { readonly index: number; readonly json: string } | undefined {
    const configuration = this.#configuration
    return configuration && { index: configuration.index, json: configuration.json }
  }

  get pendingChanges(): number {
    return (
      this.#activeEntries +
      this.#frozenEntries +
      this.#changedQueues.length +
      this.#removedQueues.length +
      this.#producers.pendingChanges
    )
  }

  /** Where the oldest of the last statements is. */
  get oldestStatement(): number | undefined {
    return this.#statements.oldest
  }

  get rebuildingFrom(): number | undefined {
    return this.#rebuildingFrom
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

  hasProducer(producer: number): boolean {
    return this.#producers.has(producer)
  }

  statedBelow(index: number, limit: number): Statement[] {
    return this.#statements.below(index, limit)
  }

  /** @returns How to read the page, or undefined if there is no such queue. */
  page(queue: number, after: number, limit: number): PagePlan | undefined {
    return this.#queues.get(queue)?.overlay.page(after, limit, this.#position)
  }

  /** @returns Where the message is; undefined if it does not live, as far as memory can tell. */
  locate(queue: number, index: number): Place | undefined {
    return this.#queues.get(queue)?.overlay.locate(index)
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

  /** See `MessageIndex.rebuildFrom`. */
  rebuildFrom(firstIndex: number): void {
    if (this.#position !== 0) throw new TypeError(`the index holds ${this.#position} records already`)
    this.#position = this.#reach.storedTo = this.#reach.frozenTo = firstIndex - 1
    this.#rebuildingFrom = this.#carriedBelow = firstIndex
    this.#carried = new IndexSet()
    this.#producers.beginCarrying()
  }

  /** The log was folded up to its `replayTo`. @throws RecordFault if it did not say everything. */
  endRebuild(): void {
    this.assertWhole()
    const nameless = [...this.#queues.values()].find(({ name }) => name === undefined)
    if (nameless !== undefined)
      throw new RecordFault(this.#position, `comes before the name of queue ${nameless.id}`)
    this.#rebuildingFrom = undefined
    this.#producers.endCarrying()
    // They were met in any order; their own is that of their creation.
    const queues = [...this.#queues.values()].sort((one, other) => one.id - other.id)
    this.#queues.clear()
    for (const queue of queues) this.#queues.set(queue.id, queue)
  }

  /** Starts a checkpoint: hands out what has changed, and takes further changes apart from it. */
  freeze(): FrozenChanges {
    this.assertWhole()
    const changedQueues = this.#changedQueues.filter((queue) => this.#queues.get(queue.id) === queue)
    const frozen: FrozenChanges = {
      position: this.#position,
      storedTo: this.#reach.storedTo,
      epochStarts: this.#epochStarts.slice(this.#savedEpochStarts),
      configuration: this.#configuration === this.#savedConfiguration ? undefined : this.lastConfiguration,
      queues: changedQueues.map(freezeQueue),
      removedQueues: this.#removedQueues,
      producers: this.#producers.takeChanges(),
      oldestStatement: this.#statements.oldest,
      strayAt: this.#strayAt,
      rebuildingFrom: this.#rebuildingFrom,
    }
    this.#savedEpochStarts = this.#epochStarts.length
    this.#savedConfiguration = this.#configuration
    this.#frozenQueues = changedQueues
    this.#changedQueues = []
    this.#removedQueues = []
    this.#frozenEntries = this.#activeEntries
    this.#activeEntries = 0
    this.#carriedFrozen = this.#rebuildingFrom === undefined
    this.#reach.frozenTo = this.#position
    return frozen
  }

  /**
   * Ends a checkpoint: what was frozen is in LevelDB.
   *
   * @param lowMarks - The new one of each frozen queue, in the order of `FrozenChanges.queues`.
   * @param strayAt - Last stray record that it came upon; 0 for none.
   */
  retire(lowMarks: readonly number[], strayAt: number): void {
    for (const [place, queue] of this.#frozenQueues.entries()) queue.overlay.retire(lowMarks[place] as number)
    this.#frozenQueues = []
    this.#frozenEntries = 0
    this.#reach.storedTo = this.#reach.frozenTo
    if (this.#carriedFrozen) this.#carried = undefined
    this.#stray(strayAt)
  }

  epochStart(index: number): void {
    this.#epochStarts.push({ epoch: this.#epoch, index })
  }

  configuration(index: number, json: string): void {
    if (this.#configuration !== undefined) this.#statements.forget(this.#configuration)
    this.#configuration = new Configuration(index, json)
    this.#statements.state(this.#configuration, index)
  }

  queueAdded(index: number, name: string): void {
    const queue = this.#addQueue(index, name, 0)
    this.#statements.state(queue, index)
    this.#note(queue)
  }

  queueKept(index: number, id: number, name: string): void {
    const queue = this.#queues.get(id) ?? this.#unknownQueue(id)
    if (queue === undefined) {
      this.#stray(index)
      return
    }
    if (queue.name === undefined) {
      queue.name = name
      this.#byName.set(name, queue)
    }
    this.#statements.state(queue, index)
    if (!queue.changed) this.#note(queue)
  }

  queueRemoved(_index: number, id: number): void {
    const queue = this.#queues.get(id)
    if (queue === undefined) return
    this.#queues.delete(id)
    if (queue.name !== undefined && this.#byName.get(queue.name) === queue) this.#byName.delete(queue.name)
    if (this.#lastQueue === queue) this.#lastQueue = undefined
    this.#statements.forget(queue)
    this.#removedQueues.push(id)
  }

  producerAdded(index: number, id: string): void {
    this.#producers.register(index, id)
  }

  producerKept(index: number, producer: number, lastUsed: number, id: string, window: Buffer): void {
    if (this.#rebuildingFrom === undefined) {
      this.#producers.kept(producer, index)
      return
    }
    try {
      this.#producers.carry(producer, index, lastUsed, id, window)
    } catch (error) {
      throw new RecordFault(index, `window of producer ${producer}: ${(error as Error).message}`)
    }
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
    const queue = this.#queue(queueId) ?? this.#unknownQueue(queueId)
    if (queue === undefined) throw new RecordFault(index, `names queue ${queueId}, which does not exist`)
    queue.overlay.add(index, envelopeBytes)
    queue.count++
    this.#activeEntries++
    if (!queue.changed) this.#note(queue)
    if (producer === 0 || this.#producers.see(producer, sequence, index)) return
    if (this.#rebuildingFrom === undefined) this.#stray(index)
  }

  messageKept(
    index: number,
    queueId: number,
    message: number,
    redeliveryCount: number,
    _batch: Buffer,
    _envelopeAt: number,
    envelopeBytes: number,
  ): void {
    const queue = this.#queue(queueId) ?? this.#unknownQueue(queueId)
    if (queue === undefined) {
      this.#stray(index)
      return
    }
    const live = this.#isCarried(message)
    if (live === false && this.#rebuildingFrom !== undefined) {
      this.#carried?.add(message)
      queue.overlay.carry(message, { location: index, bytes: envelopeBytes, redeliveryCount })
      queue.count++
      this.#activeEntries++
    } else {
      const change = live === false ? 'none' : queue.overlay.relocate(message, index, live)
      if (change === 'none') {
        this.#stray(index)
        return
      }
      if (change === 'recorded') this.#activeEntries++
    }
    if (!queue.changed) this.#note(queue)
  }

  messageRemoved(index: number, queueId: number, message: number): void {
    const queue = this.#queue(queueId)
    const live = this.#isCarried(message)
    if (queue === undefined || live === false) return
    const removal = queue.overlay.remove(message, index, live)
    if (removal === 'none') return
    if (live) this.#carried?.delete(message)
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
    const queue = this.#queue(queueId)
    const live = this.#isCarried(message)
    if (queue === undefined || live === false) return
    if (queue.overlay.countRedelivery(message, count, index, live)) this.#activeEntries++
    if (!queue.changed) this.#note(queue)
  }

  /** Whether a message from below the log lives, if only the rebuild knows; undefined for all others. */
  #isCarried(message: number): boolean | undefined {
    return message < this.#carriedBelow ? this.#carried?.has(message) : undefined
  }

  #queue(id: number): Queue | undefined {
    if (this.#lastQueue?.id === id) return this.#lastQueue
    const queue = this.#queues.get(id)
    if (queue !== undefined) this.#lastQueue = queue
    return queue
  }

  /** A queue that was created below the log, and is named only later in it. */
  #unknownQueue(id: number): Queue | undefined {
    return this.#rebuildingFrom !== undefined && id < this.#rebuildingFrom
      ? this.#addQueue(id, undefined, 0)
      : undefined
  }

  #addQueue(id: number, name: string | undefined, lowMark: number): Queue {
    const queue = new Queue(id, name, new QueueOverlay(this.#reach, lowMark))
    this.#queues.set(id, queue)
    if (name !== undefined) this.#byName.set(name, queue)
    return queue
  }

  #note(queue: Queue): void {
    queue.changed = true
    this.#changedQueues.push(queue)
  }

  #stray(index: number): void {
    this.#strayAt = Math.max(this.#strayAt, index)
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
  const { id, name = '', count, statedAt, overlay } = queue
  return { id, name, count, statedAt, lowMark: overlay.lowMark, messages: overlay.freeze() }
}

function infoOf({ id, name = '', count }: Queue): QueueInfo {
  return { id, name, messageCount: count }
}

import type { EpochPromise } from '../consensus/promise-file.ts'
import { batchHeaderBytes, lastIndexOf } from '../journal/batch.ts'
import type { EpochStart, LogStart } from '../journal/log.ts'
import { RecordFault, readRecords } from '../journal/record.ts'
import { wholeLog } from '../journal/start-file.ts'
import { syncMarkBytes } from '../journal/sync-mark.ts'
import { IndexFold } from '../message-index/fold.ts'
import type { QueueInfo } from '../message-store.ts'
import type { StoreIdentity } from '../store-identity.ts'
import { checkSmallFiles, type SmallFiles } from './file-check.ts'
import { type Finding, Findings } from './finding.ts'
import { checkIndex, type ExpectedIndex } from './index-check.ts'
import { IndexCopy } from './index-copy.ts'
import {
  type JournalEvent,
  type JournalFault,
  listSegments,
  type WalkedSegment,
  walkJournal,
} from './journal-walk.ts'
import { RecordCensus, type RecordKindName } from './record-census.ts'
import { StoppedStore } from './stopped-store.ts'

export interface VerifyOptions {
  /** Hears how many bytes of all are read; often. */
  readonly progress?: (doneBytes: number, totalBytes: number) => void
  /** Ends the verification early: it throws the signal's reason. */
  readonly signal?: AbortSignal
}

/** What {@link verifyStore} found. */
export interface VerifyReport {
  readonly directory: string
  /** Nothing is damaged. What an interrupted write left behind, and the next start puts right, is no damage. */
  readonly sound: boolean
  readonly findings: readonly Finding[]
  /** Findings of a kind beyond its first hundred. */
  readonly findingsOmitted: number
  /** `undefined` if it is damaged or missing. */
  readonly identity: StoreIdentity | undefined
  /** `undefined` if it is damaged or missing. */
  readonly promise: EpochPromise | undefined
  readonly journal: JournalSummary
  /** Queues and their live messages after the last record; after `foldedTo` if the journal is damaged. */
  readonly queues: readonly QueueInfo[]
  /** `undefined` if there is none, or it cannot be opened. */
  readonly index: IndexSummary | undefined
}

export interface JournalSummary {
  readonly segments: number
  readonly bytes: number
  readonly batches: number
  readonly records: number
  readonly recordsByKind: Readonly<Record<RecordKindName, number>>
  /** Of all messages that were ever added. */
  readonly envelopeBytes: number
  /** 0 for an empty log. */
  readonly firstIndex: number
  readonly lastIndex: number
  readonly epochs: readonly EpochStart[]
  /** Up to here the store knows that its cluster had committed. */
  readonly commitIndex: number
  /** Log times of the first and last batch, in milliseconds since 1970. */
  readonly firstTimeMs: number | undefined
  readonly lastTimeMs: number | undefined
  readonly syncMarks: number
  /** Up to here sync marks and later segments prove that the log was durable. */
  readonly provenIndex: number
  /** Last record up to which the journal is without damage. */
  readonly foldedTo: number
}

export interface IndexSummary {
  /** Last record applied. */
  readonly appliedIndex: number
  /** Number of the last checkpoint. */
  readonly checkpoint: number
  /** Entries of live messages. */
  readonly messages: number
  readonly queues: number
  readonly producers: number
  /** Whether it was compared with the journal; it cannot be if that is damaged before `appliedIndex`. */
  readonly compared: boolean
}

/**
 * Reads everything in the directory of a store that is not running, and tells what is wrong with it. Changes nothing,
 * and lets nobody start the store meanwhile. The index is copied to the directory for temporary files and read there.
 *
 * Memory grows with the number of live messages, by about 50 bytes each.
 *
 * @throws {@link StoreError} `STORE_DIRECTORY_IN_USE`; `STORE_DISK_FAILED` if something cannot be opened or copied.
 */
export async function verifyStore(directory: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const store = await StoppedStore.take(directory)
  try {
    return await new Verification(store, options).run()
  } finally {
    await store.release()
  }
}

class Verification {
  readonly #store: StoppedStore
  readonly #options: VerifyOptions
  readonly #findings = new Findings()
  readonly #census = new RecordCensus()
  /** Without bounds: those that the store was run with are not known here. */
  readonly #fold = new IndexFold(
    { position: 0, epochStarts: [], configuration: undefined, queues: [], producers: [], strayAt: 0 },
    Number.POSITIVE_INFINITY,
    Number.POSITIVE_INFINITY,
  )
  readonly #epochs: EpochStart[] = []
  #start: LogStart = wholeLog
  #index: IndexCopy | undefined
  #indexSummary: IndexSummary | undefined
  #totalBytes = 0
  #indexBytes = 0
  #bytesBefore = 0
  #segments = 0
  #batches = 0
  #records = 0
  #syncMarks = 0
  #firstIndex = 0
  #lastIndex = 0
  #firstTimeMs: number | undefined
  #lastTimeMs: number | undefined
  #commitIndex = 0
  #provenIndex = 0
  /** Damage was met: what comes behind it is not folded. */
  #broken = false
  #endOfJournal: { readonly path: string; readonly offset: number } | undefined

  constructor(store: StoppedStore, options: VerifyOptions) {
    this.#store = store
    this.#options = options
  }

  async run(): Promise<VerifyReport> {
    const { directory, disk, files } = this.#store
    const small = await checkSmallFiles(this.#store, this.#findings)
    const all = await listSegments(disk, files.journal)
    // As recovery does: the first one is kept in any case.
    const bounds = boundsOf(small, all)
    this.#start = bounds.start
    const segments = all
      .filter(({ firstIndex }) => firstIndex >= bounds.start.firstIndex)
      .filter(
        ({ firstIndex }, place) =>
          place === 0 || firstIndex <= (small.truncateTo ?? Number.POSITIVE_INFINITY),
      )
    if (bounds.start.firstIndex > 1) {
      this.#epochs.push(...bounds.start.epochStarts)
      this.#fold.rebuildFrom(bounds.start.firstIndex)
    }
    this.#indexBytes = await this.#store.indexBytes()
    this.#totalBytes = this.#indexBytes + segments.reduce((sum, segment) => sum + segment.bytes, 0)
    await this.#openIndex()
    try {
      for await (const event of walkJournal(disk, segments, bounds)) {
        this.#options.signal?.throwIfAborted()
        await this.#event(event)
      }
      if (segments.length === 0 && small.identity !== undefined && this.#position > 0)
        this.#corrupt(files.journal, `has no segments, although record ${this.#position} was durable`, 0, 1)
      this.#checkEnd(small.truncateTo)
      if (this.#index !== undefined && this.#indexSummary === undefined) await this.#compareIndex()
    } finally {
      await this.#index?.close()
    }
    this.#checkCluster(small.identity)
    this.#checkPromised(small.promise)
    const bytes = all.reduce((sum, segment) => sum + segment.bytes, 0)
    return {
      directory,
      sound: !this.#findings.damaged,
      findings: this.#findings.kept,
      findingsOmitted: this.#findings.omitted,
      identity: small.identity,
      promise: small.promise,
      journal: this.#summary(bytes),
      queues: this.#fold.rebuildingFrom === undefined ? this.#fold.queues() : [],
      index: this.#indexSummary,
    }
  }

  /** Last record that the index holds. */
  get #position(): number {
    return this.#index?.content.position ?? 0
  }

  async #openIndex(): Promise<void> {
    const { index } = this.#store.files
    const copy = await this.#store.copyIndex((bytes) => this.#options.progress?.(bytes, this.#totalBytes))
    if (copy === undefined) {
      this.#findings.add('note', index, 'there is no index: the next start builds it from the journal')
      return
    }
    const names = await this.#store.disk.list(index)
    if (!names.includes('CURRENT') && names.some((name) => /^MANIFEST|\.ldb$/.test(name))) {
      this.#findings.add('index rebuilt', index, 'its file CURRENT is missing')
      return
    }
    const opened = await IndexCopy.open(copy, index)
    if (opened instanceof IndexCopy) this.#index = opened
    else if (opened.isRebuilt) this.#findings.add('index rebuilt', index, opened.damage)
    else this.#findings.add('index wrong', index, `a start would refuse to open it: ${opened.damage}`)
  }

  async #event(event: JournalEvent): Promise<void> {
    const { path } = event.segment
    switch (event.type) {
      case 'segment':
        this.#segments++
        // It was made after everything before it was synced.
        this.#provenIndex = Math.max(this.#provenIndex, event.segment.firstIndex - 1)
        break
      case 'batch':
        await this.#batch(event)
        break
      case 'mark':
        this.#syncMarks++
        this.#provenIndex = Math.max(this.#provenIndex, event.durableIndex)
        if (event.durableIndex !== event.lastIndex && !this.#broken) {
          const what = `a sync mark says that record ${event.durableIndex} was durable, behind record ${event.lastIndex}`
          this.#corrupt(path, what, event.offset, event.lastIndex + 1)
        }
        break
      case 'endMark':
        if (event.statedIndex !== event.lastIndex && !this.#broken) {
          const what = `an end mark says that its group ends with record ${event.statedIndex}, behind record ${event.lastIndex}`
          this.#corrupt(path, what, event.offset, event.lastIndex + 1)
        }
        break
      case 'damage':
        if (event.lastIndex === event.firstIndex - 1) {
          const what = `a mark is damaged, which costs nothing: record ${event.firstIndex} follows it intact`
          this.#findings.add('mended', path, what, event.offset, event.firstIndex)
          break
        }
        this.#broken = true
        this.#corrupt(path, describeDamage(event), event.offset, event.firstIndex)
        break
      case 'torn':
        this.#torn(event)
        break
      case 'stray':
        if (event.bytes <= 3 * syncMarkBytes)
          this.#findings.add(
            'note',
            path,
            'a mark behind the last record of the segment is damaged',
            event.offset,
          )
        else
          this.#corrupt(
            path,
            `${event.bytes} bytes behind the end of the segment should be zero`,
            event.offset,
          )
        break
      case 'end':
        this.#bytesBefore += event.segment.bytes
        this.#endOfJournal = { path, offset: event.offset }
        this.#tellProgress(0)
        break
      default:
        event satisfies never
    }
  }

  async #batch({ header, bytes, segment, offset }: JournalEvent & { type: 'batch' }): Promise<void> {
    const { epoch, firstIndex, count } = header
    if (this.#index !== undefined && this.#indexSummary === undefined && firstIndex > this.#position)
      await this.#compareIndex()
    this.#batches++
    this.#records += count
    if (this.#batches === 1) this.#firstIndex = firstIndex
    this.#lastIndex = lastIndexOf(header)
    this.#firstTimeMs ??= header.logTimeMs
    this.#lastTimeMs = header.logTimeMs
    this.#commitIndex = Math.max(this.#commitIndex, header.commitIndex)
    if ((this.#epochs.at(-1)?.epoch ?? 0) < epoch) this.#epochs.push({ epoch, index: firstIndex })
    this.#tellProgress(offset + bytes.length)
    try {
      readRecords(bytes, batchHeaderBytes, header.payloadBytes, firstIndex, count, this.#census)
      if (!this.#broken) this.#fold.apply(bytes)
      if (this.#fold.rebuildingFrom !== undefined && this.#fold.position >= this.#start.replayTo)
        this.#fold.endRebuild()
    } catch (error) {
      if (!(error instanceof RecordFault || error instanceof RangeError)) throw error
      this.#broken = true
      const index = error instanceof RecordFault ? error.index : firstIndex
      this.#corrupt(segment.path, `the batch is intact, but ${error.message}`, offset, index)
    }
  }

  #torn({ segment, offset, bytes, lastIndex, fault, owed }: JournalEvent & { type: 'torn' }): void {
    if (lastIndex < this.#position) return // `#checkEnd` tells it.
    if (owed !== undefined) {
      const what = `the last write is damaged (${fault}) behind record ${lastIndex}, and was whole once, or torn in an unlucky order: records up to ${owed.index} may have been confirmed; the next start cuts ${bytes} bytes and gets them from the other members`
      this.#findings.add('doubtful', segment.path, what, offset, lastIndex + 1)
      return
    }
    const what = `${bytes} bytes of an unfinished write (${fault}) behind record ${lastIndex}; the next start cuts them`
    this.#findings.add('mended', segment.path, what, offset, lastIndex + 1)
  }

  /** The log must reach as far as something says that it was durable. */
  #checkEnd(truncateTo: number | undefined): void {
    const { path, offset } = this.#endOfJournal ?? { path: '', offset: 0 }
    if (path === '' || this.#broken) return
    const last = this.#lastIndex
    if (truncateTo !== undefined && truncateTo < this.#position)
      this.#corrupt(
        path,
        `the log is to be cut back to ${truncateTo}, and the index has ${this.#position}`,
        0,
      )
    const durable = Math.max(this.#position, truncateTo ?? 0, this.#start.replayTo)
    if (last >= durable) return
    this.#broken = true
    this.#corrupt(path, `the log ends with record ${last}, although ${durable} was durable`, offset, last + 1)
  }

  async #compareIndex(): Promise<void> {
    const index = this.#index
    if (index === undefined) return
    const file = this.#store.files.index
    const { position, checkpoint, queues, producers } = index.content
    const isBefore = position > 0 && position < this.#start.replayTo
    const compared = this.#fold.position === position && this.#fold.rebuildingFrom === undefined
    if (isBefore) {
      const what = `ends with record ${position}, and what is left of the journal tells the state only from ${this.#start.replayTo} on`
      this.#findings.add('note', file, `${what}: it is not compared; a start builds it anew if it must`)
    } else if (!compared) {
      const isInside = !this.#broken && this.#fold.position > this.#start.firstIndex - 1
      if (isInside) this.#findings.add('index wrong', file, `its position ${position} lies inside a batch`)
      else if (position > 0)
        this.#findings.add(
          'note',
          file,
          `is not compared: the journal is damaged before record ${position}, up to which it reaches`,
        )
    } else if (position === 0 && this.#batches > 0) {
      this.#findings.add('note', file, 'is empty: the next start builds it from the journal')
    }
    const expected = compared ? this.#expectedIndex() : undefined
    const messages = await checkIndex(index, file, expected, this.#findings)
    this.#indexSummary = {
      appliedIndex: position,
      checkpoint,
      messages,
      queues: queues.length,
      producers: producers.length,
      compared,
    }
  }

  #expectedIndex(): ExpectedIndex {
    const { reregistered } = this.#census
    return { fold: this.#fold.freeze(), epochStarts: this.#epochs, reregistered }
  }

  /** A journal of another cluster is sound in itself. */
  #checkCluster(identity: StoreIdentity | undefined): void {
    const own = identity?.cluster?.uuid
    if (identity === undefined) return
    const { journal } = this.#store.files
    for (const [uuid, index] of this.#census.clusters) {
      if (uuid === own) continue
      const what = `record ${index} is of cluster ${uuid || '(none)'}, and the store of ${own ?? 'none'}`
      this.#findings.add('corrupt', journal, what, undefined, index)
    }
  }

  /** Whoever appended a batch had promised its epoch. */
  #checkPromised(promise: EpochPromise | undefined): void {
    const last = this.#epochs.at(-1)
    if (promise === undefined || last === undefined || promise.epoch >= last.epoch) return
    const { promise: file } = this.#store.files
    const what = `promises epoch ${promise.epoch}, and the journal has epoch ${last.epoch}, which the next start takes`
    this.#findings.add('note', file, what, 0, last.index)
  }

  #summary(bytes: number): JournalSummary {
    return {
      segments: this.#segments,
      bytes,
      batches: this.#batches,
      records: this.#records,
      recordsByKind: this.#census.counts,
      envelopeBytes: this.#census.envelopeBytes,
      firstIndex: this.#firstIndex,
      lastIndex: this.#lastIndex,
      epochs: this.#epochs,
      firstTimeMs: this.#firstTimeMs,
      lastTimeMs: this.#lastTimeMs,
      commitIndex: Math.max(this.#commitIndex, this.#position),
      syncMarks: this.#syncMarks,
      provenIndex: this.#provenIndex,
      foldedTo: this.#fold.position,
    }
  }

  #corrupt(file: string, what: string, offset?: number, index?: number): void {
    this.#findings.add('corrupt', file, what, offset, index)
  }

  #tellProgress(offset: number): void {
    this.#options.progress?.(this.#indexBytes + this.#bytesBefore + offset, this.#totalBytes)
  }
}

/** Where a journal begins and ends. If nothing readable tells the beginning, it is where the first segment begins. */
export function boundsOf(
  { start, truncateTo }: SmallFiles,
  segments: readonly WalkedSegment[],
): { readonly start: LogStart; readonly truncateTo: number | undefined } {
  const firstIndex = segments[0]?.firstIndex ?? 1
  return { start: start ?? { firstIndex, replayTo: 0, epochStarts: [] }, truncateTo }
}

const faultTexts: Partial<Record<JournalFault, string>> = {
  end: 'zeroes where a batch should be',
  magic: 'what stands where a batch should begin is none',
  checksum: 'the header of a batch is damaged',
  payload: 'the payload of a batch is damaged',
  mark: 'a sync mark is damaged',
  length: 'the header of a batch names an impossible length',
  number: 'the header of a batch names an impossible number',
  version: 'a batch or sync mark of a newer version',
  'cut short': 'the file ends inside an item',
  'file size': 'the file ends inside a batch',
  'checksum of the batch before': 'a batch that does not follow the one before it: it is of another log',
  'first index': 'a batch that does not follow the one before it: its first index is not the next one',
  epoch: 'a batch of an older epoch than the one before it',
  'log time': 'a batch of an earlier time than the one before it',
  unreadable: 'cannot be read',
  missing: 'a segment is missing',
}

/** For people: what is wrong, and which records it costs. */
export function describeDamage({
  fault,
  firstIndex,
  lastIndex,
  error,
}: JournalEvent & { type: 'damage' }): string {
  const reason = error instanceof Error ? `: ${error.message}` : ''
  const what = `${faultTexts[fault] ?? fault}${reason}`
  if (lastIndex === undefined) return `${what}; record ${firstIndex} and all behind it are gone`
  if (lastIndex < firstIndex) return `${what}; record ${firstIndex} should follow`
  return lastIndex === firstIndex
    ? `${what}; record ${firstIndex} is concerned`
    : `${what}; records ${firstIndex} to ${lastIndex} are concerned`
}

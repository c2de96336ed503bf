import { type BatchHeader, batchHeaderBytes, lastIndexOf } from '../journal/batch.ts'
import { readRecords } from '../journal/record.ts'
import { checkSmallFiles } from './file-check.ts'
import { Findings } from './finding.ts'
import { listSegments, walkJournal } from './journal-walk.ts'
import { type DumpedRecord, LogNames, RecordLister } from './record-lister.ts'
import { StoppedStore } from './stopped-store.ts'
import { boundsOf, describeDamage } from './verify.ts'

export interface DumpOptions {
  /** First record wanted. @defaultValue 1 */
  readonly from?: number
  /** Last record wanted. @defaultValue all */
  readonly to?: number
  /** Name of a queue: only records that concern it. */
  readonly queue?: string
  /** Leaves `records` empty. */
  readonly headersOnly?: boolean
}

/** A batch, with those of its records that were asked for. */
export interface DumpedBatch {
  readonly type: 'batch'
  readonly header: BatchHeader
  /** The segment's file. */
  readonly file: string
  /** In bytes within the file. */
  readonly offset: number
  readonly records: readonly DumpedRecord[]
}

/** Why a dump has no batch at this place. */
export interface DumpTrouble {
  /**
   * `damage`: what was asked for is damaged; the dump ends here. `passed`: damage before what was asked for, which the
   * dump passed: names of queues and producers may be missing. `torn`: the unfinished last write, where the log ends.
   */
  readonly type: 'damage' | 'passed' | 'torn'
  readonly file: string
  readonly offset: number
  readonly what: string
  /** With `damage`: where another dump could go on; `undefined` if nothing sound is known behind it. */
  readonly goesOnAt: number | undefined
}

/**
 * Reads the log of a store that is not running, from the first batch on. Changes nothing, and lets nobody start the
 * store meanwhile.
 *
 * Everything is read from the beginning, whatever is asked for: only the log tells the names of queues and producers.
 *
 * @throws {@link StoreError} `STORE_DIRECTORY_IN_USE`, `STORE_DISK_FAILED`.
 */
export async function* dumpStore(
  directory: string,
  options: DumpOptions = {},
): AsyncGenerator<DumpedBatch | DumpTrouble, void, undefined> {
  const store = await StoppedStore.take(directory)
  try {
    yield* dumpJournal(store, options)
  } finally {
    await store.release()
  }
}

async function* dumpJournal(
  store: StoppedStore,
  options: DumpOptions,
): AsyncGenerator<DumpedBatch | DumpTrouble> {
  const { from = 1, to = Number.POSITIVE_INFINITY } = options
  const { disk, files } = store
  const small = await checkSmallFiles(store, new Findings())
  const segments = await listSegments(disk, files.journal)
  const names = new LogNames()
  for await (const event of walkJournal(disk, segments, boundsOf(small, segments))) {
    const place = { file: event.segment.path, offset: event.offset }
    if (event.type === 'batch') {
      if (event.header.firstIndex > to) return
      const { header, bytes } = event
      let lister: RecordLister
      try {
        lister = new RecordLister(names, options, from, to)
        readRecords(bytes, batchHeaderBytes, header.payloadBytes, header.firstIndex, header.count, lister)
      } catch (error) {
        const what = `the batch is intact, but ${error instanceof Error ? error.message : error}`
        const isPassed = lastIndexOf(header) < from
        yield { type: isPassed ? 'passed' : 'damage', ...place, what, goesOnAt: lastIndexOf(header) + 1 }
        if (isPassed) continue
        return
      }
      if (lastIndexOf(header) < from || (options.queue !== undefined && !lister.concerned)) continue
      yield { type: 'batch', ...place, header, records: lister.records }
    } else if (event.type === 'torn') {
      const what = `the log ends with record ${event.lastIndex}; ${event.bytes} bytes of an unfinished write follow`
      if (event.lastIndex < to) yield { type: 'torn', ...place, what, goesOnAt: undefined }
    } else if (event.type === 'damage') {
      const { firstIndex, lastIndex = Number.POSITIVE_INFINITY } = event
      // A damaged sync mark costs no record, and what is missing before the first is not in the way.
      if (lastIndex === firstIndex - 1 || firstIndex > to) continue
      const what = describeDamage(event)
      const goesOnAt = event.lastIndex === undefined ? undefined : event.lastIndex + 1
      const isPassed = lastIndex < from
      yield { type: isPassed ? 'passed' : 'damage', ...place, what, goesOnAt }
      if (!isPassed) return
    }
  }
}

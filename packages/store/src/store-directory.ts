import { join } from 'node:path'
import { Applier } from './applier.ts'
import { type EpochPromise, PromiseFile } from './consensus/promise-file.ts'
import { StoreError } from './errors.ts'
import type { Clock } from './io/clock.ts'
import type { Disk } from './io/disk.ts'
import type { Random } from './io/random.ts'
import { batchHeaderBytes, decodeBatchHeader } from './journal/batch.ts'
import { type Journal, openJournal } from './journal/journal.ts'
import type { EpochStart, LogListener } from './journal/log.ts'
import { type LevelIndexOptions, openLevelIndex } from './message-index/level-index.ts'
import type { MessageIndex } from './message-index/message-index.ts'
import { MessageReader } from './message-reader.ts'
import type { StoreSettings } from './settings.ts'
import type { StoreHost } from './store-factory.ts'
import { readIdentity, type StoreIdentity, writeIdentity } from './store-identity.ts'

/** A store's directory: these two, and the files `identity.json` and `promise`. */
const journalDirectory = 'journal'
const indexDirectory = 'index'

/** What a directory tells the store that opens it. */
export interface DirectoryListener extends LogListener {
  /** Committed records up to `index` are in the message index now. */
  applied(index: number): void
}

/** An index, and why it was begun anew when it was opened; `undefined` if it was not. */
export type OpenedIndex = MessageIndex & { readonly begunAnew: string | undefined }

/** Opens the message index in a directory of its own, as {@link openLevelIndex} does. */
export type OpenIndex = (options: LevelIndexOptions) => Promise<OpenedIndex>

/** An open directory: journal, index and promise of one store, recovered. */
export interface StoreDirectory {
  readonly identity: StoreIdentity
  readonly journal: Journal
  /** As recovered. */
  readonly epochStarts: readonly EpochStart[]
  /** Of what was recovered, so much is known to be committed. */
  readonly commitIndex: number
  readonly index: OpenedIndex
  readonly applier: Applier
  readonly reader: MessageReader
  readonly promiseFile: PromiseFile
  readonly promise: EpochPromise
}

/** @throws StoreError as `MessageStore.open`; nothing of the directory is left open then. */
export async function openStoreDirectory(
  settings: StoreSettings,
  environment: {
    readonly disk: Disk
    readonly clock: Clock
    readonly random: Random
    readonly openIndex?: OpenIndex
  },
  listener: DirectoryListener,
  log: StoreHost['log'],
): Promise<StoreDirectory> {
  const { disk, clock, openIndex = openLevelIndex } = environment
  const { directory } = settings
  await disk.makeDirectory(directory)
  // First, since LevelDB's lock keeps a second process out.
  const index = await openIndex({
    ...settings,
    directory: join(directory, indexDirectory),
    maxProducers: settings.maxFailoverProducersToTrack,
    maxGaps: settings.failoverProducersAuditDepth,
  })
  let openJournalLog: Journal | undefined
  let openPromise: PromiseFile | undefined
  try {
    if (index.begunAnew !== undefined)
      log('warn', `the index is rebuilt from the journal: ${index.begunAnew}`)
    const identity = await identify(settings, disk, environment.random)
    const opened = await openJournal({
      disk,
      directory: join(directory, journalDirectory),
      segmentBytes: settings.logSize,
      verifiedTo: index.appliedIndex,
      epochStarts: index.epochStarts,
      listener,
    })
    const { log: journal, epochStarts, report } = opened
    openJournalLog = journal
    log('info', 'journal recovered', { ...report })
    if (journal.firstIndex > 1) {
      // Nothing deletes segments yet, so the messages in it are lost, whatever the index says.
      throw new StoreError(
        { code: 'STORE_CORRUPT', file: join(directory, journalDirectory), offset: 0 },
        `${directory}: the journal begins with record ${journal.firstIndex}: its first segment is missing`,
      )
    }
    if (index.appliedIndex === 0 && journal.lastIndex > 0)
      log('warn', 'the index is empty: it is rebuilt from the journal')
    const { file: promiseFile, promise } = await PromiseFile.open(
      disk,
      directory,
      identity.cluster !== undefined,
    )
    openPromise = promiseFile
    const applier = new Applier({
      log: journal,
      index,
      clock,
      flushDelayMs: settings.flushDelay,
      applied: (at) => listener.applied(at),
      failed: (error) => listener.failed(error),
    })
    const commitIndex = Math.max(index.appliedIndex, await knownCommit(journal))
    applier.committed(commitIndex)
    const reader = new MessageReader(journal)
    return { identity, journal, epochStarts, commitIndex, index, applier, reader, promiseFile, promise }
  } catch (error) {
    await openPromise?.close()
    await openJournalLog?.close()
    await index.close()
    throw error
  }
}

/**
 * Closes everything.
 *
 * @param clean - Nothing has failed: what is applied is written as a last checkpoint.
 */
export async function closeStoreDirectory(directory: StoreDirectory, clean: boolean): Promise<void> {
  if (clean) {
    await directory.journal.close()
    await directory.applier.close()
  }
  await directory.index.close()
  await directory.promiseFile.close()
}

/** Reads who this directory is, or makes it someone. */
async function identify(settings: StoreSettings, disk: Disk, random: Random): Promise<StoreIdentity> {
  const { directory, nodeId, memberName, replicas } = settings
  const found = await readIdentity(disk, directory)
  if (found === undefined) {
    if ((await disk.list(join(directory, journalDirectory))).length > 0) {
      throw new StoreError(
        { code: 'STORE_CORRUPT', file: join(directory, 'identity.json'), offset: 0 },
        `${directory}: holds a journal, but identity.json is missing`,
      )
    }
    const storeUuid = random.uuid()
    const minted = nodeId ?? `${memberName}-${storeUuid.slice(0, 8)}`
    const identity = { storeUuid, nodeId: minted, cluster: undefined }
    await writeIdentity(disk, directory, identity)
    return identity
  }
  if (nodeId !== undefined && nodeId !== found.nodeId) {
    throw new StoreError(
      { code: 'STORE_FOREIGN_DIRECTORY', directory },
      `${directory}: is the store of node "${found.nodeId}", not of "${nodeId}" (nodeId)`,
    )
  }
  const voters = found.cluster?.voters.length
  if (voters !== undefined && voters !== replicas) {
    throw new StoreError(
      { code: 'STORE_FOREIGN_DIRECTORY', directory },
      `${directory}: belongs to a cluster of ${voters} replicas, and ${replicas} are configured: set replicas to ${voters}`,
    )
  }
  return found
}

/** Commit index that the last batch of a recovered log knew of: at least so much of it is committed. */
async function knownCommit(journal: Journal): Promise<number> {
  if (journal.lastIndex === 0) return 0
  const batch = await journal.batchWith(journal.lastIndex)
  const header = batch.length < batchHeaderBytes ? 'length' : decodeBatchHeader(batch, 0)
  return typeof header === 'string' ? 0 : header.commitIndex
}

import { join } from 'node:path'
import { Applier } from './applier.ts'
import { configurationIn, readConfiguration } from './configuration-record.ts'
import { covers } from './consensus/debt.ts'
import { type EpochPromise, PromiseFile } from './consensus/promise-file.ts'
import { MendedLog } from './copying/mended-log.ts'
import { StoreError } from './errors.ts'
import { generationIn, removeGeneration } from './generation.ts'
import type { Clock } from './io/clock.ts'
import type { Disk } from './io/disk.ts'
import type { Random } from './io/random.ts'
import { batchHeaderBytes, decodeBatchHeader } from './journal/batch.ts'
import { batchesUpTo } from './journal/batch-run.ts'
import { type Journal, openJournal } from './journal/journal.ts'
import type { EpochStart, Log, LogListener } from './journal/log.ts'
import { type LevelIndexOptions, openLevelIndex } from './message-index/level-index.ts'
import type { MessageIndex } from './message-index/message-index.ts'
import { MessageReader } from './message-reader.ts'
import type { StoreSettings } from './settings.ts'
import type { StoreHost } from './store-factory.ts'
import { type Cluster, readIdentity, type StoreIdentity, writeIdentity } from './store-identity.ts'
import type { Position } from './store-status.ts'

/** Read at a time, and changes gathered between two checkpoints, while an index is built anew. */
const rebuildBytes: number = 4 * 1024 * 1024
const rebuildChanges = 200_000

/** What a directory tells the store that opens it. */
export interface DirectoryListener extends LogListener {
  /** Committed records up to `index` are in the message index now. */
  applied(index: number): void
  /** A checkpoint of the index has become durable. */
  checkpointed(): void
}

/** Repairs a journal from other members (rule S27). */
export interface Mender {
  /**
   * The journal was found damaged while it was opened; resolves when it is whole, or when a copy of another member's is there as the next
   * generation, if no member has what is damaged. Nothing else of the store is open yet.
   */
  damaged(identity: StoreIdentity, journal: Journal): Promise<'repaired' | 'copied'>
  /** The same for the open store. */
  mend(): Promise<void>
}

/** What a directory needs of the world. */
export interface DirectoryEnvironment {
  readonly disk: Disk
  readonly clock: Clock
  readonly random: Random
  readonly openIndex?: OpenIndex
}

/** An index, and why it was begun anew when it was opened; `undefined` if it was not. */
export type OpenedIndex = MessageIndex & { readonly begunAnew: string | undefined }

/** Opens the message index in a directory of its own, as {@link openLevelIndex} does. */
export type OpenIndex = (options: LevelIndexOptions) => Promise<OpenedIndex>

/** An open directory: journal, index and promise of one store, recovered. */
export interface StoreDirectory {
  readonly identity: StoreIdentity
  readonly journal: Journal
  /** The journal, for reading: damage makes that slower where there are other members, and not fail. */
  readonly log: Log
  /** As recovered. */
  readonly epochStarts: readonly EpochStart[]
  /** Of what was recovered, so much is known to be committed. */
  readonly commitIndex: number
  /** What the recovered log says of who votes: the last committed configuration, and those above it; empty if it says nothing. */
  readonly configurations: readonly { readonly index: number; readonly cluster: Cluster }[]
  readonly index: OpenedIndex
  readonly applier: Applier
  readonly reader: MessageReader
  readonly promiseFile: PromiseFile
  readonly promise: EpochPromise
}

/**
 * Opens a store's directory and recovers what is in it.
 *
 * @param mender - Has damage repaired from other members; without it damage is an error.
 * @throws StoreError as `MessageStore.open`; nothing of the directory is left open then.
 */
export async function openStoreDirectory(
  settings: StoreSettings,
  environment: DirectoryEnvironment,
  listener: DirectoryListener,
  log: StoreHost['log'],
  mender: Mender | undefined,
): Promise<StoreDirectory> {
  const { disk } = environment
  const { directory } = settings
  const closers: (() => Promise<void>)[] = []
  try {
    await disk.makeDirectory(directory)
    const { generation } = (await readIdentity(disk, directory)) ?? { generation: 0 }
    // First, since LevelDB's lock keeps a second process out.
    let index = await openIndexIn(settings, environment, generation)
    closers.push(() => index.close())
    if (index.begunAnew !== undefined)
      log('warn', `the index is rebuilt from the journal: ${index.begunAnew}`)
    const identity = await identify(settings, disk, environment.random)
    if (identity.generation !== generation) throw inUse(directory)
    const promises = await PromiseFile.open(disk, directory, identity.cluster !== undefined)
    closers.push(() => promises.file.close())
    let { promise } = promises
    const journalOptions = {
      disk,
      directory: generationIn(directory, generation).journal,
      segmentBytes: settings.logSize,
      verifiedTo: index.appliedIndex,
      epochStarts: index.epochStarts,
      clock: environment.clock,
      listener,
      // What is about to be cut may have been acknowledged: until it is there again, this store must not lead.
      owed: async (position: Position) => {
        if (promise.owed !== undefined && covers(promise.owed, position)) return
        promise = { ...promise, owed: position }
        await promises.file.write(promise)
      },
      tolerate: mender !== undefined,
    }
    let opened = await openJournal(journalOptions)
    while (opened.damage !== undefined && mender !== undefined) {
      const damaged = opened.log
      // A loss of power in the middle of the repair may leave less than there is: what was here stays owed until it is there again.
      const index = Math.max(damaged.lastIndex, opened.damage.toIndex)
      await journalOptions.owed({ epoch: damaged.lastEpoch, index })
      const outcome = await mender.damaged(identity, damaged).finally(() => damaged.close())
      if (outcome === 'copied') {
        for (const close of closers.splice(0).reverse()) await close()
        await writeIdentity(disk, directory, { ...identity, generation: generation + 1 })
        await removeGeneration(disk, directory, generation)
        log('warn', 'the damaged store was replaced by a copy of another member', {
          generation: generation + 1,
        })
        return await openStoreDirectory(settings, environment, listener, log, mender)
      }
      // What was damaged may have held anything: it is recovered as if it had just been found.
      opened = await openJournal(journalOptions)
    }
    const { log: journal, epochStarts, configurations, report } = opened
    closers.push(() => journal.close())
    const readable = mender === undefined ? journal : new MendedLog(journal, () => mender.mend())
    log('info', 'journal recovered', { ...report })
    if (index.appliedIndex < journal.start.firstIndex - 1 && index.appliedIndex > 0) {
      log('warn', 'the index ends before the journal begins: it is rebuilt')
      await index.close()
      await disk.removeDirectory(generationIn(directory, generation).index)
      index = await openIndexIn(settings, environment, generation)
    }
    await foldBeginning(index, readable, log)
    const applier = new Applier({
      log: readable,
      index,
      clock: environment.clock,
      flushDelayMs: settings.flushDelay,
      applied: (at) => listener.applied(at),
      checkpointed: () => listener.checkpointed(),
      failed: (error) => listener.failed(error),
    })
    const commitIndex = Math.max(index.appliedIndex, await knownCommit(journal))
    applier.committed(commitIndex)
    const reader = new MessageReader(readable, index)
    return {
      identity,
      configurations: await clustersIn(identity, index, journal, configurations),
      journal,
      log: readable,
      epochStarts,
      commitIndex,
      index,
      applier,
      reader,
      promiseFile: promises.file,
      promise,
    }
  } catch (error) {
    for (const close of closers.reverse()) await close().catch(() => undefined)
    throw error
  }
}

/**
 * Closes everything.
 *
 * @param clean - Nothing has failed: what is applied is written as a last checkpoint.
 */
export async function closeStoreDirectory(directory: StoreDirectory, clean: boolean): Promise<void> {
  directory.applier.stop()
  // After a failure the journal says once more what is known already.
  if (clean) await directory.journal.close()
  else await directory.journal.close().catch(() => undefined)
  if (clean) await directory.applier.close()
  await directory.index.close()
  await directory.promiseFile.close()
}

function openIndexIn(
  settings: StoreSettings,
  { openIndex = openLevelIndex }: DirectoryEnvironment,
  generation: number,
): Promise<OpenedIndex> {
  return openIndex({
    ...settings,
    directory: generationIn(settings.directory, generation).index,
    maxProducers: settings.maxFailoverProducersToTrack,
    maxGaps: settings.failoverProducersAuditDepth,
  })
}

/**
 * Builds an index anew from a journal that does not begin with record 1: up to the record from which on that is as good as
 * the whole log. From there on the applier takes over.
 */
async function foldBeginning(index: OpenedIndex, journal: Log, log: StoreHost['log']): Promise<void> {
  const { firstIndex, replayTo } = journal.start
  if (index.appliedIndex > 0 || replayTo === 0) {
    if (index.appliedIndex === 0 && journal.lastIndex > 0)
      log('warn', 'the index is empty: it is rebuilt from the journal')
    return
  }
  log('warn', 'the index is empty: it is rebuilt from the journal', {
    fromIndex: firstIndex,
    toIndex: replayTo,
  })
  index.rebuildFrom(firstIndex)
  while (index.appliedIndex < replayTo) {
    const batches = await journal.read(index.appliedIndex + 1, rebuildBytes)
    index.apply(batchesUpTo(batches, replayTo))
    if (index.pendingChanges > rebuildChanges) await index.checkpoint()
  }
  await index.rebuilt()
}

/** Configurations of an earlier cluster, which this one came from by recovery or restore, count no more. */
async function clustersIn(
  { cluster }: StoreIdentity,
  index: OpenedIndex,
  journal: Journal,
  at: readonly number[],
): Promise<StoreDirectory['configurations']> {
  const found: { readonly index: number; readonly cluster: Cluster }[] = []
  // Taken together: while batches are read below, the applier goes on.
  const { configuration, appliedIndex } = index
  if (configuration !== undefined)
    found.push({ index: configuration.index, cluster: readConfiguration(configuration.json) })
  for (const firstIndex of at) {
    if (firstIndex <= appliedIndex || firstIndex > journal.lastIndex) continue
    const batch = await journal.batchWith(firstIndex)
    const header = decodeBatchHeader(batch, 0)
    const said = typeof header === 'string' ? undefined : configurationIn(batch, 0, header)
    if (said !== undefined) found.push({ index: firstIndex, cluster: said })
  }
  return found.filter((each) => each.cluster.uuid === cluster?.uuid)
}

function inUse(directory: string): StoreError {
  return new StoreError(
    { code: 'STORE_DIRECTORY_IN_USE', directory },
    `${directory}: another process has the store open`,
  )
}

/** Reads who this directory is, or makes it someone. */
async function identify(settings: StoreSettings, disk: Disk, random: Random): Promise<StoreIdentity> {
  const { directory, nodeId, memberName } = settings
  const found = await readIdentity(disk, directory)
  if (found === undefined) {
    if ((await disk.list(generationIn(directory, 0).journal)).length > 0) {
      throw new StoreError(
        { code: 'STORE_CORRUPT', file: join(directory, 'identity.json'), offset: 0 },
        `${directory}: holds a journal, but identity.json is missing`,
      )
    }
    const storeUuid = random.uuid()
    const minted = nodeId ?? `${memberName}-${storeUuid.slice(0, 8)}`
    const identity = { storeUuid, nodeId: minted, cluster: undefined, generation: 0 }
    await writeIdentity(disk, directory, identity)
    return identity
  }
  if (nodeId !== undefined && nodeId !== found.nodeId) {
    throw new StoreError(
      { code: 'STORE_FOREIGN_DIRECTORY', directory },
      `${directory}: is the store of node "${found.nodeId}", not of "${nodeId}" (nodeId)`,
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

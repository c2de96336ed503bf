import { join } from 'node:path'
import type { EpochPromise } from '../consensus/promise-file.ts'
import { StoreError } from '../errors.ts'
import type { Disk } from '../io/disk.ts'
import { cutNumberOf, newCutName } from '../journal/cut-file.ts'
import { orDiskFailed } from '../journal/disk-failure.ts'
import type { LogStart } from '../journal/log.ts'
import { firstIndexOfName } from '../journal/segment.ts'
import { temporaryNames } from '../journal/segment-set.ts'
import {
  decodeStartFile,
  intactStartCopies,
  newStartName,
  readStartFile,
  startFileName,
  wholeLog,
} from '../journal/start-file.ts'
import {
  decodeTruncation,
  newTruncationName,
  truncationBytes,
  truncationFileName,
} from '../journal/truncation.ts'
import { readIdentity, type StoreIdentity } from '../store-identity.ts'
import type { Findings } from './finding.ts'
import { promiseCopyBytes, readPromiseCopies } from './promise-copies.ts'
import type { StoppedStore } from './stopped-store.ts'
import { generationOfName, type StoreFiles, storeFiles, storeNames } from './store-files.ts'

const maxPromiseBytes = 64 * 1024

const journalNames: readonly string[] = [
  ...temporaryNames,
  startFileName,
  newStartName,
  truncationFileName,
  newTruncationName,
  newCutName,
]

/** Everything of a store but its journal and index. */
export interface SmallFiles {
  readonly identity: StoreIdentity | undefined
  readonly promise: EpochPromise | undefined
  /** Of the truncation under way. */
  readonly truncateTo: number | undefined
  /** Where the log begins; `undefined` if what says so is damaged. */
  readonly start: LogStart | undefined
}

/** Checks the small files of a store, and that nothing strange lies beside them. */
export async function checkSmallFiles(
  { disk, directory, generation, files }: Pick<StoppedStore, 'disk' | 'directory' | 'generation' | 'files'>,
  findings: Findings,
): Promise<SmallFiles> {
  await checkNames(disk, directory, generation, findings)
  const identity = await checkIdentity(disk, directory, files, findings)
  const promise = await checkPromise(disk, files, identity?.cluster !== undefined, findings)
  const start = await checkStart(disk, files, findings)
  return { identity, promise, truncateTo: await checkTruncation(disk, files, findings), start }
}

async function checkNames(
  disk: Disk,
  directory: string,
  generation: number,
  findings: Findings,
): Promise<void> {
  const { journal } = storeFiles(directory, generation)
  for (const name of await orDiskFailed('read', directory, disk.list(directory))) {
    const of = generationOfName(name)
    if (of === generation || storeNames.includes(name)) continue
    const what =
      of === undefined
        ? 'is no file of a store'
        : of > generation
          ? 'is of a copy of another member that has not taken the place of this store'
          : 'is of the store whose place this one has taken; the next start removes it'
    findings.add('note', join(directory, name), what)
  }
  for (const name of await orDiskFailed('read', journal, disk.list(journal))) {
    if (firstIndexOfName(name) !== undefined || journalNames.includes(name)) continue
    if (cutNumberOf(name) !== undefined) {
      const what =
        'keeps what an earlier start cut from the end of the log, though it may have been confirmed; delete it when nobody wants to look at it'
      findings.add('note', join(journal, name), what)
      continue
    }
    findings.add('note', join(journal, name), 'is no file of a journal: nobody reads it')
  }
}

async function checkIdentity(
  disk: Disk,
  directory: string,
  { identity: path }: StoreFiles,
  findings: Findings,
): Promise<StoreIdentity | undefined> {
  try {
    const identity = await readIdentity(disk, directory)
    if (identity === undefined) findings.add('corrupt', path, 'is missing', 0)
    return identity
  } catch (error) {
    if (!(error instanceof StoreError || error instanceof RangeError)) {
      await orDiskFailed('read', path, Promise.reject(error))
    }
    findings.add('corrupt', path, withoutPath(error, path), 0)
    return undefined
  }
}

async function checkPromise(
  disk: Disk,
  { promise: path }: StoreFiles,
  founded: boolean,
  findings: Findings,
): Promise<EpochPromise | undefined> {
  const content = await orDiskFailed('read', path, disk.readWhole(path, maxPromiseBytes))
  const { promise, fault, intact, blank } = await readPromiseCopies(path, content, founded)
  if (fault !== undefined) {
    findings.add('corrupt', path, withoutPath(fault, path), 0)
    return undefined
  }
  if (content === undefined) findings.add('note', path, 'is not there yet; the store belongs to no cluster')
  else if (content.length < 2 * promiseCopyBytes) findings.add('mended', path, 'was not finished', 0)
  else if (!blank) {
    for (const [copy, isIntact] of intact.entries()) {
      if (isIntact) continue
      const which = copy === 0 ? 'first' : 'second'
      const what = `the ${which} of the two copies is not intact; the next start writes it anew from the other`
      findings.add('mended', path, what, copy * promiseCopyBytes)
    }
  } else if (founded) findings.add('note', path, 'no epoch was promised yet')
  return content === undefined ? undefined : promise
}

async function checkStart(
  disk: Disk,
  { journal }: StoreFiles,
  findings: Findings,
): Promise<LogStart | undefined> {
  const path = join(journal, startFileName)
  const content = await readStartFile(disk, journal)
  if (content === undefined) return wholeLog
  const file = decodeStartFile(content)
  if (typeof file === 'string') {
    const what =
      file === 'version' ? 'was written by a newer version' : 'what says where the log begins is damaged'
    findings.add('corrupt', path, what, 0)
    return undefined
  }
  if (intactStartCopies(content) < 2)
    findings.add(
      'note',
      path,
      'one of its two copies is damaged; the other serves, until segments are deleted next',
    )
  const { firstIndex } = file.start
  const names = await orDiskFailed('read', journal, disk.list(journal))
  for (const name of names.sort()) {
    if ((firstIndexOfName(name) ?? firstIndex) >= firstIndex) continue
    const what = `lies before the beginning of the log, record ${firstIndex}; the next start removes it`
    findings.add('mended', join(journal, name), what)
  }
  return file.start
}

async function checkTruncation(
  disk: Disk,
  { journal }: StoreFiles,
  findings: Findings,
): Promise<number | undefined> {
  const path = join(journal, truncationFileName)
  const content = await orDiskFailed('read', path, disk.readWhole(path, 4096))
  if (content === undefined) return undefined
  const index = decodeTruncation(content)
  if (typeof index === 'number') {
    const what = `the log was being cut back to record ${index}; the next start finishes that`
    findings.add('mended', path, what, 0, index + 1)
    return index
  }
  const what = index === 'version' ? 'was written by a newer version' : 'the note of a truncation is damaged'
  findings.add('corrupt', path, `${what} (${truncationBytes} bytes are expected)`, 0)
  return undefined
}

function withoutPath(error: unknown, path: string): string {
  const message = error instanceof Error ? error.message : String(error)
  return message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message
}

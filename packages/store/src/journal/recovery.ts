import { join } from 'node:path'
import type { Disk } from '../io/disk.ts'
import { keepCut, newCutName } from './cut-file.ts'
import type { Damage } from './damage.ts'
import { orDiskFailed } from './disk-failure.ts'
import type { EpochStart, LogStart } from './log.ts'
import type { Segment } from './segment.ts'
import { temporaryNames } from './segment-set.ts'
import { newStartName } from './start-file.ts'
import { type DamagedMarks, Survey } from './survey.ts'
import { encodeSyncMark, encodeSyncMarks, syncMarkBytes } from './sync-mark.ts'
import type { Tail } from './tail.ts'
import type { Position } from './tail-verdict.ts'
import { newTruncationName, truncationFileName } from './truncation.ts'

/** What opening a journal found and did; for the log and for tests. */
export interface RecoveryReport {
  readonly segments: number
  /** Segments read in full; those wholly below the checkpoint are not. */
  readonly scannedSegments: number
  /** Batches and records in the segments read in full. */
  readonly batches: number
  readonly records: number
  /** Bytes of the torn tail that was cut; 0 for none. */
  readonly tornBytes: number
  /**
   * The last group was whole, and damaged, or torn in an unlucky order: nobody can tell (rule S27, class c). It was cut,
   * and the node may have acknowledged records up to here.
   */
  readonly owed: Position | undefined
  /** The file that keeps what was cut then, for a human; `undefined` also if there was no space for it. */
  readonly keptIn: string | undefined
  /** Places where only marks were damaged, which cost nothing and have been written anew. */
  readonly mendedMarks: number
  /** Bytes written and synced again, as nothing proved that they were durable. */
  readonly resyncedBytes: number
  /** A truncation to this index was under way and has been carried out. */
  readonly truncatedTo: number | undefined
  /** Segments removed that lay before the beginning of the log: their removal had not been finished. */
  readonly discardedSegments: number
  /** The journal had been closed. */
  readonly clean: boolean
}

export interface Recovered {
  /** With it nothing has been changed. */
  readonly damage: Damage | undefined
  readonly start: LogStart
  readonly segments: Segment[]
  readonly tail: Tail
  readonly epochStarts: EpochStart[]
  readonly configurations: readonly number[]
  readonly report: RecoveryReport
}

const pieceBytes = 1024 * 1024

/**
 * Brings a journal directory into a state where everything in it is durable: surveys it, finishes a truncation, cuts
 * a torn tail, and syncs what may so far have been in the page cache only (rules S27, S29). Changes nothing if the
 * survey throws.
 *
 * Each step may be cut off by a crash and leaves a directory that the next recovery judges in the same way: the bytes
 * written again are the same, and zeroing a torn tail leaves a torn tail.
 */
export async function recover(
  disk: Disk,
  directory: string,
  verifiedTo: number,
  epochStarts: readonly EpochStart[],
  options: {
    readonly owed?: ((position: Position) => Promise<void>) | undefined
    readonly tolerate?: boolean | undefined
  },
): Promise<Recovered> {
  const survey = new Survey(disk, directory, verifiedTo, epochStarts, options.tolerate)
  await survey.run()
  const { damage } = survey
  if (damage !== undefined) return recovered(survey, damage, 0, undefined)
  const { segments, obsolete, discarded } = survey
  if (survey.owed !== undefined) await options.owed?.(survey.owed)
  // A name that a process saw need not outlive the machine, any more than bytes do: the last segment's new name, the
  // note of a truncation, and its removal must be durable before anything is built on them.
  await orDiskFailed('sync', directory, disk.syncDirectory(directory))
  await removeAll(disk, directory, [...(await leftovers(disk, directory)), ...obsolete, ...discarded])
  const last = segments.at(-1)
  const keptIn = survey.owed && last && (await keepCut(disk, directory, last, survey.owed))
  await mendMarks(disk, survey.damagedMarks)
  const resyncedBytes = last === undefined ? 0 : await proveTail(disk, last, survey)
  if (survey.truncateTo !== undefined) await removeAll(disk, directory, [join(directory, truncationFileName)])
  return recovered(survey, undefined, resyncedBytes, keptIn)
}

function recovered(
  survey: Survey,
  damage: Damage | undefined,
  resyncedBytes: number,
  keptIn: string | undefined,
): Recovered {
  return {
    damage,
    start: survey.start,
    segments: survey.segments,
    tail: survey.tail,
    epochStarts: survey.epochStarts,
    configurations: survey.configurations,
    report: {
      segments: survey.segments.length,
      scannedSegments: survey.scannedSegments,
      batches: survey.batches,
      records: survey.records,
      tornBytes: survey.truncateTo === undefined ? survey.tornBytes : 0,
      resyncedBytes,
      truncatedTo: survey.truncateTo,
      discardedSegments: damage === undefined ? survey.discarded.length : 0,
      mendedMarks: damage === undefined ? survey.damagedMarks.length : 0,
      owed: survey.owed,
      keptIn,
      clean: survey.clean,
    },
  }
}

async function leftovers(disk: Disk, directory: string): Promise<string[]> {
  const names = await orDiskFailed('read', directory, disk.list(directory))
  const unfinished = [...temporaryNames, newTruncationName, newStartName, newCutName]
  return names.filter((name) => unfinished.includes(name)).map((name) => join(directory, name))
}

async function removeAll(disk: Disk, directory: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) await orDiskFailed('remove', path, disk.remove(path))
  if (paths.length > 0) await orDiskFailed('sync', directory, disk.syncDirectory(directory))
}

/** Writes damaged marks anew: what stands behind them proves that everything before them was synced. */
async function mendMarks(disk: Disk, places: readonly DamagedMarks[]): Promise<void> {
  for (const { segment, offset, bytes, lastIndex } of places) {
    const write = async (): Promise<void> => {
      const file = await disk.open(segment.path, 'write')
      try {
        await file.write([encodeSyncMarks(lastIndex, offset, bytes)], offset)
        await file.sync()
      } finally {
        await file.close()
      }
    }
    await orDiskFailed('write', segment.path, write())
  }
}

/**
 * Makes the last segment durable as it was read, and puts a mark behind it that says so.
 *
 * What was read may have come from a page cache whose write had failed, and the kernel would take those pages for
 * clean: so they are written again, with the same bytes in the same place. The zeroes behind the end likewise.
 */
async function proveTail(disk: Disk, segment: Segment, survey: Survey): Promise<number> {
  const from = survey.unprovenOffset
  const lastIndex = survey.tail.lastIndex
  const file = await orDiskFailed('open', segment.path, disk.open(segment.path, 'write'))
  const write = async (): Promise<void> => {
    for (let at = from; at < segment.endOffset; at += pieceBytes) {
      const piece = Buffer.allocUnsafe(Math.min(pieceBytes, segment.endOffset - at))
      const read = await file.read(piece, 0, piece.length, at)
      if (read < piece.length) throw new Error(`only ${read} of ${piece.length} bytes at ${at}`)
      await file.write([piece], at)
    }
    if (!survey.clean) {
      const zeroes = Buffer.alloc(pieceBytes)
      for (let at = segment.endOffset; at < segment.capacity; at += pieceBytes)
        await file.write([zeroes.subarray(0, Math.min(pieceBytes, segment.capacity - at))], at)
    }
    if (!survey.clean || segment.endOffset > from) await file.sync()
    segment.cut(segment.lastIndex, segment.endOffset)
    if (survey.clean || segment.endOffset + syncMarkBytes > segment.capacity) return
    await file.write([encodeSyncMark(lastIndex, segment.endOffset)], segment.endOffset)
    await file.sync()
    segment.extend(segment.lastIndex, segment.endOffset + syncMarkBytes)
  }
  const resyncedBytes = segment.endOffset - from
  try {
    await orDiskFailed('write', segment.path, write())
  } finally {
    await orDiskFailed('close', segment.path, file.close())
  }
  return resyncedBytes
}

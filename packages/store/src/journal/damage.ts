import { StoreError } from '../errors.ts'
import type { DiskFile } from '../io/disk.ts'
import { type BatchHeader, batchHeaderBytes, lastIndexOf } from './batch.ts'
import type { Chain } from './chain.ts'
import { nextSound } from './next-sound.ts'
import { SegmentCursor } from './segment-cursor.ts'
import type { ScanStop } from './segment-scan.ts'

/** Records that were durable once, and are damaged or gone: a hole in the log, to be filled from another copy of it. */
export interface Damage {
  readonly fromIndex: number
  readonly toIndex: number
  /** The segment, which may be missing as a whole. */
  readonly file: string
  /** In bytes within `file`. */
  readonly offset: number
}

/** Damage, and the room that there is for what is to be put in its place. */
export interface Hole extends Damage {
  /** Something sound goes on here; Infinity if nothing does up to the end of the segment. */
  readonly endOffset: number
}

/** Whether only marks are damaged. */
export function costsNothing(damage: Damage): boolean {
  return damage.toIndex < damage.fromIndex
}

/** What a reader of damaged records is told. */
export function damagedRecords({ file, offset, fromIndex, toIndex }: Damage): StoreError {
  return corrupt(file, offset, `records ${fromIndex} to ${toIndex} are damaged`)
}

export function withoutRoom({ fromIndex, toIndex, file, offset }: Damage): Damage {
  return { fromIndex, toIndex, file, offset }
}

/**
 * The hole that begins where a scan stopped.
 *
 * @param chain - As the scan left it; goes on behind the hole afterwards.
 * @param toIndex - The last record that must be there: the segment's last, or what is proven.
 * @param open - There may be more behind `toIndex`: this is the end of the log.
 */
export async function holeAt(
  file: DiskFile,
  segment: { readonly path: string; readonly capacity: number },
  chain: Chain,
  stop: ScanStop,
  toIndex: number,
  open: boolean,
): Promise<Hole> {
  const { offset } = stop
  const hole = (last: number, endOffset: number): Hole => ({
    fromIndex: chain.nextIndex,
    toIndex: last,
    file: segment.path,
    offset,
    endOffset,
  })
  const header = stop.fault === 'payload' ? await headerAt(file, segment.capacity, offset) : undefined
  if (header !== undefined && chain.faultOf(header) === undefined) {
    const result = hole(lastIndexOf(header), offset + batchHeaderBytes + header.payloadBytes)
    chain.accept(header)
    return result
  }
  // A sound batch of another log tells nothing about what stands behind it.
  const foreign = chainFaults.has(stop.fault)
  const below = open ? Number.POSITIVE_INFINITY : toIndex + 1
  const place = foreign ? undefined : await nextSound(file, segment.capacity, offset, chain.nextIndex, below)
  const result = place ? hole(place.nextIndex - 1, place.offset) : hole(toIndex, Number.POSITIVE_INFINITY)
  if (!costsNothing(result)) chain.skipTo(result.toIndex + 1)
  return result
}

const chainFaults: ReadonlySet<string> = new Set([
  'first index',
  'checksum of the batch before',
  'epoch',
  'log time',
])

async function headerAt(file: DiskFile, fileBytes: number, offset: number): Promise<BatchHeader | undefined> {
  const item = await new SegmentCursor(file, fileBytes, offset, 4096).item(() => true)
  return item.kind === 'batch' ? item.header : undefined
}

/** Bytes that were once durable are damaged or gone. */
export function corrupt(file: string, offset: number, what: string): StoreError {
  return new StoreError({ code: 'STORE_CORRUPT', file, offset }, `${file} at ${offset}: ${what}`)
}

export function unknownFormat(file: string): StoreError {
  return new StoreError({ code: 'STORE_UNKNOWN_FORMAT', file }, `${file} was written by a newer version`)
}

import type { LogSource } from '../copying/log-source.ts'
import { StoreError } from '../errors.ts'
import type { Clock } from '../io/clock.ts'
import { batchesUpTo, lastIndexIn } from '../journal/batch-run.ts'
import type { BackupReport } from '../store-administration.ts'
import type { Position } from '../store-status.ts'
import { encodeBackupFoot, encodeBackupHead } from './backup-format.ts'

/** Read from the log at a time. */
const pieceBytes: number = 1024 * 1024

/**
 * Writes everything up to a committed record as a backup, while the store goes on (rule S37). What is still to be read is kept
 * from being deleted as for any other copy.
 *
 * @param reader - Name under which `source` knows this backup: not that of another reader.
 * @param position - Of the last record, which ends a batch.
 * @param write - Is awaited before more is read.
 * @throws StoreError `STORE_LOG_GONE` if it was so slow that the log was deleted in front of it.
 */
export async function writeBackup(
  source: LogSource,
  clock: Clock,
  reader: string,
  clusterUuid: string,
  position: Position,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<BackupReport> {
  let { start, batches } = await source.give(reader, 0, pieceBytes, clock.monotonicMs())
  if (position.index < start.replayTo)
    throw new StoreError(
      { code: 'STORE_NOT_MASTER' },
      `this store does not know yet that record ${start.replayTo} is committed`,
    )
  const head = encodeBackupHead({
    clusterUuid,
    start,
    toIndex: position.index,
    toEpoch: position.epoch,
    madeAtMs: Math.round(clock.wallMs()),
  })
  await write(head)
  let bytes = 0
  let next = start.firstIndex
  while (next <= position.index) {
    const piece = batchesUpTo(batches, position.index)
    await write(piece)
    bytes += piece.length
    next = lastIndexIn(piece) + 1
    if (next <= position.index)
      ({ batches } = await source.give(reader, next, pieceBytes, clock.monotonicMs()))
  }
  source.release(reader)
  const records = next - start.firstIndex
  const foot = encodeBackupFoot(bytes, records)
  await write(foot)
  return { records, bytes: head.length + bytes + foot.length, position, clusterUuid }
}

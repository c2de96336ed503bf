import { join } from 'node:path'
import { StoreError } from '../errors.ts'
import { generationIn } from '../generation.ts'
import type { Disk, DiskFile } from '../io/disk.ts'
import { NodeDisk } from '../io/node/disk.ts'
import { SystemRandom } from '../io/node/random.ts'
import type { Random } from '../io/random.ts'
import { batchHeaderBytes, decodeBatchHeader } from '../journal/batch.ts'
import { type Journal, openJournal } from '../journal/journal.ts'
import { spansOf } from '../replication/frame.ts'
import type { RestoreOptions, RestoreReport } from '../store-administration.ts'
import { writeIdentity } from '../store-identity.ts'
import {
  BackupFault,
  type BackupHead,
  backupFootBytes,
  backupHeadBytes,
  backupTextBytes,
  decodeBackupFoot,
  decodeBackupHead,
} from './backup-format.ts'

const pieceBytes: number = 4 * 1024 * 1024

/**
 * Makes a store from a backup, in an empty directory: that of a new cluster, of which it is the only voter (rule S37). Started, it takes
 * blank members in until there are as many as `replicas` says.
 *
 * Everything in the backup is in it again: queues with their messages and redelivery counts, and what was seen of each producer, so that
 * a message sent again after the restore is still recognised. What was done after the backup is not: messages consumed since come again.
 *
 * The identity is written last: what an interrupted restore leaves behind is no store, and no empty directory either.
 *
 * @throws StoreError `STORE_FOREIGN_DIRECTORY` if the directory is not empty; `STORE_CORRUPT` if the backup is damaged or cut short.
 */
export async function restoreBackup(options: RestoreOptions): Promise<RestoreReport> {
  return await restoreInto(new NodeDisk(), new SystemRandom(), options)
}

/** As {@link restoreBackup}, in any world. */
export async function restoreInto(disk: Disk, random: Random, options: RestoreOptions): Promise<RestoreReport> {
  const { from, directory } = options
  if ((await disk.list(directory)).length > 0)
    throw new StoreError({ code: 'STORE_FOREIGN_DIRECTORY', directory }, `${directory}: is not empty`)
  const file = await disk.open(from, 'read')
  try {
    const restore = new Restore(file, options)
    const head = await restore.readHead()
    await disk.makeDirectory(directory)
    const { journal } = generationIn(directory, 0)
    const bytes = await restore.copyInto(disk, journal, head)
    const storeUuid = random.uuid()
    const nodeId = options.nodeId ?? `restored-${storeUuid.slice(0, 8)}`
    // A promise is due once there is a cluster: it is made with the identity's next opening, from the log's own epoch.
    const cluster = { uuid: random.uuid(), voters: [{ nodeId, storeUuid }], growing: true }
    await makePromise(disk, directory)
    await writeIdentity(disk, directory, { storeUuid, nodeId, cluster, generation: 0 })
    const { start, toIndex, toEpoch, clusterUuid } = head
    return {
      directory,
      records: toIndex - start.firstIndex + 1,
      bytes,
      position: { epoch: toEpoch, index: toIndex },
      clusterUuid,
    }
  } catch (error) {
    if (!(error instanceof BackupFault)) throw error
    throw new StoreError({ code: 'STORE_CORRUPT', file: from, offset: 0 }, `${from}: ${error.message}`, { cause: error })
  } finally {
    await file.close()
  }
}

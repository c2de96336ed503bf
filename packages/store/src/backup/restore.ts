import type { BatchSpan } from '../consensus/message.ts'
import { PromiseFile } from '../consensus/promise-file.ts'
import { StoreError } from '../errors.ts'
import { generationIn } from '../generation.ts'
import type { Disk, DiskFile } from '../io/disk.ts'
import { NodeDisk } from '../io/node/disk.ts'
import { SystemRandom } from '../io/node/random.ts'
import type { Random } from '../io/random.ts'
import { batchHeaderBytes, decodeBatchHeader, lastIndexOf } from '../journal/batch.ts'
import { openJournal } from '../journal/journal.ts'
import { FrameFault, spansOf } from '../replication/frame.ts'
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
/** The default of `logSize`; what it is set to later holds for later segments. */
const segmentBytes: number = 64 * 1024 * 1024

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

async function restoreInto(disk: Disk, random: Random, options: RestoreOptions): Promise<RestoreReport> {
  const { from, directory } = options
  if ((await disk.list(directory)).length > 0)
    throw new StoreError({ code: 'STORE_FOREIGN_DIRECTORY', directory }, `${directory}: is not empty`)
  const file = await disk.open(from, 'read')
  try {
    const restore = new Restore(file, options)
    const head = await restore.readHead()
    await restore.check(head)
    await disk.makeDirectory(directory)
    const { journal } = generationIn(directory, 0)
    const bytes = await restore.copyInto(disk, journal, head)
    const storeUuid = random.uuid()
    const nodeId = options.nodeId ?? `restored-${storeUuid.slice(0, 8)}`
    const cluster = { uuid: random.uuid(), voters: [{ nodeId, storeUuid }], growing: true, level: 1 }
    const { file: promise } = await PromiseFile.open(disk, directory, false)
    await promise.close()
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
    throw new StoreError({ code: 'STORE_CORRUPT', file: from, offset: 0 }, `${from}: ${error.message}`, {
      cause: error,
    })
  } finally {
    await file.close()
  }
}

/** Reads a backup from its file, piece by piece. */
class Restore {
  readonly #file: DiskFile
  readonly #options: RestoreOptions
  #size = 0
  /** Where the batches begin, once the head is read, and end. */
  #offset = 0
  #batchesTo = 0

  constructor(file: DiskFile, options: RestoreOptions) {
    this.#file = file
    this.#options = options
  }

  async readHead(): Promise<BackupHead> {
    const head = await this.#read(backupHeadBytes)
    return decodeBackupHead(head, await this.#read(backupTextBytes(head)))
  }

  /** Reads everything once and checks it: nothing is made of a backup that is damaged. */
  async check(head: BackupHead): Promise<void> {
    this.#size = await this.#file.size()
    this.#batchesTo = this.#size - backupFootBytes
    const foot = decodeBackupFoot(
      await this.#at(Math.max(0, this.#batchesTo), Math.min(this.#size, backupFootBytes)),
    )
    if (foot.bytes !== this.#batchesTo - this.#offset) throw new BackupFault('is not complete')
    let last: { readonly index: number; readonly epoch: number } | undefined
    for await (const { spans } of this.#pieces(head)) {
      const span = spans.at(-1)
      if (span !== undefined) last = { index: span.lastIndex, epoch: span.epoch }
    }
    if (last?.index !== head.toIndex || last.epoch !== head.toEpoch)
      throw new BackupFault(`ends with record ${last?.index}, not ${head.toIndex}`)
  }

  /** Copies the batches into a new journal; durable and closed when it resolves. @returns Bytes of the backup. */
  async copyInto(disk: Disk, directory: string, head: BackupHead): Promise<number> {
    let failure: Error | undefined
    const { log } = await openJournal({
      disk,
      directory,
      segmentBytes,
      verifiedTo: 0,
      epochStarts: [],
      start: head.start,
      listener: {
        written: () => undefined,
        durable: () => undefined,
        damaged: () => undefined,
        spaceChanged: () => undefined,
        failed: (error) => {
          failure = error
        },
      },
    })
    try {
      for await (const { batches, spans } of this.#pieces(head)) {
        log.append(batches, log.lastIndex + 1, spans.at(-1)?.lastIndex ?? 0)
        while (log.pendingBytes > 0 && failure === undefined)
          await new Promise((later) => setImmediate(later))
        if (failure !== undefined) throw failure
      }
    } finally {
      await log.close()
    }
    return this.#size
  }

  /** The batches, from the first to the last, each verified by its checksums and by the chain. */
  async *#pieces(
    head: BackupHead,
  ): AsyncGenerator<{ readonly batches: Buffer; readonly spans: readonly BatchSpan[] }> {
    let offset = this.#offset
    let next = head.start.firstIndex
    let checksum: number | undefined
    while (offset < this.#batchesTo) {
      this.#options.signal?.throwIfAborted()
      const batches = await this.#wholeBatches(offset)
      const spans = verified(batches, next, offset)
      const first = decodeBatchHeader(batches, 0)
      const last = decodeBatchHeader(batches, spans.at(-1)?.offset ?? 0)
      if (typeof first === 'string' || typeof last === 'string')
        throw new BackupFault(`is damaged at ${offset}`)
      if (checksum !== undefined && first.previousChecksum !== checksum)
        throw new BackupFault(`is damaged at ${offset}: its checksums do not chain`)
      checksum = last.checksum
      next = lastIndexOf(last) + 1
      offset += batches.length
      this.#options.progress?.(offset, this.#size)
      yield { batches, spans }
    }
  }

  async #wholeBatches(offset: number): Promise<Buffer> {
    const room = this.#batchesTo - offset
    let piece = await this.#at(offset, Math.min(pieceBytes, room))
    let whole = wholeBatches(piece)
    if (whole.bytes === 0) {
      // A batch larger than a piece.
      piece = await this.#at(offset, Math.min(whole.needed, room))
      whole = wholeBatches(piece)
    }
    if (whole.bytes === 0) throw new BackupFault(`is damaged at ${offset}`)
    return piece.subarray(0, whole.bytes)
  }

  async #read(length: number): Promise<Buffer> {
    const bytes = await this.#at(this.#offset, length)
    this.#offset += length
    return bytes
  }

  async #at(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length)
    if ((await this.#file.read(bytes, 0, length, offset)) < length) throw new BackupFault('is not complete')
    return bytes
  }
}

function verified(batches: Buffer, firstIndex: number, offset: number): readonly BatchSpan[] {
  try {
    return spansOf(batches, firstIndex, true)
  } catch (error) {
    if (!(error instanceof FrameFault)) throw error
    throw new BackupFault(`is damaged at ${offset}: ${error.message}`)
  }
}

/** Bytes of the whole batches at the beginning, and of the first one if not even that is whole. */
function wholeBatches(bytes: Buffer): { readonly bytes: number; readonly needed: number } {
  let end = 0
  while (bytes.length - end >= batchHeaderBytes) {
    const header = decodeBatchHeader(bytes, end)
    if (typeof header === 'string') throw new BackupFault(`has a damaged batch (${header})`)
    const next = end + batchHeaderBytes + header.payloadBytes
    if (next > bytes.length) return { bytes: end, needed: next - end }
    end = next
  }
  return { bytes: end, needed: batchHeaderBytes }
}

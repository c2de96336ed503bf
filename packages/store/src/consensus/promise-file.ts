import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { StoreError } from '../errors.ts'
import type { Disk, DiskFile } from '../io/disk.ts'
import { orDiskFailed } from '../journal/disk-failure.ts'
import { readUint53, writeUint53 } from '../journal/integer.ts'
import type { Position } from './debt.ts'

/** An epoch that this store has promised, and the candidate it voted for in it. */
export interface EpochPromise {
  readonly epoch: number
  readonly votedFor: string | undefined
  /** What this store may have acknowledged and does not hold any more (S24, S27). */
  readonly owed?: Position | undefined
}

/** One intact copy. */
interface Slot extends EpochPromise {
  readonly format: number
  readonly writes: number
}

const fileName = 'promise'
const slotBytes = 512
const maxBytes = 64 * 1024
const magic = 0x50514d4c // LMQP
/** 0 knew nothing of what is owed, and left zeros there. */
const format = 1
const owedAt: number = slotBytes - 20

/**
 * The durable promise, in two copies written one after the other: a torn write damages one of them at most, and so does
 * a bad sector. If both are intact, the one written later is the promise.
 *
 * Copy: magic (4), format (4), count of writes (8), epoch (8), length of the name (2), name; at its end epoch (8) and
 * index (8) of what is owed, zeros for nothing, and CRC-32 (4).
 */
export class PromiseFile {
  readonly #path: string
  readonly #file: DiskFile
  #writes: number

  private constructor(path: string, file: DiskFile, writes: number) {
    this.#path = path
    this.#file = file
    this.#writes = writes
  }

  /**
   * @param founded - The store belongs to a cluster, so the file was made long ago.
   * @returns The file and the promise found in it: epoch 0 in a new one.
   * @throws StoreError `STORE_CORRUPT` if it is missing although `founded`, or neither copy is intact although something
   *   was written: without its promise this store could vote twice in one epoch (rule S2).
   */
  static async open(
    disk: Disk,
    directory: string,
    founded: boolean,
  ): Promise<{ file: PromiseFile; promise: EpochPromise }> {
    const path = join(directory, fileName)
    const content = await disk.readWhole(path, maxBytes)
    if (content !== undefined && content.length > 2 * slotBytes) throw corrupt(path, 'is too long')
    const blank = content?.every((byte) => byte === 0)
    // A blank one may be as long as this in the page cache only: a first write into it could outlive its length.
    if (content === undefined || content.length < 2 * slotBytes || (blank && !founded)) {
      // Cut short with something in it, it is not one that was being made when the power went.
      if (founded || blank === false) throw corrupt(path, 'is missing or cut short')
      if (content !== undefined) await disk.remove(path)
      const created = await disk.open(path, 'create')
      await created.allocate(2 * slotBytes)
      await created.sync()
      await disk.syncDirectory(directory)
      return {
        file: new PromiseFile(path, created, 0),
        promise: { epoch: 0, votedFor: undefined, owed: undefined },
      }
    }
    let best: Slot | undefined
    for (const at of [0, slotBytes]) {
      const slot = readSlot(content.subarray(at, at + slotBytes))
      if (slot !== undefined && (best === undefined || slot.writes > best.writes)) best = slot
    }
    // The second copy is only begun once the first is durable: while it is blank, no promise was ever made.
    if (best === undefined && content.subarray(slotBytes).some((byte) => byte !== 0)) {
      throw corrupt(path, 'neither copy of the promised epoch is intact')
    }
    if (best !== undefined && best.format > format)
      throw corrupt(path, `format ${best.format} was written by another version`)
    const file = new PromiseFile(path, await disk.open(path, 'write'), best?.writes ?? 0)
    const promise = { epoch: best?.epoch ?? 0, votedFor: best?.votedFor, owed: best?.owed }
    // A process that ended before its sync leaves what only the page cache has, or one copy only: votes rest on it now.
    await file.write(promise)
    await disk.syncDirectory(directory)
    return { file, promise }
  }

  /**
   * Durable when it resolves. One call at a time.
   *
   * @throws StoreError `STORE_DISK_FAILED`: the promise is unknown then, and the process has to end.
   */
  async write(promise: EpochPromise): Promise<void> {
    const slot = Buffer.alloc(slotBytes)
    const name = Buffer.from(promise.votedFor ?? '')
    this.#writes++
    slot.writeUInt32LE(magic, 0)
    slot.writeUInt32LE(format, 4)
    writeUint53(slot, this.#writes, 8)
    writeUint53(slot, promise.epoch, 16)
    slot.writeUInt16LE(name.length, 24)
    name.copy(slot, 26, 0, owedAt - 26)
    writeUint53(slot, promise.owed?.epoch ?? 0, owedAt)
    writeUint53(slot, promise.owed?.index ?? 0, owedAt + 8)
    slot.writeUInt32LE(crc32(slot.subarray(0, slotBytes - 4)), slotBytes - 4)
    for (const at of [0, slotBytes]) {
      await orDiskFailed('write', this.#path, this.#file.write([slot], at))
      await orDiskFailed('sync', this.#path, this.#file.sync())
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

function corrupt(path: string, problem: string): StoreError {
  return new StoreError({ code: 'STORE_CORRUPT', file: path, offset: 0 }, `${path}: ${problem}`)
}

function readSlot(slot: Buffer): Slot | undefined {
  if (slot.readUInt32LE(0) !== magic) return undefined
  if (crc32(slot.subarray(0, slotBytes - 4)) !== slot.readUInt32LE(slotBytes - 4)) return undefined
  const length = slot.readUInt16LE(24)
  const owed = { epoch: readUint53(slot, owedAt), index: readUint53(slot, owedAt + 8) }
  return {
    format: slot.readUInt32LE(4),
    writes: readUint53(slot, 8),
    epoch: readUint53(slot, 16),
    votedFor: length === 0 ? undefined : slot.toString('utf8', 26, 26 + length),
    owed: owed.index === 0 ? undefined : owed,
  }
}

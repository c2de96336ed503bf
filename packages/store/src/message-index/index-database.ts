import { statfs } from 'node:fs/promises'
import { ClassicLevel } from 'classic-level'
import { StoreError } from '../errors.ts'
import type { LevelDbOptions } from '../options.ts'
import { damagedKey, RowFault } from './keys.ts'

export type Database = ClassicLevel<Buffer, Buffer>

/** Settings of LevelDB; one that is left out is LevelDB's own default. */
export type LevelSettings = Pick<
  LevelDbOptions,
  | 'indexMaxOpenFiles'
  | 'indexBlockRestartInterval'
  | 'indexWriteBufferSize'
  | 'indexBlockSize'
  | 'indexCacheSize'
  | 'indexCompression'
>

/** Free space without which the database is not opened again: LevelDB writes what is in its log to a table then. */
const minFreeBytes: number = 32 * 1024 * 1024

/**
 * The LevelDB database of an index, which can be opened again while it is in use: an error in writing sticks to LevelDB
 * until then.
 *
 * Invariant: no reading runs while it is closed.
 */
export class IndexDatabase {
  readonly #db: Database
  #readings = 0
  #readingsDone: (() => void) | undefined
  #reopening: Promise<void> | undefined
  #closed = false

  /** @param db - Open. */
  private constructor(db: Database) {
    this.#db = db
  }

  static async open(directory: string, settings: LevelSettings): Promise<IndexDatabase> {
    const db: Database = new ClassicLevel(directory, {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      maxOpenFiles: settings.indexMaxOpenFiles,
      blockRestartInterval: settings.indexBlockRestartInterval,
      writeBufferSize: settings.indexWriteBufferSize,
      blockSize: settings.indexBlockSize,
      cacheSize: settings.indexCacheSize,
      compression: settings.indexCompression !== 'none',
    })
    await db.open()
    return new IndexDatabase(db)
  }

  get directory(): string {
    return this.#db.location
  }

  /** For whoever sees to it that the database is not opened again meanwhile. */
  get level(): Database {
    return this.#db
  }

  /** Calls `read` with the open database: at once, unless it is being opened again. */
  async read<Result>(read: (db: Database) => Promise<Result>): Promise<Result> {
    while (this.#reopening !== undefined) await this.#reopening.catch(() => undefined)
    if (this.#db.status === 'closed' && !this.#closed) throw noSpace('to open it again')
    this.#readings++
    try {
      return await read(this.#db)
    } finally {
      if (--this.#readings === 0) this.#readingsDone?.()
    }
  }

  /**
   * Closes and opens the database, once there is space for that.
   *
   * @throws An error for which {@link isDiskFull} is true if there is not: if it came too late, nothing can be read until
   *   this succeeds.
   */
  async reopen(): Promise<void> {
    const { bavail, bsize } = await statfs(this.#db.location)
    if (bavail * bsize < minFreeBytes) throw noSpace(`but ${bavail * bsize} bytes`)
    this.#reopening = this.#reopen()
    try {
      await this.#reopening
    } finally {
      this.#reopening = undefined
    }
  }

  async #reopen(): Promise<void> {
    if (this.#readings > 0) {
      await new Promise<void>((resolve) => {
        this.#readingsDone = resolve
      })
      this.#readingsDone = undefined
    }
    if (this.#closed) return
    if (this.#db.status !== 'closed') await this.#db.close()
    await this.#db.open()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#reopening?.catch(() => undefined)
    await this.#db.close()
  }

  /** Turns an error of LevelDB into ours; damage is also noted in the database, for the next time it is opened. */
  async report(error: unknown, operation: string): Promise<StoreError> {
    const reason = damageOf(error)
    if (reason !== undefined) {
      const note = this.#db.put(damagedKey, Buffer.from(reason), { sync: true })
      await note.catch(() => undefined) // Then it is found once more, the next time.
    }
    return faultOf(error, this.#db.location, operation)
  }
}

/** Why the database must be begun anew, or undefined if that would be no remedy. */
export function damageOf(error: unknown): string | undefined {
  if (error instanceof RowFault || error instanceof RangeError) return error.message
  const cause = levelErrorOf(error)
  // A file that another one names and that is not there is damage too; LevelDB calls it an I/O error.
  const missing = cause.code === 'LEVEL_IO_ERROR' && cause.message.includes('No such file or directory')
  return cause.code === 'LEVEL_CORRUPTION' || missing ? cause.message : undefined
}

/** Whether there was no space to write; LevelDB tells the cause of an I/O error only in words. */
function isDiskFull(error: unknown): boolean {
  return /No space left on device|Disk quota exceeded/.test(levelErrorOf(error).message)
}

/** An error as LevelDB would give it. */
function noSpace(detail: string): Error {
  return new Error(`No space left on device, ${detail}`)
}

/** The error as the store's callers know it. */
export function faultOf(error: unknown, directory: string, operation: string): StoreError {
  const { code, message } = levelErrorOf(error)
  if (code === 'LEVEL_LOCKED') {
    const detail = { code: 'STORE_DIRECTORY_IN_USE', directory } as const
    return new StoreError(detail, `${directory}: another process has the store open`, { cause: error })
  }
  if (isDiskFull(error)) {
    const detail = { code: 'STORE_DISK_FULL', directory } as const
    return new StoreError(detail, `index in ${directory}: ${operation} failed: ${message}`, { cause: error })
  }
  if (damageOf(error) !== undefined) {
    const detail = { code: 'STORE_CORRUPT', file: directory, offset: 0 } as const
    return new StoreError(detail, `index in ${directory} is damaged: ${message}`, { cause: error })
  }
  const detail = { code: 'STORE_DISK_FAILED', file: directory, operation } as const
  return new StoreError(detail, `index in ${directory}: ${operation} failed: ${message}`, { cause: error })
}

/** Errors on opening come wrapped: what LevelDB said is the cause. */
function levelErrorOf(error: unknown): Error & { code?: unknown } {
  const outer: Error & { code?: unknown } = error instanceof Error ? error : new Error(String(error))
  return outer.code === 'LEVEL_DATABASE_NOT_OPEN' && outer.cause instanceof Error ? outer.cause : outer
}

import { constants, existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, open, readdir, realpath, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { StoreError } from '../errors.ts'
import type { Disk } from '../io/disk.ts'
import { NodeDisk } from '../io/node/disk.ts'
import { diskFailed, orDiskFailed } from '../journal/disk-failure.ts'
import { readIdentity } from '../store-identity.ts'
import { ReadOnlyDisk } from './read-only-disk.ts'
import { generationOfName, type StoreFiles, storeFiles } from './store-files.ts'

const lockName = 'LOCK'

/**
 * A store that is not running, held so that nobody starts it meanwhile, and that nothing here changes.
 *
 * What keeps a second broker out is LevelDB's lock on `index/LOCK`. To take it without opening (and so changing) the
 * index, an empty database in a temporary directory gets a symbolic link to that file as its own lock. The index
 * itself is only ever opened as a copy: LevelDB writes as soon as it opens.
 *
 * This part is not behind the contracts of `io/`, as LevelDB is not: both need real directories. Not for a process
 * that has the store open itself: such locks belong to processes, and letting go of one lets go of all.
 */
export class StoppedStore {
  readonly directory: string
  /** Cannot change anything. */
  readonly disk: Disk
  readonly #scratch: string
  readonly #lock: ClassicLevel | undefined

  /** The generation that `identity.json` names: a copy that is not whole yet can lie beside it. */
  readonly generation: number

  private constructor(
    directory: string,
    generation: number,
    scratch: string,
    lock: ClassicLevel | undefined,
  ) {
    this.directory = directory
    this.generation = generation
    this.disk = new ReadOnlyDisk(new NodeDisk())
    this.#scratch = scratch
    this.#lock = lock
  }

  /** @throws {@link StoreError} `STORE_DIRECTORY_IN_USE`, `STORE_DISK_FAILED`. */
  static async take(directory: string): Promise<StoppedStore> {
    const made = mkdtemp(join(tmpdir(), 'levelmq-inspect-'))
    const scratch = await orDiskFailed('create', tmpdir(), made)
    try {
      const generation = await generationOf(directory)
      return new StoppedStore(directory, generation, scratch, await takeLock(directory, generation, scratch))
    } catch (error) {
      await rm(scratch, { recursive: true, force: true })
      throw error
    }
  }

  get files(): StoreFiles {
    return storeFiles(this.directory, this.generation)
  }

  /** Size of the index's files. */
  async indexBytes(): Promise<number> {
    let bytes = 0
    for (const file of await this.#indexFiles()) bytes += (await orDiskFailed('stat', file, stat(file))).size
    return bytes
  }

  /**
   * Copies the index to where LevelDB may write.
   *
   * @param copied - Hears how many bytes of the index are copied.
   * @returns The copy, which goes with `release`; `undefined` if there is no index.
   */
  async copyIndex(copied: (bytes: number) => void): Promise<string | undefined> {
    const files = await this.#indexFiles()
    if (files.length === 0) return undefined
    const copy = join(this.#scratch, 'index')
    await orDiskFailed('create', copy, mkdir(copy))
    let bytes = 0
    for (const file of files) {
      const into = join(copy, file.slice(this.files.index.length + 1))
      // Where the file system can share blocks, this copies nothing.
      await orDiskFailed('copy', file, copyFile(file, into, constants.COPYFILE_FICLONE))
      bytes += (await orDiskFailed('stat', into, stat(into))).size
      copied(bytes)
    }
    return copy
  }

  /** Lets go of the store and removes what was made for looking at it. */
  async release(): Promise<void> {
    await this.#lock?.close()
    await rm(this.#scratch, { recursive: true, force: true })
  }

  async #indexFiles(): Promise<string[]> {
    const { index } = this.files
    if (!existsSync(index)) return []
    const entries = await orDiskFailed('read', index, readdir(index, { withFileTypes: true }))
    return entries
      .filter((entry) => entry.isFile() && entry.name !== lockName)
      .map((entry) => join(index, entry.name))
  }
}

/** If the identity cannot be read, the oldest that is there: a newer one may be a copy that is not whole. */
async function generationOf(directory: string): Promise<number> {
  const disk = new ReadOnlyDisk(new NodeDisk())
  try {
    const identity = await readIdentity(disk, directory)
    if (identity !== undefined) return identity.generation
  } catch (error) {
    // Whoever looks at the identity itself tells what is wrong with it.
    if (!(error instanceof Error)) throw error
  }
  const names = await orDiskFailed('read', directory, disk.list(directory))
  const found = names.map(generationOfName).filter((generation) => generation !== undefined)
  return found.length === 0 ? 0 : Math.min(...found)
}

/** @returns Undefined if there is no lock to take: nobody has the store open, and nobody can (a read-only medium). */
async function takeLock(
  directory: string,
  generation: number,
  scratch: string,
): Promise<ClassicLevel | undefined> {
  const lock = join(storeFiles(directory, generation).index, lockName)
  if (!(await isWritable(lock))) return undefined
  const own = join(scratch, 'lock')
  const prepare = async (): Promise<void> => {
    await mkdir(own)
    await symlink(await realpath(lock), join(own, lockName))
  }
  await orDiskFailed('create', own, prepare())
  const db = new ClassicLevel(own)
  try {
    await db.open()
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined
    if (cause instanceof Error && 'code' in cause && cause.code === 'LEVEL_LOCKED') {
      throw new StoreError(
        { code: 'STORE_DIRECTORY_IN_USE', directory },
        `${directory}: another process has the store open; stop it first`,
        { cause: error },
      )
    }
    throw diskFailed('lock', lock, cause ?? error)
  }
  return db
}

async function isWritable(lock: string): Promise<boolean> {
  try {
    // LevelDB asks for the same rights; not to be asked once the lock is held, since closing the file would free it.
    await (await open(lock, 'r+')).close()
    return true
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EROFS') return false
    throw diskFailed('lock', lock, error)
  }
}

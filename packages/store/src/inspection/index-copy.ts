import { ClassicLevel } from 'classic-level'
import { diskFailed } from '../journal/disk-failure.ts'
import { keyNumber, messageIndexIn, messageKeyBytes, messagesStart, RowFault } from '../message-index/keys.ts'
import { readContent, type StoredContent } from '../message-index/stored-content.ts'

const rowsPerRead = 1000

/** An entry of a message as the database has it. */
export interface StoredEntry {
  readonly queue: number
  readonly index: number
  /** `undefined` if it fails its check. */
  readonly value: Buffer | undefined
}

/** The index's database, opened as a copy, since LevelDB writes as soon as it opens. */
export class IndexCopy {
  readonly content: StoredContent
  readonly #db: ClassicLevel<Buffer, Buffer>

  private constructor(db: ClassicLevel<Buffer, Buffer>, content: StoredContent) {
    this.#db = db
    this.content = content
  }

  /**
   * @param directory - The copy.
   * @param original - For messages.
   * @returns The index, or what is wrong with it and whether the next start would build it anew by itself.
   * @throws {@link StoreError} `STORE_DISK_FAILED` if it cannot be opened for another reason than damage.
   */
  static async open(
    directory: string,
    original: string,
  ): Promise<IndexCopy | { readonly damage: string; readonly isRebuilt: boolean }> {
    const db = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
    try {
      await db.open()
      return new IndexCopy(db, await readContent(db))
    } catch (error) {
      await db.close()
      const damage = damageIn(error)?.replaceAll(directory, original)
      if (damage !== undefined) return { damage, isRebuilt: true }
      const { message } = levelErrorOf(error)
      // A start takes this for trouble with the disk, and refuses.
      if (message.includes('No such file'))
        return { damage: message.replaceAll(directory, original), isRebuilt: false }
      throw diskFailed('open', original, levelErrorOf(error))
    }
  }

  /** All entries of messages, by queue and index. What is no entry is given to `strange`. */
  async *entries(strange: (what: string) => void): AsyncGenerator<StoredEntry[], void, undefined> {
    const rows = this.#db.iterator({ gte: messagesStart, highWaterMarkBytes: 1024 * 1024 })
    try {
      for (;;) {
        const some = await rows.nextv(rowsPerRead)
        if (some.length === 0) return
        const entries: StoredEntry[] = []
        for (const [key, value] of some) {
          const entry = entryOf(key, value)
          if (entry === undefined) strange(`a row with the key ${key.toString('hex')} is none of an index`)
          else entries.push(entry)
        }
        yield entries
      }
    } finally {
      await rows.close()
    }
  }

  close(): Promise<void> {
    return this.#db.close()
  }
}

function entryOf(key: Buffer, value: Buffer): StoredEntry | undefined {
  if (key.length !== messageKeyBytes || key[0] !== messagesStart[0]) return undefined
  const queue = keyNumber(key.subarray(0, 9))
  const index = key.readUInt32BE(9) * 2 ** 32 + key.readUInt32BE(13)
  try {
    return { queue, index, value: messageIndexIn(value, queue) === index ? value : undefined }
  } catch (error) {
    if (!(error instanceof RowFault || error instanceof RangeError)) throw error
    return { queue, index, value: undefined }
  }
}

/** Why the database is damaged; `undefined` for any other trouble with it. */
export function damageIn(error: unknown): string | undefined {
  if (error instanceof RowFault || error instanceof RangeError) return error.message
  const cause = levelErrorOf(error)
  return cause.code === 'LEVEL_CORRUPTION' ? cause.message : undefined
}

/** Errors on opening come wrapped: what LevelDB said is the cause. */
function levelErrorOf(error: unknown): Error & { code?: unknown } {
  const outer: Error & { code?: unknown } = error instanceof Error ? error : new Error(String(error))
  return outer.code === 'LEVEL_DATABASE_NOT_OPEN' && outer.cause instanceof Error ? outer.cause : outer
}

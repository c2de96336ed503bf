import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import {
  type LevelIndex,
  type LevelIndexOptions,
  openLevelIndex,
} from '../../../src/message-index/level-index.ts'

/** A directory with an index in it, for one test. */
export class IndexDirectory {
  readonly path: string
  #index: LevelIndex | undefined

  private constructor(path: string) {
    this.path = path
  }

  static async create(): Promise<IndexDirectory> {
    return new IndexDirectory(await mkdtemp(join(tmpdir(), 'levelmq-index-')))
  }

  /** Opens the index, closing the one before as a crash would: without a checkpoint. */
  async reopen(options: Partial<LevelIndexOptions> = {}): Promise<LevelIndex> {
    await this.#index?.close()
    this.#index = undefined
    this.#index = await openLevelIndex({ directory: this.path, maxProducers: 3, maxGaps: 2, ...options })
    return this.#index
  }

  /** Closes the index and lets `look` at the database behind it. */
  async look<Result>(look: (db: ClassicLevel<Buffer, Buffer>) => Promise<Result>): Promise<Result> {
    await this.#index?.close()
    this.#index = undefined
    const db = new ClassicLevel<Buffer, Buffer>(this.path, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
    try {
      return await look(db)
    } finally {
      await db.close()
    }
  }

  async dispose(): Promise<void> {
    await this.#index?.close()
    await rm(this.path, { recursive: true, force: true })
  }
}

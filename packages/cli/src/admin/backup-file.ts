import { type FileHandle, open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CommandError, ExitCode } from '../exit-code.ts'

/**
 * A file that is there whole and on disk, or not at all: it is written beside its place and takes that at the end.
 */
export class BackupFile {
  readonly #path: string
  readonly #part: string
  readonly #handle: FileHandle

  private constructor(path: string, part: string, handle: FileHandle) {
    this.#path = path
    this.#part = part
    this.#handle = handle
  }

  /** @param replace - Whether a file that is there already gives way. */
  static async create(path: string, replace: boolean): Promise<BackupFile> {
    const part = `${path}.part-${process.pid}`
    try {
      if (!replace && (await exists(path))) throw taken(path)
      return new BackupFile(path, part, await open(part, 'wx', 0o600))
    } catch (cause) {
      throw cause instanceof CommandError ? cause : unusable(path, cause)
    }
  }

  async write(chunk: Buffer): Promise<void> {
    try {
      for (let offset = 0; offset < chunk.length; ) {
        const { bytesWritten } = await this.#handle.write(chunk, offset)
        offset += bytesWritten
      }
    } catch (cause) {
      throw unusable(this.#path, cause)
    }
  }

  /** Puts it in its place, durably. */
  async finish(): Promise<void> {
    try {
      await this.#handle.sync()
      await this.#handle.close()
      await rename(this.#part, this.#path)
      const directory = await open(dirname(this.#path), 'r')
      await directory.sync().finally(() => directory.close())
    } catch (cause) {
      throw unusable(this.#path, cause)
    }
  }

  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined)
    await unlink(this.#part).catch(() => undefined)
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close()
    return true
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ENOENT')
  }
}

function taken(path: string): CommandError {
  return new CommandError(ExitCode.usage, `${path}: is there already; --force replaces it`)
}

function unusable(path: string, cause: unknown): CommandError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new CommandError(ExitCode.failed, `${path}: cannot be written: ${reason}`, { cause })
}

import { join } from 'node:path'
import { holdsStore, StoreError } from '@levelmq/store'
import { CommandError, ExitCode } from '../exit-code.ts'

/** Refuses a directory that is none of a store, as wrong usage. */
export async function requireStore(directory: string): Promise<void> {
  if (await holdsStore(directory)) return
  const below = join(directory, 'LevelDB')
  const hint = (await holdsStore(below))
    ? `that is ${below}`
    : 'give the directory with identity.json, journal and index in it'
  throw new CommandError(ExitCode.usage, `${directory}: holds no store; ${hint}`)
}

/** The exit code and words for what kept a command from looking at a store. */
export function inspectionFailure(error: unknown): unknown {
  if (!(error instanceof StoreError)) return error
  const code = error.code === 'STORE_DIRECTORY_IN_USE' ? ExitCode.unavailable : ExitCode.storeFailed
  return new CommandError(code, `${error.code}: ${error.message}`, { cause: error })
}

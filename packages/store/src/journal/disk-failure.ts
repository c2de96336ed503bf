import { StoreError } from '../errors.ts'

/** Waits for an operation on `file`, and turns its failure into `STORE_DISK_FAILED`. */
export async function orDiskFailed<T>(operation: string, file: string, outcome: Promise<T>): Promise<T> {
  try {
    return await outcome
  } catch (cause) {
    throw diskFailed(operation, file, cause)
  }
}

export function diskFailed(operation: string, file: string, cause: unknown): StoreError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new StoreError(
    { code: 'STORE_DISK_FAILED', file, operation },
    `${operation} of ${file} failed: ${reason}`,
    {
      cause,
    },
  )
}

/** Whether a disk failure is for lack of space only. */
export function isNoSpace(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT')
}

/** What can go wrong for a caller of the store, by stable code; `docs/errors.md` tells when, why and what to do. */
export type StoreErrorDetail =
  /** This node is not, or no longer, master. What was appended and not confirmed is in doubt: send it again. */
  | { readonly code: 'STORE_NOT_MASTER' }
  | { readonly code: 'STORE_CLOSED' }
  | { readonly code: 'STORE_INVALID_OPTION'; readonly option: string; readonly value: unknown }
  /** Another process has the directory open. */
  | { readonly code: 'STORE_DIRECTORY_IN_USE'; readonly directory: string }
  /** The directory holds the store of another node, or of a cluster with another number of replicas. */
  | { readonly code: 'STORE_FOREIGN_DIRECTORY'; readonly directory: string }
  /** Bytes that were once durable are damaged. Nothing was changed. `offset` is in bytes within `file`. */
  | { readonly code: 'STORE_CORRUPT'; readonly file: string; readonly offset: number }
  /** Reading or writing failed; after a failed write or sync the process must end (rule S29). */
  | { readonly code: 'STORE_DISK_FAILED'; readonly file: string; readonly operation: string }
  /** The message index could not be written for lack of space. Nothing is lost: it is tried again. */
  | { readonly code: 'STORE_DISK_FULL'; readonly directory: string }
  /** A format or record kind that this version does not know: it never skips what it does not understand. */
  | { readonly code: 'STORE_UNKNOWN_FORMAT'; readonly file: string }
  | { readonly code: 'STORE_ADDRESS_IN_USE'; readonly address: string }
  /** A record larger than `maxRecordBytes`. */
  | { readonly code: 'STORE_RECORD_TOO_LARGE'; readonly bytes: number; readonly limit: number }
  /** The disk is as full as it may get: no message is taken until space is free again. Nothing else is refused. */
  | { readonly code: 'STORE_FULL'; readonly directory: string }
  /** A change of members, level or mastership that would not be safe or makes no sense; the message tells why. */
  | { readonly code: 'STORE_CHANGE_REFUSED'; readonly change: string }
  /** The log below `index` is no longer there. */
  | { readonly code: 'STORE_LOG_GONE'; readonly index: number }

/** A fault that the caller of the store can meet. `code` and the facts are stable, the message may change. */
export class StoreError extends Error {
  readonly code: StoreErrorDetail['code']
  readonly detail: StoreErrorDetail

  constructor(detail: StoreErrorDetail, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'StoreError'
    this.code = detail.code
    this.detail = detail
  }
}

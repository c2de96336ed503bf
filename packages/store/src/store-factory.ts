import type { MessageStore } from './message-store.ts'
import type { LevelDbOptions, ReplicatedLevelDbOptions } from './options.ts'

/** Which store to open: the same directory opens either way. */
export type StoreConfiguration =
  | { readonly kind: 'levelDB'; readonly options: LevelDbOptions }
  | { readonly kind: 'replicatedLevelDB'; readonly options: ReplicatedLevelDbOptions }

/** What the store gets from the program it runs in. */
export interface StoreHost {
  /** Shown by every member's status while this one is master (`masterInfo`): JSON data, at most 4 KiB. */
  readonly memberInfo: Readonly<Record<string, unknown>>
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string, facts?: Readonly<Record<string, unknown>>): void
}

/**
 * Makes the store that a configuration describes; nothing is opened before `open`.
 *
 * @throws StoreError `STORE_INVALID_OPTION` for an unknown or wrong setting.
 */
export function createStore(_configuration: StoreConfiguration, _host: StoreHost): MessageStore {
  throw new Error('not built yet')
}

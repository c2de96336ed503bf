export { StoreError, type StoreErrorDetail } from './errors.ts'
export type {
  MasterSession,
  MessageEntry,
  MessageStore,
  QueueInfo,
  Role,
  StoreListener,
} from './message-store.ts'
export type { LevelDbOptions, ReplicatedLevelDbOptions, SyncLevel } from './options.ts'
export { createStore, type StoreConfiguration, type StoreHost } from './store-factory.ts'
export type { MemberStatus, Position, StoreStatus, ZooKeeperStatus } from './store-status.ts'

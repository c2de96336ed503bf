export { restoreBackup } from './backup/restore.ts'
export { StoreError, type StoreErrorDetail } from './errors.ts'
export { recoverStore } from './forced-recovery.ts'
export { type DumpedBatch, type DumpOptions, type DumpTrouble, dumpStore } from './inspection/dump.ts'
export { type Finding, isDamage, type Meaning } from './inspection/finding.ts'
export type { RecordKindName } from './inspection/record-census.ts'
export type { DumpedRecord } from './inspection/record-lister.ts'
export { holdsStore } from './inspection/store-files.ts'
export {
  type IndexSummary,
  type JournalSummary,
  type VerifyOptions,
  type VerifyReport,
  verifyStore,
} from './inspection/verify.ts'
export type {
  MasterSession,
  MessageEntry,
  MessageStore,
  QueueInfo,
  Role,
  StoreListener,
} from './message-store.ts'
export type { LevelDbOptions, ReplicatedLevelDbOptions, SyncLevel } from './options.ts'
export type {
  BackupReport,
  LevelRange,
  MemberReport,
  MembersReport,
  RecoveryPlan,
  RestoreOptions,
  RestoreReport,
  StoreAdministration,
} from './store-administration.ts'
export { createStore, type StoreConfiguration, type StoreHost } from './store-factory.ts'
export type { MemberStatus, Position, StorageStatus, StoreStatus, ZooKeeperStatus } from './store-status.ts'

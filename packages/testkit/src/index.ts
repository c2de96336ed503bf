export {
  BatchChain,
  type BatchPlace,
  type BuiltBatch,
  buildBatch,
  encodeRecord,
  type RecordContent,
} from './batch-builder.ts'
export { MemoryIndex } from './memory-index.ts'
export { MemoryStore, type MemoryStoreOptions } from './memory-store.ts'
export { SeededRandom } from './seeded-random.ts'
export { VirtualClock } from './virtual-clock.ts'
export {
  type CoordinationOperation,
  VirtualCoordinationSession,
  VirtualZooKeeper,
} from './virtual-coordination.ts'
export { type DiskFailure, type DiskOperation, VirtualDisk } from './virtual-disk.ts'
export { VirtualNetwork } from './virtual-network.ts'

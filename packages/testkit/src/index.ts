export { MemoryStore, type MemoryStoreOptions } from './memory-store.ts'
export {
  BatchChain,
  type BatchPlace,
  type BuiltBatch,
  buildBatch,
  encodeRecord,
  type RecordContent,
} from './batch-builder.ts'
export { MemoryIndex } from './memory-index.ts'
export { SeededRandom } from './seeded-random.ts'
export { type DiskFailure, type DiskOperation, VirtualDisk } from './virtual-disk.ts'

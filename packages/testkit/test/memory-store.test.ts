import { messageStoreConformance } from '../../store/test/conformance/message-store.ts'
import { MemoryStore } from '../src/memory-store.ts'

messageStoreConformance('in memory', ({ maxRecordBytes }) => {
  const store = new MemoryStore({ maxRecordBytes })
  return { store, reopen: () => store, dispose: async () => undefined }
})

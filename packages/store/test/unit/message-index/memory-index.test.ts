import { MemoryIndex } from '@levelmq/testkit'
import { conformsToMessageIndex } from '../../conformance/message-index.ts'

conformsToMessageIndex('memory index', async () => ({
  index: new MemoryIndex({ maxProducers: 3, maxGaps: 2 }),
  async dispose() {},
}))

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createStore } from '../../src/index.ts'
import { messageStoreConformance } from '../conformance/message-store.ts'

messageStoreConformance('levelDB, on a real disk', async ({ maxRecordBytes }) => {
  const directory = await mkdtemp(join(tmpdir(), 'levelmq-store-'))
  const reopen = () =>
    createStore(
      { kind: 'levelDB', options: { directory, maxRecordBytes, logSize: 2 ** 20 } },
      { memberInfo: {}, log: () => {} },
    )
  return { store: reopen(), reopen, dispose: () => rm(directory, { recursive: true, force: true }) }
})

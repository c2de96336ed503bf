import { test } from 'vitest'
import { withCluster } from './cluster-fixture.ts'
import { produceKillConsume } from './main-job.ts'

test('raft: a text of 10,000 lines survives a SIGKILL of the master in the middle of it (S14, S17, W1, W14)', async () => {
  await withCluster({ elector: 'raft' }, async (cluster) => {
    await produceKillConsume(cluster)
  })
})

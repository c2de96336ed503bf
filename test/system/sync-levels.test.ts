import { expect, test } from 'vitest'
import { withCluster } from './cluster-fixture.ts'

test.each([
  ['quorum_disk', false],
  ['quorum_mem', true],
  ['remote_disk', true],
  ['remote_mem', true],
  ['local_disk', true],
  ['local_mem', true],
])('sync %s: starts, confirms, and shows in the status whether it is weaker (W32)', async (sync, weaker) => {
  await withCluster({ store: { sync } }, async (cluster) => {
    const master = await cluster.waitForService()
    const client = await cluster.connect(master)
    await client.produce(
      'orders',
      Array.from({ length: 50 }, (_, i) => `m${i}`),
    )
    for (const n of cluster.numbers()) {
      const status = await cluster.status(n)
      expect(status.sync).toBe(sync)
      expect(Boolean(status.syncWarning)).toBe(weaker)
      expect(cluster.log(n).includes(status.syncWarning ?? '')).toBe(true)
    }
  })
})

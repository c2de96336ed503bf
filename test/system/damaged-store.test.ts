import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { expect, test } from 'vitest'
import { memberOf } from './broker-status.ts'
import { levelmq } from './child-process.ts'
import {
  type BrokerConfiguration,
  type Cluster,
  electionTimeoutMs,
  name,
  withCluster,
} from './cluster-fixture.ts'
import { batchOffsets, digests, journalFiles, writtenBytes } from './journal-files.ts'
import { holdsFor, waitFor } from './wait-for.ts'

const bodies = (count: number): string[] => Array.from({ length: count }, (_, i) => `message ${i}`)

test('a damaged journal in a cluster: is repaired from another member before the broker takes part again (S27, T9, W8, W11)', async () => {
  await withCluster({}, async (cluster) => {
    const master = await cluster.waitForService()
    const client = await cluster.connect(master)
    for (let i = 0; i < 20; i++) await client.produce('orders', [`before ${i}`])
    const damaged = slaveOf(cluster, master)
    await cluster.waitForService()
    await cluster.kill(damaged)
    const { file, offset, sound } = damage(cluster.storeDirectory(damaged))

    // With nobody to ask it waits, and says for what.
    await cluster.kill(master)
    const other = cluster.numbers().find((n) => n !== master && n !== damaged) ?? 0
    await cluster.kill(other)
    cluster.start(damaged)
    const status = await waitFor('it to say what it lacks', async () => {
      const answer = await cluster.status(damaged)
      return /damaged/.test(answer.waitingFor ?? '') ? answer : undefined
    })
    expect([status.role, status.waitingFor]).toEqual(['electing', expect.stringContaining(basename(file))])

    cluster.start(other)
    await cluster.waitForMaster()
    await cluster.waitForService()
    expect(readFileSync(file).subarray(offset, offset + 128)).toEqual(sound)
    const { stdout } = await levelmq([
      'consume',
      '--queue',
      'orders',
      '--url',
      cluster.failoverUri,
      '--timeout',
      '2',
    ])
    expect(stdout.split('\n').slice(0, -1)).toEqual(Array.from({ length: 20 }, (_, i) => `before ${i}`))
  })
})

test('a damaged journal of a single broker: it refuses to start, names file and offset, and changes nothing (S27, W8)', async () => {
  const configure = (configuration: BrokerConfiguration) => {
    const { directory } = configuration.persistenceAdapter.replicatedLevelDB
    Object.assign(configuration, { persistenceAdapter: { levelDB: { directory } } })
  }
  await withCluster({ size: 1, configure }, async (cluster) => {
    await cluster.waitForMaster()
    const client = await cluster.connect(1)
    for (let i = 0; i < 20; i++) await client.produce('orders', [`before ${i}`])
    await cluster.kill(1)
    const { file, offset } = damage(cluster.storeDirectory(1))
    const before = digests([file])

    const broker = cluster.start(1)
    const exit = await waitFor('the broker to refuse', () => broker.exited)
    expect(exit).toEqual({ code: 74, signal: null })
    expect(broker.output()).toContain(basename(file))
    expect(numbersIn(broker.output()).some((told) => told >= offset && told <= offset + 128)).toBe(true)
    expect(digests([file])).toEqual(before)
  })
})

test('a blank directory in an existing cluster: does not vote, even if a master is missed for it (T6)', async () => {
  await withCluster({}, async (cluster) => {
    const a = await cluster.waitForService()
    const [b, c] = cluster.numbers().filter((n) => n !== a) as [number, number]
    const client = await cluster.connect(a)
    await client.produce('orders', ['both have it'])
    await cluster.waitForService()
    await cluster.kill(c)
    // Committed by a and b alone; c does not know of it.
    await client.produce('orders', bodies(100))
    await Promise.all([cluster.kill(a), cluster.kill(b)])
    rmSync(cluster.storeDirectory(b), { recursive: true })

    cluster.start(b)
    cluster.start(c)
    await waitFor('c to see b as a learner', async () => {
      const member = memberOf(await cluster.status(c), name(b))
      return member !== undefined && !member.voter && member.state !== 'unreachable'
    })
    await holdsFor(3 * electionTimeoutMs, async () => {
      for (const status of (await cluster.statuses()).values()) expect(status.role).not.toBe('master')
    })

    cluster.start(a)
    const master = await cluster.waitForMaster()
    const reader = await cluster.connect(master)
    await reader.subscribe('orders', 'auto')
    await waitFor('all messages', () => reader.messages().length === 101)
    expect(reader.messages().map((frame) => `${frame.body}`)).toEqual(['both have it', ...bodies(100)])
  })
})

test('a directory of another cluster: is refused with a reason, keeps its content; the others go on', async () => {
  await withCluster({}, async (other) => {
    const otherMaster = await other.waitForService()
    const client = await other.connect(otherMaster)
    await client.produce('foreign', bodies(10))
    await other.waitForService()
    await Promise.all(other.numbers().map((n) => other.kill(n)))

    await withCluster({}, async (cluster) => {
      const master = await cluster.waitForService()
      const stranger = slaveOf(cluster, master)
      await cluster.kill(stranger)
      rmSync(cluster.storeDirectory(stranger), { recursive: true })
      cpSync(other.storeDirectory(stranger), cluster.storeDirectory(stranger), { recursive: true })
      const before = journalFiles(cluster.storeDirectory(stranger)).map((file) => ({
        file,
        bytes: writtenBytes(file),
      }))
      expect(before.length).toBeGreaterThan(0)

      const broker = cluster.start(stranger)
      await waitFor('the stranger to be refused', async () => {
        if (broker.exited !== undefined) return broker.exited.code !== 0 && /cluster/i.test(broker.output())
        const member = memberOf(await cluster.status(master), name(stranger))
        return member?.state === 'refused' && /cluster/i.test(member.reason ?? '')
      })
      const steady = await cluster.connect(master)
      await steady.produce('orders', bodies(10))
      await cluster.kill(stranger)
      // Recovery notes behind the log what it brought to disk again; what was in the log stays as it is.
      for (const { file, bytes } of before) {
        expect(writtenBytes(file).subarray(0, bytes.length).equals(bytes), file).toBe(true)
      }
    })
  })
})

/** Flips a bit in the payload of a batch with many good ones behind it; `offset` is that of the batch. */
function damage(directory: string): { file: string; offset: number; sound: Buffer } {
  const file = journalFiles(directory)[0] as string
  const offsets = batchOffsets(file)
  expect(offsets.length).toBeGreaterThan(10)
  const offset = offsets[Math.floor(offsets.length / 2)] as number
  const bytes = readFileSync(file)
  const sound = Buffer.from(bytes.subarray(offset, offset + 128))
  bytes[offset + 70] = (bytes[offset + 70] as number) ^ 0x10
  writeFileSync(file, bytes)
  return { file, offset, sound }
}

function slaveOf(cluster: Cluster, master: number): number {
  return cluster.numbers().find((n) => n !== master) as number
}

function numbersIn(text: string): number[] {
  return (text.match(/\d+/g) ?? []).map(Number)
}

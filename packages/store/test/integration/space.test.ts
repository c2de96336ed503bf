import { readdirSync, readlinkSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Member, StoreCluster, until } from './store-cluster.ts'

const segmentBytes = 2 ** 23
const body = Buffer.alloc(8 * 1024, 'x')

let cluster: StoreCluster
beforeEach(async () => {
  cluster = await StoreCluster.create(3)
})
afterEach(async () => {
  await cluster.dispose()
})

/** Bytes of the journal's files, the spare one included. */
function journalBytes(place: number): number {
  const directory = cluster.directoryOf(place)
  let bytes = 0
  for (const name of readdirSync(directory).filter((each) => each.startsWith('journal'))) {
    for (const file of readdirSync(join(directory, name))) {
      try {
        bytes += statSync(join(directory, name, file)).size
      } catch {
        // Removed in between.
      }
    }
  }
  return bytes
}

/** Open files of this process below the cluster's directory. */
function openFiles(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(join('/proc/self/fd', fd)).includes('journal')
    } catch {
      return false
    }
  }).length
}

/** Sends messages of 8 KiB and removes each once it is committed. */
async function churn(master: Member, queue: number, count: number): Promise<void> {
  const batch = 64
  for (let done = 0; done < count; done += batch) {
    const indices: number[] = []
    for (let each = 0; each < batch; each++)
      indices.push(master.master.addMessage(queue, 0, 0, Buffer.alloc(0), body))
    await until('they are committed', () => master.committed >= (indices.at(-1) ?? 0))
    const removal = master.master.removeMessages(queue, indices)
    await until('they are removed', () => master.confirmed >= removal)
  }
}

describe('space', () => {
  test('W29: with one message never consumed, disk and open files stay in bounds on all members, and it survives', async () => {
    await cluster.openAll({ logSize: segmentBytes })
    const master = await cluster.master()
    const queue = master.master.addQueue('churn')
    const kept = master.master.addQueue('kept')
    const producer = master.master.producer('producer')
    const message = master.master.addMessage(
      kept,
      producer,
      1,
      Buffer.from('head '),
      Buffer.from('of the kept one'),
    )
    await master.confirmation(message)
    const files: number[] = []
    // Ten segments' worth.
    for (let round = 0; round < 20; round++) {
      await churn(master, queue, 512)
      // Next to nothing lives in it: one segment is written, one is made ahead, one may wait for its second checkpoint.
      await until('the disk within its bounds', () =>
        [0, 1, 2].every((place) => journalBytes(place) < 3 * segmentBytes + 2 ** 20),
      )
      files.push(openFiles())
    }
    await until('what is dead is given back everywhere', () =>
      [0, 1, 2].every((place) => journalBytes(place) < 2 * segmentBytes + 2 ** 20),
    )
    expect(Math.max(...files.slice(2))).toBeLessThanOrEqual(Math.max(...files.slice(0, 2)) + 3)

    expect(await master.texts(kept)).toEqual(['head of the kept one'])
    // The producer is still known: what it sends again is recognised.
    expect(
      master.master.addMessage(kept, producer, 1, Buffer.from('head '), Buffer.from('again')),
    ).toBeLessThan(0)

    // On the next master as well, whose log begins later, too.
    await cluster.close(master)
    const next = await cluster.master()
    expect(next.status.storage?.firstIndex ?? 2).toBeGreaterThan(1)
    expect(await next.texts(kept)).toEqual(['head of the kept one'])
    const again = next.master.producer('producer')
    expect(next.master.addMessage(kept, again, 1, Buffer.from('head '), Buffer.from('again'))).toBeLessThan(0)
  })

  test('T16, S33: a blank member copies a store whose log begins later, and takes its part', async () => {
    await cluster.openAll({ flushDelay: 50 })
    const master = await cluster.master()
    const queue = master.master.addQueue('churn')
    const kept = master.master.addQueue('kept')
    for (let each = 0; each < 20; each++) await master.send(kept, `message ${each}`)
    await churn(master, queue, 1024)
    const slave = cluster.members.find((member) => member !== master) as Member
    const place = Number(slave.name.slice(1))
    await cluster.close(slave)
    await rm(cluster.directoryOf(place), { recursive: true })
    await churn(master, queue, 512)
    const blank = await cluster.open(place, { flushDelay: 50 })
    await until('it is a voter', () => blank.status.members[0]?.voter === true)
    expect(readdirSync(cluster.directoryOf(place)).sort()).toEqual([
      'identity.json',
      'index.1',
      'journal.1',
      'promise',
    ])
    await cluster.close(master)
    const other = cluster.members.find((member) => member !== blank) as Member
    const next = await cluster.master()
    expect(await next.texts(kept)).toHaveLength(20)
    await next.send(kept, 'after')
    await until('both have it', () =>
      [blank, other].every((member) => member.status.commitIndex >= next.confirmed),
    )
    const queues = (member: Member) =>
      member.store.queues().map(({ name, messageCount }) => [name, messageCount])
    expect(queues(blank)).toEqual(queues(other))
  })

  test('S28, AMQ-5300: a deleted index is built anew from a log that begins later', async () => {
    await cluster.openAll({ flushDelay: 50 })
    const master = await cluster.master()
    const queue = master.master.addQueue('churn')
    const kept = master.master.addQueue('kept')
    for (let each = 0; each < 20; each++) await master.send(kept, `message ${each}`)
    await churn(master, queue, 1024)
    const place = Number(master.name.slice(1))
    await cluster.close(master)
    await rm(join(cluster.directoryOf(place), 'index'), { recursive: true })
    const rebuilt = await cluster.open(place, { flushDelay: 50, weight: 10 })
    const now = await cluster.master()
    await until('it is level', () => rebuilt.status.commitIndex >= now.status.commitIndex)
    const queues = (member: Member) =>
      member.store.queues().map(({ name, messageCount }) => [name, messageCount])
    await until(
      'their queues are equal',
      () => JSON.stringify(queues(rebuilt)) === JSON.stringify(queues(now)),
    )
    expect(queues(rebuilt)).toEqual([
      ['churn', 0],
      ['kept', 20],
    ])
  })
})

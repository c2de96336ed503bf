import { open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { verifyStore } from '../../src/index.ts'
import { type Member, StoreCluster, until } from './store-cluster.ts'

let cluster: StoreCluster
beforeEach(async () => {
  cluster = await StoreCluster.create(3)
})
afterEach(async () => {
  await cluster.dispose()
})

const body = Buffer.alloc(16 * 1024, 'x')

/** Flips bits in the middle of the journal's first segment. */
async function damage(place: number): Promise<void> {
  const directory = join(cluster.directoryOf(place), 'journal')
  const [first = ''] = (await readdir(directory)).filter((name) => name.endsWith('.log')).sort()
  const file = await open(join(directory, first), 'r+')
  try {
    await file.write(Buffer.from('damage'), 0, 6, 400_000)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function filled(): Promise<{ master: Member; queue: number; last: number }> {
  await cluster.openAll({ flushDelay: 50 })
  const master = await cluster.master()
  const queue = master.master.addQueue('q')
  let last = 0
  for (let each = 0; each < 200; each++) {
    last = master.master.addMessage(queue, 0, 0, Buffer.from(`${each} `), body)
    if (each % 10 === 9) await master.confirmation(last)
  }
  return { master, queue, last }
}

const placeOf = (member: Member): number => Number(member.name.slice(1))

describe('damage (S27)', () => {
  test('T9: a slave that finds damage at its start has it repaired from another member, and then takes part again', async () => {
    const { master, last } = await filled()
    const slave = cluster.members.find((member) => member !== master) as Member
    await until('it has it all', () => slave.status.durableIndex >= last)
    await cluster.close(slave)
    await damage(placeOf(slave))
    expect((await verifyStore(cluster.directoryOf(placeOf(slave)))).sound).toBe(false)
    // Without an index every segment is read at the start.
    await rm(join(cluster.directoryOf(placeOf(slave)), 'index'), { recursive: true })
    const back = await cluster.open(placeOf(slave), { flushDelay: 50 })
    await until('it follows', () => back.store.role === 'slave' && back.status.commitIndex >= last)
    expect(back.logged.join('\n')).toMatch(/are damaged: asking the other members/)
    await cluster.close(back)
    expect((await verifyStore(cluster.directoryOf(placeOf(back)))).sound).toBe(true)
  })

  test('S32: the scrubber finds damage that nobody has read, and has it repaired', async () => {
    const { master, last } = await filled()
    const slave = cluster.members.find((member) => member !== master) as Member
    await until('it has it all', () => slave.status.durableIndex >= last)
    await cluster.close(slave)
    await damage(placeOf(slave))
    const back = await cluster.open(placeOf(slave), { flushDelay: 50, scrubInterval: 1000 })
    await until('it is found and repaired', () => back.status.storage?.scrub?.repaired === 1)
    await until('a whole pass finds nothing more', () => back.status.storage?.scrub?.lastPassMs !== undefined)
    expect(back.status.storage?.scrub?.damaged).toBe(1)
    await cluster.close(back)
    expect((await verifyStore(cluster.directoryOf(placeOf(back)))).sound).toBe(true)
  })

  test('S27: a master that reads damaged messages gets them from a slave: the reader waits, and gets what was sent', async () => {
    const { master, queue, last } = await filled()
    const slaves = cluster.members.filter((member) => member !== master)
    await until('all have it', () => slaves.every((member) => member.status.durableIndex >= last))
    await cluster.close(master)
    await damage(placeOf(master))
    // Its index is whole, so it does not read the segment at the start.
    const back = await cluster.open(placeOf(master), { flushDelay: 50 })
    const others = cluster.members.filter((member) => member !== back)
    await until('it is level', () => back.status.commitIndex >= last)
    for (const other of others) if (other.session !== undefined) await cluster.close(other)
    const next = await cluster.master()
    const reader = next === back ? back : next
    const page = await back.store.page(queue, 0, 1000)
    const read = await back.store.read(
      queue,
      page.map(({ index }) => index),
    )
    expect(read.map((envelope) => Number.parseInt(envelope.toString('utf8', 0, 8), 10))).toEqual(
      Array.from({ length: 200 }, (_, place) => place),
    )
    expect(back.logged.join('\n')).toMatch(/are repaired/)
    expect(reader.failure).toBeUndefined()
  })
})

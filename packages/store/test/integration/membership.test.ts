import { readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { recoverStore, restoreBackup } from '../../src/index.ts'
import type { StoreAdministration } from '../../src/store-administration.ts'
import { type Member, StoreCluster, until } from './store-cluster.ts'

let cluster: StoreCluster
beforeEach(async () => {
  cluster = await StoreCluster.create(5)
})
afterEach(async () => {
  await cluster.dispose()
})

const address = (place: number): string => `127.0.0.1:${cluster.ports[place]}`
const firstThree = () => ({ replicas: 3, peers: [0, 1, 2].map(address) })

function administration(member: Member): StoreAdministration {
  const { administration } = member.store
  if (administration === undefined) throw new Error(`${member.name} has no administration`)
  return administration
}

async function three(): Promise<Member> {
  await Promise.all([0, 1, 2].map((place) => cluster.open(place, firstThree())))
  return await cluster.master()
}

function votersOf(member: Member): string[] {
  const { members } = administration(member).members()
  return members.filter(({ role }) => role === 'voter').map(({ name }) => name)
}

function nodeIdOf(member: Member): string {
  return member.status.nodeId
}

describe('members of a running cluster', () => {
  test('T23: 3 to 5 voters and back to 3 without the master, while messages are sent', async () => {
    const first = await three()
    const queue = first.master.addQueue('q')
    const sent: string[] = []
    const send = async (master: Member, count: number) => {
      for (let each = 0; each < count; each++) {
        const text = `message ${sent.length}`
        await master.send(queue, text)
        sent.push(text)
      }
    }
    await send(first, 10)
    const newcomers = await Promise.all([3, 4].map((place) => cluster.open(place)))
    for (const newcomer of newcomers) {
      await until(`${newcomer.name} is known`, () => first.sees(newcomer)?.state === 'learner')
      const added = administration(first).addMember(nodeIdOf(newcomer))
      await send(first, 5)
      await added
    }
    expect(votersOf(first).sort()).toEqual(['b0', 'b1', 'b2', 'b3', 'b4'])
    expect(first.status.quorum.needed).toBe(3)

    // Two of five may go, one of them an old one.
    const gone = cluster.members.find((member) => member !== first && Number(member.name.slice(1)) < 3)
    await cluster.close(gone as Member)
    await cluster.close(newcomers[0] as Member)
    await send(first, 5)
    expect(first.status.quorum).toEqual({ needed: 3, present: 3 })

    await administration(first).removeMember(nodeIdOf(gone as Member))
    await administration(first).removeMember(nodeIdOf(first))
    await until('the removed master has stepped down', () => first.session === undefined)
    const second = await cluster.master()
    expect(second).not.toBe(first)
    expect(votersOf(second)).toHaveLength(3)
    expect(votersOf(second)).not.toContain(first.name)
    await cluster.close(first)
    await send(second, 5)
    expect(await second.texts(queue)).toEqual(sent)
  })

  test('S35: what would not be safe, or makes no sense, is refused with the reason', async () => {
    const master = await three()
    await expect(administration(master).addMember('nobody')).rejects.toMatchObject({
      code: 'STORE_CHANGE_REFUSED',
      message: expect.stringMatching(/nobody is not connected/),
    })
    await expect(administration(master).finaliseLevel(2)).rejects.toMatchObject({
      code: 'STORE_CHANGE_REFUSED',
    })
    const slave = cluster.members.find((member) => member !== master) as Member
    await expect(administration(slave).removeMember(nodeIdOf(master))).rejects.toMatchObject({
      code: 'STORE_NOT_MASTER',
    })
    expect(votersOf(master)).toHaveLength(3)
  })

  test('S35: after a change, a start with the wrong number of replicas is refused with the fix', async () => {
    const master = await three()
    const [slave, other] = cluster.members.filter((member) => member !== master) as [Member, Member]
    await administration(master).removeMember(nodeIdOf(other))
    await until('the slave knows', () => slave.status.members.filter(({ voter }) => voter).length === 2)
    await cluster.close(slave)
    const place = Number(slave.name.slice(1))
    await expect(cluster.open(place, firstThree())).rejects.toMatchObject({
      code: 'STORE_FOREIGN_DIRECTORY',
      message: expect.stringMatching(/cluster of 2 replicas, and 3 are configured: set replicas to 2/),
    })
  })
})

describe('backup and restore (S37)', () => {
  test('a backup made while messages are sent becomes a cluster of its own, with everything confirmed before', async () => {
    const master = await three()
    const queue = master.master.addQueue('q')
    const before = Array.from({ length: 50 }, (_, place) => `message ${place}`)
    for (const text of before) await master.send(queue, text)
    const file = join(cluster.directory, 'backup')
    const chunks: Uint8Array[] = []
    const running = administration(master).backup(async (chunk) => {
      chunks.push(Buffer.from(chunk))
      await master.send(queue, `during ${chunks.length}`)
    })
    const report = await running
    expect(report.clusterUuid).toBe(master.status.clusterUuid)
    await writeFile(file, Buffer.concat(chunks))
    for (const member of cluster.members) await cluster.close(member)

    await expect(restoreBackup({ from: file, directory: cluster.directoryOf(0) })).rejects.toMatchObject({
      code: 'STORE_FOREIGN_DIRECTORY',
    })
    for (const place of [0, 1, 2]) await rm(cluster.directoryOf(place), { recursive: true })
    const restored = await restoreBackup({ from: file, directory: cluster.directoryOf(0), nodeId: 'b0' })
    expect(restored.position).toEqual(report.position)
    const alone = await cluster.open(0, { ...firstThree(), nodeId: 'b0' })
    await until('it serves alone', () => alone.session !== undefined)
    expect(alone.status.clusterUuid).not.toBe(report.clusterUuid)
    expect((await alone.texts(queue)).slice(0, 50)).toEqual(before)

    // Blank members are taken in until there are as many as `replicas`.
    await cluster.open(1, firstThree())
    await cluster.open(2, firstThree())
    await until('they are voters', () => votersOf(alone).length === 3)
    await alone.send(queue, 'after')
  })

  test('one that is cut short or damaged is refused, and leaves no store', async () => {
    const master = await three()
    const queue = master.master.addQueue('q')
    for (let each = 0; each < 20; each++) await master.send(queue, `message ${each}`)
    const file = join(cluster.directory, 'backup')
    const chunks: Uint8Array[] = []
    await administration(master).backup(async (chunk) => void chunks.push(Buffer.from(chunk)))
    const whole = Buffer.concat(chunks)
    for (let at = 0; at < whole.length; at += 97) {
      const damaged = Buffer.from(whole)
      damaged.writeUInt8(damaged.readUInt8(at) ^ 4, at)
      await writeFile(file, damaged)
      const directory = cluster.directoryOf(10 + at)
      await expect(restoreBackup({ from: file, directory })).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
      await expect(readFile(join(directory, 'identity.json'))).rejects.toMatchObject({ code: 'ENOENT' })
    }
    await writeFile(file, whole)
    await truncate(file, whole.length - 1)
    await expect(restoreBackup({ from: file, directory: cluster.directoryOf(9) })).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
      message: expect.stringMatching(/not complete/),
    })
  })
})

describe('forced recovery (S25)', () => {
  test('one store of a lost majority becomes a cluster of its own, says what may be lost, and the others come back emptied', async () => {
    const master = await three()
    const queue = master.master.addQueue('q')
    for (let each = 0; each < 20; each++) await master.send(queue, `message ${each}`)
    const { clusterUuid } = master.status
    const survivor = cluster.members.find((member) => member !== master) as Member
    await until(
      'the survivor has it all',
      () => survivor.status.position.index === master.status.position.index,
    )
    for (const member of cluster.members) await cluster.close(member)
    const place = Number(survivor.name.slice(1))
    const directory = cluster.directoryOf(place)

    const plan = await recoverStore(directory, { confirm: false })
    expect(plan).toMatchObject({ clusterUuid, messages: 20, newClusterUuid: undefined })
    expect(plan.voters).toHaveLength(3)
    expect(plan.losses.join(' ')).toMatch(/is lost if this store was not among those that had it/)
    const alone = await cluster.open(place, firstThree())
    await until(
      'it waits for a quorum as before',
      () => alone.status.waitingFor?.includes('a quorum') === true,
    )
    expect(alone.status.clusterUuid).toBe(clusterUuid)
    await cluster.close(alone)

    const done = await recoverStore(directory, { confirm: true })
    expect(done.newClusterUuid).toBeDefined()
    const recovered = await cluster.open(place, firstThree())
    await until('it serves alone', () => recovered.session !== undefined)
    expect(recovered.status.clusterUuid).toBe(done.newClusterUuid)
    expect(await recovered.texts(queue)).toHaveLength(20)

    // A store of the old cluster is refused with what it has, and welcome without.
    const [old, blank] = [0, 1, 2].filter((each) => each !== place) as [number, number]
    const stranger = await cluster.open(old, firstThree())
    await until('it is refused', () => recovered.status.members.some(({ state }) => state === 'refused'))
    expect(votersOf(recovered)).toHaveLength(1)
    await cluster.close(stranger)
    for (const each of [old, blank]) {
      await rm(cluster.directoryOf(each), { recursive: true })
      await cluster.open(each, firstThree())
    }
    await until('all are voters', () => votersOf(recovered).length === 3)
    await recovered.send(queue, 'after')
  })
})

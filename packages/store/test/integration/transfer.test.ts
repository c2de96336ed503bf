import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { StoreAdministration } from '../../src/store-administration.ts'
import { type Member, StoreCluster, until } from './store-cluster.ts'

let cluster: StoreCluster
beforeEach(async () => {
  cluster = await StoreCluster.create(3)
  await cluster.openAll()
})
afterEach(async () => {
  await cluster.dispose()
})

function administration(member: Member): StoreAdministration {
  const { administration } = member.store
  if (administration === undefined) throw new Error(`${member.name} has no administration`)
  return administration
}

describe('transfer of mastership', () => {
  test('the member that is named becomes master at once, with everything that was confirmed', async () => {
    const first = await cluster.master()
    const queue = first.master.addQueue('q')
    const sent: string[] = []
    let to = cluster.members.find((member) => member !== first) as Member
    for (let round = 0; round < 4; round++) {
      const master = await cluster.master()
      for (let each = 0; each < 5; each++) {
        const text = `message ${sent.length}`
        await master.send(queue, text)
        sent.push(text)
      }
      const before = master.status.epoch
      await until('the other one is in sync', () => master.sees(to)?.state === 'in sync')
      expect(await administration(master).transfer(to.status.nodeId)).toEqual({ to: to.status.nodeId })
      await until('it serves', () => to.session !== undefined)
      // One epoch further: nobody else stood.
      expect(to.status.epoch).toBe(before + 1)
      to = master
    }
    expect(await (await cluster.master()).texts(queue)).toEqual(sent)
  })

  test('it is refused for one that is not there, and by a slave; the master goes on', async () => {
    const master = await cluster.master()
    const slave = cluster.members.find((member) => member !== master) as Member
    await expect(administration(master).transfer('nobody')).rejects.toMatchObject({
      code: 'STORE_CHANGE_REFUSED',
      message: expect.stringContaining('nobody'),
    })
    await expect(administration(slave).transfer(undefined)).rejects.toMatchObject({
      code: 'STORE_NOT_MASTER',
    })
    await master.send(master.master.addQueue('q'), 'still here')
  })
})

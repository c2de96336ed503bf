import { cp } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Member, StoreCluster, until } from './store-cluster.ts'

describe('joining a running cluster', { timeout: 30_000 }, () => {
  let cluster: StoreCluster

  beforeEach(async () => {
    cluster = await StoreCluster.create(5)
  })

  afterEach(async () => {
    await cluster.dispose()
  })

  function peers(...places: number[]): string[] {
    return places.map((place) => `127.0.0.1:${cluster.ports[place]}`)
  }

  /** Opens three members that know of each other only, and waits for their master. */
  async function founded(...places: number[]): Promise<Member> {
    await Promise.all(places.map((place) => cluster.open(place, { replicas: 3, peers: peers(...places) })))
    return await cluster.master()
  }

  test.each([
    ['above', [0, 1, 2], [3, 4]],
    ['below', [2, 3, 4], [0, 1]],
  ])(
    'S35, W7: two members with addresses %s those of the others, whom nobody was told of, become learners, count for nothing, and are known to all',
    async (_name, old, added) => {
      const master = await founded(...old)
      const queue = master.master.addQueue('q')
      await master.send(queue, 'before')
      const joined = await Promise.all(added.map((place) => cluster.open(place)))
      for (const member of joined) {
        await until('it learns', () => member.store.queues()[0]?.messageCount === 1)
        await until(
          'it is shown level',
          () => master.sees(member)?.state === 'learner' && master.sees(member)?.lag === 0,
        )
        expect(master.sees(member)).toMatchObject({
          role: 'slave',
          voter: false,
          reason: expect.stringMatching(/not one of the voters/),
          levels: { lowest: 1, highest: 1 },
          bootId: expect.stringMatching(/^[0-9a-z]{10}-[0-9a-f]{12}$/),
        })
      }
      for (const one of cluster.members) {
        for (const other of cluster.members) {
          await until(`${one.name} is connected to ${other.name}`, () => {
            const seen = one.sees(other)
            return seen !== undefined && seen.state !== 'unreachable' && seen.state !== 'refused'
          })
        }
        expect(one.status.members).toHaveLength(5)
        expect(one.status.quorum.present).toBe(3)
      }
      expect(master.events).toEqual(['promoted'])

      // What it has configured is for later; it comes back as what it was.
      const [again] = joined as [Member]
      await cluster.close(again)
      await master.send(queue, 'meanwhile')
      const back = await cluster.open(Number(again.name.slice(1)))
      await until('it learns on', () => back.store.queues()[0]?.messageCount === 2)
      expect(back.store.role).toBe('slave')
    },
  )

  test('S26, S35: those who are to found a cluster have to agree on replicas, and are told which differ', async () => {
    const one = await cluster.open(0, { replicas: 3, peers: peers(0, 1, 2) })
    const two = await cluster.open(1, { replicas: 3, peers: peers(0, 1, 2) })
    const odd = await cluster.open(2, { replicas: 5 })
    for (const member of [one, two, odd])
      await until('it says what to change', () =>
        /set replicas to the same/.test(member.status.waitingFor ?? ''),
      )
    expect(cluster.members.map(({ status }) => status.clusterUuid)).toEqual([undefined, undefined, undefined])
    await cluster.close(odd)
    await cluster.open(2, { replicas: 3, peers: peers(0, 1, 2) })
    const master = await cluster.master()
    expect(master.status.members).toHaveLength(3)
  })

  test('T8, N38: of two members with one connectUrl the second is refused, loudly on both sides; the first goes on', async () => {
    const master = await founded(0, 1, 2)
    const queue = master.master.addQueue('q')
    const taken = cluster.members.find((member) => member !== master) as Member
    const second = await cluster.open(3, {
      memberName: 'second',
      replicas: 3,
      peers: peers(0, 1, 2),
      connectUrl: `tcp://127.0.0.1:${cluster.ports[Number(taken.name.slice(1))]}`,
    })
    const other = cluster.members.find(
      (member) => member !== master && member !== taken && member !== second,
    ) as Member
    const places = [master, other].sort((a, b) => (a.name < b.name ? -1 : 1))
    // Those with a higher address it calls itself; those with a lower one it introduces itself to.
    for (const member of places) {
      await until(`${member.name} shows it`, () =>
        /one address, so hostname or connectUrl/.test(member.sees(second)?.reason ?? ''),
      )
      expect(member.sees(second)?.state).toBe('refused')
      expect(member.sees(taken)?.state).not.toBe('refused')
      expect(member.logged.join('\n')).toMatch(/error .*second.*connectUrl of one of them is wrong/)
      await until('it is told', () =>
        second.status.members.some(({ reason }) => /connectUrl/.test(reason ?? '')),
      )
    }
    expect(second.logged.join('\n')).toMatch(
      /error .*refused by the peer.*connectUrl of one of them is wrong/,
    )
    const lost = [master, taken, other].flatMap(({ logged }) =>
      logged.filter((line) => / lost b\d/.test(line)),
    )
    expect(lost).toEqual([])
    await master.send(queue, 'goes on')
    expect(master.status.quorum.present).toBe(3)
  })

  test('T8, N38: a directory copied while its store runs is refused wherever it shows up first, and nothing is lost', async () => {
    const master = await founded(0, 1, 2)
    const queue = master.master.addQueue('q')
    await master.send(queue, 'a')
    const [original] = cluster.members.filter((member) => member !== master) as [Member]
    const place = Number(original.name.slice(1))
    await cluster.close(original)
    await cp(cluster.directoryOf(place), cluster.directoryOf(4), { recursive: true })
    const again = await cluster.open(place, { replicas: 3, peers: peers(0, 1, 2) })
    await until('the original is back', () => master.sees(again)?.state === 'in sync')
    const copy = await cluster.open(4, {
      memberName: 'copy',
      replicas: 3,
      peers: [...peers(0, 1, 2).filter((_, at) => at !== place), ...peers(4)],
    })
    for (const member of cluster.members.filter((each) => each !== copy && each !== again)) {
      await until(`${member.name} shows it refused`, () =>
        member.status.members.some(
          ({ state, reason }) => state === 'refused' && /copied directory/.test(reason ?? ''),
        ),
      )
    }
    await until('it knows', () => /copied directory/i.test(copy.status.waitingFor ?? ''))
    expect(copy.store.role).toBe('electing')
    expect(copy.logged.join('\n')).toMatch(/error .*copied directory/i)
    await master.send(queue, 'b')
    expect(master.sees(again)?.state).not.toBe('refused')
    expect(master.status.quorum.present).toBe(3)
  })

  test('S36: members of neighbouring releases form a cluster; one without a common protocol is refused on both sides', async () => {
    const three = { replicas: 3, peers: peers(0, 1, 2) }
    const next = { protocols: { lowest: 2, highest: 3 }, levels: { lowest: 1, highest: 2 } }
    await Promise.all([cluster.open(0, three), cluster.open(1, three, next), cluster.open(2, three, next)])
    const master = await cluster.master()
    const queue = master.master.addQueue('q')
    await master.send(queue, 'a')
    const late = await cluster.open(3, {}, { protocols: { lowest: 3, highest: 4 } })
    const old = cluster.members[0] as Member
    await until(
      'the old one shows it',
      () => old.sees(late)?.state === 'refused' || /upgrade b0/.test(old.logged.join('\n')),
    )
    await until('it says so itself', () =>
      late.status.members.some(({ reason }) => /upgrade b0/.test(reason ?? '')),
    )
    await master.send(queue, 'b')
    // The others take it, and so it learns from one of them, if that is the master.
    for (const member of cluster.members.slice(1, 3))
      await until('it is connected', () => member.sees(late)?.state === 'learner')
  })

  test('S35: learners that are added one by one vote, and the cluster outlives the loss of two of five', async () => {
    const master = await founded(0, 1, 2)
    const queue = master.master.addQueue('q')
    await master.send(queue, 'before')
    const joined = [await cluster.open(3), await cluster.open(4)]
    for (const member of joined) {
      await until(
        'it learns',
        () => master.sees(member)?.state === 'learner' && master.sees(member)?.lag === 0,
      )
      await master.store.administration?.addMember(member.status.nodeId)
    }
    expect(master.status.quorum).toEqual({ needed: 3, present: 5 })
    for (const member of joined) await until('it votes', () => master.sees(member)?.voter === true)

    const [gone] = cluster.members.filter((member) => member !== master && !joined.includes(member))
    await cluster.close(gone as Member)
    await cluster.close(master)
    const next = await cluster.master()
    expect(await next.texts(queue)).toEqual(['before'])
    await next.send(queue, 'after')
    expect(next.status.quorum).toEqual({ needed: 3, present: 3 })
  })

  test('S36: of a level that not all support, and of a member that is too old for the level of the cluster', async () => {
    const three = { replicas: 3, peers: peers(0, 1, 2) }
    const next = { levels: { lowest: 1, highest: 2 } }
    await Promise.all([cluster.open(0, three), cluster.open(1, three, next), cluster.open(2, three, next)])
    let master = await cluster.master()
    await until('all are there', () => master.status.quorum.present === 3)
    const old = cluster.members.find(({ name }) => name === 'b0') as Member
    await expect(master.store.administration?.finaliseLevel(2)).rejects.toMatchObject({
      code: 'STORE_CHANGE_REFUSED',
      message: expect.stringMatching(/supported by all voters: .*b0-.* supports levels 1 to 1/),
    })

    // Until then the older release can come back; now it is upgraded as well.
    await cluster.close(old)
    const upgraded = await cluster.open(0, three, next)
    master = await cluster.master()
    await until('it is back', () => master.status.quorum.present === 3)
    await master.store.administration?.finaliseLevel(2)
    expect(master.store.administration?.members().level).toBe(2)
    const queue = master.master.addQueue('q')
    await master.send(queue, 'a')

    const late = await cluster.open(3, { peers: peers(0, 1, 2, 3, 4) })
    for (const member of [master, upgraded]) {
      await until('it is refused', () => member.sees(late)?.state === 'refused')
      expect(member.sees(late)?.reason).toMatch(/level 2 .*b3 supports levels 1 to 1: start b3 with a newer/)
    }
    await until('it knows', () =>
      late.status.members.some(({ reason }) => /start b3 with a newer release/.test(reason ?? '')),
    )
    expect(late.status.clusterUuid).toBeUndefined()
    await master.send(queue, 'b')
  })
})

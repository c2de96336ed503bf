import { cp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { electionTimeoutMs, type Member, StoreCluster, until } from './store-cluster.ts'

// Above every deadline within, so that it is a deadline that tells what was waited for.
vi.setConfig({ testTimeout: 30_000 })

describe('three stores on loopback', () => {
  let cluster: StoreCluster

  beforeEach(async () => {
    cluster = await StoreCluster.create()
  })

  afterEach(async () => {
    for (const member of cluster.members) expect(member.failure).toBeUndefined()
    await cluster.dispose()
  })

  /** Opens all three; the master first. */
  async function started(): Promise<[Member, Member, Member]> {
    const all = await cluster.openAll()
    const master = await cluster.master()
    const [one, other] = all.filter((member) => member !== master) as [Member, Member]
    await until('both follow', () => one.store.role === 'slave' && other.store.role === 'slave')
    return [master, one, other]
  }

  test('S26: blank stores wait until all are there, then found one cluster and elect one master', async () => {
    const [one, two] = [await cluster.open(0), await cluster.open(1)]
    await until('the two have met', () => one.sees(two)?.state === 'connected')
    expect(one.status).toMatchObject({ role: 'electing', clusterUuid: undefined, epoch: 0 })
    expect(one.status.quorum).toEqual({ needed: 2, present: 0 })
    expect(one.status.waitingFor).toMatch(
      /all 3 replicas for the founding of the cluster, 2 are here; missing: 127/,
    )

    const three = await cluster.open(2)
    const master = await cluster.master(3000)
    const slaves = [one, two, three].filter((member) => member !== master)
    await until('all are in sync', () => slaves.every((slave) => master.sees(slave)?.state === 'in sync'))
    await until('all name the master', () => slaves.every((slave) => slave.status.masterInfo !== undefined))
    const clusters = new Set(cluster.members.map(({ status }) => status.clusterUuid))
    expect(clusters.size).toBe(1)
    for (const member of cluster.members) {
      expect(member.status).toMatchObject({
        role: member === master ? 'master' : 'slave',
        epoch: master.master.epoch,
        masterNodeId: master.status.nodeId,
        masterInfo: { brokerName: master.name },
        electionReason: expect.stringMatching(/^(startup|timeout)$/),
        waitingFor: undefined,
        elector: 'raft',
        sync: 'quorum_disk',
        syncWarning: undefined,
        replicas: 3,
        quorum: { needed: 2, present: 3 },
        zookeeper: undefined,
      })
      expect(member.status.members.map(({ name }) => name).sort()).toEqual(['b0', 'b1', 'b2'])
      expect(member.status.members.every(({ voter }) => voter)).toBe(true)
    }
    for (const slave of slaves) {
      expect(master.sees(slave)).toMatchObject({ role: 'slave', lag: 0, reason: undefined })
      await until('its own state is what the master says', () => slave.sees(slave)?.state === 'in sync')
    }
    expect(master.sees(master)).toMatchObject({ state: 'self', lag: 0, lastHeardMs: 0 })
  })

  test('S14: what was confirmed is on the new master when the old one is closed, and it comes back as slave', async () => {
    const [master, ...slaves] = await started()
    const queue = master.master.addQueue('q')
    const sent = Array.from({ length: 200 }, (_, place) => `message ${place}`)
    let last = 0
    for (const text of sent) last = master.master.addMessage(queue, 0, 0, Buffer.alloc(0), Buffer.from(text))
    await master.confirmation(last)
    const { epoch } = master.master
    await cluster.close(master)
    expect(master.events.at(-1)).toBe('demoted')

    const next = await cluster.master()
    expect(slaves).toContain(next)
    expect(next.master.epoch).toBeGreaterThan(epoch)
    expect(next.store.queues()).toEqual([{ id: queue, name: 'q', messageCount: 200 }])
    expect(await next.texts(queue)).toEqual(sent)
    expect(next.status.electionReason).toMatch(/resigned|link lost/)
    expect(next.sees(master)).toMatchObject({ state: 'unreachable', role: 'unknown' })

    await next.send(queue, 'one more')
    const back = await cluster.open(Number(master.name.slice(1)))
    await until('it is in sync', () => next.sees(back)?.state === 'in sync' && next.sees(back)?.lag === 0)
    expect(back.events).toEqual([])
    await until('it has applied all', () => back.store.queues()[0]?.messageCount === 201)
  })

  test('a slave that was away for 10,000 messages catches up', async () => {
    const [master, slave] = await started()
    const queue = master.master.addQueue('q')
    await master.confirmation(queue)
    await cluster.close(slave)
    let last = 0
    const body = Buffer.alloc(200, 'x')
    for (let count = 0; count < 10_000; count++) {
      last = master.master.addMessage(queue, 0, 0, Buffer.from(`${count} `), body)
      if (count % 100 === 0) await new Promise((turn) => setImmediate(turn))
    }
    await master.confirmation(last)
    const back = await cluster.open(Number(slave.name.slice(1)))
    await until('it is in sync', () => {
      const seen = master.sees(back)
      return seen?.state === 'in sync' && seen.lag === 0 && seen.position?.index === last
    })
    await until('it has applied all', () => back.store.queues()[0]?.messageCount === 10_000)
    const page = await back.store.page(queue, last - 2, 10)
    const indices = page.map(({ index }) => index)
    expect((await back.store.read(queue, indices))[0]?.toString()).toMatch(/^999[89] x+$/)
  })

  test('S23: a wiped store counts for nothing until it has the log; then it takes the place of the old one', async () => {
    const [master, slave, other] = await started()
    const queue = master.master.addQueue('q')
    await master.send(queue, 'before')
    const place = Number(slave.name.slice(1))
    const old = slave.status.storeUuid
    await cluster.close(slave)
    await rm(cluster.directoryOf(place), { recursive: true })
    const wiped = await cluster.open(place)
    const { storeUuid } = wiped.status
    expect(storeUuid).not.toBe(old)
    expect(wiped.status.members[0]?.voter).toBe(false)
    await until('it is a voter', () => wiped.status.members[0]?.voter === true)
    await until('the master sees it', () => master.sees(wiped)?.storeUuid === storeUuid)
    expect(wiped.store.queues()[0]?.messageCount).toBe(1)
    const voters = master.store.administration?.members().members ?? []
    expect(voters.map((voter) => voter.role)).toEqual(['voter', 'voter', 'voter'])
    expect(voters.find((voter) => voter.name === wiped.name)?.storeUuid).toBe(storeUuid)

    // It counts: with the last other voter gone there still is a quorum.
    await cluster.close(other)
    await master.send(queue, 'on two')
    expect(master.status.quorum).toEqual({ needed: 2, present: 2 })
  })

  test('T6: one voter that lags and a wiped store elect nobody; with the other voter it all comes back', async () => {
    const [master, slave, other] = await started()
    const queue = master.master.addQueue('q')
    await master.send(queue, 'on all')
    // `other` lags: the last message is on the master and on `slave` only.
    await cluster.close(other)
    await master.send(queue, 'on two')
    await cluster.close(master)
    await cluster.close(slave)
    const wipedPlace = Number(slave.name.slice(1))
    await rm(cluster.directoryOf(wipedPlace), { recursive: true })

    const lagging = await cluster.open(Number(other.name.slice(1)))
    const wiped = await cluster.open(wipedPlace)
    await until('it has joined as learner', () => lagging.sees(wiped)?.state === 'learner')
    // Longer than any election: the status is asked, and never shows a master.
    const deadline = performance.now() + 3 * electionTimeoutMs
    await until('time for elections', () => {
      expect([lagging.store.role, wiped.store.role]).toEqual(['electing', 'electing'])
      return performance.now() > deadline
    })
    expect(lagging.status.waitingFor).toMatch(
      /^a quorum: 2 voters are needed and 1 reachable; missing: 127\.0\.0\.1:\d+ \(.+\)$/,
    )
    expect(wiped.status.waitingFor).toMatch(/a place among the voters/)

    const back = await cluster.open(Number(master.name.slice(1)))
    expect(await cluster.master()).toBe(back)
    expect(await back.texts(queue)).toEqual(['on all', 'on two'])
    await back.send(queue, 'again')
  })

  test('securityToken: a member with a wrong one is refused, both sides say why, the others go on', async () => {
    const [master, slave, other] = await started()
    const queue = master.master.addQueue('q')
    await cluster.close(slave)
    const wrong = await cluster.open(Number(slave.name.slice(1)), { securityToken: 'guess' })
    for (const [one, another] of [
      [master, wrong],
      [wrong, master],
      [other, wrong],
      [wrong, other],
    ] as const) {
      const address = another.status.members[0]?.address
      await until(`${one.name} refuses ${another.name}`, () =>
        one.status.members.some(
          (member) =>
            member.address === address &&
            member.state === 'refused' &&
            /securityToken differs/.test(member.reason ?? ''),
        ),
      )
    }
    expect(wrong.status.waitingFor).toMatch(/securityToken differs/)
    await master.send(queue, 'goes on')
    expect(master.events).toEqual(['promoted'])
    const said = [...master.logged, ...wrong.logged, ...other.logged].join('\n')
    expect(said).toMatch(/securityToken differs/)
    expect(said).not.toMatch(/secret|guess/)
  })

  test('S26: a directory of a cluster of another size is refused when it is opened', async () => {
    const [master, slave] = await started()
    const place = Number(slave.name.slice(1))
    await cluster.close(slave)
    const strangers = await StoreCluster.create(1)
    const foreign = await strangers.open(0)
    await strangers.master()
    await strangers.close(foreign)
    await rm(cluster.directoryOf(place), { recursive: true })
    await cp(strangers.directoryOf(0), cluster.directoryOf(place), { recursive: true })
    await strangers.dispose()
    await expect(cluster.open(place)).rejects.toMatchObject({
      code: 'STORE_FOREIGN_DIRECTORY',
      message: expect.stringMatching(/cluster of 1 replicas, and 3 are configured/),
    })
    expect(master.events).toEqual(['promoted'])
  })

  test('S26: a store of another cluster of the same size is refused on both sides', async () => {
    const [master, slave, other] = await started()
    const place = Number(slave.name.slice(1))
    await cluster.close(slave)
    const strangers = await StoreCluster.create(3)
    await strangers.openAll()
    await strangers.master()
    const clusterUuid = strangers.members[place]?.status.clusterUuid ?? ''
    await strangers.close(strangers.members[place] as Member)
    await rm(cluster.directoryOf(place), { recursive: true })
    await cp(strangers.directoryOf(place), cluster.directoryOf(place), { recursive: true })
    await strangers.dispose()
    const foreign = await cluster.open(place, { memberName: 'foreign' })
    for (const member of [master, other]) {
      await until('it is refused', () =>
        member.status.members.some(
          ({ state, reason }) => state === 'refused' && reason?.includes(clusterUuid) === true,
        ),
      )
    }
    await until('it knows', () => /belongs to cluster/.test(foreign.status.waitingFor ?? ''))
    expect(foreign.store.role).toBe('electing')
    expect(master.events).toEqual(['promoted'])
  })

  test('T8: of two stores with a copied directory the second is not counted', async () => {
    const [master, slave, other] = await started()
    const queue = master.master.addQueue('q')
    await master.send(queue, 'a')
    await cluster.close(slave)
    await cluster.close(other)
    await until('the master gives up', () => master.events.at(-1) === 'demoted')
    // `other` returns, and a copy of it in the place of `slave`.
    const [original, copied] = [Number(other.name.slice(1)), Number(slave.name.slice(1))]
    await rm(cluster.directoryOf(copied), { recursive: true })
    await cp(cluster.directoryOf(original), cluster.directoryOf(copied), { recursive: true })
    await cluster.open(original)
    const again = await cluster.master()
    const copy = await cluster.open(copied, { memberName: 'copy' })
    await until('it is refused by the one it was copied from', () =>
      copy.status.members.some(({ reason }) => /same store/.test(reason ?? '')),
    )
    await until('it is refused by the other one', () =>
      copy.status.members.some(({ reason }) => /copied directory\?/.test(reason ?? '')),
    )
    for (const member of [master, ...cluster.members.filter((each) => each.name === other.name)]) {
      await until('all show it refused', () =>
        member.status.members.some(
          ({ state, reason }) => state === 'refused' && /copied directory/.test(reason ?? ''),
        ),
      )
      expect(member.status.quorum.present).toBe(2)
    }
    expect(copy.store.role).toBe('electing')
    expect(copy.status.quorum.present).toBe(1)
    await again.send(queue, 'b')
  })

  test('S13: without both slaves nothing is confirmed, the master steps down in time and serves again with one', async () => {
    const [master, slave, other] = await started()
    const queue = master.master.addQueue('q')
    await master.send(queue, 'a')
    await Promise.all([cluster.close(slave), cluster.close(other)])
    const goneAtMs = performance.now()
    const { confirmed } = master
    const inDoubt = master.session?.addMessage(queue, 0, 0, Buffer.alloc(0), Buffer.from('b'))
    await until('it is demoted', () => master.events.at(-1) === 'demoted')
    expect((master.demotedAtMs ?? Infinity) - goneAtMs).toBeLessThan(2 * electionTimeoutMs)
    expect(master.confirmed).toBe(confirmed)
    expect(inDoubt ?? 0).toBeGreaterThan(confirmed)
    expect(master.status).toMatchObject({
      role: 'electing',
      masterNodeId: undefined,
      quorum: { needed: 2, present: 1 },
      waitingFor: expect.stringMatching(
        /^a quorum: 2 voters are needed and 1 reachable; missing: b\d \(.*\), b\d \(/,
      ),
    })

    await cluster.open(Number(slave.name.slice(1)))
    const again = await cluster.master()
    await again.send(queue, 'c')
    expect((await again.texts(queue)).filter((text) => text !== 'b')).toEqual(['a', 'c'])
  })

  test('garbage on the replication port leaves the cluster alone', async () => {
    const [master] = await started()
    const queue = master.master.addQueue('q')
    const random = Buffer.from(Array.from({ length: 5000 }, (_, place) => (place * 7919) & 0xff))
    const requests = [Buffer.from('GET / HTTP/1.1\r\n\r\n'), random, Buffer.alloc(5), Buffer.alloc(5, 0xff)]
    await Promise.all(
      cluster.ports.flatMap((port) =>
        requests.map(
          (bytes) =>
            new Promise<void>((closed) => {
              const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
              socket.on('error', () => undefined)
              socket.on('data', () => undefined)
              socket.on('close', () => closed())
            }),
        ),
      ),
    )
    await master.send(queue, 'goes on')
    expect(cluster.members.flatMap(({ events }) => events)).toEqual(['promoted'])
    expect(master.logged.join('\n')).toMatch(
      /replication connection from 127\.0\.0\.1:\d+ ended: protocol error/,
    )
  })

  test.each(['quorum_disk', 'quorum_mem', 'remote_disk', 'remote_mem', 'local_disk', 'local_mem'])(
    'sync %s: a message is confirmed, and the status says what it risks',
    async (sync) => {
      await cluster.openAll({ sync })
      const master = await cluster.master()
      const queue = master.master.addQueue('q')
      const index = await master.send(queue, 'a')
      await until('it is committed as well', () => master.committed >= index)
      expect(master.status.sync).toBe(sync)
      if (sync === 'quorum_disk') expect(master.status.syncWarning).toBeUndefined()
      else {
        expect(master.status.syncWarning).toMatch(/confirmed messages/)
        expect(master.logged.join('\n')).toContain(`warn sync is ${sync}: `)
      }
    },
  )
})

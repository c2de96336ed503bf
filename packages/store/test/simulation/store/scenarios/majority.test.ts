import { expect, test, vi } from 'vitest'
import { fewClients, play } from './stage.ts'

vi.setConfig({ testTimeout: 60_000 })

test('T6: with the voter that has everything down and the other emptied, nobody is master', () =>
  play(async (stage) => {
    const a = await stage.master()
    const [b, c] = stage.slaves()
    if (b === undefined || c === undefined) throw new Error('no slaves')
    stage.isolate(c)
    await stage.progress()
    stage.stop(a)
    stage.stop(b, 'power lost')
    stage.wipe(b)
    stage.mend()
    await stage.start(b)
    await stage.never('a master without what was confirmed', 20_000, () => stage.serving() !== undefined)
    expect(c.store?.status().position.index).toBeLessThan(stage.cluster.log.confirmedIndex)
    await stage.start(a)
    await stage.progress()
    expect(stage.serving()).toBe(a)
  }))

test('T20: a majority that is away for ten minutes comes back, and clients go on without a restart of the master', () =>
  play(
    async (stage) => {
      const master = await stage.master()
      const { process } = master
      const slaves = stage.slaves()
      for (const slave of slaves) stage.stop(slave)
      await stage.until('the master gives up', () => stage.serving() === undefined, 2000)
      await stage.never('a master without a majority', 600_000, () => stage.serving() !== undefined)
      for (const slave of slaves) await stage.start(slave)
      await stage.progress()
      expect(master.process).toBe(process)
    },
    { scenario: fewClients },
  ))

test('T21: a master that is not heard of any more, though it hears nothing itself, steps down by its lease', () =>
  play(async (stage) => {
    const deaf = await stage.master()
    const slaves = stage.slaves()
    for (const slave of slaves) stage.cut(slave, deaf)
    await stage.until('the deaf master gives up', () => deaf.broker?.session === undefined, 1000)
    // As long as it is connected, what it sends says that it is there; its silence then lets the others go on.
    await stage.until('another master', () => stage.serving() !== undefined)
    expect(stage.serving()).not.toBe(deaf)
    await stage.progress()
  }))

test('T21: a slave that hears nothing does not unseat the master, now or when it hears again', () =>
  play(
    async (stage) => {
      const master = await stage.master()
      const epoch = master.broker?.session?.epoch
      const [deaf] = stage.slaves()
      if (deaf === undefined) throw new Error('no slave')
      for (const node of stage.nodes) if (node !== deaf) stage.cut(node, deaf)
      await stage.never('the master was unseated', 10_000, () => master.broker?.session?.epoch !== epoch)
      stage.mend()
      await stage.never('the master was unseated', 10_000, () => master.broker?.session?.epoch !== epoch)
      await stage.until('the slave follows', () => deaf.store?.role === 'slave')
    },
    { scenario: fewClients },
  ))

test('T22: a slave whose disk takes nothing for a minute is not shown as in sync, and does not hold up the others', () =>
  play(
    async (stage) => {
      const master = await stage.master()
      const [slow] = stage.slaves()
      if (slow === undefined) throw new Error('no slave')
      const stateOf = (): string | undefined =>
        master.store?.status().members.find(({ nodeId }) => nodeId === slow.name)?.state
      await stage.until('it is in sync', () => stateOf() === 'in sync')
      Object.assign(slow.diskFaults, { slowUntilMs: stage.nowMs + 60_000, slowMs: 240_000 })
      await stage.until('it is stalled', () => stateOf() === 'stalled', 10_000)
      for (let second = 0; second < 15; second++) {
        const before = stage.cluster.log.confirmedIndex
        await stage.sleep(1000)
        expect(stateOf()).not.toBe('in sync')
        expect(stage.cluster.log.confirmedIndex).toBeGreaterThan(before)
      }
      expect(stage.serving()).toBe(master)
      stage.stop(slow)
      slow.diskFaults.slowUntilMs = 0
      await stage.start(slow)
      await stage.until('it is in sync again', () => stateOf() === 'in sync')
    },
    { scenario: fewClients },
  ))

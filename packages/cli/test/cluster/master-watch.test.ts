import type { BrokerStatus } from '@levelmq/broker'
import { expect, test } from 'vitest'
import { MasterWatch } from '../../src/cluster/master-watch.ts'

const says = (brokerName: string, role: BrokerStatus['role'], epoch: number) =>
  ({ brokerName, role, epoch, electionReason: 'link lost' }) as BrokerStatus

test('master watch: announces the first master and each new one, with what was before', () => {
  const watch = new MasterWatch()
  expect(watch.observe([says('a', 'electing', 0), says('b', 'slave', 1)])).toBeUndefined()
  const first = watch.observe([says('a', 'master', 1), says('b', 'slave', 1)])
  expect(first).toEqual({ previous: undefined, current: { name: 'a', epoch: 1, reason: 'link lost' } })
  expect(watch.observe([says('a', 'master', 1)])).toBeUndefined()
  expect(watch.observe([says('b', 'master', 3)])).toMatchObject({
    previous: { name: 'a', epoch: 1 },
    current: { name: 'b', epoch: 3 },
  })
})

test('master watch: a former master that does not know it yet is not announced', () => {
  const watch = new MasterWatch()
  watch.observe([says('b', 'master', 3)])
  expect(watch.observe([says('a', 'master', 2)])).toBeUndefined()
  expect(watch.observe([says('a', 'master', 2), says('b', 'master', 3)])).toBeUndefined()
})

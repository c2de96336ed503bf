import { expect, test } from 'vitest'
import { failoverDefaults, parseBrokerUri } from '../../src/stomp-client/broker-uri.ts'
import { Failover, type FailoverEffect } from '../../src/stomp-client/failover.ts'

function failover(options: Partial<typeof failoverDefaults> = {}, hosts = ['a', 'b', 'c']) {
  const { addresses } = parseBrokerUri(`failover:(${hosts.map((host) => `tcp://${host}:1`).join(',')})`)
  return new Failover(addresses, { ...failoverDefaults, randomize: false, ...options }, () => 0)
}

const refused = { type: 'attemptFailed', timedOut: false, reason: 'refused' } as const
const timedOut = { type: 'attemptFailed', timedOut: true, reason: 'no answer' } as const
const name = (effect: FailoverEffect | undefined) =>
  effect?.type === 'connect' ? effect.address.host : effect?.type

test('failover: a sweep tries every broker once, then waits, ever longer up to the cap', () => {
  const core = failover({ maxReconnectDelayMs: 35 })
  const waits: number[] = []
  let effect = core.step({ type: 'start' })
  for (let sweep = 0; sweep < 4; sweep++) {
    const tried = []
    while (effect?.type === 'connect') {
      tried.push(effect.address.host)
      effect = core.step(refused)
    }
    expect(tried).toEqual(['a', 'b', 'c'])
    if (effect?.type === 'wait') waits.push(effect.ms)
    effect = core.step({ type: 'waited' })
  }
  expect(waits).toEqual([10, 20, 35, 35])
})

test('failover: a connection resets the delay, and the lost broker is tried last', () => {
  const core = failover()
  core.step({ type: 'start' })
  for (const event of [refused, refused, refused, { type: 'waited' } as const]) core.step(event)
  core.step({ type: 'connected' })
  expect(core.step({ type: 'lost', silent: false, reason: 'reset' })).toEqual({ type: 'wait', ms: 10 })
  expect(name(core.step({ type: 'waited' }))).toBe('b')
  expect(name(core.step(refused))).toBe('c')
  expect(name(core.step(refused))).toBe('a')
})

test('failover: a silent broker comes last and gets little time, a little more each time', () => {
  const core = failover()
  core.step({ type: 'start' })
  core.step({ type: 'connected' })
  core.step({ type: 'lost', silent: true, reason: 'silent' })
  const given: number[] = []
  for (let sweep = 0; sweep < 3; sweep++) {
    expect(name(core.step({ type: 'waited' }))).toBe('b')
    expect(name(core.step(refused))).toBe('c')
    const last = core.step(refused)
    expect(name(last)).toBe('a')
    if (last?.type === 'connect') given.push(last.timeoutMs)
    expect(core.step(timedOut)?.type).toBe('wait')
  }
  expect(given).toEqual([100, 200, 300])
})

test('failover: maxReconnectAttempts counts failed sweeps', () => {
  const core = failover({ maxReconnectAttempts: 2 }, ['a'])
  core.step({ type: 'start' })
  expect(core.step(refused)?.type).toBe('wait')
  core.step({ type: 'waited' })
  expect(core.step(refused)).toEqual({ type: 'giveUp', reason: 'refused' })
})

test('failover: startupMaxReconnectAttempts only counts until the first connection', () => {
  const core = failover({ startupMaxReconnectAttempts: 1 }, ['a'])
  core.step({ type: 'start' })
  core.step({ type: 'connected' })
  core.step({ type: 'lost', silent: false, reason: 'reset' })
  core.step({ type: 'waited' })
  expect(core.step(refused)?.type).toBe('wait')
  const fresh = failover({ startupMaxReconnectAttempts: 1 }, ['a'])
  fresh.step({ type: 'start' })
  expect(fresh.step(refused)?.type).toBe('giveUp')
})

test('failover: a plain URI is not reconnected', () => {
  const core = failover({ maxReconnectAttempts: 0 }, ['a'])
  core.step({ type: 'start' })
  core.step({ type: 'connected' })
  expect(core.step({ type: 'lost', silent: false, reason: 'reset' })?.type).toBe('giveUp')
})

test('failover: randomize shuffles without losing a broker', () => {
  const core = failover({ randomize: true })
  const tried = [name(core.step({ type: 'start' })), name(core.step(refused)), name(core.step(refused))]
  expect(tried).not.toEqual(['a', 'b', 'c'])
  expect([...tried].sort()).toEqual(['a', 'b', 'c'])
})

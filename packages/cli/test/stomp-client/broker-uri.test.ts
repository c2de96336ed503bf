import { expect, test } from 'vitest'
import { failoverDefaults, formatBroker, parseBrokerUri } from '../../src/stomp-client/broker-uri.ts'

const at = (host: string, port: number, connectionTimeoutMs = 1000) => ({ host, port, connectionTimeoutMs })

test.each([
  'failover:(tcp://a:1,stomp://b:2)',
  'failover://(tcp://a:1,stomp://b:2)',
  'failover:tcp://a:1,stomp://b:2',
  'failover://tcp://a:1,stomp://b:2',
])('broker uri: %s lists two brokers', (uri) => {
  expect(parseBrokerUri(uri)).toEqual({ addresses: [at('a', 1), at('b', 2)], options: failoverDefaults })
})

test('broker uri: a plain URI means one broker, once', () => {
  const { addresses, options } = parseBrokerUri('tcp://[::1]:61613')
  expect(addresses).toEqual([at('::1', 61_613)])
  expect(options.maxReconnectAttempts).toBe(0)
  expect(addresses.map(formatBroker)).toEqual(['[::1]:61613'])
})

test('broker uri: options by ActiveMQ names, nested ones for every broker', () => {
  const uri =
    'failover:(tcp://a:1?connectionTimeout=7,tcp://b:2)?initialReconnectDelay=5&maxReconnectDelay=30000' +
    '&useExponentialBackOff=false&reconnectDelayExponent=1.5&maxReconnectAttempts=3&startupMaxReconnectAttempts=0' +
    '&randomize=false&timeout=3000&nested.connectionTimeout=200'
  expect(parseBrokerUri(uri)).toEqual({
    addresses: [at('a', 1, 7), at('b', 2, 200)],
    options: {
      initialReconnectDelayMs: 5,
      maxReconnectDelayMs: 30_000,
      useExponentialBackOff: false,
      reconnectDelayExponent: 1.5,
      maxReconnectAttempts: 3,
      startupMaxReconnectAttempts: 0,
      randomize: false,
      timeoutMs: 3000,
    },
  })
})

test.each([
  ['failover:(tcp://a:1)?randomise=false', 'randomise'],
  ['failover:(tcp://a:1)?randomize=maybe', 'maybe'],
  ['failover:(tcp://a:1)?nested.soTimeout=1', 'soTimeout'],
  ['failover:(tcp://a:1)?constructor=1', 'constructor'],
  ['failover:(tcp://a:1', 'parenthesis'],
  ['failover:(tcp://a:1)x', 'x'],
  ['failover:()', 'lists no broker'],
  ['tcp://a', 'not a broker URI'],
  ['tcp://a:70000', 'not a broker URI'],
  ['http://a:1', 'not a broker URI'],
  ['tcp://a:1?colour=red', 'colour'],
])('broker uri: %s is refused naming what is wrong', (uri, named) => {
  expect(() => parseBrokerUri(uri)).toThrow(named)
})

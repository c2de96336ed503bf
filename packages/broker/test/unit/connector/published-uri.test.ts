import { hostname } from 'node:os'
import { expect, test } from 'vitest'
import type { BrokerOptions } from '../../../src/broker-options.ts'
import { publishedUri } from '../../../src/connector/published-uri.ts'

function options(host: string | undefined): BrokerOptions {
  const replicated = { brokerName: 'group', ...(host === undefined ? {} : { hostname: host }) }
  return {
    brokerName: 'broker-1',
    persistenceAdapter: { kind: 'replicatedLevelDB', options: replicated },
    transportConnectors: [],
    management: undefined,
    log: { level: 'info', format: 'text' },
  }
}

test.each([
  ['stomp://10.0.0.1:61613?maximumConnections=1000', 'stomp://10.0.0.1:61613'],
  ['stomp://0.0.0.0:61613', 'stomp://broker1:61613'],
  ['stomp+nio://[::]:61613/?a=0.0.0.0', 'stomp+nio://broker1:61613'],
])('published address of %s: is %s', (uri, published) => {
  expect(publishedUri(uri, options('broker1'))).toBe(published)
})

test('published address of a wildcard: is the host name where no other is configured', () => {
  expect(publishedUri('stomp://0.0.0.0:61613', options(undefined))).toBe(`stomp://${hostname()}:61613`)
})

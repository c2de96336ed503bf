import { hostname } from 'node:os'
import type { BrokerOptions } from '../broker-options.ts'

const schemeAndAddress = /^[^:]+:\/\/[^/?]+/
const wildcard = /\/\/(0\.0\.0\.0|\[::\])(?=:)/

/**
 * What others are told of a connector: where it listens, without its options; a wildcard address becomes the name
 * that this broker is known by to its peers (`hostname`), or this host's.
 */
export function publishedUri(uri: string, options: BrokerOptions): string {
  const address = schemeAndAddress.exec(uri)?.[0] ?? uri
  return address.replace(wildcard, () => `//${knownHost(options)}`)
}

function knownHost({ persistenceAdapter }: BrokerOptions): string {
  const known =
    persistenceAdapter.kind === 'replicatedLevelDB' ? persistenceAdapter.options.hostname : undefined
  return known ?? hostname()
}

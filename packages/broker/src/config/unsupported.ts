/** ActiveMQ's settings that LevelMQ refuses although it knows them, with what to do about each. Pure data. */

const ofStore: Readonly<Record<string, string>> = {
  logDirectory: 'the journal and its index are in one `directory`; remove this',
  logCompression: 'the journal is not compressed; remove this',
  verifyChecksums: 'checksums are always verified; remove this',
  paranoidChecks: 'checks are always on; remove this',
  indexFactory: 'there is one index implementation; remove this',
  monitorStats: 'see /status instead; remove this',
  useLock: 'a directory is always locked; remove this',
  locker: 'a directory is always locked; remove this',
  lockKeepAlivePeriod: 'a directory is always locked; remove this',
  readThreads: 'ActiveMQ documents it and never had it; remove this',
}

const ofBroker = 'a setting of ActiveMQ that this version does not support; remove it'

const unsupported: Readonly<Record<string, string>> = {
  ...prefixed('persistenceAdapter.levelDB.', ofStore),
  ...prefixed('persistenceAdapter.replicatedLevelDB.', ofStore),
  'persistenceAdapter.levelDB.sync': 'a store that is not replicated always confirms from disk; remove this',
  'persistenceAdapter.kahaDB': 'the stores are levelDB and replicatedLevelDB',
  'persistenceAdapter.jdbcPersistenceAdapter': 'the stores are levelDB and replicatedLevelDB',
  dataDirectory: 'set `directory` of the store instead',
  destinationPolicy: ofBroker,
  systemUsage: ofBroker,
  networkConnectors: ofBroker,
  plugins: ofBroker,
  sslContext: ofBroker,
  persistent: ofBroker,
  useJmx: ofBroker,
  schedulerSupport: ofBroker,
  advisorySupport: ofBroker,
  destinations: ofBroker,
  destinationInterceptors: ofBroker,
}

/** Why the setting at `path` is refused, or `undefined` if it means nothing to us. */
export function unsupportedSetting(path: readonly (string | number)[]): string | undefined {
  const name = path.join('.')
  return Object.hasOwn(unsupported, name) ? unsupported[name] : undefined
}

function prefixed(prefix: string, reasons: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(reasons).map(([key, reason]) => [prefix + key, reason]))
}

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ConfigurationSources, loadConfiguration } from '../../../src/config/configuration.ts'
import { knownKeys } from '../../../src/config/configuration-schema.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'levelmq-config-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

function load(yaml: string, more: ConfigurationSources = {}) {
  const file = join(directory, 'levelmq.yaml')
  writeFileSync(file, yaml)
  return loadConfiguration({ file, ...more })
}

const replicated = (line: string) =>
  `persistenceAdapter:\n  replicatedLevelDB:\n    zkAddress: zk:2181\n    ${line}\n`

test('configuration: nothing given describes one broker that is not replicated', () => {
  expect(load('')).toEqual({
    brokerName: 'localhost',
    persistenceAdapter: { kind: 'levelDB', options: { directory: 'LevelDB' } },
    transportConnectors: [
      {
        name: 'stomp',
        uri: 'stomp://0.0.0.0:61613?maximumConnections=1000&wireFormat.maxFrameSize=104857600',
      },
    ],
    management: { host: '127.0.0.1', port: 8161 },
    log: { level: 'info', format: 'text' },
  })
})

test('configuration: quantities become numbers and names go down to the store', () => {
  const yaml = `brokerName: b1\n${replicated('{ }').replace('    { }\n', '')}    zkSessionTimeout: 2s\n    logSize: 64mb\n    electionTimeout: 1500\n    sync: remote_disk, LOCAL_DISK\n`
  expect(load(yaml).persistenceAdapter).toEqual({
    kind: 'replicatedLevelDB',
    options: {
      directory: 'LevelDB',
      brokerName: 'b1',
      memberName: 'b1',
      zkAddress: 'zk:2181',
      zkSessionTimeoutMs: 2000,
      logSize: 67_108_864,
      electionTimeoutMs: 1500,
      sync: 'remote_disk,local_disk',
    },
  })
})

const allSyncLevels = ['quorum_disk', 'quorum_mem', 'remote_disk', 'remote_mem', 'local_disk', 'local_mem']
test.each(allSyncLevels)('configuration: sync %s is accepted', (sync) => {
  expect(load(replicated(`sync: ${sync}`)).persistenceAdapter.options).toMatchObject({ sync })
})

test.each<[string, string, string[]]>([
  [
    'a mistyped key',
    'brokerNam: x\n',
    [':1:1:', 'brokerNam', 'Did you mean brokerName?', 'transportConnectors'],
  ],
  [
    'a mistyped key of the store',
    replicated('sycn: quorum_disk'),
    [':4:5:', 'replicatedLevelDB.sycn', 'Did you mean sync?'],
  ],
  ['an unknown sync level', replicated('sync: quorum_dsk'), [':4:11:', '"quorum_dsk"', ...allSyncLevels]],
  ['one unknown sync level of two', replicated('sync: quorum_disk,fast'), [':4:11:', '"quorum_disk,fast"']],
  ['no replicas', replicated('replicas: 0'), [':4:15:', 'replicas', 'found 0', 'from 1 to 9']],
  ['a fraction of a replica', replicated('replicas: 2.5'), [':4:15:', 'found 2.5']],
  ['a size without meaning', replicated('logSize: 64 parsecs'), [':4:14:', 'logSize', '64 parsecs', '64mb']],
  ['a size out of range', replicated('logSize: 1kb'), [':4:14:', '1048576']],
  ['a negative duration', replicated('flushDelay: -1'), [':4:17:', 'flushDelay', '10ms']],
  ['an address without port', replicated('bind: tcp://host'), [':4:11:', 'tcp://host:port']],
  ['a setting without value', replicated('weight:'), [':4:5:', 'weight', 'found nothing']],
  ['a relative znode path', replicated('zkPath: default'), [':4:13:', 'absolute path']],
  ['an unknown elector', replicated('elector: paxos'), [':4:14:', 'raft, zookeeper']],
  ['raft without peers', replicated('elector: raft'), [':3:5:', 'peers', 'all 3 replicas']],
  ['a setting of ActiveMQ', replicated('verifyChecksums: true'), [':4:5:', 'always verified']],
  [
    'two stores',
    'persistenceAdapter: { levelDB: {}, replicatedLevelDB: { zkAddress: "z:1" } }\n',
    [':1:21:', 'either'],
  ],
  [
    'a connector without name',
    'transportConnectors:\n  - uri: stomp://0.0.0.0:1\n',
    [':2:5:', 'transportConnectors[0].name'],
  ],
  [
    'an unknown option of a connector',
    'transportConnectors:\n  - { name: a, uri: "stomp://0.0.0.0:1?maximumConections=7" }\n',
    [':2:21:', 'unknown option maximumConections', 'maximumConnections,'],
  ],
  ['ZooKeeper for the raft elector', replicated('elector: raft'), [':3:16:', 'zkAddress', 'elector raft']],
  [
    'a foreign connector',
    'transportConnectors:\n  - { name: a, uri: "gopher://h:1" }\n',
    [':2:21:', 'gopher', 'stomp://'],
  ],
  [
    'a name given twice',
    'transportConnectors:\n  - { name: a, uri: "stomp://h:1" }\n  - { name: a, uri: "stomp://h:2" }\n',
    [':3:13:', 'no other connector'],
  ],
  ['management of the wrong kind', 'managementContext: 3\n', [':1:20:', 'false, or a section with']],
  ['a mistyped management key', 'managementContext: { prt: 3 }\n', [':1:22:', 'Did you mean port?']],
  ['a log level', 'log: { level: loud }\n', [':1:15:', 'loud', 'debug, info, warn, error']],
  ['a list for the whole file', '- a\n', [':1:1:', 'a section with brokerName']],
  ['a key given twice', 'brokerName: a\nbrokerName: b\n', [':2:1:', 'unique']],
  ['no YAML', 'a: [\n', ['levelmq.yaml:', 'not YAML']],
])('configuration: %s is refused with place, key and what is allowed', (_name, yaml, parts) => {
  let caught: unknown
  try {
    load(yaml)
  } catch (error) {
    caught = error
  }
  expect(caught).toMatchObject({ code: 'BROKER_INVALID_CONFIGURATION' })
  for (const part of parts) expect((caught as Error).message).toContain(part)
})

test('configuration: every mistake is told at once', () => {
  expect(() => load('brokerNam: x\nlog: { level: loud }\n')).toThrow(
    /loud[\s\S]*brokerNam|brokerNam[\s\S]*loud/,
  )
})

test('configuration: a wrong secret is not shown', () => {
  expect(() => load(replicated('zkPassword: [hunter2]'))).toThrow(/zkPassword: found another value/)
})

test('configuration: a missing file is named', () => {
  expect(() => loadConfiguration({ file: join(directory, 'none.yaml') })).toThrow(
    /none\.yaml: cannot be read/,
  )
})

test("configuration: ActiveMQ's misspelt zkSessionTmeout is taken with a warning", () => {
  const warnings: string[] = []
  const options = load(replicated('zkSessionTmeout: 3s'), { warn: (message) => warnings.push(message) })
  expect(options.persistenceAdapter.options).toMatchObject({ zkSessionTimeoutMs: 3000 })
  expect(warnings).toEqual([expect.stringMatching(/:4:5: .*zkSessionTmeout.*zkSessionTimeout/)])
  expect(() => load(replicated('{}').replace('{}', 'zkSessionTmeout: 3s\n    zkSessionTimeout: 2s'))).toThrow(
    /keep that one/,
  )
})

test('environment: variables override the file', () => {
  const env = {
    PATH: '/bin',
    LEVELMQ_BROKER_NAME: 'b2',
    LEVELMQ_REPLICATED_LEVELDB_ZK_ADDRESS: 'z1:2181,z2:2181',
    LEVELMQ_REPLICATED_LEVELDB_REPLICAS: '5',
    LEVELMQ_REPLICATED_LEVELDB_SYNC: '',
    LEVELMQ_TRANSPORT_CONNECTORS: 'stomp://0.0.0.0:1,second=stomp://0.0.0.0:2',
    LEVELMQ_MANAGEMENT_CONTEXT_HOST: '0.0.0.0',
    LEVELMQ_LOG_FORMAT: 'json',
  }
  expect(load(replicated('replicas: 3'), { env })).toEqual({
    brokerName: 'b2',
    persistenceAdapter: {
      kind: 'replicatedLevelDB',
      options: {
        directory: 'LevelDB',
        brokerName: 'b2',
        memberName: 'b2',
        zkAddress: 'z1:2181,z2:2181',
        replicas: 5,
      },
    },
    transportConnectors: [
      { name: 'stomp', uri: 'stomp://0.0.0.0:1' },
      { name: 'second', uri: 'stomp://0.0.0.0:2' },
    ],
    management: { host: '0.0.0.0', port: 8161 },
    log: { level: 'info', format: 'json' },
  })
})

test('management: the administrators’ token comes from the file, the environment or a file of its own, and is never shown', () => {
  const adminToken = 'correct-horse-battery'
  const management = { host: '127.0.0.1', port: 8161, adminToken }
  expect(load(`managementContext: { adminToken: ${adminToken} }\n`).management).toEqual(management)
  const variable = 'LEVELMQ_MANAGEMENT_CONTEXT_ADMIN_TOKEN'
  expect(load('', { env: { [variable]: adminToken } }).management).toEqual(management)
  expect(() => load('managementContext: { adminToken: too-short }\n')).toThrow(/16 to 1024 visible ASCII/)
  expect(() => load('managementContext: { adminToken: too-short }\n')).not.toThrow(/too-short/)
})

test('every option of the store can be set, and is told in docs/configuration.md', () => {
  const read = (path: string) => readFileSync(new URL(`../../../../../${path}`, import.meta.url), 'utf8')
  const options = [...read('packages/store/src/options.ts').matchAll(/^ {2}readonly (\w+)\??:/gm)]
  const names = options.map(([, name = '']) => name.replace(/Ms$/, ''))
  expect(names).toContain('logSize')
  const known = knownKeys(['persistenceAdapter', 'replicatedLevelDB'])
  const documented = read('docs/configuration.md')
  expect(names.filter((name) => !known.includes(name))).toEqual([])
  expect(known.filter((name) => !documented.includes(`| \`${name}\` |`))).toEqual([])
})

test('environment: management can be switched off', () => {
  expect(load('', { env: { LEVELMQ_MANAGEMENT_CONTEXT: 'false' } }).management).toBeUndefined()
})

test('environment: peers are a list with commas between', () => {
  const env = { LEVELMQ_REPLICATED_LEVELDB_PEERS: 'a:1,b:1,c:1' }
  expect(load('', { env }).persistenceAdapter.options).toMatchObject({ peers: ['a:1', 'b:1', 'c:1'] })
})

test('environment: an unknown variable is refused with the nearest known one', () => {
  expect(() => load('', { env: { LEVELMQ_REPLICATED_LEVELDB_ZK_ADRESS: 'z:1' } })).toThrow(
    /LEVELMQ_REPLICATED_LEVELDB_ZK_ADRESS: unknown variable; did you mean LEVELMQ_REPLICATED_LEVELDB_ZK_ADDRESS\?/,
  )
})

test('environment: a wrong value names the variable', () => {
  const env = { LEVELMQ_REPLICATED_LEVELDB_REPLICAS: 'three' }
  expect(() => load(replicated('weight: 1'), { env })).toThrow(
    /^LEVELMQ_REPLICATED_LEVELDB_REPLICAS: .*replicas: found "three"; allowed: a whole number from 1 to 9/,
  )
})

test('environment: secrets come from files too, without their last line end', () => {
  const secret = join(directory, 'token')
  writeFileSync(secret, 'a secret \n')
  const env = { LEVELMQ_REPLICATED_LEVELDB_SECURITY_TOKEN_FILE: secret }
  expect(load(replicated('weight: 1'), { env }).persistenceAdapter.options).toMatchObject({
    securityToken: 'a secret ',
  })
  expect(() => load('', { env: { ...env, LEVELMQ_REPLICATED_LEVELDB_SECURITY_TOKEN: 'x' } })).toThrow(
    /keep one of them/,
  )
  expect(() => load('', { env: { LEVELMQ_REPLICATED_LEVELDB_SECURITY_TOKEN_FILE: '/no/such' } })).toThrow(
    /cannot be read/,
  )
})

test('environment: LEVELMQ_CONFIG names the file', () => {
  const file = join(directory, 'other.yaml')
  writeFileSync(file, 'brokerName: other\n')
  expect(loadConfiguration({ env: { LEVELMQ_CONFIG: file } }).brokerName).toBe('other')
})

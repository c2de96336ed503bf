import { hostname } from 'node:os'
import { describe, expect, test } from 'vitest'
import { StoreError } from '../../../src/errors.ts'
import { formatAddress, type LevelDbOptions, type ReplicatedLevelDbOptions } from '../../../src/options.ts'
import { levelDbSettings, replicatedSettings } from '../../../src/settings.ts'

const peers = ['a:1', 'b:1', 'c:1']
const sound: ReplicatedLevelDbOptions = { brokerName: 'group', bind: 'tcp://a:1', peers }

function refusal(options: object, replicated = true): StoreError {
  try {
    if (replicated) replicatedSettings({ ...sound, ...options })
    else levelDbSettings(options)
  } catch (error) {
    if (error instanceof StoreError) return error
    throw error
  }
  throw new Error(`was taken: ${JSON.stringify(options)}`)
}

describe('settings: defaults', () => {
  test('levelDB: are those that options.ts tells', () => {
    expect(levelDbSettings({})).toMatchObject({
      directory: 'LevelDB',
      logSize: 67108864,
      flushDelay: 1000,
      asyncBufferSize: 33554432,
      maxRecordBytes: 104857600 + 65536,
      indexMaxOpenFiles: 1000,
      indexBlockRestartInterval: 16,
      indexWriteBufferSize: 6291456,
      indexBlockSize: 4096,
      indexCacheSize: 16777216,
      indexCompression: 'snappy',
      maxFailoverProducersToTrack: 100_000,
      failoverProducersAuditDepth: 2048,
      replicas: 1,
      replication: undefined,
    })
  })

  test('replicatedLevelDB: are those that options.ts tells', () => {
    const settings = replicatedSettings({ brokerName: 'group', zkAddress: 'zk:2181' })
    expect(settings).toMatchObject({
      directory: 'LevelDB',
      memberName: 'group',
      nodeId: undefined,
      replicas: 3,
      weight: 1,
      electionTimeoutMs: 1000,
    })
    expect(settings.sync).toMatchObject({ words: 'quorum_disk', committed: true, warning: undefined })
    expect(settings.replication).toEqual({
      securityToken: '',
      bind: { host: '0.0.0.0', port: 61619 },
      address: `${hostname()}:61619`,
      container: undefined,
      elector: {
        kind: 'zookeeper',
        address: 'zk:2181',
        path: '/default',
        password: undefined,
        sessionTimeoutMs: 2000,
      },
    })
  })

  test('zookeeper: without an address it is the one on this machine', () => {
    const { replication } = replicatedSettings({ brokerName: 'group', elector: 'zookeeper' })
    expect(replication?.elector).toMatchObject({ address: '127.0.0.1:2181' })
  })

  test('an option that is undefined has its default', () => {
    const options = Object.fromEntries(Object.keys(levelDbSettings({})).map((key) => [key, undefined]))
    for (const key of Object.keys(options)) if (!(key in levelDbDefaultsOf())) delete options[key]
    expect(levelDbSettings(options as LevelDbOptions)).toEqual(levelDbSettings({}))
    expect(replicatedSettings({ ...sound, ...options } as ReplicatedLevelDbOptions)).toEqual(
      replicatedSettings(sound),
    )
  })
})

function levelDbDefaultsOf(): Record<string, unknown> {
  const { brokerName, memberName, nodeId, replicas, sync, weight, electionTimeoutMs, replication, ...rest } =
    levelDbSettings({})
  return rest
}

describe('settings: own address', () => {
  test.each<[string, Partial<ReplicatedLevelDbOptions>, string]>([
    ['the host of bind', { bind: 'tcp://10.0.0.1:7000' }, '10.0.0.1:7000'],
    ['the name of this host behind a wildcard', { bind: 'tcp://0.0.0.0:7000' }, `${hostname()}:7000`],
    ['the same for IPv6', { bind: 'tcp://[::]:7000' }, `${hostname()}:7000`],
    ['hostname with the port of bind', { bind: 'tcp://0.0.0.0:7000', hostname: 'me' }, 'me:7000'],
    ['an IPv6 hostname in brackets', { bind: 'tcp://[::]:7000', hostname: 'fe80::1' }, '[fe80::1]:7000'],
    [
      'connectUrl before all',
      { bind: 'tcp://10.0.0.1:7000', hostname: 'me', connectUrl: 'tcp://nat:9' },
      'nat:9',
    ],
  ])('is %s', (_name, options, address) => {
    const { replication } = replicatedSettings({ brokerName: 'g', replicas: 1, ...options })
    expect(replication?.address).toBe(address)
    expect(replication?.elector).toEqual({ kind: 'raft', peers: [address] })
  })

  test('addresses are written with brackets where they need them', () => {
    expect(formatAddress({ host: '::1', port: 5 })).toBe('[::1]:5')
    expect(formatAddress({ host: 'h', port: 5 })).toBe('h:5')
  })

  test('raft: peers may be written as URLs', () => {
    const { replication } = replicatedSettings({ ...sound, peers: ['tcp://a:1', 'b:1', 'tcp://[::1]:1'] })
    expect(replication?.elector).toMatchObject({ peers: ['a:1', 'b:1', '[::1]:1'] })
  })
})

const wholeNumbers: Record<string, readonly [number, number]> = {
  logSize: [2 ** 20, 2 ** 30],
  flushDelay: [10, 60_000],
  asyncBufferSize: [65536, 2 ** 30],
  maxRecordBytes: [1024, 128 * 2 ** 20 - 1024],
  indexMaxOpenFiles: [16, 100_000],
  indexBlockRestartInterval: [1, 1024],
  indexWriteBufferSize: [65536, 2 ** 30],
  indexBlockSize: [512, 2 ** 22],
  indexCacheSize: [0, 2 ** 32],
  maxFailoverProducersToTrack: [1, 10_000_000],
  failoverProducersAuditDepth: [1, 1_000_000],
}
const replicatedNumbers: Record<string, readonly [number, number]> = {
  weight: [0, 1_000_000],
  zkSessionTimeoutMs: [500, 60_000],
  electionTimeoutMs: [200, 60_000],
}

describe('settings: what is refused names the option, its value and what is allowed', () => {
  for (const [option, [least, most]] of Object.entries({ ...wholeNumbers, ...replicatedNumbers })) {
    test(`${option}: ${least} to ${most}`, () => {
      const wrong = [
        least - 1,
        most + 1,
        least + 0.5,
        Number.NaN,
        Infinity,
        -1,
        null,
        '',
        String(least),
        true,
        5n,
      ]
      for (const value of wrong) {
        for (const replicated of option in wholeNumbers ? [true, false] : [true]) {
          const error = refusal({ [option]: value }, replicated)
          expect(error.detail).toEqual({ code: 'STORE_INVALID_OPTION', option, value })
          expect(error.message).toContain(`${option}: `)
          expect(error.message).toContain(typeof value === 'string' ? JSON.stringify(value) : String(value))
          expect(error.message).toContain(`from ${least} to ${most}`)
        }
      }
      const base = option.startsWith('zk')
        ? { ...sound, elector: 'zookeeper' as const, peers: undefined }
        : sound
      for (const value of [least, most]) {
        expect(() =>
          replicatedSettings({ ...base, [option]: value } as ReplicatedLevelDbOptions),
        ).not.toThrow()
      }
    })
  }

  test.each<[string, unknown, string]>([
    ['replicas', 0, 'from 1 to 9'],
    ['replicas', 10, 'from 1 to 9'],
    ['directory', '', '1 to 4096 characters'],
    ['directory', 7, '1 to 4096 characters'],
    ['brokerName', undefined, '1 to 128 characters'],
    ['brokerName', '', '1 to 128 characters'],
    ['memberName', 'x'.repeat(129), '1 to 128 characters'],
    ['nodeId', '', '1 to 128 characters'],
    ['nodeId', 5, '1 to 128 characters'],
    ['sync', 'quorum', 'none of quorum_disk, quorum_mem, remote_disk, remote_mem, local_disk, local_mem'],
    ['sync', 'quorum_disk,local', 'none of quorum_disk'],
    ['sync', '', '1 to 128 characters'],
    ['sync', ',', 'none of quorum_disk'],
    ['sync', 'constructor', 'none of quorum_disk'],
    ['sync', true, '1 to 128 characters'],
    ['bind', '0.0.0.0:61619', 'tcp://host:port'],
    ['bind', 'tcp://h', 'tcp://host:port'],
    ['bind', 'tcp://h:0', 'tcp://host:port'],
    ['bind', 'tcp://h:65536', 'tcp://host:port'],
    ['bind', 'ssl://h:1', 'tcp://host:port'],
    ['bind', 'tcp://h:1/path', 'tcp://host:port'],
    ['bind', 'tcp://a b:1', 'tcp://host:port'],
    ['bind', 61619, '1 to 512 characters'],
    ['connectUrl', 'h:1', 'tcp://host:port'],
    ['hostname', 'a b', 'tcp://host:port'],
    ['hostname', 'h:1', 'tcp://host:port'],
    ['hostname', '', '1 to 253 characters'],
    ['container', {}, '0 to 1024 characters'],
    ['elector', 'etcd', 'neither raft nor zookeeper'],
    ['elector', 1, '1 to 16 characters'],
    ['peers', [], 'all 3 replicas'],
    ['peers', ['a:1', 'b:1', 'b:1'], 'all 3 replicas'],
    ['peers', ['x:1', 'b:1', 'c:1'], 'own address, a:1 (bind, hostname, connectUrl)'],
    ['peers', ['a:1', 'b', 'c:1'], 'tcp://host:port'],
    ['peers', 'a:1,b:1,c:1', 'list of addresses'],
    ['peers', [1, 2, 3], 'list of addresses'],
    ['indexCompression', 'zstd', 'neither snappy nor none'],
    ['indexCompression', false, 'neither snappy nor none'],
    ['zkPath', 'default', 'a path like /default'],
    ['zkPath', '/', 'a path like /default'],
    ['zkPath', '/a//b', 'a path like /default'],
    ['zkAddress', 2181, '1 to 4096 characters'],
    ['relicas', 3, 'known are directory, logSize'],
  ])('%s: %j', (option, value, allowed) => {
    const error = refusal({ ...(option === 'zkPath' ? { elector: 'zookeeper' } : {}), [option]: value })
    expect(error.detail).toMatchObject({ code: 'STORE_INVALID_OPTION', option })
    expect(error.message).toMatch(new RegExp(`^${option}: `))
    expect(error.message).toContain(allowed)
  })

  test('zkAddress: with the raft elector it contradicts', () => {
    const error = refusal({ elector: 'raft', zkAddress: 'zk:2181' })
    expect(error.detail).toMatchObject({ option: 'zkAddress', value: 'zk:2181' })
    expect(error.message).toContain('not used by the raft elector')
  })

  test('levelDB: options of the replicated store are unknown to it', () => {
    expect(refusal({ replicas: 1 }, false).detail).toMatchObject({ option: 'replicas' })
  })

  test.each([
    ['securityToken', 12345],
    ['securityToken', ['hunter2']],
    ['zkPassword', { password: 'hunter2' }],
    ['zkPassword', 'hunter2'.repeat(200)],
    // A spelling mistake does not make it less secret.
    ['securitytoken', 'hunter2'],
    ['zkPasswort', 'hunter2'],
    ['zkPasword', 'hunter2'],
  ])('%s: its value is shown nowhere', (option, value) => {
    const error = refusal({ [option]: value })
    expect(error.detail).toMatchObject({ option, value: '***' })
    expect(JSON.stringify([error.message, error.detail, error.stack])).not.toMatch(/hunter2|12345/)
  })
})

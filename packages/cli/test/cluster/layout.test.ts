import { expect, test } from 'vitest'
import { clusterEnvironment } from '../../src/cluster/environment.ts'
import { configurationOf, defaultBrokerUri, defaultManagementUrls, layOut } from '../../src/cluster/layout.ts'

const options = {
  brokers: 3,
  data: '/tmp/with "quotes"',
  elector: 'raft',
  zkAddress: '127.0.0.1:2181',
  zkPath: '/levelmq',
  basePortOffset: 0,
  sync: undefined,
  logLevel: undefined,
} as const

test('layout: the ports of three brokers, and an offset on each of them', () => {
  const ports = (offset: number) =>
    layOut({ ...options, basePortOffset: offset }).map((broker) => [
      broker.stompPort,
      broker.managementPort,
      broker.replicationPort,
    ])
  expect(ports(0)).toEqual([
    [61_613, 8161, 61_619],
    [61_623, 8162, 61_629],
    [61_633, 8163, 61_639],
  ])
  expect(ports(1000)[2]).toEqual([62_633, 9163, 62_639])
})

test('layout: default URIs reach all three', () => {
  expect(defaultBrokerUri(0)).toBe(
    'failover:(tcp://127.0.0.1:61613,tcp://127.0.0.1:61623,tcp://127.0.0.1:61633)',
  )
  expect(defaultManagementUrls(10)[1]).toBe('http://127.0.0.1:8172')
})

test('layout: a raft configuration lists all peers, a zookeeper one the servers', () => {
  const all = layOut(options)
  const [first] = all
  if (first === undefined) throw new Error('no broker')
  const raft = configurationOf(first, all, options)
  expect(raft).toContain('brokerName: broker-1\n')
  expect(raft).toContain('    brokerName: levelmq\n')
  expect(raft).toContain('peers: ["127.0.0.1:61619", "127.0.0.1:61629", "127.0.0.1:61639"]')
  expect(raft).toContain('directory: "/tmp/with \\"quotes\\"/broker-1/LevelDB"')
  const zookeeper = configurationOf(first, all, { ...options, elector: 'zookeeper', sync: 'quorum_mem' })
  expect(zookeeper).toContain('zkAddress: "127.0.0.1:2181"')
  expect(zookeeper).toContain('sync: "quorum_mem"')
  expect(zookeeper).not.toContain('peers')
})

test('layout: variables for one broker do not reach the brokers of a cluster', () => {
  const given = {
    PATH: '/bin',
    LEVELMQ_BROKER_NAME: 'x',
    LEVELMQ_REPLICATED_LEVELDB_ZK_ADDRESS: 'z:1',
    LEVELMQ_REPLICATED_LEVELDB_SYNC: 'quorum_mem',
    LEVELMQ_LOG_LEVEL: 'debug',
  }
  const { environment, ignored } = clusterEnvironment(given)
  expect(Object.keys(environment)).toEqual(['PATH', 'LEVELMQ_REPLICATED_LEVELDB_SYNC', 'LEVELMQ_LOG_LEVEL'])
  expect(ignored).toEqual(['LEVELMQ_BROKER_NAME', 'LEVELMQ_REPLICATED_LEVELDB_ZK_ADDRESS'])
})

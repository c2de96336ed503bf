import { isAbsolute, join, resolve } from 'node:path'

/**
 * Which ports, names and files the brokers of a local cluster have. Pure.
 *
 * Broker n of 1, 2, 3, … has STOMP on 61613, 61623, …, management on 8161, 8162, … and replication on 61619, 61629, ….
 * An offset is added to every port, so that several clusters fit on one machine.
 */
export interface BrokerLayout {
  readonly number: number
  readonly name: string
  readonly stompPort: number
  readonly managementPort: number
  readonly replicationPort: number
  readonly directory: string
  readonly configFile: string
}

export interface ClusterOptions {
  readonly brokers: number
  readonly data: string
  readonly elector: 'raft' | 'zookeeper'
  readonly zkAddress: string
  readonly zkPath: string
  readonly basePortOffset: number
  readonly sync: string | undefined
  readonly logLevel: string | undefined
}

/** Most brokers of one cluster, as `replicas` allows. */
export const maxBrokers = 9
/** Highest offset that keeps every port below 65536. */
export const maxPortOffset: number = 65_535 - (61_619 + 10 * (maxBrokers - 1))

const host = '127.0.0.1'

const connectorOptions = 'maximumConnections=1000&wireFormat.maxFrameSize=104857600'

function stompPortOf(number: number, offset: number): number {
  return 61_613 + 10 * (number - 1) + offset
}

function managementPortOf(number: number, offset: number): number {
  return 8161 + (number - 1) + offset
}

/** URIs that reach a local cluster of three, or of as many brokers as given. */
export function defaultBrokerUri(offset: number, brokers = 3): string {
  const uris = numbers(brokers).map((number) => `tcp://${host}:${stompPortOf(number, offset)}`)
  return `failover:(${uris.join(',')})`
}

export function defaultManagementUrls(offset: number, brokers = 3): string[] {
  return numbers(brokers).map((number) => `http://${host}:${managementPortOf(number, offset)}`)
}

export function layOut(options: ClusterOptions): BrokerLayout[] {
  const data = isAbsolute(options.data) ? options.data : resolve(options.data)
  return numbers(options.brokers).map((number) => {
    const name = `broker-${number}`
    const directory = join(data, name)
    return {
      number,
      name,
      stompPort: stompPortOf(number, options.basePortOffset),
      managementPort: managementPortOf(number, options.basePortOffset),
      replicationPort: 61_619 + 10 * (number - 1) + options.basePortOffset,
      directory,
      configFile: join(directory, 'levelmq.yaml'),
    }
  })
}

/** The configuration file of one broker. JSON strings are YAML strings. */
export function configurationOf(
  broker: BrokerLayout,
  all: readonly BrokerLayout[],
  options: ClusterOptions,
): string {
  const lines = [
    '# Written by `levelmq cluster` at every start: changes are lost.',
    `brokerName: ${broker.name}`,
    'persistenceAdapter:',
    '  replicatedLevelDB:',
    '    brokerName: levelmq',
    `    directory: ${JSON.stringify(join(broker.directory, 'LevelDB'))}`,
    `    replicas: ${all.length}`,
    `    bind: tcp://${host}:${broker.replicationPort}`,
    `    hostname: ${host}`,
    `    elector: ${options.elector}`,
  ]
  if (options.elector === 'zookeeper') {
    lines.push(
      `    zkAddress: ${JSON.stringify(options.zkAddress)}`,
      `    zkPath: ${JSON.stringify(options.zkPath)}`,
    )
  } else {
    const peers = all.map((peer) => JSON.stringify(`${host}:${peer.replicationPort}`))
    lines.push(`    peers: [${peers.join(', ')}]`)
  }
  if (options.sync !== undefined) lines.push(`    sync: ${JSON.stringify(options.sync)}`)
  lines.push(
    'transportConnectors:',
    `  - { name: stomp, uri: "stomp://${host}:${broker.stompPort}?${connectorOptions}" }`,
    'managementContext:',
    `  host: ${host}`,
    `  port: ${broker.managementPort}`,
  )
  if (options.logLevel !== undefined) lines.push(`log: { level: ${options.logLevel} }`)
  return `${lines.join('\n')}\n`
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}

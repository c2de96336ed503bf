import type { BrokerConfiguration, BrokerPlace, Cluster } from '../../system/cluster-fixture.ts'
import type { Address } from '../../system/stomp-client.ts'
import type { ZooKeeperEnsemble } from '../../system/zookeeper-ensemble.ts'
import {
  brokerHost,
  type Host,
  type HostNetwork,
  type NetworkAbility,
  zooKeeperHost,
} from './host-network.ts'
import { Relay, type Way } from './relay.ts'
import { ownerOf } from './socket-owner.ts'

/** Where relays listen in the block of ports of a cluster or an ensemble: so far behind the port itself. */
const relayOffset = { replication: 5, stomp: 30, zooKeeper: 30 } as const

/** A port that is reached through a relay. */
interface RelayedPort {
  readonly host: Host
  readonly port: number
  readonly relayPort: number
  /** Only clients call there: it need not be looked up who does, which takes its time. */
  readonly forClients?: true
}

/**
 * Everything on this machine, with a relay before every port. A relay knows the caller by the process that has the
 * other end of the connection.
 */
export class Loopback implements HostNetwork {
  readonly description = 'one host, relays between the processes'
  readonly abilities: ReadonlySet<NetworkAbility> = new Set(['cut', 'delay', 'rate'])
  readonly #ways = new Map<string, Way>()
  readonly #pids: () => ReadonlyMap<number, number>
  readonly #stompPort: (n: number) => number
  #relays: Relay[] = []

  /** @param pids - Numbers of the brokers that run, by process id. */
  constructor(pids: () => ReadonlyMap<number, number>, stompPort: (n: number) => number) {
    this.#pids = pids
    this.#stompPort = stompPort
  }

  /** Lets the other members connect to broker `n` through its relay: for {@link ClusterOptions.configure}. */
  static configure(configuration: BrokerConfiguration): void {
    const store = configuration.persistenceAdapter.replicatedLevelDB
    const relayed = (address: unknown): string =>
      `${address}`.replace(/\d+$/, (port) => `${Number(port) + relayOffset.replication}`)
    store.connectUrl = relayed(store.bind)
    if (Array.isArray(store.peers)) store.peers = store.peers.map(relayed)
  }

  static zooKeeperAddress(ensemble: ZooKeeperEnsemble): string {
    const ports = ensemble.numbers().map((i) => ensemble.port(i) + relayOffset.zooKeeper)
    return ports.map((port) => `127.0.0.1:${port}`).join(',')
  }

  async relayBrokers(cluster: Cluster): Promise<void> {
    await this.#relay(
      [...cluster.numbers(), ...cluster.spares()].flatMap((n) => {
        const host = brokerHost(n)
        const replication = cluster.replicationPort(n)
        const stomp = cluster.stompPort(n)
        return [
          { host, port: replication, relayPort: replication + relayOffset.replication },
          { host, port: stomp, relayPort: stomp + relayOffset.stomp, forClients: true },
        ]
      }),
    )
  }

  async relayZooKeeper(ensemble: ZooKeeperEnsemble): Promise<void> {
    await this.#relay(
      ensemble.numbers().map((i) => ({
        host: zooKeeperHost(i),
        port: ensemble.port(i),
        relayPort: ensemble.port(i) + relayOffset.zooKeeper,
      })),
    )
  }

  async #relay(ports: readonly RelayedPort[]): Promise<void> {
    for (const { host, port, relayPort, forClients } of ports) {
      const relay = new Relay(
        port,
        host,
        (callerPort) => (forClients ? 'clients' : this.#callerOf(callerPort)),
        (from, to) => this.#way(from, to),
      )
      this.#relays.push(relay)
      await relay.listen(relayPort)
    }
  }

  place(): BrokerPlace {
    return {}
  }

  clientAddress(n: number): Address {
    return this.#stompPort(n) + relayOffset.stomp
  }

  async cut(from: Host, to: Host): Promise<void> {
    this.#way(from, to).cut = true
  }

  async delay(a: Host, b: Host, ms: number): Promise<void> {
    this.#way(a, b).delayMs = ms
    this.#way(b, a).delayMs = ms
  }

  async lose(): Promise<void> {
    throw new Error('a relay cannot lose packets')
  }

  async limit(host: Host, bytesPerSecond: number): Promise<void> {
    for (const n of this.#pids().values()) this.#way(host, brokerHost(n)).bytesPerSecond = bytesPerSecond
    this.#way(host, 'clients').bytesPerSecond = bytesPerSecond
  }

  async heal(): Promise<void> {
    for (const way of this.#ways.values()) Object.assign(way, openWay())
  }

  async close(): Promise<void> {
    await Promise.all(this.#relays.map((relay) => relay.close()))
    this.#relays = []
  }

  #way(from: Host, to: Host): Way {
    const key = `${from} ${to}`
    let way = this.#ways.get(key)
    if (way === undefined) {
      way = openWay()
      this.#ways.set(key, way)
    }
    return way
  }

  #callerOf(port: number): Host {
    const pids = this.#pids()
    const pid = ownerOf(port, [...pids.keys()])
    const n = pid === undefined ? undefined : pids.get(pid)
    return n === undefined ? 'clients' : brokerHost(n)
  }
}

function openWay(): Way {
  return { cut: false, delayMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY }
}

import { brokerHost, separate } from '../chaos/hosts/host-network.ts'
import { Loopback } from '../chaos/hosts/loopback.ts'
import { Cluster, type ClusterOptions } from './cluster-fixture.ts'

/** A network between brokers on this machine that can be cut: see {@link withPartitions}. */
export interface Partitions {
  /** What the first sends to the second no longer arrives; the connections stay. */
  silence(from: number, to: number): Promise<void>
  /** Cuts a broker from all the others, both ways. */
  isolate(n: number): Promise<void>
  heal(): Promise<void>
}

/** Runs `body` with a cluster whose members reach each other through relays. Clients reach every broker at any time. */
export async function withPartitions(
  options: Omit<ClusterOptions, 'configure' | 'start'>,
  body: (cluster: Cluster, partitions: Partitions) => Promise<void>,
): Promise<void> {
  const cluster = await Cluster.start({
    ...options,
    start: [],
    configure: (configuration) => Loopback.configure(configuration),
  })
  const network = new Loopback(
    () => new Map(cluster.running().map((n) => [cluster.process(n).pid, n])),
    (n) => cluster.stompPort(n),
  )
  try {
    await network.relayBrokers(cluster)
    for (const n of cluster.numbers()) cluster.start(n)
    await body(cluster, {
      silence: (from, to) => network.cut(brokerHost(from), brokerHost(to)),
      isolate: (n) => separate(network, [brokerHost(n)], cluster.numbers().map(brokerHost)),
      heal: () => network.heal(),
    })
  } catch (error) {
    console.error(cluster.report())
    throw error
  } finally {
    await cluster.stop()
    await network.close()
  }
}

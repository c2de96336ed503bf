import type { BrokerPlace } from '../../system/cluster-fixture.ts'
import type { Address } from '../../system/stomp-client.ts'

/** One host: `b1`, `b2` and so on are brokers, `z1` to `z3` ZooKeeper servers, `clients` all clients together. */
export type Host = `b${number}` | `z${number}` | 'clients'

export const brokerHost = (n: number): Host => `b${n}`
export const zooKeeperHost = (i: number): Host => `z${i}`

/** What a network can be told to do to what is sent. */
export type NetworkAbility = 'cut' | 'delay' | 'loss' | 'rate'

/**
 * Hosts and the network between them, which can be made to fail. What is done to it adds up until {@link HostNetwork.heal}.
 *
 * The runner asks brokers for their status over a way of its own, which nothing here disturbs.
 */
export interface HostNetwork {
  /** For the first line of a run. */
  readonly description: string
  readonly abilities: ReadonlySet<NetworkAbility>
  place(n: number): BrokerPlace
  /** Where clients connect to broker `n`. */
  clientAddress(n: number): Address
  /** Nothing sent from one to the other arrives any more; connections stay open and silent. */
  cut(from: Host, to: Host): Promise<void>
  /** What either sends to the other takes `ms` more. */
  delay(a: Host, b: Host, ms: number): Promise<void>
  /** That share of the packets to a host vanish; TCP sends them again, later and out of order. */
  lose(host: Host, share: number): Promise<void>
  /** What a host sends is limited. */
  limit(host: Host, bytesPerSecond: number): Promise<void>
  heal(): Promise<void>
  close(): Promise<void>
}

/** Cuts both ways. */
export async function separate(
  network: HostNetwork,
  some: readonly Host[],
  others: readonly Host[],
): Promise<void> {
  for (const a of some) {
    for (const b of others) {
      if (a === b) continue
      await network.cut(a, b)
      await network.cut(b, a)
    }
  }
}

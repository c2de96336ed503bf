import type { TransportConnectorOptions } from '../broker-options.ts'
import type { Engine } from '../engine.ts'

/**
 * A listening address of the broker with the clients behind it; one per `transportConnector`.
 *
 * The broker calls `probe` once when the process starts, then `listen` and `close` once per mastership, any number of
 * times, and never `listen` again before the `close` of the one before. An engine is only good for the mastership it
 * was given for: a connector keeps nothing of it, and no client, beyond `close`.
 */
export interface Connector {
  readonly name: string
  /**
   * What clients connect to, as other brokers show it: the configured URI, with the port that the system chose in
   * place of port 0 once it listens.
   */
  readonly uri: string

  /**
   * Finds out whether the address can be listened on, without serving: takes it and lets it go.
   * @throws {@link BrokerError} `BROKER_ADDRESS_IN_USE`, with the connector's name and address in its message.
   */
  probe(): Promise<void>

  /**
   * Starts to accept clients and hands each to `engine`. Resolves once it listens.
   *
   * A `close` that comes first wins: then it listens to nothing, accepts nobody, and resolves.
   * @throws {@link BrokerError} `BROKER_ADDRESS_IN_USE`, as for `probe`. It may be called again then.
   */
  listen(engine: Engine): Promise<void>

  /**
   * At once and without waiting: accepts nobody any more and drops every client. For mastership lost and for stop;
   * the engine has called `Client.disconnect` on all clients just before. May be called in any state, also twice.
   * Resolves once the address is free, so that `listen` can follow; by then no call into the engine is to come.
   */
  close(): Promise<void>
}

/** What a connector gets from the broker it belongs to. */
export interface ConnectorHost {
  readonly brokerName: string
  /** Of the product, for greetings such as STOMP's `server` header. */
  readonly version: string
  log(
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    facts?: Readonly<Record<string, unknown>>,
  ): void
}

/**
 * Makes the connector of one URI scheme; it opens nothing before `probe` or `listen`.
 *
 * @throws {@link BrokerError} `BROKER_INVALID_CONFIGURATION` for a URI or option it does not know.
 */
export type ConnectorFactory = (options: TransportConnectorOptions, host: ConnectorHost) => Connector

/** Which factory serves which URI scheme, without the colon: `stomp`. */
export type ConnectorFactories = Readonly<Record<string, ConnectorFactory>>

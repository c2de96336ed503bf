import type { LevelDbOptions, ReplicatedLevelDbOptions } from '@levelmq/store'

/** A connector as configured: ActiveMQ's `transportConnector`. */
export interface TransportConnectorOptions {
  readonly name: string
  /** `stomp://host:port` with options behind `?`, as in ActiveMQ's URIs; see docs/configuration.md. */
  readonly uri: string
}

/** The checked configuration of one broker: what `levelmq.yaml`, the environment and the defaults come to. */
export interface BrokerOptions {
  /** @defaultValue `localhost` */
  readonly brokerName: string
  readonly persistenceAdapter:
    | { readonly kind: 'levelDB'; readonly options: LevelDbOptions }
    | { readonly kind: 'replicatedLevelDB'; readonly options: ReplicatedLevelDbOptions }
  readonly transportConnectors: readonly TransportConnectorOptions[]
  /** Address of the management server. @defaultValue 127.0.0.1:8161 */
  readonly management: { readonly host: string; readonly port: number } | undefined
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error'; readonly format: 'text' | 'json' }
}

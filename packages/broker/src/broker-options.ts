import type { LevelDbOptions, ReplicatedLevelDbOptions } from '@levelmq/store'

/** A connector as configured: ActiveMQ's `transportConnector`. */
export interface TransportConnectorOptions {
  readonly name: string
  /** `stomp://host:port` with options behind `?`, as in ActiveMQ's URIs; see docs/configuration.md. */
  readonly uri: string
}

/** Where the management server listens, and whom it obeys. */
export interface ManagementOptions {
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /** What whoever wants to change something has to know; without it only this machine may. Never shown. */
  readonly adminToken?: string
}

/** The checked configuration of one broker: what `levelmq.yaml`, the environment and the defaults come to. */
export interface BrokerOptions {
  /** @defaultValue `localhost` */
  readonly brokerName: string
  readonly persistenceAdapter:
    | { readonly kind: 'levelDB'; readonly options: LevelDbOptions }
    | { readonly kind: 'replicatedLevelDB'; readonly options: ReplicatedLevelDbOptions }
  readonly transportConnectors: readonly TransportConnectorOptions[]
  /** The management server. @defaultValue on 127.0.0.1:8161 */
  readonly management: ManagementOptions | undefined
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error'; readonly format: 'text' | 'json' }
}

import { setTimeout as delay } from 'node:timers/promises'
import {
  type MasterSession,
  type MessageStore,
  type StoreAdministration,
  type StoreConfiguration,
  StoreError,
  type StoreHost,
  type StoreListener,
} from '@levelmq/store'
import type { BrokerOptions, TransportConnectorOptions } from './broker-options.ts'
import { type BrokerStatus, brokerStatus } from './broker-status.ts'
import type { Connector, ConnectorFactories, ConnectorHost } from './connector/connector.ts'
import { ConnectorGroup } from './connector/connector-group.ts'
import { publishedUri } from './connector/published-uri.ts'
import type { MemoryLimits } from './destination/memory-budget.ts'
import { QueueEngine, type QueueStatus } from './destination/queue-engine.ts'
import { BrokerError } from './errors.ts'

/** Longest time that a stopping master waits for another one to take over, in milliseconds. */
const transferTimeoutMs = 3000
/** The same once it is master no more: by then the other one needs nothing of it, and may be stopping as well. */
const afterDemotionMs = 500

/** What a broker is made of besides its options. */
export interface BrokerDependencies {
  /** Makes the store; `createStore` of `@levelmq/store`. */
  createStore(configuration: StoreConfiguration, host: StoreHost): MessageStore
  /** Which connector serves which URI scheme. */
  readonly connectorFactories: ConnectorFactories
  readonly version: string
  readonly log: StoreHost['log']
  /** The broker cannot go on, in whatever role: clients are gone, and the process has to end. Called once. */
  onFatal(error: Error): void
  /** The status may have changed. */
  onChange?(): void
  /** Milliseconds of a clock that never goes back. @defaultValue `performance.now` */
  now?(): number
  /** @defaultValue a timer */
  delay?(ms: number): Promise<void>
  /** Bounds of what queues hold in memory. */
  readonly memoryLimits?: Partial<MemoryLimits>
}

/**
 * A broker: a store, and, while that is master, an engine and the connectors to it.
 *
 * Invariants:
 * - Each mastership has an engine of its own; nothing of the one before reaches it.
 * - On `demoted` every client is disconnected before the call returns, and no new one is accepted.
 * - `master` is shown only while all connectors listen.
 */
export class Broker {
  readonly #options: BrokerOptions
  readonly #dependencies: BrokerDependencies
  readonly #store: MessageStore
  readonly #connectors: ConnectorGroup
  readonly #startedAt: number
  #engine: QueueEngine | undefined
  #stopping: Promise<void> | undefined
  #failure: Error | undefined
  readonly #demotedWhenStopping = Promise.withResolvers<void>()

  /**
   * Opens nothing yet.
   *
   * @throws {@link BrokerError} `BROKER_INVALID_CONFIGURATION` for a connector that no factory makes; and what the
   *   factories throw, and the store's `STORE_INVALID_OPTION`.
   */
  constructor(options: BrokerOptions, dependencies: BrokerDependencies) {
    this.#options = options
    this.#dependencies = dependencies
    this.#startedAt = this.#now()
    const connectors = new ConnectorGroup(
      options.transportConnectors.map((connector) => this.#makeConnector(connector)),
      {
        delay: dependencies.delay ?? ((ms) => delay(ms)),
        serving: () => this.#serving(),
        failed: (error) => this.#fail(error),
      },
    )
    this.#connectors = connectors
    this.#store = dependencies.createStore(options.persistenceAdapter, {
      // A getter: a port that the system chooses is known only once the connector listens.
      memberInfo: {
        brokerName: options.brokerName,
        get connectors(): string[] {
          return connectors.uris.map((uri) => publishedUri(uri, options))
        },
      },
      log: dependencies.log,
    })
  }

  /**
   * Opens the store and takes part in elections; resolves before one is won.
   *
   * @throws {@link BrokerError} `BROKER_ADDRESS_IN_USE` if a connector's address is taken: a slave says so now, and
   *   not when it is needed; and what the store's `open` throws.
   */
  async start(): Promise<void> {
    await this.#connectors.probe()
    if (this.#stopping !== undefined) return
    await this.#store.open(this.#listener())
  }

  /**
   * Hands mastership to another member if there is one that can take it, disconnects all clients and closes the store.
   * May be called in any state, also twice.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  status(): BrokerStatus {
    const store = this.#store.status()
    return brokerStatus(store, {
      brokerName: this.#options.brokerName,
      pid: process.pid,
      role: store.role === 'master' && !this.listening() ? 'electing' : store.role,
      queues: this.#engine?.queueCount ?? this.#store.queues().length,
      clients: this.#engine?.clientCount ?? 0,
      connectors: this.#connectors.status,
      uptimeSeconds: Math.floor((this.#now() - this.#startedAt) / 1000),
      version: this.#dependencies.version,
    })
  }

  /** Whether clients are admitted: this broker is master, and all its connectors listen. */
  listening(): boolean {
    return this.#engine !== undefined && this.#connectors.serving === this.#engine
  }

  /** Changes of the cluster; `undefined` if this store has none. */
  administration(): StoreAdministration | undefined {
    return this.#store.administration
  }

  /**
   * Deletes a queue with everything in it, and disconnects its consumers. Resolves once that is committed.
   *
   * @throws {@link BrokerError} `BROKER_UNKNOWN_QUEUE`; {@link StoreError} `STORE_NOT_MASTER`, also when mastership ends
   *   meanwhile: then the queue may be deleted or not.
   */
  async deleteQueue(name: string): Promise<void> {
    if (this.#engine === undefined)
      throw new StoreError({ code: 'STORE_NOT_MASTER' }, 'this broker is not master')
    await this.#engine.deleteQueue(name)
  }

  /** Why this broker cannot go on, once it cannot. */
  failure(): Error | undefined {
    return this.#failure
  }

  /** All queues; on a slave as of its last committed record, without consumers. */
  queues(): QueueStatus[] {
    if (this.#engine !== undefined) return this.#engine.queues()
    return this.#store.queues().map(({ name, messageCount }) => ({
      name,
      size: messageCount,
      consumerCount: 0,
      inFlight: 0,
      memoryBytes: 0,
    }))
  }

  #listener(): StoreListener {
    return {
      promoted: (session) => this.#promoted(session),
      demoted: (reason) => this.#demoted(reason),
      confirmed: (index) => this.#engine?.confirmed(index),
      committed: (index) => this.#engine?.committed(index),
      drained: () => this.#engine?.drained(),
      leaseRenewed: () => this.#engine?.leaseRenewed(),
      changed: () => this.#dependencies.onChange?.(),
      failed: (error) => this.#fail(error),
    }
  }

  #promoted(session: MasterSession): void {
    if (this.#stopping !== undefined || this.#failure !== undefined) return
    this.#dependencies.log('info', 'elected master', { epoch: session.epoch })
    this.#engine = new QueueEngine(
      this.#store,
      session,
      {
        failed: (error) => this.#fail(error),
        sessionFailed: (error) =>
          this.#dependencies.log('error', 'a client was disconnected: its session failed', { error }),
      },
      this.#dependencies.memoryLimits,
    )
    this.#connectors.listen(this.#engine)
  }

  #serving(): void {
    this.#dependencies.log('info', 'serving clients', { connectors: this.#connectors.uris })
    this.#dependencies.onChange?.()
  }

  #demoted(reason: string): void {
    const engine = this.#engine
    this.#engine = undefined
    engine?.end(reason)
    void this.#connectors.close()
    if (this.#stopping !== undefined) this.#demotedWhenStopping.resolve()
    if (engine !== undefined) this.#dependencies.log('warn', 'no longer master', { reason })
    this.#dependencies.onChange?.()
  }

  async #stop(): Promise<void> {
    await this.#handOver()
    const engine = this.#engine
    this.#engine = undefined
    engine?.retire('the broker stops')
    await this.#connectors.close()
    await this.#store.close()
  }

  /** Clients find the next master at once, instead of waiting for one to be elected. */
  async #handOver(): Promise<void> {
    if (this.#engine === undefined) return
    const timeLimit = new AbortController()
    try {
      const { administration } = this.#store
      if (administration === undefined) return
      const { to } = await Promise.race([
        administration.transfer(undefined),
        this.#afterDelay(transferTimeoutMs, timeLimit.signal),
        this.#demotedWhenStopping.promise.then(() => this.#afterDelay(afterDemotionMs, timeLimit.signal)),
      ])
      this.#dependencies.log('info', 'handed mastership over', { to })
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.#dependencies.log('info', 'mastership is not handed over', { reason })
    } finally {
      timeLimit.abort()
    }
  }

  async #afterDelay(ms: number, signal: AbortSignal): Promise<never> {
    await (this.#dependencies.delay?.(ms) ?? delay(ms, undefined, { signal }))
    throw new Error(`no other member took it within ${ms} ms`)
  }

  #fail(cause: unknown): void {
    if (this.#failure !== undefined) return
    const error = cause instanceof Error ? cause : new Error(String(cause))
    this.#failure = error
    const engine = this.#engine
    this.#engine = undefined
    engine?.end('the broker failed')
    void this.#connectors.close()
    this.#dependencies.log('error', error.message, { error })
    this.#dependencies.onFatal(error)
  }

  #makeConnector(options: TransportConnectorOptions): Connector {
    const { connectorFactories, version, log } = this.#dependencies
    const scheme = options.uri.slice(0, Math.max(0, options.uri.indexOf(':')))
    const factory = Object.hasOwn(connectorFactories, scheme) ? connectorFactories[scheme] : undefined
    if (factory === undefined) {
      throw new BrokerError(
        { code: 'BROKER_INVALID_CONFIGURATION', where: '', key: `transportConnectors.${options.name}.uri` },
        `transport connector ${options.name}: no protocol ${JSON.stringify(scheme)}; ` +
          `known are ${Object.keys(connectorFactories).join(', ')}`,
      )
    }
    const host: ConnectorHost = { brokerName: this.#options.brokerName, version, log }
    return factory(options, host)
  }

  #now(): number {
    return this.#dependencies.now?.() ?? performance.now()
  }
}

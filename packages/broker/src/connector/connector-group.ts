import type { Engine } from '../engine.ts'
import { BrokerError } from '../errors.ts'
import type { Connector } from './connector.ts'

export interface ConnectorGroupOptions {
  /** Times to try an address that is in use, before giving up. @defaultValue 20 */
  readonly attempts?: number
  /** Time between two tries, in milliseconds. @defaultValue 250 */
  readonly retryDelayMs?: number
  delay(ms: number): Promise<void>
  /** All connectors listen for this engine. */
  serving(engine: Engine): void
  /** An address stayed in use, or a connector broke: the broker cannot serve. */
  failed(error: unknown): void
}

/**
 * All connectors of the broker: they listen for one engine, or for none.
 *
 * Mastership can change faster than sockets open and close. What is wanted is therefore only noted, and one loop at a
 * time brings the connectors to it; after each wait it looks again at what is wanted.
 * Invariant: no connector is asked to listen before its `close` after the last `listen` has resolved.
 */
export class ConnectorGroup {
  readonly #connectors: readonly Connector[]
  readonly #options: ConnectorGroupOptions
  readonly #listening = new Set<Connector>()
  #wanted: Engine | undefined
  #serving: Engine | undefined
  /** Asked to listen, and not closed to the end since. */
  #open = false
  #busy = false
  #running: Promise<void> = Promise.resolve()
  #wantedChanged: PromiseWithResolvers<void> = Promise.withResolvers()

  constructor(connectors: readonly Connector[], options: ConnectorGroupOptions) {
    this.#connectors = connectors
    this.#options = options
  }

  /** The engine that clients of all connectors can reach now. */
  get serving(): Engine | undefined {
    return this.#serving
  }

  get uris(): string[] {
    return this.#connectors.map((connector) => connector.uri)
  }

  get status(): { name: string; uri: string; listening: boolean }[] {
    return this.#connectors.map((connector) => ({
      name: connector.name,
      uri: connector.uri,
      listening: this.#listening.has(connector),
    }))
  }

  /** @throws {@link BrokerError} `BROKER_ADDRESS_IN_USE` */
  async probe(): Promise<void> {
    for (const connector of this.#connectors) await connector.probe()
  }

  /** Starts to listen for this engine, once what went before is closed. */
  listen(engine: Engine): void {
    this.#want(engine)
  }

  /** Closes all at once. @returns when the addresses are free and nothing is under way any more. */
  close(): Promise<void> {
    const open = this.#open
    this.#serving = undefined
    this.#listening.clear()
    this.#want(undefined)
    // The loop closes them too, and waits for it; but it may be waiting for a `listen` now, and clients cannot.
    if (open) for (const connector of this.#connectors) connector.close().catch(this.#options.failed)
    return this.#running
  }

  #want(engine: Engine | undefined): void {
    this.#wanted = engine
    this.#wantedChanged.resolve()
    this.#wantedChanged = Promise.withResolvers()
    if (!this.#busy) this.#running = this.#run()
  }

  async #run(): Promise<void> {
    this.#busy = true
    try {
      await this.#reconcile()
      this.#busy = false
    } catch (error) {
      this.#busy = false
      this.#options.failed(error)
    }
  }

  async #reconcile(): Promise<void> {
    while (this.#wanted !== this.#serving || (this.#wanted === undefined && this.#open)) {
      if (this.#open) {
        this.#serving = undefined
        await Promise.all(this.#connectors.map((connector) => connector.close()))
        this.#listening.clear()
        this.#open = false
      } else if (this.#wanted !== undefined) {
        await this.#listenFor(this.#wanted)
      }
    }
  }

  async #listenFor(engine: Engine): Promise<void> {
    this.#open = true
    for (const connector of this.#connectors) {
      await this.#listenOn(connector, engine)
      if (this.#wanted !== engine) return
      this.#listening.add(connector)
    }
    this.#serving = engine
    this.#options.serving(engine)
  }

  /** Resolves once it listens, or once this engine is not wanted any more. */
  async #listenOn(connector: Connector, engine: Engine): Promise<void> {
    const { attempts = 20, retryDelayMs = 250, delay } = this.#options
    for (let attempt = 1; this.#wanted === engine; attempt++) {
      try {
        await connector.listen(engine)
        return
      } catch (error) {
        if (this.#wanted !== engine) return
        const inUse = error instanceof BrokerError && error.code === 'BROKER_ADDRESS_IN_USE'
        if (!inUse || attempt === attempts) throw error
      }
      await Promise.race([delay(retryDelayMs), this.#wantedChanged.promise])
    }
  }
}

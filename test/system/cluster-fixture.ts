import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrokerStatus, brokerStatus, type ManagementPlace, memberOf } from './broker-status.ts'
import { type Exit, LevelMqProcess, type ProcessOptions } from './child-process.ts'
import { type PortBlock, reservePorts } from './port-block.ts'
import { StompConnection } from './stomp-client.ts'
import { Hopeless, waitFor } from './wait-for.ts'

/** `levelmq.yaml` as an object; JSON is YAML. */
export interface BrokerConfiguration {
  brokerName: string
  persistenceAdapter: { replicatedLevelDB: Record<string, unknown> }
  transportConnectors: { name: string; uri: string }[]
  managementContext: { host: string; port: number; adminToken?: string }
  log: { level: string; format: string }
  [key: string]: unknown
}

export interface ClusterOptions {
  /** @defaultValue 3 */
  readonly size?: number
  /** @defaultValue `raft` */
  readonly elector?: 'raft' | 'zookeeper'
  /** Address of ZooKeeper for broker `n`, or for all. */
  readonly zkAddress?: string | ((n: number) => string)
  /** More keys of `replicatedLevelDB`, the same for all brokers. */
  readonly store?: Readonly<Record<string, unknown>>
  /** Changes what broker `n` is configured with. */
  readonly configure?: (configuration: BrokerConfiguration, n: number) => void
  /** Brokers beyond `size` that know the others, and are no members until they are added. @defaultValue 0 */
  readonly spares?: number
  /** Brokers to start, from 1. @defaultValue all but the spares */
  readonly start?: readonly number[]
  /** Where broker `n` runs. @defaultValue this machine */
  readonly place?: (n: number) => BrokerPlace
  /** For everything of the cluster; not removed by {@link Cluster.stop}. @defaultValue a temporary one, which is */
  readonly directory?: string
}

/** A broker on a host of its own. */
export interface BrokerPlace extends Omit<ProcessOptions, 'stdin'> {
  /** Address that all listeners of the broker are bound to. @defaultValue 127.0.0.1 */
  readonly host?: string
  /** Address of this machine that the broker's status is asked from. */
  readonly askedFrom?: string
}

/** How long brokers in tests wait before they take a silent master for lost. */
export const electionTimeoutMs = 1_000
export const zkSessionTimeoutMs = 2_000

let clusters = 0

/**
 * Brokers as processes of their own, on free ports, with their data in a temporary directory. Brokers are numbered
 * from 1 and named `broker-1` and so on.
 *
 * Only {@link withCluster} and the kill script make one, and both see to it that it is stopped.
 */
export class Cluster {
  readonly directory: string
  readonly size: number
  readonly #options: ClusterOptions
  readonly #ports: PortBlock
  readonly #processes = new Map<number, LevelMqProcess>()
  readonly #killed = new Set<LevelMqProcess>()
  readonly #zkPath: string
  readonly #connections = new Set<StompConnection>()

  private constructor(options: ClusterOptions, ports: PortBlock) {
    this.#options = options
    this.#ports = ports
    this.size = options.size ?? 3
    this.directory = options.directory ?? mkdtempSync(join(tmpdir(), 'levelmq-test-'))
    this.#zkPath = `/levelmq-test/${process.pid}-${Date.now()}-${++clusters}`
    for (const n of [...this.numbers(), ...this.spares()]) {
      mkdirSync(this.home(n), { recursive: true })
      this.writeConfiguration(n, this.configuration(n))
    }
  }

  /** Starts the brokers, without waiting for anything. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(options, await reservePorts())
    for (const n of options.start ?? cluster.numbers()) cluster.start(n)
    return cluster
  }

  numbers(): number[] {
    return Array.from({ length: this.size }, (_, i) => i + 1)
  }

  spares(): number[] {
    return Array.from({ length: this.#options.spares ?? 0 }, (_, i) => this.size + i + 1)
  }

  home(n: number): string {
    return join(this.directory, name(n))
  }

  /** Where broker `n` keeps its store. */
  storeDirectory(n: number): string {
    return join(this.home(n), 'store')
  }

  configurationFile(n: number): string {
    return join(this.home(n), 'levelmq.yaml')
  }

  host(n: number): string {
    return this.#options.place?.(n).host ?? '127.0.0.1'
  }

  stompPort(n: number): number {
    return this.#ports.port(n)
  }

  managementPort(n: number): number {
    return this.#ports.port(10 + n)
  }

  replicationPort(n: number): number {
    return this.#ports.port(20 + n)
  }

  stompPorts(): number[] {
    return this.numbers().map((n) => this.stompPort(n))
  }

  /** What the commands of `levelmq` are given to find the cluster. */
  get failoverUri(): string {
    return `failover:(${this.stompPorts()
      .map((port) => `tcp://127.0.0.1:${port}`)
      .join(',')})`
  }

  configuration(n: number): BrokerConfiguration {
    const { elector = 'raft', zkAddress, store, configure } = this.#options
    const election =
      elector === 'raft'
        ? {
            elector,
            peers: this.#peersOf(n).map((peer) => `${this.host(peer)}:${this.replicationPort(peer)}`),
          }
        : {
            elector,
            zkAddress: typeof zkAddress === 'function' ? zkAddress(n) : zkAddress,
            zkPath: this.#zkPath,
            zkSessionTimeout: `${zkSessionTimeoutMs}ms`,
          }
    const configuration: BrokerConfiguration = {
      brokerName: name(n),
      persistenceAdapter: {
        replicatedLevelDB: {
          brokerName: 'test',
          directory: this.storeDirectory(n),
          replicas: this.size,
          bind: `tcp://${this.host(n)}:${this.replicationPort(n)}`,
          hostname: this.host(n),
          electionTimeout: `${electionTimeoutMs}ms`,
          ...election,
          ...store,
        },
      },
      transportConnectors: [{ name: 'stomp', uri: `stomp://${this.host(n)}:${this.stompPort(n)}` }],
      managementContext: { host: this.host(n), port: this.managementPort(n) },
      log: { level: 'info', format: 'json' },
    }
    configure?.(configuration, n)
    return configuration
  }

  /** As many as there are founders: a spare learns the rest from those it knows. */
  #peersOf(n: number): number[] {
    return n <= this.size ? this.numbers() : [n, ...this.numbers().slice(1)]
  }

  writeConfiguration(n: number, configuration: unknown): void {
    writeFileSync(this.configurationFile(n), `${JSON.stringify(configuration, undefined, 2)}\n`)
  }

  /** @param nodeOptions - Options of Node.js for this life of the broker. */
  start(n: number, nodeOptions: readonly string[] = []): LevelMqProcess {
    const before = this.#processes.get(n)
    if (before !== undefined && before.exited === undefined) throw new Error(`${name(n)} runs already`)
    const started = new LevelMqProcess(['start', '--config', this.configurationFile(n)], this.#logFile(n), {
      ...this.#options.place?.(n),
      nodeOptions,
    })
    this.#processes.set(n, started)
    return started
  }

  process(n: number): LevelMqProcess {
    const found = this.#processes.get(n)
    if (found === undefined) throw new Error(`${name(n)} was not started`)
    return found
  }

  /** Brokers whose process runs, paused ones included. */
  running(): number[] {
    return [...this.numbers(), ...this.spares()].filter(
      (n) => this.#processes.has(n) && this.#processes.get(n)?.exited === undefined,
    )
  }

  /** What brokers did that nobody ended: empty if all is well. */
  endedByThemselves(): string[] {
    return [...this.#processes].flatMap(([n, { exited }]) => {
      if (exited === undefined || this.#killed.has(this.process(n))) return []
      return [`${name(n)} ended by itself: ${exited.signal ?? `exit code ${exited.code}`}`]
    })
  }

  #expectNoneEnded(): void {
    const ended = this.endedByThemselves()
    if (ended.length > 0) throw new Hopeless(ended.join('; '))
  }

  /** Sends `signal` at once; resolves when the process has ended. */
  kill(n: number, signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<Exit> {
    const killed = this.process(n)
    this.#killed.add(killed)
    killed.signal(signal)
    return killed.exit
  }

  /** From now on this life of the broker may end by itself. */
  expectEnd(n: number): void {
    this.#killed.add(this.process(n))
  }

  pause(n: number): void {
    this.process(n).signal('SIGSTOP')
  }

  resume(n: number): void {
    this.process(n).signal('SIGCONT')
  }

  status(n: number, timeoutMs?: number): Promise<BrokerStatus> {
    const { host, askedFrom } = this.#options.place?.(n) ?? {}
    const place: ManagementPlace = {
      ...(host === undefined ? {} : { host }),
      ...(askedFrom === undefined ? {} : { localAddress: askedFrom }),
    }
    return brokerStatus(this.managementPort(n), timeoutMs, place)
  }

  /** Statuses of those brokers that answer. */
  async statuses(timeoutMs = 300): Promise<Map<number, BrokerStatus>> {
    const answers = await Promise.all(
      this.running().map(async (n) => [n, await this.status(n, timeoutMs).catch(() => undefined)] as const),
    )
    return new Map(answers.flatMap(([n, status]) => (status === undefined ? [] : [[n, status] as const])))
  }

  /** The broker that serves as master, other than `except`. */
  waitForMaster(options: { timeoutMs?: number; except?: number; aboveEpoch?: number } = {}): Promise<number> {
    const { timeoutMs = 15_000, except, aboveEpoch = 0 } = options
    return waitFor(
      'a master',
      async () => {
        this.#expectNoneEnded()
        for (const [n, status] of await this.statuses()) {
          if (status.role === 'master' && n !== except && status.epoch > aboveEpoch) return n
        }
        return undefined
      },
      { timeoutMs },
    )
  }

  /** Waits until there is a master and every other running broker follows it with nothing to catch up. */
  async waitForService(timeoutMs = 15_000): Promise<number> {
    return waitFor(
      'a master that all running brokers follow',
      async () => {
        this.#expectNoneEnded()
        const statuses = await this.statuses()
        const masters = [...statuses].filter(([, status]) => status.role === 'master')
        const [first] = masters
        if (first === undefined || masters.length > 1) return undefined
        const [master, seen] = first
        const following = this.running().every((n) => {
          if (n === master) return true
          const status = statuses.get(n)
          return status?.role === 'slave' && status.epoch === seen.epoch && inSync(seen, n)
        })
        return following ? master : undefined
      },
      { timeoutMs },
    )
  }

  /** A connection to broker `n`, closed with the cluster at the latest. */
  async connect(n: number): Promise<StompConnection> {
    const connection = await StompConnection.open(this.stompPort(n))
    this.#connections.add(connection)
    return connection
  }

  /** Everything broker `n` printed, in all its lives. */
  log(n: number): string {
    try {
      return readFileSync(this.#logFile(n), 'utf8')
    } catch {
      return ''
    }
  }

  /** The ends of all logs, for the report of a failed test. */
  report(lines = 40): string {
    return [...this.#processes.keys()]
      .map((n) => {
        const exit = this.#processes.get(n)?.exited
        const state = exit === undefined ? '' : ` (ended: ${exit.signal ?? exit.code})`
        return `--- ${name(n)}${state}\n${this.log(n).trimEnd().split('\n').slice(-lines).join('\n')}`
      })
      .join('\n')
  }

  /** Ends every process and removes the data. */
  async stop(): Promise<void> {
    for (const connection of this.#connections) connection.destroy()
    await Promise.all([...this.#processes.values()].map((broker) => broker.end()))
    await this.#ports.release()
    if (this.#options.directory === undefined) rmSync(this.directory, { recursive: true, force: true })
  }

  #logFile(n: number): string {
    return join(this.home(n), 'broker.log')
  }
}

function inSync(master: BrokerStatus, n: number): boolean {
  return memberOf(master, name(n))?.state === 'in sync'
}

/** Where the other members reach the broker with this configuration. */
export function addressOf(configuration: BrokerConfiguration): string {
  const { connectUrl, bind } = configuration.persistenceAdapter.replicatedLevelDB
  return `${connectUrl ?? bind}`.replace(/^tcp:\/\//, '')
}

/** What broker `n` is called. */
export function name(n: number): string {
  return `broker-${n}`
}

/** Runs `body` with a cluster that ends with it; if it fails, the brokers' logs are printed. */
export async function withCluster(
  options: ClusterOptions,
  body: (cluster: Cluster) => Promise<void>,
): Promise<void> {
  const cluster = await Cluster.start(options)
  try {
    await body(cluster)
  } catch (error) {
    console.error(cluster.report())
    throw error
  } finally {
    await cluster.stop()
  }
}

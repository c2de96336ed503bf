import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { BrokerStatus } from '@levelmq/broker'
import { askBrokers } from '../status/broker-status.ts'
import type { Colour, Paint } from '../terminal/paint.ts'
import { BrokerProcess } from './broker-process.ts'
import {
  type BrokerLayout,
  type ClusterOptions,
  configurationOf,
  defaultBrokerUri,
  defaultManagementUrls,
} from './layout.ts'
import { type MasterChange, MasterWatch } from './master-watch.ts'

interface ClusterTerminal {
  readonly paint: Paint
  print(line: string): void
}

interface ClusterBehaviour {
  /** Start a broker again a second after it ended by itself. */
  readonly restart: boolean
  readonly environment: NodeJS.ProcessEnv
}

const colours: readonly Colour[] = ['cyan', 'yellow', 'magenta', 'green', 'blue', 'red']
const askEveryMs = 200
const askTimeoutMs = 1000
const restartAfterMs = 1000
const stopWithinMs = 20_000

/** Several brokers on this machine under one terminal: starts them, shows their logs, tells who is master, stops them. */
export class Cluster {
  readonly #options: ClusterOptions
  readonly #behaviour: ClusterBehaviour
  readonly #terminal: ClusterTerminal
  readonly #layouts: readonly BrokerLayout[]
  readonly #processes: readonly BrokerProcess[]
  readonly #watch = new MasterWatch()
  readonly #ended = Promise.withResolvers<void>()
  readonly #restarts = new Map<number, NodeJS.Timeout>()
  #asking: NodeJS.Timeout | undefined
  #force: NodeJS.Timeout | undefined
  #stopping = false

  constructor(
    options: ClusterOptions,
    layouts: readonly BrokerLayout[],
    behaviour: ClusterBehaviour,
    terminal: ClusterTerminal,
  ) {
    this.#options = options
    this.#layouts = layouts
    this.#behaviour = behaviour
    this.#terminal = terminal
    this.#processes = layouts.map((layout) => {
      const prefix = terminal.paint(
        colours[(layout.number - 1) % colours.length] ?? 'cyan',
        `${layout.name} |`,
      )
      return new BrokerProcess(layout, behaviour.environment, {
        line: (text) => terminal.print(`${prefix} ${text}`),
        ended: (how) => this.#brokerEnded(layout, how),
      })
    })
  }

  /** Writes each broker's configuration file; what was in it is lost. */
  writeConfigurations(): void {
    for (const layout of this.#layouts) {
      mkdirSync(layout.directory, { recursive: true })
      writeFileSync(layout.configFile, configurationOf(layout, this.#layouts, this.#options))
    }
  }

  /** Runs until `stop`, or until every broker has ended and none will be started again. */
  run(): Promise<void> {
    for (const broker of this.#processes) broker.start()
    this.#writeClusterFile()
    this.#askSoon()
    return this.#ended.promise
  }

  /** Starts a broker that has ended. */
  start(number: number): void {
    const broker = this.#processes[number - 1]
    if (broker === undefined)
      this.#say(`there is no broker ${number}; there are 1 to ${this.#processes.length}`)
    else if (broker.isRunning) this.#say(`${broker.layout.name} runs already, pid ${broker.pid}`)
    else if (!this.#stopping) {
      clearTimeout(this.#restarts.get(number))
      broker.start()
      this.#writeClusterFile()
      this.#say(`${broker.layout.name} starts, pid ${broker.pid}`)
    }
  }

  /** Asks every broker to stop; `run` resolves when they have. */
  stop(): void {
    if (this.#stopping) return
    this.#stopping = true
    this.#say('stopping all brokers; once more to kill them')
    clearTimeout(this.#asking)
    for (const timer of this.#restarts.values()) clearTimeout(timer)
    for (const broker of this.#processes) broker.signal('SIGTERM')
    // A paused process does not even see its signal.
    this.#force = setTimeout(() => this.kill(), stopWithinMs)
    this.#endIfAllEnded()
  }

  kill(): void {
    for (const broker of this.#processes) broker.signal('SIGKILL')
  }

  #brokerEnded(layout: BrokerLayout, how: string): void {
    if (this.#stopping) {
      this.#say(`${layout.name} has stopped (${how})`)
      this.#endIfAllEnded()
      return
    }
    this.#writeClusterFile()
    if (this.#behaviour.restart) {
      this.#say(`${layout.name} has ended: ${how}; starting it again`)
      this.#restarts.set(
        layout.number,
        setTimeout(() => this.start(layout.number), restartAfterMs),
      )
      return
    }
    this.#say(`${layout.name} has ended: ${how}. To bring it back, type: start ${layout.number}`)
  }

  #endIfAllEnded(): void {
    if (this.#processes.some((broker) => broker.isRunning)) return
    clearTimeout(this.#force)
    rmSync(this.#clusterFile(), { force: true })
    this.#ended.resolve()
  }

  #askSoon(): void {
    this.#asking = setTimeout(() => void this.#ask(), askEveryMs)
  }

  async #ask(): Promise<void> {
    const { basePortOffset } = this.#options
    const running = defaultManagementUrls(basePortOffset, this.#processes.length).filter(
      (_, index) => this.#processes[index]?.isRunning,
    )
    const answers = await askBrokers(running, askTimeoutMs)
    if (this.#stopping) return
    const statuses = answers.flatMap((answer): BrokerStatus[] => ('status' in answer ? [answer.status] : []))
    const change = this.#watch.observe(statuses)
    if (change !== undefined) this.#announce(change)
    this.#askSoon()
  }

  #announce({ previous, current }: MasterChange): void {
    const { paint } = this.#terminal
    const why = current.reason === undefined ? '' : `, elected because: ${current.reason}`
    const name = paint(['green', 'bold'], current.name)
    if (previous !== undefined) {
      const from = `${previous.name} (epoch ${previous.epoch})`
      this.#say(`new master: ${name} (epoch ${current.epoch}), before: ${from}${why}`)
      return
    }
    const { basePortOffset: offset } = this.#options
    const brokers = this.#processes.length
    const option = offset === 0 ? '' : ` --base-port-offset ${offset}`
    this.#say(`master: ${name} (epoch ${current.epoch})${why}`)
    this.#say(`clients connect to    ${defaultBrokerUri(offset, brokers)}`)
    this.#say(`management answers at ${defaultManagementUrls(offset, brokers).join(' ')}`)
    this.#say('try, in another terminal:')
    this.#say(`  npx levelmq status${option}`)
    this.#say(`  seq 10000 | npx levelmq produce --queue test${option}`)
    this.#say(`  npx levelmq consume --queue test --count 10000${option}`)
  }

  #say(text: string): void {
    this.#terminal.print(`${this.#terminal.paint('bold', 'cluster  |')} ${text}`)
  }

  #clusterFile(): string {
    return join(resolve(this.#options.data), 'cluster.json')
  }

  /** Tells other programs which processes and ports there are; replaced as a whole, so that none reads half of it. */
  #writeClusterFile(): void {
    const brokers = this.#processes.map(({ layout, pid }) => ({ ...layout, pid: pid ?? null }))
    const { elector, basePortOffset } = this.#options
    const text = JSON.stringify({ pid: process.pid, elector, basePortOffset, brokers }, null, 2)
    const file = this.#clusterFile()
    writeFileSync(`${file}.new`, `${text}\n`)
    renameSync(`${file}.new`, file)
  }
}

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { root, run } from './child-process.ts'
import { type PortBlock, reservePorts } from './port-block.ts'

const tool = process.env.LEVELMQ_ZK_LOCAL ?? resolve(root, '../shared/tools/zk-local')

export interface EnsembleOptions {
  /** For everything of the servers. @defaultValue a temporary one */
  readonly directory?: string
  /** One address per server. @defaultValue this machine */
  readonly hosts?: readonly string[]
  /** A command put before the servers; `{}` is the number of the server. */
  readonly wrap?: string
}

/** Three real ZooKeeper servers on this machine. Missing ones are a failure: what needs them is not proven without. */
export class ZooKeeperEnsemble {
  readonly servers = 3
  readonly #directory: string
  readonly #ports: PortBlock

  readonly #hosts: readonly string[]
  readonly #wrap: string | undefined

  private constructor(directory: string, ports: PortBlock, options: EnsembleOptions) {
    this.#directory = directory
    this.#ports = ports
    this.#hosts = options.hosts ?? []
    this.#wrap = options.wrap
  }

  static async start(options: EnsembleOptions = {}): Promise<ZooKeeperEnsemble> {
    if (!existsSync(tool)) {
      throw new Error(`No ZooKeeper: ${tool} is missing. LEVELMQ_ZK_LOCAL names the tool that starts one.`)
    }
    const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'levelmq-zk-'))
    const ensemble = new ZooKeeperEnsemble(directory, await reservePorts(), options)
    try {
      await ensemble.up()
    } catch (error) {
      await ensemble.stop()
      throw error
    }
    return ensemble
  }

  /** `host:port` of every server with commas between. */
  get address(): string {
    return this.numbers()
      .map((i) => `${this.#hosts[i - 1] ?? '127.0.0.1'}:${this.port(i)}`)
      .join(',')
  }

  /** Servers are numbered from 1. */
  numbers(): number[] {
    return [1, 2, 3]
  }

  port(i: number): number {
    return this.#ports.port(i)
  }

  /** Starts what does not run, and waits until all of it serves. */
  async up(): Promise<void> {
    const hosts = this.#hosts.length === 0 ? [] : ['--hosts', this.#hosts.join(',')]
    const wrap = this.#wrap === undefined ? [] : ['--wrap', this.#wrap]
    const size = ['--servers', `${this.servers}`, '--base-port', `${this.#ports.port(0)}`]
    await this.#run('start', [...size, ...hosts, ...wrap])
  }

  /** Forgets everything that was ever written to it; all servers have to be down. */
  wipe(): void {
    for (const i of this.numbers()) {
      for (const place of ['data', 'log']) {
        rmSync(join(this.#directory, `server.${i}`, place, 'version-2'), { recursive: true, force: true })
      }
    }
  }

  async kill(i: number): Promise<void> {
    await this.#run('kill', ['--only', `${i}`])
  }

  async pause(i: number): Promise<void> {
    await this.#run('pause', ['--only', `${i}`])
  }

  async resume(i: number): Promise<void> {
    await this.#run('resume', ['--only', `${i}`])
  }

  async leader(): Promise<number> {
    const line = /^(\d+) \S+ \S+ leader$/m.exec(await this.#run('status', []))
    if (line === null) throw new Error('ZooKeeper has no leader')
    return Number(line[1])
  }

  /** Ends every server and removes its data. */
  async stop(): Promise<void> {
    await this.#run('stop', ['--purge'])
    await this.#ports.release()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #run(command: string, args: readonly string[]): Promise<string> {
    const result = await run(tool, [command, '--dir', this.#directory, ...args], { timeoutMs: 90_000 })
    if (result.code !== 0) throw new Error(`zk-local ${command}: ${result.stderr}`)
    return result.stdout
  }
}

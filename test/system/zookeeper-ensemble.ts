import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { root, run } from './child-process.ts'
import { type PortBlock, reservePorts } from './port-block.ts'

const tool = process.env.LEVELMQ_ZK_LOCAL ?? resolve(root, '../shared/tools/zk-local')

/** Three real ZooKeeper servers on this machine. Missing ones are a failure: what needs them is not proven without. */
export class ZooKeeperEnsemble {
  readonly servers = 3
  readonly #directory: string
  readonly #ports: PortBlock

  private constructor(directory: string, ports: PortBlock) {
    this.#directory = directory
    this.#ports = ports
  }

  static async start(): Promise<ZooKeeperEnsemble> {
    if (!existsSync(tool)) {
      throw new Error(`No ZooKeeper: ${tool} is missing. LEVELMQ_ZK_LOCAL names the tool that starts one.`)
    }
    const ensemble = new ZooKeeperEnsemble(mkdtempSync(join(tmpdir(), 'levelmq-zk-')), await reservePorts())
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
      .map((i) => `127.0.0.1:${this.port(i)}`)
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
    await this.#run('start', ['--servers', `${this.servers}`, '--base-port', `${this.#ports.port(0)}`])
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

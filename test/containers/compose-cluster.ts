import {
  DockerComposeEnvironment,
  getContainerRuntimeClient,
  type StartedDockerComposeEnvironment,
  Wait,
} from 'testcontainers'
import type { BrokerStatus } from '../system/broker-status.ts'
import { root } from '../system/child-process.ts'
import { waitFor } from '../system/wait-for.ts'

const numbers = [1, 2, 3]

export interface ExecResult {
  readonly exitCode: number
  readonly output: string
  readonly stderr: string
}

/** What `docker compose up -d` brings up, under a project name and on ports of its own. */
export class ComposeCluster {
  readonly #environment: StartedDockerComposeEnvironment

  private constructor(environment: StartedDockerComposeEnvironment) {
    this.#environment = environment
  }

  /** Builds the image, starts everything and waits until it is healthy. Fails without a Docker engine. */
  static async start(): Promise<ComposeCluster> {
    await getContainerRuntimeClient() // Says so if there is no engine.
    let environment = new DockerComposeEnvironment(root, [
      'compose.yaml',
      'test/containers/compose.ports.yaml',
    ])
      .withBuild()
      .withStartupTimeout(120_000)
      .withWaitStrategy('zookeeper-1', Wait.forHealthCheck())
    for (const n of numbers) environment = environment.withWaitStrategy(service(n), Wait.forHealthCheck())
    return new ComposeCluster(await environment.up())
  }

  /** What clients inside the network connect to. */
  get failoverUri(): string {
    return `failover:(${numbers.map((n) => `tcp://broker${n}:61613`).join(',')})`
  }

  numbers(): readonly number[] {
    return numbers
  }

  async stop(): Promise<void> {
    await this.#environment.down({ timeout: 10_000, removeVolumes: true })
  }

  /** Runs a command in broker `n`'s container. */
  async exec(n: number, command: string[]): Promise<ExecResult> {
    const { exitCode, stdout, stderr } = await this.#environment.getContainer(service(n)).exec(command)
    return { exitCode, output: stdout, stderr }
  }

  async execInZooKeeper(command: string[]): Promise<ExecResult> {
    const { exitCode, stdout, stderr } = await this.#environment.getContainer('zookeeper-1').exec(command)
    return { exitCode, output: stdout, stderr }
  }

  /** The broker's status, asked from inside: a restart changes the published port. */
  async status(n: number): Promise<BrokerStatus> {
    const script = "process.stdout.write(await (await fetch('http://127.0.0.1:8161/status')).text())"
    const { exitCode, output, stderr } = await this.exec(n, ['node', '--input-type=module', '-e', script])
    if (exitCode !== 0) throw new Error(`status of broker ${n}: ${stderr}`)
    return JSON.parse(output) as BrokerStatus
  }

  /** The broker that is master, asked of those that `among` names. */
  waitForMaster(among: readonly number[] = numbers): Promise<number> {
    return waitFor(
      'a master',
      async () => {
        for (const n of among) {
          if ((await this.status(n)).role === 'master') return n
        }
        return undefined
      },
      { timeoutMs: 30_000, intervalMs: 200 },
    )
  }

  /** `docker kill`. */
  async kill(n: number): Promise<void> {
    await (await this.#container(n)).kill()
  }

  /** `docker start`. */
  async restart(n: number): Promise<void> {
    await (await this.#container(n)).start()
  }

  async isRunning(n: number): Promise<boolean> {
    return (await (await this.#container(n)).inspect()).State.Running
  }

  async #container(n: number) {
    const client = await getContainerRuntimeClient()
    return client.container.getById(this.#environment.getContainer(service(n)).getId())
  }
}

function service(n: number): string {
  return `broker${n}-1`
}

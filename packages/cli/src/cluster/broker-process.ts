import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { BrokerLayout } from './layout.ts'

interface BrokerProcessListener {
  /** One line of its log. */
  line(text: string): void
  /** It has ended, whoever wanted that. */
  ended(how: string): void
}

const mainFile = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../main.ts' : '../main.js', import.meta.url),
)

/** One broker of a local cluster as a child process. */
export class BrokerProcess {
  readonly layout: BrokerLayout
  readonly #listener: BrokerProcessListener
  readonly #environment: NodeJS.ProcessEnv
  #child: ChildProcess | undefined

  constructor(layout: BrokerLayout, environment: NodeJS.ProcessEnv, listener: BrokerProcessListener) {
    this.layout = layout
    this.#environment = environment
    this.#listener = listener
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  get isRunning(): boolean {
    return this.#child !== undefined
  }

  start(): void {
    if (this.#child !== undefined) return
    const args = [mainFile, 'start', '--config', this.layout.configFile, '--supervised']
    // A session of its own: Ctrl-C reaches this process alone, which then stops the brokers in order. Their stdin is a
    // pipe that closes when this process dies, however it dies.
    const child = spawn(process.execPath, args, {
      detached: true,
      env: this.#environment,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child = child
    child.stdin.on('error', () => {})
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (text) =>
        this.#listener.line(text),
      )
    }
    let ended = false
    const end = (how: string) => {
      if (ended) return
      ended = true
      this.#child = undefined
      this.#listener.ended(how)
    }
    child.on('error', (error) => end(`cannot be started: ${error.message}`))
    child.on('exit', (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`))
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The checkout, without a slash at the end. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
/** What `levelmq` is in a checkout. */
const main = `${root}/packages/cli/src/main.ts`

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** The environment without what LevelMQ would take for its own settings, and refuse if it means something else. */
function withoutSettings(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([variable]) => !variable.startsWith('LEVELMQ_')),
  )
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})
// Without these the default action would end this process without the `exit` event, and leave the children behind.
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.once(signal, () => process.exit(code))
}

export interface ProcessOptions {
  /** `pipe` to use {@link LevelMqProcess.stdin}. */
  readonly stdin?: 'pipe'
  readonly env?: Record<string, string>
  /** A command put before: it has to end in an `exec`, so that the process keeps its id. */
  readonly wrap?: readonly string[]
  /** Options of Node.js itself. */
  readonly nodeOptions?: readonly string[]
}

/**
 * A `levelmq` process. Its output goes to a file: so it never waits for this process to read, and the text is whole
 * after a SIGKILL.
 */
export class LevelMqProcess {
  readonly #child: ChildProcess
  readonly #logFile: string
  readonly #logStart: number
  /** Resolves when the process has ended, however. */
  readonly exit: Promise<Exit>
  exited: Exit | undefined

  /** @param logFile - What the process prints is appended here. */
  constructor(args: readonly string[], logFile: string, options: ProcessOptions = {}) {
    if (Number(process.versions.node.split('.')[0]) < 24) {
      throw new Error(`Node 24 or later runs LevelMQ, this is ${process.version}: use npm run or npx`)
    }
    this.#logFile = logFile
    const fd = openSync(logFile, 'a')
    this.#logStart = readFileSync(logFile).length
    try {
      const [command = process.execPath, ...rest] = [
        ...(options.wrap ?? []),
        process.execPath,
        ...(options.nodeOptions ?? []),
        main,
        ...args,
      ]
      this.#child = spawn(command, rest, {
        stdio: [options.stdin ?? 'ignore', fd, fd],
        cwd: root,
        env: { ...withoutSettings(process.env), ...options.env },
      })
    } finally {
      closeSync(fd)
    }
    running.add(this.#child)
    this.exit = new Promise((resolve) => {
      const ended = (exit: Exit): void => {
        running.delete(this.#child)
        this.exited = exit
        resolve(exit)
      }
      this.#child.once('exit', (code, signal) => ended({ code, signal }))
      this.#child.once('error', () => ended({ code: null, signal: null }))
    })
  }

  get pid(): number {
    const { pid } = this.#child
    if (pid === undefined) throw new Error('the process did not start')
    return pid
  }

  get stdin(): NodeJS.WritableStream {
    if (this.#child.stdin === null) throw new TypeError('started without a pipe')
    return this.#child.stdin
  }

  /** Sends a signal; `SIGKILL` is in force when this returns. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** What this process printed so far. */
  output(): string {
    return readFileSync(this.#logFile).subarray(this.#logStart).toString('utf8')
  }

  /** Ends the process, and waits until it has ended. */
  async end(): Promise<void> {
    if (this.exited === undefined) {
      this.signal('SIGCONT')
      this.signal('SIGKILL')
    }
    await this.exit
  }
}

export interface CommandResult extends Exit {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end. A process that takes longer than `timeoutMs` is killed, and shows `SIGKILL` as signal. */
export function run(
  command: string,
  args: readonly string[],
  { input = '', timeoutMs = 30_000 }: { readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: root,
      env: withoutSettings(process.env),
    })
    running.add(child)
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.stdin.on('error', () => {}) // The process need not read its input.
    child.stdin.end(input)
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    child.once('error', (error) => {
      running.delete(child)
      clearTimeout(timer)
      reject(error)
    })
    child.once('close', (code, signal) => {
      running.delete(child)
      clearTimeout(timer)
      resolve({ code, signal, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() })
    })
  })
}

/** Runs a `levelmq` command to its end. */
export function levelmq(
  args: readonly string[],
  options: { readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  return run(process.execPath, [main, ...args], options)
}

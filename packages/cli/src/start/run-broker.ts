import { constants } from 'node:os'
import {
  Broker,
  BrokerError,
  createStompConnector,
  loadConfiguration,
  ManagementServer,
} from '@levelmq/broker'
import { createStore, StoreError } from '@levelmq/store'
import { CommandError, ExitCode } from '../exit-code.ts'
import { version } from '../version.ts'
import { createLog, type Log } from './log.ts'

/** Signals that come in pairs, from a terminal and from npm, count once. */
const sameSignalMs = 500

const lingerMs = 2000

/**
 * Runs one broker until a signal, a failure or, if supervised, the end of stdin.
 *
 * Returns when it has stopped on request; every other end is an exit code of its own.
 */
export async function runBroker(options: {
  readonly config?: string
  readonly supervised?: boolean
}): Promise<void> {
  const warnings: string[] = []
  const configuration = loadConfiguration({
    file: options.config,
    env: process.env,
    warn: (message) => warnings.push(message),
  })
  const log = createLog(configuration.log, process.stdout)
  for (const warning of warnings) log('warn', warning)
  const stopped = Promise.withResolvers<void>()
  const broker = new Broker(configuration, {
    createStore,
    connectorFactories: { stomp: createStompConnector, 'stomp+nio': createStompConnector },
    version,
    log,
    onFatal: (error) => exitAfterLog(fatalCode(error)),
  })
  const management =
    configuration.management === undefined
      ? undefined
      : new ManagementServer(configuration.management, broker, log)

  let stopping: Promise<void> | undefined
  const stop = (reason: string) => {
    stopping ??= (async () => {
      log('info', 'stopping', { reason })
      await Promise.all([broker.stop(), management?.stop()])
      log('info', 'stopped')
    })()
    stopping.then(stopped.resolve, stopped.reject)
  }
  dieLoudly(log)
  stopOnSignals(stop)
  if (options.supervised) {
    process.stdin.on('end', () => stop('the parent process is gone')).on('error', () => stop('stdin failed'))
    process.stdin.resume()
  }
  log('info', 'starting', { brokerName: configuration.brokerName, pid: process.pid, version })
  try {
    const address = await management?.start()
    if (address !== undefined)
      log('info', 'management listens', { url: `http://${address.host}:${address.port}` })
    await broker.start()
  } catch (error) {
    if (stopping === undefined) throw await cannotStart(error, broker, management)
  }
  await stopped.promise
  process.stdin.destroy()
  // What is closed keeps no process alive; should something be left open, it must not either.
  setTimeout(() => process.exit(ExitCode.ok), lingerMs).unref()
}

async function cannotStart(
  cause: unknown,
  broker: Broker,
  management: ManagementServer | undefined,
): Promise<CommandError> {
  await Promise.allSettled([broker.stop(), management?.stop()])
  return describeStartFailure(cause)
}

/** The exit code and the words for a broker that cannot start. */
function describeStartFailure(cause: unknown): CommandError {
  if (cause instanceof CommandError) return cause
  const message = cause instanceof Error ? cause.message : String(cause)
  return new CommandError(startFailureCode(cause), message, { cause })
}

function startFailureCode(cause: unknown): ExitCode {
  if (isStoreFailure(cause)) return ExitCode.storeFailed
  if (cause instanceof BrokerError)
    return cause.code === 'BROKER_INVALID_CONFIGURATION' ? ExitCode.usage : ExitCode.failed
  if (cause instanceof StoreError)
    return cause.code === 'STORE_INVALID_OPTION' ? ExitCode.usage : ExitCode.failed
  return ExitCode.failed
}

/** The exit code of a broker that ran and cannot go on. */
function fatalCode(error: unknown): ExitCode {
  if (isStoreFailure(error)) return ExitCode.storeFailed
  return error instanceof BrokerError ? ExitCode.failed : ExitCode.internal
}

function isStoreFailure(error: unknown): boolean {
  if (!(error instanceof StoreError)) return false
  return ['STORE_CORRUPT', 'STORE_DISK_FAILED', 'STORE_UNKNOWN_FORMAT'].includes(error.code)
}

function stopOnSignals(stop: (reason: string) => void): void {
  let firstAt: number | undefined
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      const now = performance.now()
      if (firstAt === undefined) {
        firstAt = now
        stop(signal)
      } else if (now - firstAt > sameSignalMs) process.exit(128 + constants.signals[signal])
    })
  }
}

/** What nobody caught is a mistake of ours: going on could break a promise that was made. */
function dieLoudly(log: Log): void {
  const die = (error: unknown) => {
    log('error', 'internal error', { error })
    exitAfterLog(ExitCode.internal)
  }
  process.on('uncaughtException', die).on('unhandledRejection', die)
}

/** Ends the process at once; the log is written synchronously where stdout is a file or a pipe. */
function exitAfterLog(code: ExitCode): never {
  process.exit(code)
}

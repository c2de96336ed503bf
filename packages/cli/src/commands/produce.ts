import { randomUUID } from 'node:crypto'
import { createReadStream, statSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { defaultBrokerUri, maxPortOffset } from '../cluster/layout.ts'
import { CommandError, ExitCode } from '../exit-code.ts'
import { GeneratedSource, LineSource, type MessageSource } from '../produce/message-source.ts'
import { Producer, type ProducerResult } from '../produce/producer.ts'
import type { BrokerUri } from '../stomp-client/broker-uri.ts'
import { startProgress } from '../terminal/progress.ts'
import { brokerUri, queueName, seconds, wholeNumber } from './option-value.ts'

interface ProduceOptions {
  readonly url?: BrokerUri
  readonly queue: string
  readonly file?: string
  readonly count?: number
  readonly size: number
  readonly window: number
  readonly timeout?: number
  readonly basePortOffset: number
  readonly verbose?: boolean
  readonly json?: boolean
}

const defaultTimeoutSeconds = 30

export function addProduceCommand(program: Command): void {
  program
    .command('produce')
    .summary('send lines of a file or of stdin, or generated messages')
    .description(
      `Sends each line as a persistent message and waits until all are confirmed. Lines go out byte for byte, without
their line feed. A failover on the way costs a pause: what is not confirmed is sent again in order, under the same
ids, and the broker stores it once.`,
    )
    .addOption(
      new Option(
        '--url <uri>',
        'failover:(tcp://host:port,…)?options or tcp://host:port (default: a local cluster)',
      )
        .argParser(brokerUri)
        .env('LEVELMQ_URL'),
    )
    .option('--queue <name>', 'queue to send to', queueName, 'test')
    .addOption(new Option('--file <path>', 'take the lines of this file instead of stdin').conflicts('count'))
    .option('--count <n>', 'send this many generated messages', wholeNumber(1, 1e9))
    .option('--size <bytes>', 'size of a generated message', wholeNumber(0, 104_857_600), 1024)
    .option('--window <n>', 'most messages in flight', wholeNumber(1, 100_000), 1000)
    .option(
      '--timeout <seconds>',
      `longest time without any confirmation (default: ${defaultTimeoutSeconds})`,
      seconds,
    )
    .option('--base-port-offset <n>', 'of a local cluster', wholeNumber(0, maxPortOffset), 0)
    .option('--verbose', 'tell about connections on stderr')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Options of failover: URIs, with ActiveMQ's names: initialReconnectDelay (10), maxReconnectDelay (500 here, 30000 in
ActiveMQ), useExponentialBackOff (true), reconnectDelayExponent (2.0), maxReconnectAttempts (-1),
startupMaxReconnectAttempts (-1), randomize (true), timeout (-1: see --timeout), nested.connectionTimeout (1000).

Exit codes: 0 all confirmed, 1 refused or not readable, 2 wrong usage, 3 not confirmed in time: the message tells how
many are confirmed and how many are in doubt.

Examples:
  levelmq produce --queue orders --file orders.txt
  seq 10000 | levelmq produce --queue numbers
  levelmq produce --count 100000 --size 1024 --url 'failover:(tcp://10.0.0.1:61613,tcp://10.0.0.2:61613)'`,
    )
    .action((options: ProduceOptions) => produce(options))
}

async function produce(options: ProduceOptions): Promise<void> {
  const uri = options.url ?? brokerUri(defaultBrokerUri(options.basePortOffset))
  const fromUri = uri.options.timeoutMs > 0 ? uri.options.timeoutMs : defaultTimeoutSeconds * 1000
  const timeoutMs = options.timeout === undefined ? fromUri : options.timeout * 1000
  const { source, total, unit } = openSource(options)
  const progress = startProgress(process.stderr, total)
  const startedAt = performance.now()
  const producer = new Producer(
    {
      uri,
      queue: options.queue,
      producerId: `levelmq-cli-${randomUUID()}`,
      window: options.window,
      timeoutMs,
    },
    source,
    {
      progress: (confirmed, bytes) => {
        // Each message of a file stands for its line feed too.
        const done = unit === 'messages' ? confirmed : bytes + confirmed
        progress.update(done, `${confirmed} confirmed, ${rate(confirmed, performance.now() - startedAt)}`)
      },
      note: (message) => {
        if (options.verbose) console.error(message)
      },
    },
  )
  const interrupt = () => producer.interrupt()
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  const result = await producer.run()
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  progress.stop()
  if (options.file === undefined && options.count === undefined) process.stdin.destroy()
  report(result, options, timeoutMs)
}

function openSource(options: ProduceOptions): {
  source: MessageSource
  total: number | undefined
  unit: 'messages' | 'bytes'
} {
  if (options.count !== undefined) {
    return {
      source: new GeneratedSource(options.count, options.size),
      total: options.count,
      unit: 'messages',
    }
  }
  if (options.file === undefined)
    return { source: new LineSource(process.stdin), total: undefined, unit: 'bytes' }
  try {
    const { size } = statSync(options.file)
    const source = new LineSource(createReadStream(options.file, { highWaterMark: 256 * 1024 }))
    return { source, total: size, unit: 'bytes' }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CommandError(ExitCode.failed, `${options.file}: ${reason}`, { cause })
  }
}

function report(result: ProducerResult, options: ProduceOptions, timeoutMs: number): void {
  const { outcome, reason, confirmed, confirmedBytes, inDoubt, elapsedMs } = result
  const seconds = elapsedMs / 1000
  if (options.json) {
    const perSecond = seconds > 0 ? Math.round(confirmed / seconds) : 0
    const facts = {
      outcome,
      reason,
      queue: options.queue,
      confirmed,
      confirmedBytes,
      inDoubt,
      seconds,
      perSecond,
    }
    console.log(JSON.stringify(facts))
  } else {
    console.log(
      `${confirmed} confirmed on ${options.queue} in ${seconds.toFixed(2)} s, ${rate(confirmed, elapsedMs)}`,
    )
  }
  const state = `${confirmed} confirmed, ${inDoubt} in doubt`
  const why = reason === undefined ? '' : `: ${reason}`
  switch (outcome) {
    case 'done':
      return
    case 'refused':
      throw new CommandError(ExitCode.failed, `refused${why} (${state})`)
    case 'source failed':
      throw new CommandError(ExitCode.failed, `cannot read the messages${why} (${state})`)
    case 'timeout':
      throw new CommandError(
        ExitCode.unavailable,
        `nothing confirmed for ${timeoutMs / 1000} s${why} (${state})`,
      )
    case 'unreachable':
      throw new CommandError(ExitCode.unavailable, `no broker serves${why} (${state})`)
    case 'interrupted':
      throw new CommandError(ExitCode.unavailable, `interrupted (${state})`)
    default:
      outcome satisfies never
  }
}

function rate(count: number, elapsedMs: number): string {
  return `${Math.round(elapsedMs > 0 ? (count * 1000) / elapsedMs : 0)} messages/s`
}

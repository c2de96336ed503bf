import { type Command, Option } from 'commander'
import { defaultBrokerUri, maxPortOffset } from '../cluster/layout.ts'
import { Consumer, type ConsumerOutput, type ConsumerResult } from '../consume/consumer.ts'
import type { AckMode } from '../consume/deliveries.ts'
import { CommandError, ExitCode } from '../exit-code.ts'
import type { BrokerUri } from '../stomp-client/broker-uri.ts'
import type { Frame } from '../stomp-client/frame.ts'
import { brokerUri, queueName, seconds, wholeNumber } from './option-value.ts'

interface ConsumeOptions {
  readonly url?: BrokerUri
  readonly queue: string
  readonly count?: number
  readonly ack: AckMode
  readonly timeout?: number
  readonly prefetch: number
  readonly basePortOffset: number
  readonly verbose?: boolean
  readonly json?: boolean
}

export function addConsumeCommand(program: Command): void {
  program
    .command('consume')
    .summary('print and acknowledge the messages of a queue')
    .description(
      `Prints the body of each message on a line of its own and acknowledges it then. A failover on the way costs a
pause: what is delivered again is not printed again.`,
    )
    .addOption(
      new Option(
        '--url <uri>',
        'failover:(tcp://host:port,…)?options or tcp://host:port (default: a local cluster)',
      )
        .argParser(brokerUri)
        .env('LEVELMQ_URL'),
    )
    .option('--queue <name>', 'queue to take from', queueName, 'test')
    .option(
      '--count <n>',
      'end after this many messages, once their acknowledgements are confirmed',
      wholeNumber(1, 1e12),
    )
    .addOption(
      new Option('--ack <mode>', 'acknowledgement mode')
        .choices(['auto', 'client', 'client-individual'])
        .default('client-individual'),
    )
    .option('--timeout <seconds>', 'end when nothing came for so long (default: wait for ever)', seconds)
    .option('--prefetch <n>', 'most unacknowledged messages at a time', wholeNumber(1, 65_535), 1000)
    .option('--base-port-offset <n>', 'of a local cluster', wholeNumber(0, maxPortOffset), 0)
    .option('--verbose', 'tell about connections, and the headers of each message, on stderr')
    .option(
      '--json',
      'print each message as a line of JSON: headers, and body as text, or as base64 if it is not UTF-8',
    )
    .addHelpText(
      'after',
      `
Options of failover: URIs: see levelmq produce --help. A summary goes to stderr.

Exit codes: 0 as many as asked, or ended by --timeout, a signal or a closed pipe without --count; 1 failed; 2 wrong
usage; 3 fewer than --count, or no broker served.

Examples:
  levelmq consume --queue orders --count 10000 > orders.txt
  levelmq consume --queue orders --timeout 2 --json
  levelmq consume --queue orders --ack auto | head -n 3`,
    )
    .action((options: ConsumeOptions) => consume(options))
}

async function consume(options: ConsumeOptions): Promise<void> {
  const uri = options.url ?? brokerUri(defaultBrokerUri(options.basePortOffset))
  const consumer = new Consumer(
    {
      uri,
      queue: options.queue,
      mode: options.ack,
      count: options.count,
      timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
      prefetch: Math.min(options.prefetch, options.count ?? options.prefetch),
    },
    outputFor(options),
  )
  const interrupt = () => consumer.interrupt()
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  const closed = () => consumer.interrupt()
  process.stdout.on('error', closed)
  const result = await consumer.run()
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  report(result, options)
}

function outputFor(options: ConsumeOptions): ConsumerOutput {
  const lineFeed = Buffer.from('\n')
  return {
    note: (message) => {
      if (options.verbose) console.error(message)
    },
    write: (messages, done) => {
      if (options.verbose) for (const message of messages) console.error(formatHeaders(message))
      const parts = messages.flatMap((message) => [options.json ? jsonOf(message) : message.body, lineFeed])
      process.stdout.write(Buffer.concat(parts), (error) => done(!error))
    },
  }
}

function formatHeaders(message: Frame): string {
  return [...message.headers].map(([name, value]) => `${name}:${value}`).join(' ')
}

function jsonOf(message: Frame): Buffer {
  const text = message.body.toString('utf8')
  const isText = Buffer.from(text, 'utf8').equals(message.body)
  const body = isText ? { body: text } : { bodyBase64: message.body.toString('base64') }
  return Buffer.from(JSON.stringify({ headers: Object.fromEntries(message.headers), ...body }))
}

function report(result: ConsumerResult, options: ConsumeOptions): void {
  const { outcome, reason, consumed, inDoubt, elapsedMs } = result
  const perSecond = Math.round(elapsedMs > 0 ? (consumed * 1000) / elapsedMs : 0)
  const doubt = inDoubt > 0 ? `, ${inDoubt} acknowledgements in doubt` : ''
  console.error(
    `${consumed} consumed from ${options.queue} in ${(elapsedMs / 1000).toFixed(2)} s, ${perSecond} messages/s${doubt}`,
  )
  const why = reason === undefined ? '' : `: ${reason}`
  const short = options.count !== undefined && (consumed < options.count || inDoubt > 0)
  switch (outcome) {
    case 'done':
    case 'output closed':
      return
    case 'unreachable':
      throw new CommandError(ExitCode.unavailable, `no broker serves${why}`)
    case 'timeout':
      if (!result.connected) throw new CommandError(ExitCode.unavailable, `no broker serves${why}`)
      if (short) throw new CommandError(ExitCode.unavailable, `${consumed} of ${options.count} came in time`)
      return
    case 'interrupted':
      if (short)
        throw new CommandError(ExitCode.unavailable, `interrupted after ${consumed} of ${options.count}`)
      return
    default:
      outcome satisfies never
  }
}

import { dumpStore } from '@levelmq/store'
import { type Command, Option } from 'commander'
import { CommandError, ExitCode } from '../exit-code.ts'
import { dumpLines } from '../inspect/dump-line.ts'
import { LineOutput } from '../inspect/line-output.ts'
import { inspectionFailure, requireStore } from '../inspect/open-directory.ts'
import { queueName, wholeNumber } from './option-value.ts'

interface DumpCommandOptions {
  readonly from?: number
  readonly to?: number
  readonly queue?: string
  readonly records?: boolean
  readonly headersOnly?: boolean
  readonly bodies?: boolean
}

const highestIndex = 999_999_999_999_999

export function addDumpCommand(program: Command): void {
  program
    .command('dump')
    .summary('print the journal of a store as JSON lines')
    .description(
      `Prints the batches and records in the journal of a store whose broker is stopped, one JSON object per line, in the
order of the log. Changes nothing. A broker cannot be started on the directory meanwhile.`,
    )
    .argument('<directory>', "the store's directory: that with identity.json, journal and index in it")
    .option('--from <index>', 'first record', wholeNumber(1, highestIndex))
    .option('--to <index>', 'last record', wholeNumber(1, highestIndex))
    .option('--queue <name>', 'only records that concern this queue', queueName)
    .option('--records', 'records as lines of their own behind that of their batch')
    .addOption(new Option('--headers-only', 'batches without their records').conflicts(['records', 'bodies']))
    .option('--bodies', 'with the envelopes of messages, as base64')
    .addHelpText(
      'after',
      `
A line is {"type":"batch",…} with its records inside, or, with --records, followed by {"type":"record",…} lines. A
message's content is in its envelope: the headers and body as LevelMQ stores them.

At damage it prints no further, tells on stderr where it is, and which --from goes on behind it. The log is always read
from its beginning, since only the log tells the names of queues.

Exit codes: 0 printed, 1 damage, 2 wrong usage or no store there, 3 the store is in use: stop its broker first,
74 something cannot be opened.

Examples:
  levelmq dump data/broker-1/LevelDB --headers-only | tail -n 1
  levelmq dump data/broker-1/LevelDB --queue orders --records | jq 'select(.kind == "messageAdded")'`,
    )
    .action((directory: string, options: DumpCommandOptions) => dump(directory, options))
}

async function dump(directory: string, options: DumpCommandOptions): Promise<void> {
  const { records = false, headersOnly = false, bodies = false } = options
  await requireStore(directory)
  const output = new LineOutput(process.stdout)
  let interrupted = false
  const interrupt = () => {
    interrupted = true
  }
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  try {
    for await (const part of dumpStore(directory, options)) {
      if (output.isClosed) return
      // Leaving the loop in order removes what was made for the lock.
      if (interrupted) throw new CommandError(ExitCode.unavailable, 'interrupted')
      if (part.type === 'batch') {
        await output.write(dumpLines(part, { records, headersOnly, bodies }))
        continue
      }
      await output.flush()
      const place = `${part.file} at ${part.offset}: ${part.what}`
      if (part.type !== 'damage') console.error(`levelmq: ${place}`)
      else throw new CommandError(ExitCode.failed, `${place}\n  ${advice(part.goesOnAt)}`)
    }
    await output.flush()
  } catch (error) {
    throw inspectionFailure(error)
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  }
}

function advice(goesOnAt: number | undefined): string {
  return goesOnAt === undefined
    ? 'nothing sound is known behind it'
    : `what is sound behind it: --from ${goesOnAt}`
}

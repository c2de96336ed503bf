import { type VerifyReport, verifyStore } from '@levelmq/store'
import type { Command } from 'commander'
import { CommandError, ExitCode } from '../exit-code.ts'
import { inspectionFailure, requireStore } from '../inspect/open-directory.ts'
import { bytes, formatVerifyReport } from '../inspect/verify-report.ts'
import { paintFor } from '../terminal/paint.ts'
import { startProgress } from '../terminal/progress.ts'

interface VerifyCommandOptions {
  readonly json?: boolean
}

export function addVerifyCommand(program: Command): void {
  program
    .command('verify')
    .summary('read a whole store and say what is wrong with it')
    .description(
      `Reads everything in the directory of a store whose broker is stopped: identity, promise, every segment of the
journal, and the index, which must say the same as the journal. Tells each problem with file, byte offset and record,
and what it means. Changes nothing. A broker cannot be started on the directory meanwhile.`,
    )
    .argument('<directory>', "the store's directory: that with identity.json, journal and index in it")
    .option('--json', 'print everything found as JSON')
    .addHelpText(
      'after',
      `
The index is copied to the directory for temporary files (TMPDIR) and read there.

Exit codes: 0 sound (what an interrupted write left behind is no damage), 1 damaged, 2 wrong usage or no store there,
3 the store is in use: stop its broker first, 74 something cannot be opened.

Examples:
  levelmq verify /var/lib/levelmq
  levelmq verify data/broker-1/LevelDB --json`,
    )
    .action((directory: string, options: VerifyCommandOptions) => verify(directory, options))
}

async function verify(directory: string, options: VerifyCommandOptions): Promise<void> {
  await requireStore(directory)
  const report = await read(directory)
  if (options.json) console.log(JSON.stringify(report))
  else console.log(formatVerifyReport(report, paintFor(process.stdout)))
  if (!report.sound) process.exitCode = ExitCode.failed
}

async function read(directory: string): Promise<VerifyReport> {
  const interrupted = new AbortController()
  const interrupt = () =>
    interrupted.abort(new CommandError(ExitCode.unavailable, 'interrupted; nothing is said about the store'))
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  const startedAt = performance.now()
  let bar: ReturnType<typeof startProgress> | undefined
  const progress = (done: number, total: number) => {
    bar ??= startProgress(process.stderr, total)
    const seconds = (performance.now() - startedAt) / 1000
    bar.update(done, `${bytes(done)} of ${bytes(total)}, ${bytes(Math.round(done / seconds))}/s`)
  }
  try {
    return await verifyStore(directory, { progress, signal: interrupted.signal })
  } catch (error) {
    throw inspectionFailure(error)
  } finally {
    bar?.stop()
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  }
}

import type { RestoreOptions, RestoreReport } from '@levelmq/store'
import type { Command } from 'commander'
import { CommandError, ExitCode } from '../exit-code.ts'
import { inspectionFailure } from '../inspect/open-directory.ts'
import { bytes } from '../inspect/verify-report.ts'
import { startProgress } from '../terminal/progress.ts'

interface RestoreCommandOptions {
  readonly directory: string
  readonly nodeId?: string
  readonly json?: boolean
}

/** @param restore - `restoreBackup` of the store. */
export function addRestoreCommand(
  program: Command,
  restore: (options: RestoreOptions) => Promise<RestoreReport>,
): void {
  program
    .command('restore')
    .summary('make a store of a backup')
    .description(
      `Makes the store of a new cluster from a backup, in a directory that is missing or empty. The first broker is started
on it; the others start with empty directories, learn everything from it and become voters by themselves.`,
    )
    .argument('<file>', 'the backup')
    .requiredOption('--directory <directory>', "the new store's directory")
    .option('--node-id <id>', "the new store's node id (default: made when it is first started)")
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Messages that were consumed after the backup was made are there again, and repeated messages are recognised as of then.

Exit codes: 0 restored, 1 the backup is damaged or the directory not empty, 2 wrong usage, 3 interrupted, 74 something
cannot be read or written.

Examples:
  levelmq restore /backup/orders.levelmq --directory data/broker-1/LevelDB`,
    )
    .action((from: string, options: RestoreCommandOptions) => run(from, options, restore))
}

async function run(
  from: string,
  { directory, nodeId, json }: RestoreCommandOptions,
  restore: (options: RestoreOptions) => Promise<RestoreReport>,
): Promise<void> {
  const interrupted = new AbortController()
  const interrupt = () =>
    interrupted.abort(new CommandError(ExitCode.unavailable, 'interrupted; the directory is not usable'))
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  let bar: ReturnType<typeof startProgress> | undefined
  try {
    const report = await restore({
      from,
      directory,
      ...(nodeId === undefined ? {} : { nodeId }),
      signal: interrupted.signal,
      progress: (done, total) => {
        bar ??= startProgress(process.stderr, total)
        bar.update(done, `${bytes(done)} of ${bytes(total)}`)
      },
    })
    bar?.stop()
    console.log(json ? JSON.stringify(report) : summary(report))
  } catch (error) {
    bar?.stop()
    throw restoreFailure(error)
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  }
}

function summary({ directory, records, position, clusterUuid }: RestoreReport): string {
  return `${directory}: ${records} records restored, up to position ${position.epoch}/${position.index} of cluster ${clusterUuid}`
}

function restoreFailure(error: unknown): unknown {
  const failure = inspectionFailure(error)
  if (!(failure instanceof CommandError) || !(error instanceof Error) || !('code' in error)) return failure
  const refused = ['STORE_CORRUPT', 'STORE_FOREIGN_DIRECTORY'].includes(String(error.code))
  return refused ? new CommandError(ExitCode.failed, failure.message, { cause: error }) : failure
}

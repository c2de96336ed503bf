import { recoverStore, restoreBackup } from '@levelmq/store'
import { Command, CommanderError } from 'commander'
import { addBackupCommand } from './commands/backup.ts'
import { addClusterCommand } from './commands/cluster.ts'
import { addConsumeCommand } from './commands/consume.ts'
import { addDeleteQueueCommand } from './commands/delete-queue.ts'
import { addDumpCommand } from './commands/dump.ts'
import { addFinaliseCommand } from './commands/finalise.ts'
import { addMembersCommand } from './commands/members.ts'
import { addProduceCommand } from './commands/produce.ts'
import { addRecoverCommand } from './commands/recover.ts'
import { addRestoreCommand } from './commands/restore.ts'
import { addStartCommand } from './commands/start.ts'
import { addStatusCommand } from './commands/status.ts'
import { addTransferCommand } from './commands/transfer.ts'
import { addVerifyCommand } from './commands/verify.ts'
import { CommandError, ExitCode } from './exit-code.ts'
import { paintFor } from './terminal/paint.ts'
import { version } from './version.ts'

/** The `levelmq` command with all its subcommands. */
function buildProgram(): Command {
  const program = new Command('levelmq')
    .description('A message broker whose confirmed messages survive the loss of any minority of its brokers.')
    .version(version, '-V, --version')
    .showSuggestionAfterError()
    .showHelpAfterError('(levelmq --help, or levelmq <command> --help, shows what is allowed)')
    .exitOverride()
    .addHelpText(
      'after',
      `
Exit codes:
  0   done
  1   failed
  2   wrong usage or configuration
  3   no master serves, or not confirmed in time, or a store is in use: repeating it may help
  70  internal error
  74  the store cannot go on: a failed write or sync, or damaged files

Examples:
  levelmq cluster                         three brokers on this machine
  levelmq status                          who is master, who lags
  levelmq produce --queue orders < file   each line becomes a message
  levelmq consume --queue orders          print and acknowledge them
  levelmq members                         who votes, who learns
  levelmq backup orders.levelmq           everything committed, in a file
  levelmq verify data/broker-1/LevelDB    is everything in a stopped store sound?`,
    )
  for (const add of [
    addStartCommand,
    addClusterCommand,
    addStatusCommand,
    addProduceCommand,
    addConsumeCommand,
    addMembersCommand,
    addTransferCommand,
    addBackupCommand,
    addDeleteQueueCommand,
    addFinaliseCommand,
    addVerifyCommand,
    addDumpCommand,
  ]) {
    add(program)
  }
  addRestoreCommand(program, restoreBackup)
  addRecoverCommand(program, recoverStore)
  for (const command of program.commands) {
    command.copyInheritedSettings(program)
    for (const part of command.commands) part.copyInheritedSettings(program)
  }
  return program
}

/**
 * Runs the command that the arguments name.
 * @returns The exit code; the message of a failure is on stderr.
 */
export async function run(args: readonly string[]): Promise<number> {
  try {
    await buildProgram().parseAsync(args, { from: 'user' })
    return typeof process.exitCode === 'number' ? process.exitCode : ExitCode.ok
  } catch (error) {
    // Commander has said what is wrong already; its exit code 1 stands for wrong usage.
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage
    const paint = paintFor(process.stderr)
    const message = error instanceof Error ? error.message : String(error)
    console.error(`${paint('red', 'levelmq:')} ${message}`)
    if (error instanceof CommandError) return error.exitCode
    if (isConfigurationError(error)) return ExitCode.usage
    if (error instanceof Error && error.stack !== undefined) console.error(error.stack)
    return ExitCode.internal
  }
}

function isConfigurationError(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  return error.code === 'BROKER_INVALID_CONFIGURATION' || error.code === 'STORE_INVALID_OPTION'
}

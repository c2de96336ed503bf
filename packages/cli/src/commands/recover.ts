import { createInterface } from 'node:readline/promises'
import type { RecoveryPlan } from '@levelmq/store'
import type { Command } from 'commander'
import { CommandError, ExitCode } from '../exit-code.ts'
import { inspectionFailure, requireStore } from '../inspect/open-directory.ts'
import { type Paint, paintFor } from '../terminal/paint.ts'

interface RecoverOptions {
  readonly directory: string
  readonly yes?: boolean
  readonly json?: boolean
}

type Recover = (directory: string, options: { readonly confirm: boolean }) => Promise<RecoveryPlan>

/** @param recover - `recoverStore` of the store. */
export function addRecoverCommand(program: Command, recover: Recover): void {
  program
    .command('recover')
    .summary('go on with one store when the majority is lost for good')
    .description(
      `Makes a stopped store the only member of a new cluster, with everything in it. Only for the case that a majority of
the stores is lost for good: what only those had is given up, confirmed messages among it. Says what may be lost, and
changes nothing before that is confirmed.`,
    )
    .requiredOption(
      '--directory <directory>',
      "the store's directory: the most complete of those that are left",
    )
    .option('--yes', 'do it without asking')
    .option('--json', 'print what would be, or was, done as JSON; asks nothing')
    .addHelpText(
      'after',
      `
Run "levelmq verify" on every store that is left, and take the one with the highest position. The other stores of the old
cluster can come back only with empty directories.

Exit codes: 0 done, 1 not confirmed, or refused, 2 wrong usage or no store there, 3 the store is in use: stop its broker
first, 74 the store is damaged.

Examples:
  levelmq recover --directory data/broker-1/LevelDB
  levelmq recover --directory data/broker-1/LevelDB --yes`,
    )
    .action((options: RecoverOptions) => run(options, recover))
}

async function run({ directory, yes, json }: RecoverOptions, recover: Recover): Promise<void> {
  await requireStore(directory)
  try {
    const plan = await recover(directory, { confirm: false })
    if (!json) console.log(formatPlan(plan, paintFor(process.stdout)))
    if (!yes && (json || !(await confirmed(plan)))) {
      if (json) console.log(JSON.stringify(plan))
      throw new CommandError(
        ExitCode.failed,
        'nothing was changed; --yes, or the node id on a terminal, confirms it',
      )
    }
    const done = await recover(directory, { confirm: true })
    console.log(json ? JSON.stringify(done) : `done: this store is cluster ${done.newClusterUuid} now`)
  } catch (error) {
    throw inspectionFailure(error)
  }
}

async function confirmed({ nodeId }: RecoveryPlan): Promise<boolean> {
  if (!process.stdin.isTTY) return false
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return (await terminal.question(`Type the node id (${nodeId}) to go on: `)).trim() === nodeId
  } finally {
    terminal.close()
  }
}

function formatPlan(plan: RecoveryPlan, paint: Paint): string {
  const { position, commitIndex, losses } = plan
  const rows: [string, string][] = [
    ['directory', plan.directory],
    ['node', plan.nodeId],
    ['cluster', `${plan.clusterUuid}, which is given up; voters ${plan.voters.join(' ')}`],
    ['position', `${position.epoch}/${position.index}, known to be committed to ${commitIndex}`],
    ['messages', String(plan.messages)],
  ]
  return [
    ...rows.map(([name, value]) => `${paint('bold', name.padEnd(9))} ${value}`),
    '',
    ...losses.map((loss) => paint('yellow', `- ${loss}`)),
  ].join('\n')
}

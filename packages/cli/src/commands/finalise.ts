import type { Command } from 'commander'
import {
  type AdminOptions,
  addAdminOptions,
  adminExitCodes,
  connectToMaster,
} from '../admin/admin-options.ts'
import { wholeNumber } from './option-value.ts'

export function addFinaliseCommand(program: Command): void {
  const command = program
    .command('finalise')
    .summary('let the cluster use what all its brokers are new enough for')
    .description(
      `Raises the level of the log's format, after a rolling upgrade: until then every broker can go back to the version
before, from then on none can. "levelmq members" shows the level, and which levels each member can work with.`,
    )
    .argument('<level>', 'the new level', wholeNumber(1, 65_535))
  addAdminOptions(command)
    .addHelpText(
      'after',
      `
${adminExitCodes}

Examples:
  levelmq members
  levelmq finalise 2`,
    )
    .action((level: number, options: AdminOptions) => finalise(level, options))
}

async function finalise(level: number, options: AdminOptions): Promise<void> {
  const done = await (await connectToMaster(options)).post('/admin/level', { level })
  console.log(options.json ? JSON.stringify(done) : `the cluster is at level ${level} now`)
}

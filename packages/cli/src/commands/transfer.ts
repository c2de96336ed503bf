import type { Command } from 'commander'
import {
  type AdminOptions,
  addAdminOptions,
  adminExitCodes,
  connectToMaster,
} from '../admin/admin-options.ts'
import { nodeIdOf } from '../admin/members-report.ts'

interface TransferOptions extends AdminOptions {
  readonly to?: string
}

export function addTransferCommand(program: Command): void {
  const command = program
    .command('transfer')
    .summary('hand mastership to another broker')
    .description(
      'Makes another voter the master: the named one, or the most suitable. Clients reconnect; nothing confirmed is lost.',
    )
    .option('--to <member>', 'name or node id of the new master')
  addAdminOptions(command)
    .addHelpText(
      'after',
      `
If the other one does not take it in time, the master stays master. A broker that is stopped with SIGTERM does this by itself.

${adminExitCodes}

Examples:
  levelmq transfer
  levelmq transfer --to broker-2 && levelmq status --wait`,
    )
    .action((options: TransferOptions) => transfer(options))
}

async function transfer(options: TransferOptions): Promise<void> {
  const master = await connectToMaster(options)
  const members = await master.members()
  const to = options.to === undefined ? undefined : nodeIdOf(members, options.to)
  const done = (await master.post('/admin/transfer', { to })) as { to: string }
  const name = members.members.find(({ nodeId }) => nodeId === done.to)?.name ?? done.to
  console.log(options.json ? JSON.stringify(done) : `${name} (${done.to}) is master now`)
}

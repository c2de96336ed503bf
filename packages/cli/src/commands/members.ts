import type { Command } from 'commander'
import {
  type AdminOptions,
  addAdminOptions,
  adminExitCodes,
  connectToMaster,
} from '../admin/admin-options.ts'
import { formatMembers, nodeIdOf } from '../admin/members-report.ts'
import { paintFor } from '../terminal/paint.ts'

export function addMembersCommand(program: Command): void {
  const members = program
    .command('members')
    .summary('show, add and remove members of the cluster')
    .description(
      'Shows who votes and who learns, and changes who votes. The master is asked, wherever it is.',
    )
    .addHelpText(
      'after',
      `
A new broker connects with its own empty directory and learns; once its lag is 0, add it. Before a broker goes for good,
remove it. One change at a time; each is committed by a majority when the command ends.

${adminExitCodes}

Examples:
  levelmq members
  levelmq members add broker-4
  levelmq members remove broker-1 --url http://10.0.0.1:8161,http://10.0.0.2:8161`,
    )
  addAdminOptions(
    members
      .command('list', { isDefault: true })
      .description('show voters and learners, positions and levels'),
  ).action((options: AdminOptions) => list(options))
  addAdminOptions(
    members
      .command('add')
      .description('make a learner that is level a voter')
      .argument('<member>', 'name or node id'),
  ).action((member: string, options: AdminOptions) => change('add', member, options))
  addAdminOptions(
    members
      .command('remove')
      .description('take the vote from a member; a master hands mastership over first')
      .argument('<member>', 'name or node id'),
  ).action((member: string, options: AdminOptions) => change('remove', member, options))
}

async function list(options: AdminOptions): Promise<void> {
  const report = await (await connectToMaster(options)).members()
  console.log(options.json ? JSON.stringify(report) : formatMembers(report, paintFor(process.stdout)))
}

async function change(action: 'add' | 'remove', member: string, options: AdminOptions): Promise<void> {
  const master = await connectToMaster(options)
  const nodeId = nodeIdOf(await master.members(), member)
  const done = await master.post('/admin/members', { action, nodeId })
  if (options.json) console.log(JSON.stringify(done))
  else
    console.log(action === 'add' ? `${member} (${nodeId}) votes now` : `${member} (${nodeId}) votes no more`)
}

import type { Command } from 'commander'
import {
  type AdminOptions,
  addAdminOptions,
  adminExitCodes,
  connectToMaster,
} from '../admin/admin-options.ts'
import { queueName } from './option-value.ts'

export function addDeleteQueueCommand(program: Command): void {
  const command = program
    .command('delete-queue')
    .summary('delete a queue with all its messages')
    .description(
      `Deletes a queue and every message in it, for good; when the command ends, that is committed. Its consumers are
disconnected with an ERROR. Whoever sends to the name, or subscribes to it, later makes a new queue.`,
    )
    .argument('<name>', 'the queue', queueName)
  addAdminOptions(command)
    .addHelpText(
      'after',
      `
${adminExitCodes}

Examples:
  levelmq delete-queue orders`,
    )
    .action((name: string, options: AdminOptions) => deleteQueue(name, options))
}

async function deleteQueue(name: string, options: AdminOptions): Promise<void> {
  const done = await (await connectToMaster(options)).post('/admin/queues', { action: 'delete', name })
  console.log(options.json ? JSON.stringify(done) : `queue ${name} is deleted`)
}

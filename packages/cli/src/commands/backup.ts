import type { BackupReport } from '@levelmq/store'
import type { Command } from 'commander'
import {
  type AdminOptions,
  addAdminOptions,
  adminExitCodes,
  connectToMaster,
} from '../admin/admin-options.ts'
import { BackupFile } from '../admin/backup-file.ts'
import { CommandError, ExitCode } from '../exit-code.ts'
import { bytes } from '../inspect/verify-report.ts'
import { startProgress } from '../terminal/progress.ts'

interface BackupOptions extends AdminOptions {
  readonly force?: boolean
}

export function addBackupCommand(program: Command): void {
  const command = program
    .command('backup')
    .summary('write everything that is committed now to a file')
    .description(
      `Writes a consistent backup of the whole store, queues, messages and what duplicates are recognised by, while the
cluster goes on. The file appears under its name only when it is whole and on disk.`,
    )
    .argument('<file>', 'where to write it')
    .option('--force', 'replace the file if it is there')
  addAdminOptions(command)
    .addHelpText(
      'after',
      `
${adminExitCodes}

Examples:
  levelmq backup /backup/orders-$(date +%F).levelmq
  levelmq restore /backup/orders-2026-01-31.levelmq --directory data/restored`,
    )
    .action((file: string, options: BackupOptions) => backup(file, options))
}

async function backup(path: string, options: BackupOptions): Promise<void> {
  const master = await connectToMaster(options)
  const file = await BackupFile.create(path, options.force ?? false)
  const interrupted = new AbortController()
  const interrupt = () =>
    interrupted.abort(new CommandError(ExitCode.unavailable, 'interrupted; nothing was written'))
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
  const progress = startProgress(process.stderr, undefined)
  const startedAt = performance.now()
  let written = 0
  try {
    const report = await master.backup(async (chunk) => {
      await file.write(chunk)
      written += chunk.length
      const seconds = (performance.now() - startedAt) / 1000
      progress.update(written, `${bytes(written)}, ${bytes(Math.round(written / seconds))}/s`)
    }, interrupted.signal)
    await file.finish()
    progress.stop()
    console.log(options.json ? JSON.stringify({ file: path, ...report }) : summary(path, report))
  } catch (error) {
    progress.stop()
    await file.discard()
    throw error
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  }
}

function summary(path: string, { records, position, clusterUuid, bytes: size }: BackupReport): string {
  return `${path}: ${records} records, ${bytes(size)}, up to position ${position.epoch}/${position.index} of cluster ${clusterUuid}`
}

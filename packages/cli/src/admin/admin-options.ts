import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { defaultManagementUrls, maxPortOffset } from '../cluster/layout.ts'
import { managementUrls, wholeNumber } from '../commands/option-value.ts'
import { CommandError, ExitCode } from '../exit-code.ts'
import { AdminClient, findMaster } from './admin-client.ts'

/** Options of all commands that administer a running cluster. */
export interface AdminOptions {
  readonly url?: string[]
  readonly basePortOffset: number
  readonly tokenFile?: string
  readonly json?: boolean
}

/** A change may wait for members that are slow; a backup has no limit. */
const requestTimeoutMs = 90_000

export const adminExitCodes =
  'Exit codes: 0 done, 1 refused or no broker answers, 2 wrong usage, 3 no master serves or the answer is missing.'

export function addAdminOptions(command: Command): Command {
  return command
    .option(
      '--url <urls>',
      'management addresses, with commas between (default: those of a local cluster)',
      managementUrls,
    )
    .option('--base-port-offset <n>', 'of a local cluster', wholeNumber(0, maxPortOffset), 0)
    .option(
      '--token-file <path>',
      "file with the brokers' managementContext.adminToken (default: LEVELMQ_ADMIN_TOKEN)",
    )
    .option('--json', 'print the result as JSON')
}

/** The master, ready to be asked. */
export async function connectToMaster(options: AdminOptions): Promise<AdminClient> {
  const token = readToken(options.tokenFile)
  const urls = options.url ?? defaultManagementUrls(options.basePortOffset)
  return new AdminClient(await findMaster(urls), token, requestTimeoutMs)
}

function readToken(file: string | undefined): string | undefined {
  if (file === undefined) return process.env.LEVELMQ_ADMIN_TOKEN || undefined
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CommandError(ExitCode.usage, `--token-file ${file}: cannot be read: ${reason}`, { cause })
  }
}

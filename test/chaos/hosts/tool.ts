import { spawnSync } from 'node:child_process'

const path = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`

/**
 * Runs a tool of the system to its end, and returns what it printed. Synchronous: these take milliseconds, and what is
 * cleaned up at the exit of the process cannot wait.
 */
export function tool(command: string, args: readonly string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    input,
    encoding: 'utf8',
    env: { ...process.env, PATH: path },
    timeout: 60_000,
  })
  if (error !== undefined) throw new Error(`${command} ${args.join(' ')}: ${error.message}`)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${status}: ${stderr.trim()}`)
  return stdout
}

/** Whether it worked. */
export function attempt(command: string, args: readonly string[]): boolean {
  try {
    tool(command, args)
    return true
  } catch {
    return false
  }
}

/**
 * Health of the broker in this container, for Docker and for people:
 *
 *     node healthcheck.ts           exit code 0 if it is alive, whatever its role
 *     node healthcheck.ts --ready   exit code 0 only if it does its part: a master that serves, or a slave in sync
 *
 * Prints the role and, without a master, what the broker waits for.
 */
const port = process.env.LEVELMQ_MANAGEMENT_CONTEXT_PORT || '8161'
const path = process.argv.includes('--ready') ? '/health/ready' : '/health/live'

interface Status {
  readonly role?: string
  readonly waitingFor?: string | null
}

try {
  const health = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(2_000) })
  say(await roleOfBroker())
  process.exitCode = health.ok ? 0 : 1
} catch (error) {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  say(`no answer on port ${port}: ${cause instanceof Error ? cause.message : cause}`)
  process.exitCode = 1
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function roleOfBroker(): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/status`, { signal: AbortSignal.timeout(2_000) })
  const status = (await response.json()) as Status
  return status.waitingFor ? `${status.role}, waiting for ${status.waitingFor}` : `${status.role}`
}

// Makes this a module, so that `await` may stand at the top.
export {}

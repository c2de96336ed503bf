import type { Command } from 'commander'

interface StartOptions {
  readonly config?: string
  readonly supervised?: boolean
}

export function addStartCommand(program: Command): void {
  program
    .command('start')
    .summary('run one broker in the foreground')
    .description(
      `Runs one broker as levelmq.yaml says, or, if there is none in the working directory, a single broker that is not
replicated. The log goes to stdout. SIGINT or SIGTERM stops it cleanly, a second one at once.`,
    )
    .option('--config <file>', 'configuration file (default: LEVELMQ_CONFIG, or levelmq.yaml if it exists)')
    .option('--supervised', 'stop cleanly when stdin is closed, which it is when the parent process dies')
    .addHelpText(
      'after',
      `
Environment variables override the file: LEVELMQ_BROKER_NAME, LEVELMQ_REPLICATED_LEVELDB_ZK_ADDRESS and so on; see
docs/configuration.md.

Exit codes: 0 stopped on request, 1 cannot start (such as an address in use), 2 wrong configuration, 70 an internal
error, 74 the store cannot go on: a failed write or sync, or damaged files; 128 + n ended by a second signal n.

Examples:
  levelmq start --config /etc/levelmq/levelmq.yaml
  LEVELMQ_LOG_FORMAT=json levelmq start`,
    )
    .action(async (options: StartOptions) => {
      // Loaded only here: the other commands start faster without a broker in memory.
      const { runBroker } = await import('../start/run-broker.ts')
      await runBroker(options)
    })
}

import { createInterface } from 'node:readline'
import { type Command, Option } from 'commander'
import { Cluster } from '../cluster/cluster.ts'
import { clusterEnvironment } from '../cluster/environment.ts'
import { isInForeground } from '../cluster/foreground.ts'
import { type ClusterOptions, layOut, maxBrokers, maxPortOffset } from '../cluster/layout.ts'
import { busyPorts } from '../cluster/ports.ts'
import { CommandError, ExitCode } from '../exit-code.ts'
import { paintFor } from '../terminal/paint.ts'
import { wholeNumber } from './option-value.ts'

interface ClusterArguments {
  readonly brokers: number
  readonly data: string
  readonly elector?: 'raft' | 'zookeeper'
  readonly zkAddress?: string
  readonly zkPath: string
  readonly basePortOffset: number
  readonly sync?: string
  readonly logLevel?: string
  readonly restart?: boolean
}

/** A terminal and npm may both pass on the same Ctrl-C. */
const sameSignalMs = 500

export function addClusterCommand(program: Command): void {
  program
    .command('cluster')
    .summary('run several replicating brokers on this machine')
    .description(
      `Starts brokers that replicate one store, each a process of its own, under one terminal. Ctrl-C stops all of them.
A broker that ends is not started again by itself: type its number, or start <number>, to bring it back.`,
    )
    .option('--brokers <n>', 'how many', wholeNumber(1, maxBrokers), 3)
    .option('--data <directory>', 'where they keep their data', './data')
    .addOption(
      new Option(
        '--elector <name>',
        'who decides when to stand for election (default: raft, or zookeeper with --zk-address)',
      ).choices(['raft', 'zookeeper']),
    )
    .option(
      '--zk-address <servers>',
      'ZooKeeper servers, host:port with commas between (default: 127.0.0.1:2181)',
    )
    .option('--zk-path <path>', 'parent of the znodes', '/levelmq')
    .option(
      '--base-port-offset <n>',
      'added to every port, to run several clusters',
      wholeNumber(0, maxPortOffset),
      0,
    )
    .option('--sync <levels>', 'what a confirm waits for (default: quorum_disk)')
    .addOption(
      new Option('--log-level <level>', 'of the brokers').choices(['debug', 'info', 'warn', 'error']),
    )
    .option('--restart', 'start a broker that ended again after a second')
    .addHelpText(
      'after',
      `
Broker 1 has STOMP on 61613, management on 8161, replication on 61619; broker 2 on 61623, 8162, 61629; and so on.
DATA/cluster.json tells other programs the ports and process ids while the cluster runs.

Exit codes: 0 stopped on request, 1 a port is in use, 2 wrong usage.

Examples:
  levelmq cluster
  levelmq cluster --brokers 5 --data /var/tmp/five
  levelmq cluster --elector zookeeper --zk-address 127.0.0.1:2181 --base-port-offset 1000`,
    )
    .action((options: ClusterArguments) => runCluster(options))
}

async function runCluster(given: ClusterArguments): Promise<void> {
  const options: ClusterOptions = {
    brokers: given.brokers,
    data: given.data,
    elector: given.elector ?? (given.zkAddress === undefined ? 'raft' : 'zookeeper'),
    zkAddress: given.zkAddress ?? '127.0.0.1:2181',
    zkPath: given.zkPath,
    basePortOffset: given.basePortOffset,
    sync: given.sync,
    logLevel: given.logLevel,
  }
  const layouts = layOut(options)
  const busy = await busyPorts(layouts)
  if (busy.length > 0) {
    const hint = 'stop what uses them, or add --base-port-offset, for example 1000'
    throw new CommandError(ExitCode.failed, `in use: ${busy.join(', ')}; ${hint}`)
  }
  const { environment, ignored } = clusterEnvironment(process.env)
  const print = (line: string) => console.log(line)
  const paint = paintFor(process.stdout)
  const cluster = new Cluster(
    options,
    layouts,
    { restart: given.restart ?? false, environment },
    { paint, print },
  )
  cluster.writeConfigurations()
  await checkConfigurations(
    layouts.map((layout) => layout.configFile),
    environment,
  )
  for (const name of ignored) print(`cluster  | ${name} is set for one broker and ignored here`)
  stopOnSignals(cluster)
  const input = readCommands(cluster, layouts.length)
  await cluster.run()
  input?.close()
  process.stdin.destroy()
}

/** Says now what is wrong with --sync, --zk-address and the environment, rather than once per broker. */
async function checkConfigurations(files: readonly string[], environment: NodeJS.ProcessEnv): Promise<void> {
  const { loadConfiguration } = await import('@levelmq/broker')
  for (const file of files) loadConfiguration({ file, env: environment })
}

function stopOnSignals(cluster: Cluster): void {
  let firstAt: number | undefined
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const now = performance.now()
      if (firstAt === undefined) {
        firstAt = now
        cluster.stop()
      } else if (now - firstAt > sameSignalMs) cluster.kill()
    })
  }
}

function readCommands(cluster: Cluster, brokers: number): { close(): void } | undefined {
  if (process.stdin.isTTY && !isInForeground()) return undefined
  const lines = createInterface({ input: process.stdin, terminal: false })
  lines.on('line', (line) => {
    const number = /^\s*(?:start\s+)?(\d+)\s*$/.exec(line)?.[1]
    if (number !== undefined) cluster.start(Number(number))
    else if (line.trim() !== '')
      console.log(`type a number from 1 to ${brokers} to start that broker, or press Ctrl-C`)
  })
  return lines
}

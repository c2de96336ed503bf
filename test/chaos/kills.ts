/**
 * Kills brokers of a cluster under load, again and again, and tells what came of it.
 *
 *     node test/chaos/kills.ts [--elector raft|zookeeper] [--count 50] [--seed N] [--mode kill|pause]
 *                              [--zk-address HOST:PORT,...] [--json]
 *
 * Most victims are the master, at a random moment; `--mode pause` stops the master with SIGSTOP instead and lets it go
 * on once another one serves. Prints each kill with the time to the next confirm and how the new master came about, then
 * median, 95th percentile and worst over the masters, and a verdict: nothing confirmed was lost, doubled or brought out
 * of order, nothing acknowledged came again, never two masters in one epoch, service back each time. The exit code
 * is 0 only if all of it held.
 */
import { parseArgs } from 'node:util'
import { Cluster } from '../system/cluster-fixture.ts'
import { ZooKeeperEnsemble } from '../system/zookeeper-ensemble.ts'
import { summarize, tableHead, tableLine } from './kill-report.ts'
import { KillRun } from './kill-run.ts'

const { values } = parseArgs({
  options: {
    elector: { type: 'string', default: 'raft' },
    count: { type: 'string', default: '50' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
    mode: { type: 'string', default: 'kill' },
    'zk-address': { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const elector = oneOf('elector', values.elector, ['raft', 'zookeeper'])
const mode = oneOf('mode', values.mode, ['kill', 'pause'])
const count = wholeNumber('count', values.count)
const seed = wholeNumber('seed', values.seed)
const say = (line: string): void => {
  if (!values.json) console.log(line)
}

say(`${count} x ${mode}, elector ${elector}, seed ${seed}, Node ${process.versions.node}`)
const ensemble =
  elector === 'zookeeper' && values['zk-address'] === undefined ? await ZooKeeperEnsemble.start() : undefined
try {
  const zkAddress = values['zk-address'] ?? ensemble?.address ?? ''
  const cluster = await Cluster.start(elector === 'zookeeper' ? { elector, zkAddress } : { elector })
  try {
    process.exitCode = await report(cluster)
  } finally {
    await cluster.stop()
  }
} finally {
  await ensemble?.stop()
}

async function report(cluster: Cluster): Promise<number> {
  say(tableHead)
  const { records, violations, facts } = await new KillRun(cluster, { mode, count, seed }).run((record) =>
    say(tableLine(record)),
  )
  const summary = summarize(records)
  if (values.json) {
    console.log(JSON.stringify({ elector, mode, seed, summary, violations, facts, records }, undefined, 2))
  } else {
    say('')
    if (summary !== undefined) {
      const [median, p95, worst] = [summary.median, summary.p95, summary.worst].map(Math.round)
      const verb = mode === 'kill' ? 'kills' : 'pauses'
      say(
        `${summary.count} ${verb} of a master to the next confirm: median ${median} ms, p95 ${p95} ms, worst ${worst} ms`,
      )
    }
    say(
      `${facts.confirmed} messages confirmed, ${facts.redeliveries} deliveries repeated, ` +
        `${facts.lateDeliveries} late ones by a master that was paused, ` +
        `${facts.epochs} epochs seen in ${facts.polls} looks at all brokers`,
    )
    for (const violation of violations.slice(0, 20)) say(`WRONG: ${violation}`)
    if (violations.length > 20) say(`... and ${violations.length - 20} more`)
    if (violations.length > 0) say(`${cluster.report()}\nRepeat with --seed ${seed}`)
    say(
      violations.length === 0
        ? 'PASSED: nothing confirmed was lost, doubled or out of order; one master per epoch; service back each time'
        : `FAILED: ${violations.length} violations`,
    )
  }
  return violations.length === 0 ? 0 : 1
}

function oneOf<const T extends string>(option: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((word) => word === value)
  if (found === undefined) fail(`--${option}: one of ${allowed.join(', ')}, got ${value}`)
  return found
}

function wholeNumber(option: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) fail(`--${option}: a whole number, got ${value}`)
  return Number(value)
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}

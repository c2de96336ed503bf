/**
 * Lets faults that a seed chooses come true on a cluster of real processes, under a load, and checks what the brokers
 * promised: see `--help`. The exit code is 0 only if all of it held.
 */
import { parseArgs } from 'node:util'
import { allFaults, describeFaults, lacks } from './catalogue.ts'
import { progressHead, progressLine, summary } from './chaos-report.ts'
import { ChaosRun, type RunResult } from './chaos-run.ts'
import type { Fault } from './faults/fault.ts'
import { buildLab, type Lab } from './lab.ts'

const help = `npm run chaos -- [options]

  --minutes N         how long faults come (10); healing and the last checks come on top
  --seed N            chooses the faults, their targets and their lengths
  --elector E         raft (default) or zookeeper: three real servers
  --faults A,B,...    only these, by number or name, such as N1,N8,"power cut"; repeated ones come more often
  --brokers N         3 (default) or 5
  --hosts H           ns: each broker and server in a network namespace, with a disk of its own (root, iproute2, iptables);
                      loopback: all on one host, with relays between. Default: ns if this machine can
  --rate N            messages per second (300)
  --json              prints the result as JSON
  --keep              keeps history and stores of a run that went well, too

${describeFaults()}

Workloads and checks, over STOMP with receipts; clients move on to whichever broker serves:
  W1   what is confirmed is delivered, nothing that was never sent is; in doubt is stored once or not at all
  W2   order of each producer's messages in the queue that is drained at the end by one consumer
  W3   everything confirmed is in that queue
  W4   one master per epoch, by the status of all brokers and their logs
  W6   every send in doubt is repeated under its producer id and sequence: stored exactly once
  W7   what is acknowledged with a receipt never comes again, but for what a deposed master had written before
  W12  after a clean stop "levelmq verify" finds all stores sound, and all hold the same records
  W13  after each fault and at the end: full service, all in sync, queues drained to empty
  Not yet: W5 (transactions), W8 (topics), W9-W11: the broker does not have them.

If something did not hold, history (JSON lines), logs and stores are kept, and it is printed where.`

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
    elector: { type: 'string', default: 'raft' },
    faults: { type: 'string' },
    brokers: { type: 'string', default: '3' },
    hosts: { type: 'string' },
    rate: { type: 'string', default: '300' },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(help)
  process.exit(0)
}
const elector = oneOf('elector', values.elector, ['raft', 'zookeeper'])
const brokers = Number(oneOf('brokers', values.brokers, ['3', '5']))
const hosts = values.hosts === undefined ? undefined : oneOf('hosts', values.hosts, ['ns', 'loopback'])
const minutes = positive('minutes', values.minutes)
const seed = Math.floor(positive('seed', values.seed))
const rate = positive('rate', values.rate)
const chosen = values.faults?.split(',').map(faultNamed)
const say = (line: string): void => {
  if (!values.json) console.log(line)
}

const spares = (chosen ?? allFaults).some(({ needs }) => needs?.includes('spare brokers')) ? 2 : 0

const lab = await buildLab({ elector, brokers, spares, hosts })
try {
  process.exitCode = await runIn(lab)
} finally {
  await lab.close()
}

async function runIn(lab: Lab): Promise<number> {
  say(
    `chaos for ${minutes} minutes: seed ${seed}, elector ${elector}, ${brokers} brokers, ${lab.network.description}, Node ${process.versions.node}`,
  )
  for (const remark of lab.remarks) say(remark)
  const able = (fault: Fault): boolean => lacks(fault, lab.abilities).length === 0
  const faults = (chosen ?? allFaults).filter(able)
  const left = (chosen ?? allFaults).filter((fault) => !able(fault))
  if (left.length > 0)
    say(
      `Not in this run: ${left.map((fault) => `${fault.id} (no ${lacks(fault, lab.abilities).join(', ')})`).join(', ')}`,
    )
  if (faults.length === 0) fail('--faults: none of them can be here')

  say(progressHead)
  const run = new ChaosRun(lab, { seed, durationMs: minutes * 60_000, rate, faults })
  const result = await run.run((record) => say(progressLine(record)))
  const failed = result.violations.count > 0
  const kept = failed || values.keep ? lab.keep(seed) : undefined
  report(result, kept, lab)
  return failed ? 1 : 0
}

function report(result: RunResult, kept: string | undefined, lab: Lab): void {
  const { violations, ...facts } = result
  if (values.json) {
    console.log(
      JSON.stringify(
        { seed, elector, brokers, kept, violations: violations.lines(), ...facts },
        undefined,
        2,
      ),
    )
    return
  }
  say(`\n${summary(result)}\n`)
  for (const line of violations.lines()) say(`WRONG: ${line}`)
  if (violations.count > 0) say(lab.cluster.report(15))
  if (kept !== undefined) say(`History, logs and stores: ${kept}`)
  if (violations.count > 0) {
    const again = process.argv
      .slice(2)
      .filter((argument, i, all) => !argument.startsWith('--seed') && all[i - 1] !== '--seed')
    say(`Again: npm run chaos -- --seed ${seed} ${again.join(' ')}`)
  }
  say(
    violations.count === 0
      ? 'PASSED: nothing confirmed was lost, doubled or out of order; one master per epoch; all stores equal'
      : `FAILED: ${violations.count} violations`,
  )
}

function faultNamed(word: string): Fault {
  const wanted = word.trim().toLowerCase()
  const found = allFaults.find(({ id, name }) => id.toLowerCase() === wanted || name.toLowerCase() === wanted)
  if (found === undefined) fail(`--faults: no fault is called ${word}; see --help`)
  return found
}

function oneOf<const T extends string>(option: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((word) => word === value)
  if (found === undefined) fail(`--${option}: one of ${allowed.join(', ')}, got ${value}`)
  return found
}

function positive(option: string, value: string): number {
  const number = Number(value)
  if (!(number > 0 && number < 1e9)) fail(`--${option}: a number above 0, got ${value}`)
  return number
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}

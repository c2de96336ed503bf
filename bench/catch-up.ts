/**
 * What does it cost the master when a slave catches up?
 *
 *     npm run bench:catch-up -- [--messages 1000000] [--bytes 1024] [--seconds 10] [--json]
 *
 * Starts a cluster of three brokers, takes one slave away, fills a queue over STOMP with confirms, and goes on sending as fast as is
 * confirmed, with two brokers. Then the slave comes back, first as it was, so many messages behind, then with an emptied directory,
 * so that it copies the whole store and takes its old place among the voters. Reports the rate of confirms while it is away, while it
 * catches up, and afterwards with all three.
 */
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { formatTable } from '../packages/cli/src/terminal/table.ts'
import { Cluster } from '../test/system/cluster-fixture.ts'
import { waitFor } from '../test/system/wait-for.ts'
import { fillQueue } from './backlog.ts'

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '1000000' },
    bytes: { type: 'string', default: '1024' },
    seconds: { type: 'string', default: '10' },
    json: { type: 'boolean', default: false },
  },
})

interface Figures {
  readonly slave: string
  readonly behind: number
  readonly catchUpMs: number
  /** Confirms per second. */
  readonly away: number
  readonly catchingUp: number
  readonly inSync: number
}

const messages = Number(values.messages)
const bytes = Number(values.bytes)
const phaseMs = Number(values.seconds) * 1000
const timeoutMs = 300_000

const cluster = await Cluster.start({ size: 3 })
const figures: Figures[] = []
try {
  const master = await cluster.waitForMaster()
  const slave = cluster.numbers().find((n) => n !== master) ?? 0
  await waitFor('all slaves in sync', () => isInSync(master, slave), { timeoutMs })
  const leftAt = (await cluster.status(master)).position
  await cluster.kill(slave, 'SIGTERM')
  note(`filling with ${messages} x ${bytes} bytes`)
  await fillQueue(cluster.stompPort(master), 'backlog', messages, bytes, () => undefined)

  let confirmed = 0
  // It ends with the broker.
  void fillQueue(cluster.stompPort(master), 'load', 1_000_000_000, bytes, (count) => {
    confirmed = count
  }).catch(() => undefined)
  const rateOver = async (phase: () => Promise<unknown>): Promise<{ rate: number; ms: number }> => {
    const [from, startedAt] = [confirmed, performance.now()]
    await phase()
    const ms = performance.now() - startedAt
    return { rate: Math.round(((confirmed - from) * 1000) / ms), ms }
  }
  for (const kind of ['behind', 'emptied']) {
    if (kind === 'emptied') {
      await cluster.kill(slave, 'SIGTERM')
      await rm(cluster.storeDirectory(slave), { recursive: true })
    }
    await sleep(1000)
    const away = await rateOver(() => sleep(phaseMs))
    const { position } = await cluster.status(master)
    const behind = position - (kind === 'behind' ? leftAt : 0)
    note(`${kind}: starting the slave`)
    // Caught up is a slave that has all that was there when it came; what is sent meanwhile it gets as it goes.
    const during = await rateOver(async () => {
      cluster.start(slave)
      await waitFor('the slave to be level', () => isLevel(slave, position), { timeoutMs, intervalMs: 50 })
    })
    const after = await rateOver(() => sleep(phaseMs))
    figures.push({
      slave: kind,
      behind,
      catchUpMs: Math.round(during.ms),
      away: away.rate,
      catchingUp: during.rate,
      inSync: after.rate,
    })
  }
} catch (error) {
  note(cluster.report())
  throw error
} finally {
  await cluster.stop()
}
if (values.json) process.stdout.write(`${JSON.stringify({ messages, bytes, figures })}\n`)
else {
  const rows = figures.map(({ slave, behind, catchUpMs, away, catchingUp, inSync }) => [
    slave,
    behind,
    `${(catchUpMs / 1000).toFixed(1)} s`,
    `${away}/s`,
    `${catchingUp}/s`,
    `${inSync}/s`,
    `${Math.round((catchingUp / away) * 100)} %`,
  ])
  const headings = ['SLAVE', 'RECORDS BEHIND', 'CATCH-UP', 'AWAY', 'CATCHING UP', 'IN SYNC', 'KEPT']
  process.stdout.write(
    `${formatTable(
      headings,
      rows.map((row) => row.map(String)),
      (_colour, text) => text,
    )}\n`,
  )
}

async function isInSync(master: number, slave: number): Promise<boolean> {
  const status = await cluster.status(master, 10_000)
  const name = cluster.configuration(slave).brokerName
  return status.members.some((member) => member.name === name && member.state === 'in sync')
}

async function isLevel(slave: number, position: number): Promise<boolean> {
  try {
    const status = await cluster.status(slave, 2_000)
    return status.position >= position && status.members[0]?.voter === true
  } catch {
    return false
  }
}

function note(text: string): void {
  if (!values.json) process.stderr.write(`${text}\n`)
}

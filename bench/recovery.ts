/**
 * How long does a node with many waiting messages take to come back, and how much memory does it hold?
 *
 *     npm run bench:recovery -- [--messages 1000000] [--bytes 1024] [--memory-messages 10000000] [--memory-bytes 100]
 *                               [--stores single,cluster] [--idle SECONDS] [--log-level LEVEL] [--json]
 *
 * Starts real brokers, a single one (`levelDB`) and a cluster of three, fills a queue over STOMP with confirms, and measures
 * from the start of the processes until a message was sent, confirmed and received: after a clean stop, and after
 * SIGKILL of all of them. Given `--memory-messages`, it fills another queue of other brokers and reports their resident
 * memory. The data goes to the system's directory for temporary files (`TMPDIR`): put that on a real disk.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { formatTable } from '../packages/cli/src/terminal/table.ts'
import { type BrokerConfiguration, Cluster } from '../test/system/cluster-fixture.ts'
import { fillQueue } from './backlog.ts'
import { processMemory } from './process-memory.ts'
import { backlogQueue, type Restart, restart } from './restart.ts'

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '1000000' },
    bytes: { type: 'string', default: '1024' },
    'memory-messages': { type: 'string', default: '0' },
    'memory-bytes': { type: 'string', default: '100' },
    stores: { type: 'string', default: 'single,cluster' },
    idle: { type: 'string', default: '10' },
    'log-level': { type: 'string', default: 'warn' },
    json: { type: 'boolean', default: false },
  },
})

const timeoutMs = 120_000
const messages = wholeNumber('messages')
const bytes = wholeNumber('bytes')
const memoryMessages = wholeNumber('memory-messages')
const memoryBytes = wholeNumber('memory-bytes')
const idleMs = wholeNumber('idle') * 1000
const stores = values.stores.split(',').map((name) => {
  if (name === 'single' || name === 'cluster') return name
  return fail(`--stores: single, cluster, or both with a comma between, got ${values.stores}`)
})
type Store = (typeof stores)[number]

interface RestartFigures extends Restart {
  readonly store: Store
  readonly stop: 'clean' | 'SIGKILL'
}

interface MemoryFigures {
  readonly store: Store
  readonly broker: string
  readonly role: string
  readonly when: string
  readonly residentMiB: number
  readonly peakMiB: number
}

const restarts: RestartFigures[] = []
const memory: MemoryFigures[] = []
const rates: { readonly store: Store; readonly fill: string; readonly perSecond: number }[] = []

for (const store of stores) {
  if (messages > 0) {
    await withBrokers(store, async (cluster) => {
      await fill(cluster, store, messages, bytes)
      // The kill comes first, right after the last confirm: what no checkpoint has yet is to be replayed then.
      for (const [stop, signal] of [
        ['SIGKILL', 'SIGKILL'],
        ['clean', 'SIGTERM'],
      ] as const) {
        note(`${store}: ${stop} stop and start`)
        restarts.push({ store, stop, ...(await restart(cluster, signal, timeoutMs)) })
      }
    })
  }
  if (memoryMessages > 0) {
    await withBrokers(store, async (cluster) => {
      await fill(cluster, store, memoryMessages, memoryBytes)
      await measureMemory(cluster, store, 'filled')
      await sleep(idleMs)
      await measureMemory(cluster, store, `idle for ${idleMs / 1000} s`)
      await restart(cluster, 'SIGTERM', timeoutMs)
      await sleep(idleMs)
      await measureMemory(cluster, store, `restarted, idle for ${idleMs / 1000} s`)
    })
  }
}
report()

async function withBrokers(store: Store, run: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.start({
    size: store === 'single' ? 1 : 3,
    configure: (configuration: BrokerConfiguration) => {
      configuration.log.level = values['log-level']
      if (store === 'cluster') return
      const { directory } = configuration.persistenceAdapter.replicatedLevelDB
      Object.assign(configuration, { persistenceAdapter: { levelDB: { directory } } })
    },
  })
  try {
    await cluster.waitForMaster({ timeoutMs })
    await run(cluster)
  } catch (error) {
    note(cluster.report())
    throw error
  } finally {
    await cluster.stop()
  }
}

async function fill(cluster: Cluster, store: Store, count: number, size: number): Promise<void> {
  const startedAt = performance.now()
  let toldAt = startedAt
  for (let done = 0; done < count; ) {
    // On a machine that is short of processors the mastership may change: what is in doubt then is sent again.
    const port = cluster.stompPort(await cluster.waitForMaster({ timeoutMs }))
    done += await fillQueue(port, backlogQueue, count - done, size, (confirmed) => {
      if (performance.now() - toldAt < 2000) return
      toldAt = performance.now()
      note(`${store}: ${done + confirmed} of ${count} confirmed`)
    })
  }
  const elapsedMs = performance.now() - startedAt
  rates.push({ store, fill: `${count} x ${size}`, perSecond: Math.round((count * 1000) / elapsedMs) })
}

async function measureMemory(cluster: Cluster, store: Store, when: string): Promise<void> {
  for (const n of cluster.numbers()) {
    const { resident, peak } = processMemory(cluster.process(n).pid)
    const { brokerName, role } = await cluster.status(n, 10_000)
    memory.push({ store, broker: brokerName, role, when, residentMiB: mib(resident), peakMiB: mib(peak) })
  }
}

function report(): void {
  if (values.json) {
    process.stdout.write(
      `${JSON.stringify({ messages, bytes, memoryMessages, memoryBytes, rates, restarts, memory })}\n`,
    )
    return
  }
  const sections: string[] = []
  const table = (headings: string[], rows: (string | number)[][]): void => {
    if (rows.length > 0)
      sections.push(
        formatTable(
          headings,
          rows.map((row) => row.map(String)),
          (_colour, text) => text,
        ),
      )
  }
  table(
    ['STORE', 'FILLED WITH', 'CONFIRMED/S'],
    rates.map(({ store, fill, perSecond }) => [store, fill, perSecond]),
  )
  table(
    ['STORE', 'STOP', 'STOPPING', 'SERVING AFTER', 'BACKLOG AFTER'],
    restarts.map(({ store, stop, stopMs, servingMs, backlogMs }) => [
      store,
      stop,
      `${Math.round(stopMs)} ms`,
      `${Math.round(servingMs)} ms`,
      `${Math.round(backlogMs)} ms`,
    ]),
  )
  table(
    ['STORE', 'BROKER', 'ROLE', 'WHEN', 'RESIDENT', 'PEAK'],
    memory.map(({ store, broker, role, when, residentMiB, peakMiB }) => [
      store,
      broker,
      role,
      when,
      `${residentMiB} MiB`,
      `${peakMiB} MiB`,
    ]),
  )
  process.stdout.write(`${sections.join('\n\n')}\n`)
}

function note(text: string): void {
  if (!values.json) process.stderr.write(`${text}\n`)
}

function mib(count: number): number {
  return Math.round(count / 2 ** 20)
}

function wholeNumber(option: 'messages' | 'bytes' | 'memory-messages' | 'memory-bytes' | 'idle'): number {
  const value = values[option]
  return /^\d{1,9}$/.test(value) ? Number(value) : fail(`--${option}: a whole number, got ${value}`)
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`)
  process.exit(2)
}

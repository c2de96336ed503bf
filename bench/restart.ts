import type { Cluster } from '../test/system/cluster-fixture.ts'
import { StompConnection } from '../test/system/stomp-client.ts'
import { waitFor } from '../test/system/wait-for.ts'

export const backlogQueue = 'backlog'
const probeQueue = 'probe'

/** Times in milliseconds from the start of the processes. */
export interface Restart {
  readonly stopMs: number
  /** A message was sent, confirmed, and received. */
  readonly servingMs: number
  /** A message of the backlog was received. */
  readonly backlogMs: number
}

/** Stops all brokers of the cluster, starts them again, and measures until a client is served. */
export async function restart(
  cluster: Cluster,
  signal: 'SIGTERM' | 'SIGKILL',
  timeoutMs: number,
): Promise<Restart> {
  const stoppedAt = performance.now()
  await Promise.all(cluster.numbers().map((n) => cluster.kill(n, signal)))
  const startedAt = performance.now()
  for (const n of cluster.numbers()) cluster.start(n)
  const connection = await waitFor('a broker that takes connections', () => anyOf(cluster), {
    timeoutMs,
    intervalMs: 5,
  })
  await connection.subscribe(probeQueue, 'auto')
  const isOf = (queue: string) => (frame: { headers: ReadonlyMap<string, string> }) =>
    frame.headers.get('destination') === `/queue/${queue}`
  await connection.confirmed('SEND', { destination: `/queue/${probeQueue}` }, 'probe')
  await connection.frame('the probe', isOf(probeQueue), timeoutMs)
  const servingMs = performance.now() - startedAt
  await connection.subscribe(backlogQueue, 'client-individual', { 'activemq.prefetchSize': 10 })
  await connection.frame('a message of the backlog', isOf(backlogQueue), timeoutMs)
  const backlogMs = performance.now() - startedAt
  connection.destroy()
  return { stopMs: startedAt - stoppedAt, servingMs, backlogMs }
}

async function anyOf(cluster: Cluster): Promise<StompConnection | undefined> {
  const attempts = cluster.stompPorts().map((port) => StompConnection.open(port, { timeoutMs: 500 }))
  const settled = await Promise.allSettled(attempts)
  const open = settled.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []))
  for (const spare of open.slice(1)) spare.destroy()
  return open[0]
}

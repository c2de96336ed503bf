import type { Cluster } from '../../system/cluster-fixture.ts'
import { waitFor } from '../../system/wait-for.ts'

/** Behind the ports that a cluster uses of its block. */
const inspectorPort = (cluster: Cluster, n: number): number => cluster.managementPort(n) + 5

/** Lets a broker's inspector listen where this process reaches it, once `SIGUSR1` asks for it. */
export function inspectorOptions(cluster: Cluster, n: number): string[] {
  return [`--inspect-port=${cluster.host(n)}:${inspectorPort(cluster, n)}`]
}

/** Runs code in the event loop of a broker that was started with {@link inspectorOptions}. */
export async function inspectedEvaluation(cluster: Cluster, n: number, expression: string): Promise<void> {
  cluster.process(n).signal('SIGUSR1')
  const place = `http://${cluster.host(n)}:${inspectorPort(cluster, n)}/json/list`
  const url = await waitFor('the inspector', async () => {
    const targets = (await (await fetch(place)).json()) as { webSocketDebuggerUrl: string }[]
    return targets[0]?.webSocketDebuggerUrl
  })
  const socket = new WebSocket(url)
  try {
    await new Promise<void>((resolve, reject) => {
      socket.onerror = () => reject(new Error(`no inspector at ${url}`))
      socket.onclose = () => resolve() // The broker was killed meanwhile.
      socket.onmessage = () => resolve()
      socket.onopen = () =>
        socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression } }))
    })
  } finally {
    socket.close()
  }
}

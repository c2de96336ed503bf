import { createServer } from 'node:net'
import type { BrokerLayout } from './layout.ts'

/** The ports of the brokers that somebody else listens on, in words. */
export async function busyPorts(brokers: readonly BrokerLayout[]): Promise<string[]> {
  const wanted = brokers.flatMap((broker) => [
    { port: broker.stompPort, use: `STOMP of ${broker.name}` },
    { port: broker.managementPort, use: `management of ${broker.name}` },
    { port: broker.replicationPort, use: `replication of ${broker.name}` },
  ])
  const checked = await Promise.all(
    wanted.map(async ({ port, use }) => ({ use, port, free: await isFree(port) })),
  )
  return checked.filter(({ free }) => !free).map(({ port, use }) => `127.0.0.1:${port} (${use})`)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)))
  })
}

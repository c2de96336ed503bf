import { request } from 'node:http'
import type { BrokerStatus } from '@levelmq/broker'

export type { BrokerStatus }

export interface Answer {
  readonly status: number
  readonly body: string
}

/** Where a management server listens, and from which address of this machine it is asked. */
export interface ManagementPlace {
  readonly host?: string
  readonly localAddress?: string
}

/** One GET on a broker's management port. No kept-alive connection: the broker behind may be another process by now. */
function get(port: number, path: string, timeoutMs = 1_000, place: ManagementPlace = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', ...place, port, path, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      )
    })
    asked.setTimeout(timeoutMs, () =>
      asked.destroy(new Error(`GET ${path} on port ${port}: no answer in ${timeoutMs} ms`)),
    )
    asked.on('error', reject)
    asked.end()
  })
}

export async function brokerStatus(
  port: number,
  timeoutMs?: number,
  place?: ManagementPlace,
): Promise<BrokerStatus> {
  const answer = await get(port, '/status', timeoutMs, place)
  if (answer.status !== 200) throw new Error(`GET /status on port ${port}: ${answer.status} ${answer.body}`)
  return JSON.parse(answer.body) as BrokerStatus
}

/** The line of `name` in a status. */
export function memberOf(status: BrokerStatus, name: string): BrokerStatus['members'][number] | undefined {
  return status.members.find((member) => member.name === name)
}

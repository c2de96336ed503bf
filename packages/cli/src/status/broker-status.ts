import type { BrokerStatus } from '@levelmq/broker'

/** What one management address answered. */
export type Answer =
  | { readonly url: string; readonly status: BrokerStatus; readonly ready: boolean }
  | { readonly url: string; readonly error: string }

/** Asks all addresses at once; none of them can hold up the others for longer than `timeoutMs`. */
export function askBrokers(urls: readonly string[], timeoutMs: number): Promise<Answer[]> {
  return Promise.all(urls.map((url) => ask(url, timeoutMs)))
}

async function ask(url: string, timeoutMs: number): Promise<Answer> {
  const base = url.replace(/\/+$/, '')
  const signal = AbortSignal.timeout(timeoutMs)
  try {
    const [response, readiness] = await Promise.all([
      fetch(`${base}/status`, { signal }),
      fetch(`${base}/health/ready`, { signal }),
    ])
    await readiness.arrayBuffer()
    const status: unknown = await response.json()
    if (!response.ok || !isBrokerStatus(status))
      return { url, error: `answered ${response.status}, not as a broker does` }
    return { url, status, ready: readiness.ok }
  } catch (error) {
    return { url, error: reasonOf(error, timeoutMs) }
  }
}

/** The answer that tells most: the serving master's, or that of whoever saw the highest epoch. */
export function bestAnswer(answers: readonly Answer[]): (Answer & { status: BrokerStatus }) | undefined {
  const rank = { master: 2, slave: 1, electing: 0 }
  const known = answers.filter(
    (answer): answer is Extract<Answer, { status: BrokerStatus }> => 'status' in answer,
  )
  const value = (answer: (typeof known)[number]) =>
    (answer.ready ? 1e16 : 0) + answer.status.epoch * 4 + rank[answer.status.role]
  return known.sort((a, b) => value(b) - value(a))[0]
}

/** Whether some master serves, as far as the answers show: it says so itself, or a slave is in sync with it. */
export function hasServingMaster(answers: readonly Answer[]): boolean {
  return answers.some((answer) => 'status' in answer && answer.ready && answer.status.role !== 'electing')
}

function isBrokerStatus(value: unknown): value is BrokerStatus {
  if (typeof value !== 'object' || value === null) return false
  return 'brokerName' in value && 'role' in value && 'epoch' in value
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`
  const { cause } = error
  if (!(cause instanceof Error)) return error.message
  return 'code' in cause && cause.code === 'ECONNREFUSED'
    ? 'connection refused'
    : cause.message || error.message
}

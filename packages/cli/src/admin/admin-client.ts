import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { BackupReport, MembersReport } from '@levelmq/store'
import { CommandError, ExitCode } from '../exit-code.ts'
import { askBrokers, bestAnswer } from '../status/broker-status.ts'

const askTimeoutMs = 2000
/** Longest answer to anything but a backup. */
const maxAnswerBytes = 4 * 1024 * 1024
/** Refusals that end by themselves. */
const passing: readonly string[] = ['STORE_NOT_MASTER', 'STORE_CLOSED', 'BROKER_BUSY']

/** A broker that is asked to change something, over its management address. */
export class AdminClient {
  readonly #url: string
  readonly #token: string | undefined
  readonly #timeoutMs: number

  constructor(url: string, token: string | undefined, timeoutMs: number) {
    this.#url = url
    this.#token = token
    this.#timeoutMs = timeoutMs
  }

  async members(): Promise<MembersReport> {
    return (await this.#ask('GET', '/admin/members')) as MembersReport
  }

  post(path: string, body: object): Promise<unknown> {
    return this.#ask('POST', path, body)
  }

  /**
   * Hands the bytes of a backup to `write`, no faster than it takes them.
   *
   * @throws CommandError also if the backup breaks off: what was written then is not whole.
   */
  async backup(write: (chunk: Buffer) => Promise<void>, signal: AbortSignal): Promise<BackupReport> {
    const response = await this.#send('GET', '/admin/backup', undefined, signal)
    if (response.statusCode !== 200) throw await this.#refusal(response)
    try {
      for await (const chunk of response) await write(chunk as Buffer)
    } catch (error) {
      signal.throwIfAborted()
      throw error instanceof Error && 'code' in error && error.code === 'ECONNRESET'
        ? brokenOff(this.#url)
        : error
    }
    const report = response.trailers['levelmq-backup']
    if (!response.complete || report === undefined) throw brokenOff(this.#url)
    return JSON.parse(report) as BackupReport
  }

  async #ask(method: string, path: string, body?: object): Promise<unknown> {
    const response = await this.#send(method, path, body, AbortSignal.timeout(this.#timeoutMs))
    if (response.statusCode !== 200) throw await this.#refusal(response)
    return await this.#read(response, method)
  }

  async #send(
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const url = new URL(`${this.#url}${path}`)
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const headers: Record<string, string | number> = { accept: 'application/json' }
    if (payload !== undefined)
      Object.assign(headers, { 'content-type': 'application/json', 'content-length': payload.length })
    if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`
    const asked = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method,
      headers,
      signal,
      agent: false,
    })
    asked.end(payload)
    try {
      const [response] = (await once(asked, 'response')) as [IncomingMessage]
      return response
    } catch (error) {
      if (signal.reason instanceof CommandError) throw signal.reason
      throw noAnswer(this.#url, error, method)
    }
  }

  async #refusal(response: IncomingMessage): Promise<CommandError> {
    const { code, message } = (await this.#read(response, 'GET')) as { code?: unknown; message?: unknown }
    if (typeof code !== 'string') {
      return new CommandError(
        ExitCode.failed,
        `${this.#url}: answered ${response.statusCode}, not as a broker does`,
      )
    }
    const hint =
      code === 'BROKER_NOT_ALLOWED' ? '\n  (the token comes from --token-file or LEVELMQ_ADMIN_TOKEN)' : ''
    const exitCode = passing.includes(code) ? ExitCode.unavailable : ExitCode.failed
    return new CommandError(exitCode, `${this.#url}: ${code}: ${message}${hint}`)
  }

  async #read(response: IncomingMessage, method: string): Promise<unknown> {
    const chunks: Buffer[] = []
    let length = 0
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        length += chunk.length
        if (length > maxAnswerBytes) throw new Error('the answer is too long')
        chunks.push(chunk)
      }
    } catch (error) {
      throw noAnswer(this.#url, error, method)
    }
    try {
      return JSON.parse(Buffer.concat(chunks).toString()) as unknown
    } catch {
      return {}
    }
  }
}

/**
 * The management address of the master that serves.
 *
 * @throws CommandError if no broker answers, or none of them serves as master.
 */
export async function findMaster(urls: readonly string[]): Promise<string> {
  const answers = await askBrokers(urls, askTimeoutMs)
  const best = bestAnswer(answers)
  if (best?.status.role === 'master') return best.url
  const reasons = answers.map((answer) =>
    'error' in answer ? `${answer.url}: ${answer.error}` : `${answer.url}: ${answer.status.role}`,
  )
  const what = best === undefined ? 'no broker answers' : 'no master serves at'
  throw new CommandError(
    best === undefined ? ExitCode.failed : ExitCode.unavailable,
    `${what}\n  ${reasons.join('\n  ')}`,
  )
}

function noAnswer(url: string, error: unknown, method: string): CommandError {
  const reason = error instanceof Error ? error.message : String(error)
  const doubt = method === 'GET' ? '' : '; it may have been done or not'
  return new CommandError(ExitCode.unavailable, `${url}: no answer: ${reason}${doubt}`, { cause: error })
}

function brokenOff(url: string): CommandError {
  return new CommandError(
    ExitCode.unavailable,
    `${url}: the backup broke off; the log of the broker tells why`,
  )
}

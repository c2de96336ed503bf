import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { defaultManagementUrls, maxPortOffset } from '../cluster/layout.ts'
import { CommandError, ExitCode } from '../exit-code.ts'
import { type Answer, askBrokers, bestAnswer, hasServingMaster } from '../status/broker-status.ts'
import { formatReport } from '../status/report.ts'
import { paintFor } from '../terminal/paint.ts'
import { managementUrls, seconds, wholeNumber } from './option-value.ts'

interface StatusOptions {
  readonly url?: string[]
  readonly basePortOffset: number
  readonly wait?: number | true
  readonly json?: boolean
}

const askTimeoutMs = 2000
const askAgainMs = 100
const defaultWaitSeconds = 30

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .summary('show the elected master, the members and the quorum')
    .description(
      'Asks any broker for the state of the cluster: master, epoch, members and their lag, quorum.',
    )
    .option(
      '--url <urls>',
      'management addresses, with commas between (default: those of a local cluster)',
      managementUrls,
    )
    .option('--base-port-offset <n>', 'of a local cluster', wholeNumber(0, maxPortOffset), 0)
    .option(
      '--wait [seconds]',
      `wait until a master serves, ${defaultWaitSeconds} s if not said otherwise`,
      seconds,
    )
    .option('--json', 'print what the broker said as JSON, with `url` and `answers` added')
    .addHelpText(
      'after',
      `
Exit codes: 0 a master serves, 3 none does, 1 no broker answers, 2 wrong usage.

Examples:
  levelmq status
  levelmq status --wait 10 --json
  levelmq status --url http://10.0.0.1:8161,http://10.0.0.2:8161`,
    )
    .action((options: StatusOptions) => showStatus(options))
}

async function showStatus(options: StatusOptions): Promise<void> {
  const urls = options.url ?? defaultManagementUrls(options.basePortOffset)
  const waitMs =
    options.wait === undefined ? 0 : (options.wait === true ? defaultWaitSeconds : options.wait) * 1000
  const answers = await askUntil(urls, performance.now() + waitMs)
  const best = bestAnswer(answers)
  if (best === undefined) {
    const reasons = answers.map((answer) =>
      'error' in answer ? `${answer.url}: ${answer.error}` : answer.url,
    )
    if (options.json) console.log(JSON.stringify({ answers }))
    throw new CommandError(ExitCode.failed, `no broker answers\n  ${reasons.join('\n  ')}`)
  }
  const serving = hasServingMaster(answers)
  if (options.json) {
    const short = answers.map((answer) =>
      'error' in answer
        ? answer
        : {
            url: answer.url,
            brokerName: answer.status.brokerName,
            role: answer.status.role,
            ready: answer.ready,
          },
    )
    console.log(JSON.stringify({ ...best.status, serving, url: best.url, answers: short }))
  } else {
    console.log(formatReport(best.status, best.url, answers, paintFor(process.stdout)))
  }
  if (!serving) process.exitCode = ExitCode.unavailable
}

async function askUntil(urls: readonly string[], deadline: number): Promise<Answer[]> {
  for (;;) {
    const answers = await askBrokers(urls, askTimeoutMs)
    if (hasServingMaster(answers) || performance.now() >= deadline) return answers
    await sleep(askAgainMs)
  }
}

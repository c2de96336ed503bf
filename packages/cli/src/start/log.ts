import pino from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export type Log = (level: LogLevel, message: string, facts?: Readonly<Record<string, unknown>>) => void

export interface LogOptions {
  readonly level: LogLevel
  readonly format: 'text' | 'json'
}

/** A log by pino: one JSON object, or one readable line, per entry. */
export function createLog(options: LogOptions, sink: { write(line: string): unknown }): Log {
  const stream =
    options.format === 'json' ? sink : { write: (line: string) => sink.write(`${formatEntry(line)}\n`) }
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
      serializers: { error: pino.stdSerializers.err },
    },
    stream as pino.DestinationStream,
  )
  return (level, message, facts) =>
    facts === undefined ? logger[level](message) : logger[level](facts, message)
}

/** `2026-01-31T12:00:00.000Z INFO  message key=value`; an error's stack follows on lines of its own. */
function formatEntry(json: string): string {
  const { level, time, msg, error, ...facts } = JSON.parse(json) as Record<string, unknown>
  const head = `${time} ${String(level).toUpperCase().padEnd(5)} ${msg}`
  const pairs = Object.entries(facts).map(([name, value]) => `${name}=${formatValue(value)}`)
  return [head, ...pairs].join(' ') + formatError(error)
}

function formatValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return typeof value === 'string' && /[\s"=]/.test(value) ? JSON.stringify(value) : text
}

function formatError(error: unknown): string {
  if (typeof error !== 'object' || error === null)
    return error === undefined ? '' : ` error=${formatValue(error)}`
  const { stack, message } = error as { stack?: string; message?: string }
  return `\n${stack ?? message ?? ''}`.replaceAll('\n', '\n    ')
}

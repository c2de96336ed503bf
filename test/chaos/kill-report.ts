/** One kill or pause, and what came of it. */
export interface KillRecord {
  readonly number: number
  readonly victim: string
  readonly role: 'master' | 'slave'
  /** Milliseconds since the start of the run. */
  readonly atMs: number
  /** From the kill to the next confirm of a message sent after it; `undefined` if none came in time. */
  readonly toConfirmMs: number | undefined
  readonly newMaster: string
  readonly epoch: number
  /** How the master of that epoch came about. */
  readonly reason: string
  /** From the restart until all brokers were in sync again. */
  readonly toSyncMs: number | undefined
}

export interface Summary {
  readonly count: number
  readonly median: number
  readonly p95: number
  readonly worst: number
}

/** Times to the next confirm over the kills of masters. */
export function summarize(records: readonly KillRecord[]): Summary | undefined {
  const times = records
    .filter((record) => record.role === 'master')
    .map((record) => record.toConfirmMs ?? Number.POSITIVE_INFINITY)
    .sort((a, b) => a - b)
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.ceil(times.length * share) - 1)] ?? 0
  if (times.length === 0) return undefined
  return { count: times.length, median: at(0.5), p95: at(0.95), worst: at(1) }
}

export const tableHead: string = tableRow([
  '#',
  'at',
  'victim',
  'was',
  'next confirm',
  'master then',
  'epoch',
  'how it came about',
  'in sync again',
])

export function tableLine(record: KillRecord): string {
  return tableRow([
    `${record.number}`,
    `${(record.atMs / 1000).toFixed(1)} s`,
    record.victim,
    record.role,
    milliseconds(record.toConfirmMs),
    record.newMaster,
    `${record.epoch}`,
    record.role === 'master' ? record.reason : '-',
    milliseconds(record.toSyncMs),
  ])
}

function tableRow(cells: readonly string[]): string {
  const widths = [4, 8, 9, 7, 13, 12, 6, 18, 13]
  return cells
    .map((cell, i) => cell.padEnd(widths[i] ?? 0))
    .join(' ')
    .trimEnd()
}

function milliseconds(value: number | undefined): string {
  return value === undefined ? 'never' : `${Math.round(value)} ms`
}

import type { FaultRecord, RunResult } from './chaos-run.ts'

export const progressHead: string = row(['at', 'fault', 'target', 'in sync', 'master', 'what happened'])

export function progressLine(record: FaultRecord): string {
  return row([
    `${(record.atMs / 1000).toFixed(1)} s`,
    `${record.ids.join('+')} ${record.names}`,
    record.target,
    record.inSyncMs === undefined ? 'never' : `${Math.round(record.inSyncMs)} ms`,
    `${record.master} e${record.epoch}`,
    record.outcome,
  ])
}

export function summary(result: RunResult): string {
  const { counts } = result
  const byKind = new Map<string, number>()
  for (const { ids } of result.records) for (const id of ids) byKind.set(id, (byKind.get(id) ?? 0) + 1)
  const faults = [...byKind].map(([id, count]) => `${id} ${count}`).join(', ')
  const rows: [string, string][] = [
    ['faults', `${result.records.length}: ${faults}`],
    ['messages sent', `${counts.sent}`],
    ['confirmed', `${counts.confirmed}`],
    ['in doubt', `${counts.inDoubt}, of which ${counts.recovered} were stored`],
    ['delivered', `${counts.delivered}, of which ${counts.redelivered} marked as redelivered`],
    ['acknowledged', `${counts.acknowledged}`],
    ['late deliveries', `${counts.lateDeliveries} by a master that was deposed`],
    ['failovers', `${result.failovers}, in ${result.polls} looks at all brokers`],
    ['longest time', `${counts.longestGapMs} ms without a confirm`],
    ['drained', `in ${Math.round(result.drainedMs)} ms`],
    ['records', `${result.committed} committed, the same in all stores unless said otherwise`],
  ]
  return rows.map(([what, value]) => `${what.padEnd(16)} ${value}`).join('\n')
}

function row(cells: readonly string[]): string {
  const widths = [8, 26, 26, 10, 13, 0]
  return cells
    .map((cell, i) => cell.padEnd(widths[i] ?? 0))
    .join(' ')
    .trimEnd()
}

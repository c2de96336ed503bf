import { type Finding, isDamage, type VerifyReport } from '@levelmq/store'
import type { Colour, Paint } from '../terminal/paint.ts'
import { formatTable } from '../terminal/table.ts'

const colours: Record<Finding['meaning'], Colour> = {
  corrupt: 'red',
  'index rebuilt': 'yellow',
  'index wrong': 'red',
  doubtful: 'red',
  mended: 'yellow',
  note: 'dim',
}

const remedies: Record<Finding['meaning'], string> = {
  corrupt:
    'corrupt: was durable once, and is damaged or gone. The store does not start, or fails when it comes to read it.',
  'index rebuilt':
    'index rebuilt: the index is damaged; the next start builds it anew from the journal. Nothing is lost.',
  'index wrong':
    'index wrong: a start would not put this right. Delete the directory "index": the next start builds it from the journal.',
  doubtful:
    'doubtful: the last write is damaged and may have been confirmed. The next start cuts it and gets it from the other members.',
  mended: 'mended: left by an interrupted write; the next start puts it right. Nothing that counted is lost.',
  note: '',
}

/** What was found, for people. Pure. */
export function formatVerifyReport(report: VerifyReport, paint: Paint): string {
  const parts = [
    facts(report, paint),
    queueTable(report, paint),
    findingList(report, paint),
    verdict(report, paint),
  ]
  return parts.filter((part) => part !== '').join('\n\n')
}

function facts({ directory, identity, promise, journal, index }: VerifyReport, paint: Paint): string {
  const voters = identity?.cluster?.voters.map((voter) => voter.nodeId).join(' ')
  const kinds = Object.entries(journal.recordsByKind)
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => `${kind} ${count}`)
  const rows: [string, string][] = [
    ['directory', directory],
    ['store', identity === undefined ? '?' : `${identity.storeUuid} of node ${identity.nodeId}`],
    ['cluster', identity?.cluster === undefined ? 'none' : `${identity.cluster.uuid}, voters ${voters}`],
    ['promise', promise === undefined ? '?' : `epoch ${promise.epoch}, vote ${promise.votedFor ?? 'none'}`],
    ['segments', `${journal.segments}, ${bytes(journal.bytes)}`],
    ['batches', String(journal.batches)],
    ['records', `${journal.records}: ${journal.firstIndex} to ${journal.lastIndex}`],
    ['by kind', kinds.join(', ') || 'none'],
    ['envelopes', bytes(journal.envelopeBytes)],
    ['epochs', journal.epochs.map((start) => `${start.epoch} at ${start.index}`).join(', ') || 'none'],
    ['written', timeSpan(journal)],
    ['durable', `proven to record ${journal.provenIndex}, by ${journal.syncMarks} sync marks`],
    ['index', index === undefined ? 'none, or not to be opened' : indexFacts(index)],
  ]
  return rows.map(([name, value]) => `${paint('bold', name.padEnd(10))} ${value}`).join('\n')
}

function indexFacts(index: NonNullable<VerifyReport['index']>): string {
  const { appliedIndex, checkpoint, messages, queues, producers, compared } = index
  const how = compared ? 'agrees unless said otherwise below' : 'not compared with the journal'
  return `${messages} messages, ${queues} queues, ${producers} producers up to record ${appliedIndex}, checkpoint ${checkpoint}; ${how}`
}

function timeSpan({ firstTimeMs, lastTimeMs }: VerifyReport['journal']): string {
  if (firstTimeMs === undefined || lastTimeMs === undefined) return 'never'
  return `${new Date(firstTimeMs).toISOString()} to ${new Date(lastTimeMs).toISOString()}`
}

function queueTable({ queues, journal }: VerifyReport, paint: Paint): string {
  if (queues.length === 0) return ''
  const rows = queues.map(({ name, id, messageCount }) => [name, String(id), String(messageCount)])
  const table = formatTable(['QUEUE', 'ID', 'LIVE'], rows, paint)
  return journal.foldedTo < journal.lastIndex
    ? `${table}\nas of record ${journal.foldedTo}, behind which the journal is damaged`
    : table
}

function findingList({ findings, findingsOmitted }: VerifyReport, paint: Paint): string {
  const lines = findings.map((finding) => describe(finding, paint))
  if (findingsOmitted > 0) lines.push(`and ${findingsOmitted} more of the same kinds`)
  const meanings = new Set(findings.map(({ meaning }) => meaning))
  const explained = [...meanings].map((meaning) => remedies[meaning]).filter((text) => text !== '')
  return [...lines, ...(explained.length > 0 ? ['', ...explained] : [])].join('\n')
}

function describe({ meaning, file, offset, index, what }: Finding, paint: Paint): string {
  const place = offset === undefined ? file : `${file} at ${offset}`
  const record = index === undefined ? '' : ` [record ${index}]`
  return `${paint(colours[meaning], meaning)}  ${place}${record}: ${what}`
}

function verdict({ sound, findings, findingsOmitted }: VerifyReport, paint: Paint): string {
  if (sound) return paint('green', 'sound')
  const problems = findings.filter(isDamage).length + findingsOmitted
  return paint('red', `damaged: ${problems} ${problems === 1 ? 'problem' : 'problems'}`)
}

export function bytes(count: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = count
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return unit === 0 ? `${count} bytes` : `${value.toFixed(1)} ${units[unit]}`
}

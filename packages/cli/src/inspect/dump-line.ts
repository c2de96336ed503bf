import { basename } from 'node:path'
import type { DumpedBatch, DumpedRecord } from '@levelmq/store'

export interface DumpFormat {
  /** Records as lines of their own behind that of their batch, instead of inside it. */
  readonly records: boolean
  readonly headersOnly: boolean
  readonly bodies: boolean
}

/** The JSON lines of one batch, each with its line feed. Pure. */
export function dumpLines(batch: DumpedBatch, format: DumpFormat): string {
  const { header, file, offset } = batch
  const head = {
    type: 'batch',
    firstIndex: header.firstIndex,
    lastIndex: header.firstIndex + header.count - 1,
    epoch: header.epoch,
    count: header.count,
    commitIndex: header.commitIndex,
    time: timeOf(header.logTimeMs),
    payloadBytes: header.payloadBytes,
    checksum: hex(header.checksum),
    previousChecksum: hex(header.previousChecksum),
    payloadCrc: hex(header.payloadCrc),
    segment: basename(file),
    offset,
  }
  if (format.headersOnly) return line(head)
  const records = batch.records.map((record) => recordFields(record, format.bodies))
  if (!format.records) return line({ ...head, records })
  return [line(head), ...records.map((record) => line({ type: 'record', ...record }))].join('')
}

function recordFields(record: DumpedRecord, bodies: boolean): Record<string, unknown> {
  const fields: Record<string, unknown> = { ...record }
  // JSON has no undefined: the field would be missing, and a reader could not tell why.
  for (const name of ['queueName', 'producerId']) if (name in fields) fields[name] ??= null
  if (record.kind !== 'messageAdded' && record.kind !== 'messageKept') return fields
  delete fields.envelope
  fields.envelopeBytes = record.envelope.length
  if (bodies) fields.envelope = record.envelope.toString('base64')
  return fields
}

/** A time outside of what dates can say is shown as the number it is. */
function timeOf(ms: number): string | number {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? ms : date.toISOString()
}

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, '0')
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

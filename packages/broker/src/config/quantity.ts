/**
 * Durations and sizes as people write them in a configuration: `2s`, `500ms`, `64mb`.
 *
 * Pure. Beyond this edge every duration is a number of milliseconds and every size a number of bytes.
 */

const millisecondsOf: Readonly<Record<string, number>> = {
  '': 1,
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
}

// As in ActiveMQ, `mb` is 1024 * 1024 bytes.
const bytesOf: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  kb: 2 ** 10,
  kib: 2 ** 10,
  m: 2 ** 20,
  mb: 2 ** 20,
  mib: 2 ** 20,
  g: 2 ** 30,
  gb: 2 ** 30,
  gib: 2 ** 30,
}

/** Milliseconds in `2s`, `500ms`, `1m` or a plain number of milliseconds; `undefined` for anything else. */
export function parseDuration(value: unknown): number | undefined {
  return parseQuantity(value, millisecondsOf)
}

/** Bytes in `64mb`, `4 KiB` or a plain number of bytes; `undefined` for anything else. */
export function parseSize(value: unknown): number | undefined {
  return parseQuantity(value, bytesOf)
}

function parseQuantity(value: unknown, units: Readonly<Record<string, number>>): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined
  if (typeof value !== 'string') return undefined
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)$/i.exec(value.trim())
  if (match === null) return undefined
  const unit = (match[2] ?? '').toLowerCase()
  if (!Object.hasOwn(units, unit)) return undefined
  const amount = Number(match[1]) * (units[unit] ?? 1)
  return Number.isSafeInteger(amount) ? amount : undefined
}

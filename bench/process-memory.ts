import { readFileSync } from 'node:fs'

/** Memory of a process as Linux counts it, in bytes. */
export interface ProcessMemory {
  readonly resident: number
  /** The most that was resident since its start. */
  readonly peak: number
}

/** @throws Error where there is no `/proc`. */
export function processMemory(pid: number): ProcessMemory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const bytesOf = (field: string): number => {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)
    return Number(found?.[1] ?? 0) * 1024
  }
  return { resident: bytesOf('VmRSS'), peak: bytesOf('VmHWM') }
}

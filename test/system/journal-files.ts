import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

const magic = Buffer.from('LMQB')

/** Files below `directory` that hold batches of the journal. */
export function journalFiles(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((path) => join(directory, path))
    .filter((path) => statSync(path).isFile() && readFileSync(path).subarray(0, 4096).includes(magic))
    .sort()
}

/** Where batches begin in a file; a body that happens to hold the magic would show up too. */
export function batchOffsets(file: string): number[] {
  const bytes = readFileSync(file)
  const offsets: number[] = []
  for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) offsets.push(at)
  return offsets
}

/** Digest by file, to see whether anything was changed. */
export function digests(files: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    files.map((file) => [file, createHash('sha256').update(readFileSync(file)).digest('hex')]),
  )
}

/** What is written in a file, without the zeroes behind it. */
export function writtenBytes(file: string): Buffer {
  const bytes = readFileSync(file)
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end--
  return bytes.subarray(0, end)
}

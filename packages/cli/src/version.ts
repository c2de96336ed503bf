import { readFileSync } from 'node:fs'

/** The product's version: that of this package. */
export const version: string = readVersion()

function readVersion(): string {
  const description: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  if (typeof description !== 'object' || description === null || !('version' in description)) return 'unknown'
  return String(description.version)
}

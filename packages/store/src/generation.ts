import { join } from 'node:path'
import type { Disk } from './io/disk.ts'

/** The two directories of a generation of a store. */
export interface Generation {
  readonly journal: string
  readonly index: string
}

/**
 * Where a generation of the store in `directory` lives: a store that is copied anew from another member is written beside
 * the one it has, and takes its place at once, when `identity.json` names it (rule S33).
 */
export function generationIn(directory: string, generation: number): Generation {
  const suffix = generation === 0 ? '' : `.${generation}`
  return { journal: join(directory, `journal${suffix}`), index: join(directory, `index${suffix}`) }
}

/** Removes a generation that is not, or no longer, in use. */
export async function removeGeneration(disk: Disk, directory: string, generation: number): Promise<void> {
  const { journal, index } = generationIn(directory, generation)
  await disk.removeDirectory(index)
  await disk.removeDirectory(journal)
  await disk.syncDirectory(directory)
}

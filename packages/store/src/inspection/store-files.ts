import { join } from 'node:path'
import { NodeDisk } from '../io/node/disk.ts'

/** Where the parts of a store are, by its directory; as `store-directory.ts` lays them out. */
export interface StoreFiles {
  readonly identity: string
  readonly promise: string
  readonly journal: string
  readonly index: string
}

export function storeFiles(directory: string): StoreFiles {
  return {
    identity: join(directory, 'identity.json'),
    promise: join(directory, 'promise'),
    journal: join(directory, 'journal'),
    index: join(directory, 'index'),
  }
}

/** Names in a store's directory that belong there. */
export const storeNames: readonly string[] = [
  'identity.json',
  'identity.json.new',
  'promise',
  'journal',
  'index',
]

/** Whether anything of a store is in a directory; false as well if there is no such directory. */
export async function holdsStore(directory: string): Promise<boolean> {
  try {
    return (await new NodeDisk().list(directory)).some((name) => storeNames.includes(name))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOTDIR') return false
    throw error
  }
}

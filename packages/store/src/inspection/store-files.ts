import { join } from 'node:path'
import { generationIn } from '../generation.ts'
import { NodeDisk } from '../io/node/disk.ts'

/** Where the parts of a store are, by its directory; as `store-directory.ts` lays them out. */
export interface StoreFiles {
  readonly identity: string
  readonly promise: string
  readonly journal: string
  readonly index: string
}

export function storeFiles(directory: string, generation: number): StoreFiles {
  return {
    identity: join(directory, 'identity.json'),
    promise: join(directory, 'promise'),
    ...generationIn(directory, generation),
  }
}

/** Generation of the store that a name in its directory belongs to; `undefined` if it is no journal's and no index's. */
export function generationOfName(name: string): number | undefined {
  const number = /^(?:journal|index)(?:\.([1-9]\d{0,14}))?$/.exec(name)
  return number === null ? undefined : Number(number[1] ?? 0)
}

/** Names in a store's directory that belong there, besides journals and indexes. */
export const storeNames: readonly string[] = ['identity.json', 'identity.json.new', 'promise']

function isOfStore(name: string): boolean {
  return storeNames.includes(name) || generationOfName(name) !== undefined
}

/** Whether anything of a store is in a directory; false as well if there is no such directory. */
export async function holdsStore(directory: string): Promise<boolean> {
  try {
    return (await new NodeDisk().list(directory)).some(isOfStore)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOTDIR') return false
    throw error
  }
}

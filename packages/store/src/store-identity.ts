import { join } from 'node:path'
import { StoreError } from './errors.ts'
import type { Disk } from './io/disk.ts'

/** A member whose acknowledgements count: a node together with the store it had when it became one (rule S23). */
export interface Voter {
  readonly nodeId: string
  readonly storeUuid: string
  /** Its name for people and its replication address when it became a voter; for displays. */
  readonly name?: string
  readonly address?: string
}

/** What a cluster is: written down at its founding, and from then on in the log's configuration records, of which the last one counts. */
export interface Cluster {
  readonly uuid: string
  readonly voters: readonly Voter[]
  /** There are to be more voters: the master makes members that are level voters until there are as many as `replicas` says. */
  readonly growing: boolean
  /** Level of the log's format; 1 where nothing is said. */
  readonly level: number
}

/** Who a directory is. Minted when the directory is first used; the cluster is added when that is formed. */
export interface StoreIdentity {
  readonly storeUuid: string
  readonly nodeId: string
  readonly cluster: Cluster | undefined
  /** Which generation of the journal and index is this store; rises with each copy that takes its place. */
  readonly generation: number
}

const fileName = 'identity.json'
const maxBytes = 64 * 1024

/** @throws StoreError `STORE_CORRUPT` if the file is there and cannot be read. */
export async function readIdentity(disk: Disk, directory: string): Promise<StoreIdentity | undefined> {
  const file = join(directory, fileName)
  const content = await disk.readWhole(file, maxBytes)
  if (content === undefined) return undefined
  // A process that ended in between leaves a name that is not durable yet, and who this store is rests on it now.
  await disk.syncDirectory(directory)
  try {
    return parse(JSON.parse(content.toString('utf8')))
  } catch (cause) {
    throw new StoreError(
      { code: 'STORE_CORRUPT', file, offset: 0 },
      `${file}: is no store identity: ${cause instanceof Error ? cause.message : cause}`,
      { cause },
    )
  }
}

/** Replaces the file; durable when this resolves, and whole at any time in between. */
export async function writeIdentity(disk: Disk, directory: string, identity: StoreIdentity): Promise<void> {
  const temporary = join(directory, `${fileName}.new`)
  // Left by a crash in between.
  if ((await disk.list(directory)).includes(`${fileName}.new`)) await disk.remove(temporary)
  const file = await disk.open(temporary, 'create')
  try {
    const { storeUuid, nodeId, cluster, generation } = identity
    const content = { format: 1, storeUuid, nodeId, cluster: cluster ?? null, generation }
    const json = JSON.stringify(content, undefined, 2)
    await file.write([Buffer.from(`${json}\n`)], 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await disk.rename(temporary, join(directory, fileName))
  await disk.syncDirectory(directory)
}

/** Reads the description of a cluster, from a file or a peer. @throws Error that says what is wrong. */
export function parseCluster(value: unknown): Cluster {
  const { uuid, voters, growing = false, level = 1 } = object(value, 'cluster')
  if (typeof growing !== 'boolean') throw new Error('growing: true or false is expected')
  if (typeof level !== 'number' || !Number.isSafeInteger(level) || level < 1)
    throw new Error('level: a count is expected')
  if (!Array.isArray(voters) || voters.length < 1 || voters.length > 9)
    throw new Error('voters: 1 to 9 are expected')
  return {
    uuid: text(uuid, 'uuid'),
    voters: voters.map((voter: unknown) => {
      const { nodeId, storeUuid, name, address } = object(voter, 'voter')
      return {
        nodeId: text(nodeId, 'nodeId'),
        storeUuid: text(storeUuid, 'storeUuid'),
        ...(name === undefined ? {} : { name: text(name, 'name') }),
        ...(address === undefined ? {} : { address: text(address, 'address') }),
      }
    }),
    growing,
    level,
  }
}

function parse(value: unknown): StoreIdentity {
  const { format, storeUuid, nodeId, cluster, generation } = object(value, 'identity')
  if (format !== 1) throw new Error(`format ${format} was written by another version`)
  if (typeof generation !== 'number' || !Number.isSafeInteger(generation) || generation < 0)
    throw new Error('generation: a count is expected')
  return {
    storeUuid: text(storeUuid, 'storeUuid'),
    nodeId: text(nodeId, 'nodeId'),
    cluster: cluster === null ? undefined : parseCluster(cluster),
    generation,
  }
}

function object(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new Error(`${name}: an object is expected`)
  return value as Record<string, unknown>
}

function text(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '' || value.length > 256)
    throw new Error(`${name}: a text is expected`)
  return value
}

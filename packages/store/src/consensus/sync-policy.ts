import { StoreError } from '../errors.ts'

/**
 * When a record may be confirmed to its producer, by ActiveMQ's `sync` words.
 *
 * A policy only moves the confirm. What is committed, that is dispatched, indexed and safe from truncation, always
 * waits for a majority's disks, so that no `sync` level can make two nodes disagree about the log.
 */
export interface SyncPolicy {
  /** As configured, in lower case. */
  readonly words: string
  /** A majority has it on disk, the master's own disk being one of the votes. */
  readonly committed: boolean
  /** The master's own disk has it. */
  readonly ownDisk: boolean
  /** Half of the replicas besides the master hold it: nowhere, in memory, or on disk. */
  readonly slaves: 'none' | 'memory' | 'disk'
  /** What it risks, for the log and the status; `undefined` if nothing. */
  readonly warning: string | undefined
}

const demands: Record<string, { ownDisk: boolean; slaves: 'none' | 'memory' | 'disk' }> = {
  quorum_disk: { ownDisk: true, slaves: 'disk' },
  quorum_mem: { ownDisk: false, slaves: 'memory' },
  remote_disk: { ownDisk: false, slaves: 'disk' },
  remote_mem: { ownDisk: false, slaves: 'memory' },
  local_disk: { ownDisk: true, slaves: 'none' },
  local_mem: { ownDisk: false, slaves: 'none' },
}

/**
 * Reads a `sync` setting: one word, or several with commas between, whose demands are joined.
 *
 * @throws StoreError `STORE_INVALID_OPTION` for an unknown word: a typing error never lowers durability.
 */
export function syncPolicy(sync: string): SyncPolicy {
  const words = sync.split(',').map((word) => word.trim().toLowerCase())
  let ownDisk = false
  let slaves: 'none' | 'memory' | 'disk' = 'none'
  for (const word of words) {
    const demand = Object.hasOwn(demands, word) ? demands[word] : undefined
    if (demand === undefined) {
      throw new StoreError(
        { code: 'STORE_INVALID_OPTION', option: 'sync', value: sync },
        `sync: "${word}" is none of ${Object.keys(demands).join(', ')}`,
      )
    }
    ownDisk ||= demand.ownDisk
    if (demand.slaves === 'disk' || (demand.slaves === 'memory' && slaves === 'none')) slaves = demand.slaves
  }
  const committed = ownDisk && slaves === 'disk'
  return {
    words: words.join(','),
    committed,
    ownDisk,
    slaves,
    warning: warningOf(committed, ownDisk, slaves),
  }
}

function warningOf(
  committed: boolean,
  ownDisk: boolean,
  slaves: 'none' | 'memory' | 'disk',
): string | undefined {
  if (committed) return undefined
  if (slaves === 'none') {
    return ownDisk
      ? 'confirmed messages may be on the master only: a failover can lose them'
      : 'confirmed messages may be in the memory of the master only: its end, or a failover, can lose them'
  }
  if (slaves === 'disk')
    return 'confirmed messages may be on the disk of one slave only: losing it and the master can lose them'
  return 'confirmed messages may be in the memory of one slave and the master only: losing both can lose them'
}

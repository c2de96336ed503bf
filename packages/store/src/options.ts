import type { Address } from './io/network.ts'

/** What a confirm waits for; ActiveMQ's words. Only `quorum_disk` survives the loss of power everywhere. */
export type SyncLevel =
  | 'quorum_disk'
  | 'quorum_mem'
  | 'remote_disk'
  | 'remote_mem'
  | 'local_disk'
  | 'local_mem'

/** Settings of the journal and its index, replicated or not. Names, units and defaults as ActiveMQ's `levelDB`. */
export interface LevelDbOptions {
  /** Where the store lives; one directory per store. @defaultValue `LevelDB` */
  readonly directory?: string
  /** Size of a journal segment in bytes, 1 MiB to 1 GiB. @defaultValue 67108864 */
  readonly logSize?: number
  /** Longest time in milliseconds between two checkpoints of the index while it changes, 10 to 60000. @defaultValue 1000 */
  readonly flushDelay?: number
  /**
   * Bytes of journal, in percent of the bytes of live messages in it, above which the oldest segment is freed by writing what still
   * lives in it again; 100 to 10000, or 0 for never. ActiveMQ's setting of this name compacts its index. @defaultValue 200
   */
  readonly autoCompactionRatio?: number
  /**
   * From the end of one pass over the whole journal in search of damage to the beginning of the next, in milliseconds, 1000 to
   * 2592000000, or 0 for never. @defaultValue 86400000
   */
  readonly scrubInterval?: number
  /** Appended and not yet committed bytes above which producers are held back, 64 KiB to 1 GiB. @defaultValue 33554432 */
  readonly asyncBufferSize?: number
  /** Largest record in bytes, 1 KiB to 128 MiB less 1 KiB. @defaultValue 104857600 + 65536 */
  readonly maxRecordBytes?: number
  /** LevelDB: open files. @defaultValue 1000 */
  readonly indexMaxOpenFiles?: number
  /** LevelDB: keys between restart points. @defaultValue 16 */
  readonly indexBlockRestartInterval?: number
  /** LevelDB: memtable in bytes. @defaultValue 6291456 */
  readonly indexWriteBufferSize?: number
  /** LevelDB: block in bytes. @defaultValue 4096 */
  readonly indexBlockSize?: number
  /** LevelDB: block cache in bytes, at most. @defaultValue 16777216 */
  readonly indexCacheSize?: number
  /** LevelDB: compression of blocks. @defaultValue `snappy` */
  readonly indexCompression?: 'snappy' | 'none'
  /** Producers remembered for duplicate detection; the one unused for longest goes first. @defaultValue 100000 */
  readonly maxFailoverProducersToTrack?: number
  /** Gaps in the sequences of one producer that are remembered. @defaultValue 2048 */
  readonly failoverProducersAuditDepth?: number
}

/** Settings of the replicated store. Names and defaults as ActiveMQ's `replicatedLevelDB`, where not said otherwise. */
export interface ReplicatedLevelDbOptions extends LevelDbOptions {
  /** Name of the group of brokers that replicate one store; the same on all of them. */
  readonly brokerName: string
  /** Name of this broker for people, shown in every status. @defaultValue `brokerName` */
  readonly memberName?: string
  /** Identity of this node in the cluster, 1 to 128 characters; fixed when the directory is first used. @defaultValue made from `memberName` and the store's UUID */
  readonly nodeId?: string
  /** Stores in the cluster, this one included, 1 to 9; a quorum is `floor(replicas / 2) + 1`. @defaultValue 3 */
  readonly replicas?: number
  /** One of the sync levels, or several with commas between: the strongest demands are joined. @defaultValue `quorum_disk` (ActiveMQ: `quorum_mem`) */
  readonly sync?: string
  /** Secret that every member must know, or empty. @defaultValue empty */
  readonly securityToken?: string
  /** Replication listener, `tcp://host:port`. @defaultValue `tcp://0.0.0.0:61619` */
  readonly bind?: string
  /** Host part of the address that peers are told. @defaultValue the host of `bind`, or this host's name if that is a wildcard */
  readonly hostname?: string
  /** The whole address that peers are told, `tcp://host:port`. @defaultValue from `hostname` and `bind` */
  readonly connectUrl?: string
  /** Breaks ties between equally complete stores; higher wins; 0 to 1000000. @defaultValue 1 */
  readonly weight?: number
  /** Free text published with this member. */
  readonly container?: string
  /** Who decides when to stand for election. @defaultValue `zookeeper` if `zkAddress` is given, else `raft` */
  readonly elector?: 'raft' | 'zookeeper'
  /** With `raft`: replication addresses of all members, this one included, `host:port`. */
  readonly peers?: readonly string[]
  /** With `zookeeper`: its servers, `host:port,…`, an optional chroot behind. @defaultValue `127.0.0.1:2181` */
  readonly zkAddress?: string
  /** With `zookeeper`: password of the digest user `levelmq`; the znodes then admit nobody else. */
  readonly zkPassword?: string
  /** With `zookeeper`: parent of the members' znodes. @defaultValue `/default` */
  readonly zkPath?: string
  /** With `zookeeper`: session timeout asked for, in milliseconds, 500 to 60000. @defaultValue 2000 */
  readonly zkSessionTimeoutMs?: number
  /** Silence in milliseconds after which a master gives up and a slave takes it for lost, 200 to 60000. @defaultValue 1000 */
  readonly electionTimeoutMs?: number
}

/** An address as people write it. */
export function formatAddress(address: Address): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

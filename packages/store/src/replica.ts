import type { Applier } from './applier.ts'
import type { ClusterHistory } from './cluster-history.ts'
import { configurationIn, readConfiguration } from './configuration-record.ts'
import { Consensus, type ConsensusOptions } from './consensus/consensus.ts'
import type { Effect } from './consensus/effect.ts'
import type { Append, ConsensusMessage } from './consensus/message.ts'
import type { EpochPromise } from './consensus/promise-file.ts'
import type { StandReason } from './election/elector.ts'
import { StoreError } from './errors.ts'
import type { Clock } from './io/clock.ts'
import { decodeBatchHeader } from './journal/batch.ts'
import { BatchBuilder } from './journal/batch-builder.ts'
import type { Log } from './journal/log.ts'
import { RecordKind } from './journal/record.ts'
import { spansOf } from './replication/frame.ts'
import type { Voter } from './store-identity.ts'

/** What a replica needs of the store around it. */
export interface ReplicaHost {
  send(to: string, message: ConsensusMessage): void
  /** Makes the promise durable. One call at a time. */
  writePromise(promise: EpochPromise): Promise<void>
  /** A configuration with these voters, as JSON. */
  configuration(voters: readonly Voter[]): string
  roleChanged(): void
  serving(epoch: number): void
  deposed(reason: string): void
  confirmed(index: number): void
  /** Mastership was given up in favour of `to`, which is about to become master. */
  handedOver(to: string): void
  /** Mastership that was to be handed over is kept, or was lost in another way. */
  transferFailed(reason: string): void
  /** Only a copy of the leader's store helps this one: its log begins with `firstIndex`. Told again while it lasts. */
  behind(leader: string, firstIndex: number): void
  leaderLost(reason: 'link lost' | 'timeout' | 'resigned'): void
  defeated(reason: StandReason): void
  /** There is room again after `hasRoom` was false. */
  drained(): void
  leaseRenewed(): void
  failed(error: Error): void
}

export interface ReplicaParts {
  readonly log: Log
  readonly applier: Applier
  /** Kept in step with the log. */
  readonly clusters: ClusterHistory
  readonly clock: Clock
  readonly host: ReplicaHost
  readonly consensus: Omit<ConsensusOptions, 'nowMs'>
  /** Bytes appended and not yet committed above which `hasRoom` is false. */
  readonly roomBytes: number
}

/** A batch that is sealed although the disk is still busy: waiting for more would not make the group much better. */
const largeBatchBytes: number = 256 * 1024
/** Above this a batch is sealed before a record that does not fit: no batch is larger, unless it is of one record. */
const maxBatchBytes: number = 32 * 1024 * 1024
/** What is read from the log at a time for a slave that lags. */
const fetchBytes: number = 1024 * 1024

/**
 * The shell of the consensus core: feeds it with events and carries out its effects, in their order.
 *
 * Group commit lives here: records gather in the open batch while the disk is busy, and are sealed as soon as it is
 * free, or at the end of the turn if it is idle. The sealed bytes go to the disk and to the slaves at the same moment.
 */
export class Replica {
  readonly core: Consensus
  readonly builder: BatchBuilder = new BatchBuilder()
  readonly #log: Log
  readonly #applier: Applier
  readonly #clusters: ClusterHistory
  readonly #clock: Clock
  readonly #host: ReplicaHost
  readonly #roomBytes: number
  readonly #effects: Effect[] = []
  #running = false
  #sealPlanned = false
  /** Sealed and not yet committed batches of this mastership, oldest first. */
  #uncommitted: { readonly lastIndex: number; readonly bytes: number }[] = []
  #uncommittedBytes = 0
  #roomWanted = false
  #leaseWanted = false
  #promise: EpochPromise | undefined
  #promising = false
  #stopped = false

  constructor(parts: ReplicaParts) {
    this.#log = parts.log
    this.#applier = parts.applier
    this.#clusters = parts.clusters
    this.#clock = parts.clock
    this.#host = parts.host
    this.#roomBytes = parts.roomBytes
    this.core = new Consensus({ ...parts.consensus, nowMs: parts.clock.monotonicMs() })
  }

  /** Carries nothing out any more. */
  stop(): void {
    this.#stopped = true
  }

  tick(): void {
    this.#run(this.core.tick(this.#clock.monotonicMs()))
    this.#offerLease()
    this.#offerRoom()
    // A disk that is busy for longer than a tick is slow, and the own disk is only one of the voters: go on without it.
    if (this.builder.count > 0 && !this.#held()) this.#seal()
  }
  stand(reason: StandReason): void {
    this.#run(this.core.stand(reason, this.#clock.monotonicMs()))
  }
  resign(reason: string): void {
    this.#run(this.core.resign(reason))
  }
  peerUp(nodeId: string, storeUuid: string): void {
    this.#run(this.core.peerUp(nodeId, storeUuid, this.#clock.monotonicMs()))
    this.#host.roleChanged()
  }
  peerDown(nodeId: string): void {
    this.#run(this.core.peerDown(nodeId))
    this.#host.roleChanged()
  }
  /**
   * As leader: the voters become these.
   *
   * @returns Why not, if it cannot be now; otherwise it is under way.
   */
  changeVoters(voters: readonly Voter[]): string | undefined {
    const nowMs = this.#clock.monotonicMs()
    const refusal = this.core.refusesChange(voters, nowMs)
    if (refusal === undefined) this.#run(this.core.changeVoters(voters, nowMs))
    return refusal
  }
  /**
   * As leader: gives up in favour of a voter as soon as that holds everything. What is appended until then waits in the
   * open batch: it is sealed if nothing comes of it, and lost with the mastership otherwise, unseen by anyone.
   *
   * @returns Why not, if it cannot be now; otherwise the host hears of the outcome.
   */
  transfer(to: string | undefined): string | undefined {
    const refusal = this.core.refusesTransfer(to)
    if (refusal !== undefined) return refusal
    if (this.builder.count > 0 && !this.#held()) this.#seal()
    this.#run(this.core.transfer(to, this.#clock.monotonicMs()))
    return undefined
  }
  receive(from: string, message: ConsensusMessage): void {
    this.#run(this.core.receive(from, message, this.#clock.monotonicMs()))
    if (message.type === 'appendReply') this.#offerLease()
  }
  written(index: number): void {
    this.#run(this.core.written(index, this.#clock.monotonicMs()))
  }
  durable(index: number): void {
    this.#run(this.core.durable(index, this.#clock.monotonicMs()))
    this.#applier.durable()
    this.#sealIfFree()
    this.#offerRoom()
  }

  /** Index that the next record of this mastership gets. */
  nextIndex(): number {
    return this.#log.lastIndex + this.builder.count + 1
  }

  /** A record of so many bytes is about to be added to the open batch. */
  makeRoom(bytes: number): void {
    // Also while mastership is handed over: that waits for it then, or fails.
    if (this.builder.count > 0 && this.builder.bytes + bytes > maxBatchBytes && !this.#stopped) this.#seal()
  }

  /** A record was added to the open batch. */
  appended(now: boolean): void {
    if (now) this.#sealIfFree()
    else if (!this.#sealPlanned && this.builder.count > 0) {
      this.#sealPlanned = true
      this.#clock.soon(() => {
        this.#sealPlanned = false
        this.#sealIfFree()
      })
    }
  }

  hasSpace(): boolean {
    return this.#log.space === 'enough'
  }

  hasRoom(): boolean {
    const room =
      this.#heldBytes() < this.#roomBytes && !this.#applier.crowded && this.core.transferringTo === undefined
    if (!room) this.#roomWanted = true
    return room
  }

  /** Memory that waits for others: for a majority to commit it, or for the own disk to take it. */
  #heldBytes(): number {
    return Math.max(this.#uncommittedBytes, this.#log.pendingBytes) + this.builder.bytes
  }

  #offerRoom(): void {
    if (this.core.transferringTo !== undefined) return
    if (!this.#roomWanted || this.#heldBytes() >= this.#roomBytes / 2 || this.#applier.crowded) return
    this.#roomWanted = false
    this.#host.drained()
  }

  mayDispatch(): boolean {
    const may = this.core.mayDispatch(this.#clock.monotonicMs())
    if (!may) this.#leaseWanted = true
    return may
  }

  #offerLease(): void {
    if (!this.#leaseWanted || !this.core.mayDispatch(this.#clock.monotonicMs())) return
    this.#leaseWanted = false
    this.#host.leaseRenewed()
  }

  #sealIfFree(): void {
    if (this.builder.count === 0 || this.#held()) return
    if (this.#log.pendingBytes > 0 && this.builder.bytes < largeBatchBytes) return // `durable` comes back to it.
    this.#seal()
  }

  /** Whether nothing is sealed for the time being. */
  #held(): boolean {
    return this.#stopped || this.core.transferringTo !== undefined
  }

  /** As leader: writes the configuration again, with what the host says of it now; false if that cannot be now. */
  restateConfiguration(): boolean {
    if (!this.core.serving || this.core.changing || this.#held()) return false
    this.#configure(this.core.epoch, this.core.voters)
    return true
  }

  /** @param voters - What the configuration in the open batch says, if it holds one. */
  #seal(voters?: readonly Voter[]): void {
    const firstIndex = this.#log.lastIndex + 1
    const lastIndex = firstIndex + this.builder.count - 1
    const { epoch } = this.core
    const bytes = this.builder.seal({
      epoch,
      firstIndex,
      logTimeMs: Math.max(this.#clock.wallMs(), this.#log.lastTimeMs),
      commitIndex: this.core.commitIndex,
      previousChecksum: this.#log.lastChecksum,
    })
    this.#uncommitted.push({ lastIndex, bytes: bytes.length })
    this.#uncommittedBytes += bytes.length
    this.#log.append(bytes, firstIndex, lastIndex)
    this.#applier.keep(bytes, firstIndex, lastIndex)
    this.#run(this.core.sealed(epoch, firstIndex, lastIndex, bytes, this.#clock.monotonicMs(), voters))
  }

  /** Effects may lead to new events at once; those wait until the effects before them are carried out. */
  #run(effects: readonly Effect[]): void {
    if (effects.length === 0) return
    this.#effects.push(...effects)
    if (this.#running) return
    this.#running = true
    try {
      for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) {
        if (!this.#stopped) this.#carryOut(effect)
      }
    } finally {
      this.#running = false
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.type) {
      case 'send':
        this.#host.send(effect.to, effect.message)
        break
      case 'append':
        this.#append(effect.append, effect.fromBatch)
        break
      case 'commit':
        this.#committed(effect.index)
        break
      case 'confirm':
        this.#host.confirmed(effect.index)
        break
      case 'promise':
        this.#promise = { epoch: effect.epoch, votedFor: effect.votedFor, owed: effect.owed }
        this.#writePromise()
        break
      case 'truncate':
        this.#log.truncate(effect.index)
        this.#clusters.truncate(effect.index)
        this.#applier.truncated(effect.index)
        break
      case 'fetch':
        this.#fetch(effect.to, effect.fromIndex, effect.epoch)
        break
      case 'lead':
        this.#startEpoch(effect.epoch)
        break
      case 'configure':
        this.#configure(effect.epoch, effect.voters)
        break
      case 'serving':
        this.#host.serving(effect.epoch)
        break
      case 'role':
        this.#host.roleChanged()
        break
      case 'leaderLost':
        this.#host.leaderLost(effect.reason)
        break
      case 'behind':
        this.#host.behind(effect.leader, effect.firstIndex)
        break
      case 'deposed':
        this.#deposed(effect.reason)
        break
      case 'handedOver':
        this.#host.handedOver(effect.to)
        break
      case 'transferFailed':
        this.#host.transferFailed(effect.reason)
        this.#sealIfFree()
        this.#offerRoom()
        break
      case 'defeated':
        this.#host.defeated(effect.reason)
        break
      case 'diverged':
        this.#host.failed(
          new StoreError(
            { code: 'STORE_CORRUPT', file: 'journal', offset: 0 },
            `this store's log contradicts the cluster's: ${effect.message}. Its directory is kept as it is; ` +
              'start this broker with an empty directory to copy the store from the others',
          ),
        )
        break
      default:
        effect satisfies never
    }
  }

  #append(message: Append, fromBatch: number): void {
    const first = message.batches[fromBatch]
    const last = message.batches.at(-1)
    if (first === undefined || last === undefined) return
    const bytes = first.offset === 0 ? message.bytes : message.bytes.subarray(first.offset)
    const header = decodeBatchHeader(bytes, 0)
    if (typeof header === 'string' || header.previousChecksum !== this.#log.lastChecksum) {
      this.#host.failed(
        new StoreError(
          { code: 'STORE_CORRUPT', file: 'journal', offset: 0 },
          `record ${first.firstIndex} from the master does not follow record ${first.firstIndex - 1} of this store: ` +
            'their checksums do not chain',
        ),
      )
      return
    }
    this.#noteClusters(message, fromBatch)
    this.#log.append(bytes, first.firstIndex, last.lastIndex)
    this.#applier.keep(bytes, first.firstIndex, last.lastIndex)
  }

  /** What the configurations say besides who votes is for the store to keep. */
  #noteClusters({ batches, bytes }: Append, fromBatch: number): void {
    for (const { voters, offset, lastIndex } of batches.slice(fromBatch)) {
      if (voters === undefined) continue
      const header = decodeBatchHeader(bytes, offset)
      const cluster = typeof header === 'string' ? undefined : configurationIn(bytes, offset, header)
      if (cluster !== undefined) this.#clusters.append(lastIndex, cluster)
    }
  }

  #committed(index: number): void {
    let done = 0
    for (const batch of this.#uncommitted) {
      if (batch.lastIndex > index) break
      this.#uncommittedBytes -= batch.bytes
      done++
    }
    if (done > 0) this.#uncommitted.splice(0, done)
    this.#applier.committed(index)
    this.#offerRoom()
  }

  #startEpoch(epoch: number): void {
    // Elected by effects that were still waiting when a higher epoch came along.
    if (this.core.role !== 'leader' || this.core.epoch !== epoch) return
    this.builder.clear()
    this.builder.text(RecordKind.epochStart, this.core.leader ?? '')
    this.#sealConfiguration(this.core.voters)
  }

  /** A configuration is sealed alone, so that whoever reads the batch finds it at its start. */
  #configure(epoch: number, voters: readonly Voter[]): void {
    if (this.core.role !== 'leader' || this.core.epoch !== epoch) return
    if (this.builder.count > 0) this.#seal()
    this.#sealConfiguration(voters)
  }

  #sealConfiguration(voters: readonly Voter[]): void {
    const json = this.#host.configuration(voters)
    this.builder.text(RecordKind.configuration, json)
    this.#clusters.append(this.nextIndex() - 1, readConfiguration(json))
    this.#seal(voters)
  }

  #deposed(reason: string): void {
    this.builder.clear()
    this.#uncommitted = []
    this.#uncommittedBytes = 0
    this.#roomWanted = false
    this.#leaseWanted = false
    this.#host.deposed(reason)
  }

  #fetch(to: string, fromIndex: number, epoch: number): void {
    this.#log.read(fromIndex, fetchBytes).then(
      (bytes) => {
        if (this.#stopped) return
        const batches = spansOf(bytes, fromIndex, false)
        this.#run(this.core.fetched(to, epoch, fromIndex, batches, bytes, this.#clock.monotonicMs()))
      },
      (error: Error) => {
        if (this.#stopped) return
        if (error instanceof StoreError && error.code === 'STORE_LOG_GONE') {
          const nowMs = this.#clock.monotonicMs()
          this.#run(this.core.discarded(this.#log.start.firstIndex, nowMs))
          this.#run(this.core.fetchFailed(to, epoch, nowMs))
        } else this.#host.failed(error)
      },
    )
  }

  /** Writes the latest promise; one that came meanwhile is written next, and those in between never. */
  #writePromise(): void {
    const promise = this.#promise
    if (this.#promising || promise === undefined) return
    this.#promise = undefined
    this.#promising = true
    this.#host.writePromise(promise).then(
      () => {
        this.#promising = false
        if (this.#stopped) return
        this.#run(this.core.promised(promise.epoch, this.#clock.monotonicMs()))
        this.#writePromise()
      },
      (error: Error) => {
        if (!this.#stopped) this.#host.failed(error)
      },
    )
  }
}

import { ClusterAdministration } from './cluster-administration.ts'
import { ClusterHistory } from './cluster-history.ts'
import { covers } from './consensus/debt.ts'
import type { Configuration } from './consensus/electorate.ts'
import { Transfers } from './copying/transfers.ts'
import type { ElectionFacts, Elector, StandReason } from './election/elector.ts'
import { StoreError } from './errors.ts'
import { foundingObstacle, foundingVoters } from './formation.ts'
import { removeGeneration } from './generation.ts'
import { Handover, refusedTransfer } from './handover.ts'
import type { Clock, Timer } from './io/clock.ts'
import type { Disk } from './io/disk.ts'
import type { Network } from './io/network.ts'
import type { Random } from './io/random.ts'
import { type Damage, damagedRecords } from './journal/damage.ts'
import type { Journal } from './journal/journal.ts'
import { Scrubber } from './journal/scrubber.ts'
import { supportedLevels } from './level.ts'
import { Mastership } from './mastership.ts'
import { isVoter, type MemberInfo, Members, parseMemberInfo } from './members.ts'
import { Membership } from './membership.ts'
import { GapWindow } from './message-index/sequence-window.ts'
import type { MessageEntry, MessageStore, QueueInfo, Role, StoreListener } from './message-store.ts'
import { Replica } from './replica.ts'
import {
  decodeJsonFrame,
  decodeMessage,
  encodeJsonFrame,
  encodeMessage,
  FrameFault,
  FrameType,
} from './replication/frame.ts'
import type { NodeIdentity, ProtocolRange } from './replication/handshake.ts'
import { Mesh } from './replication/mesh.ts'
import { decodeTransfer, encodeTransfer, isTransfer } from './replication/transfer.ts'
import type { StoreSettings } from './settings.ts'
import type { CleanerHost } from './space/cleaner.ts'
import { JournalSpace } from './space/journal-space.ts'
import type { LevelRange, StoreAdministration } from './store-administration.ts'
import {
  closeStoreDirectory,
  type Mender,
  type OpenIndex,
  openStoreDirectory,
  type StoreDirectory,
} from './store-directory.ts'
import type { StoreHost } from './store-factory.ts'
import {
  type Cluster,
  parseCluster,
  type StoreIdentity,
  type Voter,
  writeIdentity,
} from './store-identity.ts'
import { openingStatus, storeStatus } from './store-report.ts'
import type { StoreStatus } from './store-status.ts'

/** The world a store lives in: the real one, or a simulated one. */
export interface StoreEnvironment {
  readonly disk: Disk
  readonly network: Network
  readonly clock: Clock
  readonly random: Random
  /** Makes the elector; `undefined` for a store that is not replicated. */
  readonly elector: ((settings: StoreSettings) => Elector) | undefined
  /** Opens the message index: the one part that does its own I/O. @defaultValue on LevelDB */
  readonly openIndex?: OpenIndex
  /** As if of another release: for tests of clusters that are being upgraded. @defaultValue what this one supports */
  readonly levels?: LevelRange
  readonly protocols?: ProtocolRange
}

const tickMs = 10
const infoEveryMs = 500
/** How fast the journal is read in search of damage: little beside what a disk can do. */
const scrubBytesPerSecond: number = 8 * 1024 * 1024
/** Part of the election timeout for which a master may dispatch after a majority answered. */
const leasePart = 4
/** Heartbeats per election timeout. */
const heartbeatPart = 20
/** Bytes under way to one slave, unacknowledged. */
const maxFlyingBytes: number = 16 * 1024 * 1024

/**
 * The message store, replicated or alone: puts journal, index, consensus, replication and election together.
 *
 * Invariants:
 * - The broker is master (`promoted`) only in an epoch whose first batch is committed, with an index that holds
 *   everything committed, and hears `demoted` before this node does anything in a later epoch.
 * - A blank directory takes part in nothing until it belongs to a cluster, and counts only if it is one of its voters.
 * - After a failure nothing is sent, written or reported any more but the failure itself.
 */
export class ReplicatedStore implements MessageStore {
  readonly #settings: StoreSettings
  readonly #host: StoreHost
  readonly #environment: StoreEnvironment
  readonly #clock: Clock
  readonly #members = new Members()
  readonly #bootId: string
  #listener: StoreListener | undefined
  #identity: StoreIdentity | undefined
  #journal: Journal | undefined
  /** What is exchanged with other members besides what a master sends; from the moment the journal is open. */
  #transfers: Transfers | undefined
  /** Undefined while the directory is being opened, also when a copied store takes the place of the one before. */
  #opened: StoreDirectory | undefined
  #space: JournalSpace | undefined
  #scrubber: Scrubber | undefined
  /** Damaged places found since the start. */
  #damages = 0
  #cluster: StoreIdentity['cluster']
  #replica: Replica | undefined
  #membership: Membership | undefined
  #clusters: ClusterHistory | undefined
  #administration: ClusterAdministration | undefined
  #mesh: Mesh | undefined
  #elector: Elector | undefined
  #mastership: Mastership | undefined
  /** Epoch whose first batch is committed, while its mastership waits for the index to be level. */
  #servingEpoch: number | undefined
  /** Mastership is being handed over, as somebody asked. */
  #handover: Handover | undefined
  #founding = false
  #ticker: Timer | undefined
  #toldMs = Number.NEGATIVE_INFINITY
  #opening: Promise<void> | undefined
  #installing: Promise<void> | undefined
  /** The promise that is being written. */
  #promising: Promise<void> | undefined
  #closing: Promise<void> | undefined
  /** Settled by `close`, for what waits for others. */
  readonly #closeCalled = Promise.withResolvers<void>()
  #failure: Error | undefined

  constructor(settings: StoreSettings, host: StoreHost, environment: StoreEnvironment) {
    this.#settings = settings
    this.#host = host
    this.#environment = environment
    this.#clock = environment.clock
    this.#bootId = newBootId(environment)
  }

  get role(): Role {
    if (this.#mastership !== undefined) return 'master'
    const leader = this.#replica?.core.leader
    return leader !== undefined && leader !== this.#opened?.identity.nodeId ? 'slave' : 'electing'
  }

  async open(listener: StoreListener): Promise<void> {
    if (this.#listener !== undefined) throw new TypeError('a store is opened once')
    this.#listener = listener
    const { warning, words } = this.#settings.sync
    if (warning !== undefined) this.#host.log('warn', `sync is ${words}: ${warning}`)
    this.#opening = this.#open()
    try {
      await this.#opening
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async #open(): Promise<void> {
    const opened = await this.#openDirectory()
    this.#refuseIfClosing()
    await this.#openNetwork()
    this.#refuseIfClosing()
    if (this.#cluster !== undefined) this.#join(this.#cluster)
    else if (this.#settings.replicas === 1) await this.#found([this.#self(opened.identity)])
    this.#refuseIfClosing()
    this.#startElector()
    if (this.#environment.elector === undefined) this.#replica?.stand('startup')
    if (this.#ticker === undefined) this.#tick()
  }

  async #openDirectory(): Promise<StoreDirectory> {
    const opened = await openStoreDirectory(
      this.#settings,
      this.#environment,
      {
        written: (at) => this.#replica?.written(at),
        durable: (at) => this.#replica?.durable(at),
        applied: (at) => this.#applied(at),
        checkpointed: () => this.#space?.checkpointed(),
        damaged: (damage) => this.#damaged(damage),
        spaceChanged: (space) => this.#spaceChanged(space),
        failed: (error) => this.#fail(error),
      },
      this.#host.log,
      this.#settings.replication === undefined ? undefined : this.#mender(),
    )
    this.#entered(opened.identity, opened.journal)
    this.#opened = opened
    this.#space = new JournalSpace({
      log: opened.log,
      index: opened.index,
      ratio: this.#settings.autoCompactionRatio / 100,
      pinnedFrom: () => this.#pinnedFrom(),
      checkpointWanted: () => opened.applier.hasten(),
      failed: (error) => this.#fail(error),
    })
    this.#scrub(opened.journal)
    return opened
  }

  #scrub(journal: Journal): void {
    const { scrubInterval } = this.#settings
    if (scrubInterval === 0) return
    this.#scrubber = new Scrubber({
      journal,
      clock: this.#clock,
      bytesPerSecond: scrubBytesPerSecond,
      restMs: scrubInterval,
      troubled: (error) => this.#host.log('warn', `the journal could not be read through: ${error}`),
    })
    this.#scrubber.start()
  }

  /**
   * The journal is open, if maybe damaged.
   *
   * @param copied - The store is not in use yet: hears that a copy is there to take its place.
   */
  #entered(identity: StoreIdentity, journal: Journal, copied?: () => void): void {
    if (this.#journal === journal) return
    this.#identity = identity
    this.#journal = journal
    this.#cluster = identity.cluster
    this.#transfers = new Transfers({
      disk: this.#environment.disk,
      clock: this.#clock,
      directory: this.#settings.directory,
      generation: identity.generation,
      segmentBytes: this.#settings.logSize,
      journal,
      connected: () => this.#members.connected().map(({ nodeId }) => nodeId),
      commitIndex: () => this.#replica?.core.commitIndex ?? 0,
      send: (to, transfer) => this.#mesh?.sendBulk(to, encodeTransfer(transfer)),
      covers: (lastEpoch, lastIndex) => {
        const core = this.#replica?.core
        if (core !== undefined) return core.coveredBy(lastEpoch, lastIndex)
        // A damaged store, which takes part in nothing: what it had counts, the damaged part as well.
        const index = Math.max(journal.lastIndex, journal.damage?.toIndex ?? 0)
        return covers({ epoch: lastEpoch, index: lastIndex }, { epoch: journal.lastEpoch, index })
      },
      replaceable: copied !== undefined,
      copied: copied ?? (() => this.#install()),
      failed: (error) => this.#fail(error),
      log: this.#host.log,
    })
  }

  #mender(): Mender {
    return {
      damaged: async (identity, journal) => {
        // It takes part in nothing until it has back what it had: it only asks, whoever is master.
        const copied = Promise.withResolvers<void>()
        this.#entered(identity, journal, copied.resolve)
        await this.#openNetwork()
        this.#refuseIfClosing()
        this.#startElector()
        if (this.#ticker === undefined) this.#tick()
        const outcome = await Promise.race([
          this.#transfers?.repairer.repair().then(() => 'repaired' as const),
          copied.promise.then(() => 'copied' as const),
          this.#closeCalled.promise.then(() => 'repaired' as const),
        ])
        this.#refuseIfClosing()
        await this.#transfers?.close()
        return outcome ?? 'repaired'
      },
      mend: async () => {
        await Promise.race([this.#transfers?.repairer.repair(), this.#closeCalled.promise])
        this.#refuseIfClosing()
      },
    }
  }

  /** A full disk takes no more messages, and everything else goes on, until there is space again (S30). */
  #spaceChanged(space: 'enough' | 'low'): void {
    const { directory } = this.#settings
    if (space === 'low')
      this.#host.log('error', `no space in ${directory} for another segment: no more messages are taken`)
    else {
      this.#host.log('info', `there is space in ${directory} again`)
      if (this.#mastership !== undefined) this.#listener?.drained()
    }
    this.#listener?.changed()
  }

  /** A read, or the scrubber, met damage. */
  #damaged(damage: Damage): void {
    // While it is being opened, the opening sees to it.
    if (this.#opened === undefined) return
    this.#damages++
    if (this.#settings.replication === undefined) this.#fail(damagedRecords(damage))
    else void this.#transfers?.repairer.repair()
  }

  #startElector(): void {
    if (this.#elector !== undefined) {
      this.#observe()
      return
    }
    const elector = this.#environment.elector?.(this.#settings)
    elector?.start(this.#electorHost(), this.#facts())
    // Only now: what an elector is told before its start is lost on it.
    this.#elector = elector
  }

  /** A copy of the master's store is whole: it takes the place of the own one, as after a restart. */
  #install(): void {
    if (this.#installing !== undefined || this.#closing !== undefined || this.#failure !== undefined) return
    this.#installing = this.#takePlace()
      .catch((error: Error) => {
        if (this.#closing === undefined) this.#fail(error)
      })
      .finally(() => {
        this.#installing = undefined
      })
  }

  async #takePlace(): Promise<void> {
    const old = this.#directory()
    const { disk } = this.#environment
    const { directory } = this.#settings
    this.#replica?.stop()
    this.#replica = undefined
    this.#opened = undefined
    await this.#leave()
    await closeStoreDirectory(old, true)
    const identity = { ...old.identity, cluster: this.#cluster, generation: old.identity.generation + 1 }
    await writeIdentity(disk, directory, identity)
    await removeGeneration(disk, directory, old.identity.generation)
    this.#refuseIfClosing()
    await this.#openDirectory()
    this.#refuseIfClosing()
    this.#host.log('info', 'the copied store has taken the place of the one before', {
      generation: identity.generation,
    })
    if (this.#cluster !== undefined) this.#join(this.#cluster)
    this.#roleChanged()
  }

  /** Nothing goes on in the background any more that uses the directory. */
  async #leave(): Promise<void> {
    await this.#scrubber?.stop()
    await this.#space?.close()
    await this.#transfers?.close()
    await this.#promising
  }

  /** `close` was called meanwhile, and waits for the opening to end. */
  #refuseIfClosing(): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#closing !== undefined)
      throw new StoreError({ code: 'STORE_CLOSED' }, 'the store was closed while it was opening')
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    this.#closeCalled.resolve()
    return this.#closing
  }

  queues(): QueueInfo[] {
    return this.#opened?.index.queues() ?? []
  }

  async page(queue: number, after: number, limit: number): Promise<MessageEntry[]> {
    return await this.#readable().index.page(queue, after, limit)
  }

  async read(queue: number, indices: readonly number[]): Promise<Buffer[]> {
    return await this.#readable().reader.read(queue, indices)
  }

  get administration(): StoreAdministration | undefined {
    this.#readable()
    return this.#administration
  }

  status(): StoreStatus {
    const directory = this.#opened
    if (directory === undefined) return openingStatus(this.#settings, this.#transfers?.repairer.damage)
    const core = this.#replica?.core
    const { nodeId } = directory.identity
    const master = this.#members.infoOf(core?.leader)
    const nowMs = this.#clock.monotonicMs()
    return storeStatus({
      settings: this.#settings,
      directory,
      clusterUuid: this.#cluster?.uuid,
      role: this.role,
      core,
      master,
      masterInfo: core?.leader === nodeId ? this.#host.memberInfo : master?.info,
      others: this.#members.statuses(this.#mesh?.peers() ?? [], this.#voters(), core, core?.leader, nowMs),
      connected: this.#members.connected().length,
      foundingObstacle: this.#foundingObstacle(),
      bootId: this.#bootId,
      levels: this.#environment.levels ?? supportedLevels,
      zookeeper: this.#elector?.status(),
      scrub:
        this.#scrubber === undefined
          ? undefined
          : {
              atIndex: this.#scrubber.atIndex,
              found: {
                lastPassMs: this.#scrubber.lastPassMs,
                damaged: this.#damages,
                repaired: this.#transfers?.repairer.repaired ?? 0,
              },
            },
    })
  }

  // Opening.

  async #openNetwork(): Promise<void> {
    const { replication, electionTimeoutMs } = this.#settings
    if (replication === undefined || this.#mesh !== undefined) return
    const mesh = new Mesh(
      {
        bind: replication.bind,
        address: replication.address,
        securityToken: replication.securityToken,
        silenceMs: Math.max(5 * electionTimeoutMs, 8 * infoEveryMs),
        protocols: this.#environment.protocols,
      },
      this.#environment,
      () => this.#self(this.#known()),
      {
        peerUp: (peer) => this.#peerUp(peer),
        peerDown: (peer, reason) => this.#peerDown(peer, reason),
        frame: (peer, type, body) => this.#frame(peer, type, body),
        awaits: (peer) => isVoter(this.#voters(), peer),
        changed: () => this.#tellChanged(),
        log: (level, message, facts) => this.#host.log(level, message, facts),
      },
    )
    await mesh.listen()
    this.#mesh = mesh
  }

  #self(identity: StoreIdentity): NodeIdentity {
    return {
      brokerName: this.#settings.brokerName,
      nodeId: identity.nodeId,
      storeUuid: identity.storeUuid,
      clusterUuid: this.#cluster?.uuid,
      name: this.#settings.memberName,
      address: this.#settings.replication?.address ?? 'local',
      bootId: this.#bootId,
      replicas: this.#settings.replicas,
      levels: this.#environment.levels ?? supportedLevels,
      level: (this.#clusters?.current ?? this.#cluster)?.level,
    }
  }

  // Forming and joining a cluster.

  #considerFounding(): void {
    if (this.#cluster !== undefined || this.#founding || this.#opened === undefined) return
    // Where ZooKeeper shows more than are to found it, two overlapping groups could each found a cluster.
    const shown = this.#elector?.status()?.members
    if (shown !== undefined && shown !== this.#settings.replicas) return
    const self = this.#self(this.#opened.identity)
    const voters = foundingVoters(self, this.#members.connected())
    if (voters === undefined) return
    this.#found(voters).catch((error: Error) => this.#fail(error))
  }

  #foundingObstacle(): string | undefined {
    if (this.#cluster !== undefined || this.#opened === undefined) return undefined
    return foundingObstacle(this.#self(this.#opened.identity), this.#members.connected())
  }

  async #found(voters: readonly Voter[]): Promise<void> {
    const cluster = { uuid: this.#environment.random.uuid(), voters, growing: false, level: 1 }
    this.#host.log('info', 'founding the cluster', { clusterUuid: cluster.uuid, voters: voters.length })
    await this.#adopt(cluster)
  }

  /** Writes down which cluster this store belongs to, for good, and only then takes part in it. */
  async #adopt(cluster: Cluster): Promise<void> {
    if (this.#founding || this.#cluster !== undefined) return
    this.#founding = true
    const { identity } = this.#directory()
    await writeIdentity(this.#environment.disk, this.#settings.directory, { ...identity, cluster })
    this.#founding = false
    if (this.#closing !== undefined) return
    this.#cluster = cluster
    this.#join(cluster)
    for (const peer of this.#members.connected()) this.#greet(peer)
    this.#observe()
  }

  #onFormation(peer: NodeIdentity, body: Buffer): void {
    const cluster = clusterIn(body)
    if (this.#cluster !== undefined) {
      if (this.#cluster.uuid !== cluster.uuid)
        this.#mesh?.drop(peer.nodeId, `belongs to cluster ${cluster.uuid}`)
      return
    }
    this.#host.log('info', `joining the cluster of ${peer.name}`, { clusterUuid: cluster.uuid })
    this.#adopt(cluster).catch((error: Error) => this.#fail(error))
  }

  /** Starts to take part in consensus. */
  #join(cluster: Cluster): void {
    const directory = this.#directory()
    const clusters = new ClusterHistory(cluster, directory.configurations)
    const { identity, journal, log, epochStarts, commitIndex, applier, promise, promiseFile } = directory
    const { sync, weight, electionTimeoutMs, asyncBufferSize, logSize } = this.#settings
    const replica = new Replica({
      log,
      applier,
      clusters,
      clock: this.#clock,
      // What is under way when the disk turns out to be full has to fit into what is left of the segment, with room for what frees space.
      roomBytes: Math.min(asyncBufferSize, logSize / 2),
      consensus: {
        nodeId: identity.nodeId,
        storeUuid: identity.storeUuid,
        configurations: configurationsOf(cluster, directory),
        weight,
        sync,
        promise,
        log: { firstIndex: journal.start.firstIndex, lastIndex: journal.lastIndex, commitIndex, epochStarts },
        electionTimeoutMs,
        leaseMs: electionTimeoutMs / leasePart,
        heartbeatMs: electionTimeoutMs / heartbeatPart,
        maxFlyingBytes,
      },
      host: {
        send: (to, message) => this.#mesh?.send(to, encodeMessage(message)),
        writePromise: (next) => {
          this.#promising = promiseFile.write(next)
          return this.#promising
        },
        configuration: (voters) => membership.configuration(voters),
        roleChanged: () => this.#roleChanged(),
        serving: (epoch) => this.#serving(epoch),
        deposed: (reason) => this.#deposed(reason),
        confirmed: (at) => {
          if (this.#mastership !== undefined) this.#listener?.confirmed(at)
        },
        behind: (leader) => this.#transfers?.copyFrom(leader),
        handedOver: (to) => this.#host.log('info', 'mastership is handed over', { to }),
        transferFailed: (reason) => this.#handoverFailed(reason),
        leaderLost: (reason) => this.#elector?.masterLost(reason),
        defeated: () => this.#elector?.defeated(),
        drained: () => this.#listener?.drained(),
        leaseRenewed: () => {
          if (this.#mastership !== undefined) this.#listener?.leaseRenewed()
        },
        failed: (error) => this.#fail(error),
      },
    })
    const membership = new Membership({
      core: replica.core,
      cluster: () => clusters.current,
      nodeId: identity.nodeId,
      replicas: this.#settings.replicas,
      connected: () => this.#members.connected(),
      change: (voters) => replica.changeVoters(voters),
      restate: () => replica.restateConfiguration(),
      log: this.#host.log,
    })
    this.#replica = replica
    this.#membership = membership
    this.#clusters = clusters
    this.#administration = new ClusterAdministration({
      clock: this.#clock,
      nodeId: identity.nodeId,
      core: replica.core,
      membership,
      cluster: () => clusters.current,
      levels: this.#environment.levels ?? supportedLevels,
      connected: () => this.#members.connected(),
      statuses: () => this.status().members,
      source: () => this.#transfers?.source,
      committed: () => ({ epoch: replica.core.commitEpoch, index: replica.core.commitIndex }),
      transfer: (nodeId) => this.#transfer(nodeId),
    })
    this.#refuseWrongCount(clusters.current)
    this.#refuseNewerLevel(clusters.current)
    for (const peer of this.#members.connected()) replica.peerUp(peer.nodeId, peer.storeUuid)
  }

  /** What the cluster is by now, for those who are new to it. */
  #clusterNow(): Cluster | undefined {
    return this.#clusters?.current ?? this.#cluster
  }

  /** The log says how many voters there are; a setting that says otherwise is a mistake that must not be found out in need (S35). */
  #refuseWrongCount({ voters, growing }: Cluster): void {
    const { replicas, directory } = this.#settings
    if (growing || voters.length === replicas || this.#replica?.core.voter !== true) return
    throw new StoreError(
      { code: 'STORE_FOREIGN_DIRECTORY', directory },
      `${directory}: belongs to a cluster of ${voters.length} replicas, and ${replicas} are configured: set replicas to ${voters.length}`,
    )
  }

  /** What this release cannot read it must not acknowledge either (S36). */
  #refuseNewerLevel({ level }: Cluster): void {
    const { highest } = this.#environment.levels ?? supportedLevels
    if (level <= highest) return
    const { directory } = this.#settings
    throw new StoreError(
      { code: 'STORE_UNKNOWN_FORMAT', file: directory },
      `${directory}: the cluster uses level ${level} of the log's format, and this release supports levels up to ${highest}: start a newer one`,
    )
  }

  #voters(): readonly Voter[] {
    return this.#replica?.core.voters ?? this.#cluster?.voters ?? []
  }

  // Peers.

  #peerUp(peer: NodeIdentity): void {
    this.#host.log('info', `connected to ${peer.name}`, { nodeId: peer.nodeId, address: peer.address })
    this.#members.up(peer)
    this.#transfers?.connected(peer.nodeId)
    if (this.#cluster !== undefined) this.#greet(peer)
    this.#replica?.peerUp(peer.nodeId, peer.storeUuid)
    this.#considerFounding()
    this.#tell()
    this.#observe()
  }

  /** A blank store is told which cluster it has met. */
  #greet(peer: NodeIdentity): void {
    if (peer.clusterUuid === undefined) {
      this.#mesh?.send(peer.nodeId, [encodeJsonFrame(FrameType.formation, { cluster: this.#clusterNow() })])
    }
  }

  #peerDown(peer: NodeIdentity, reason: string): void {
    this.#host.log('info', `lost ${peer.name}: ${reason}`, { nodeId: peer.nodeId })
    this.#members.down(peer.nodeId)
    this.#transfers?.lost(peer.nodeId)
    this.#replica?.peerDown(peer.nodeId)
    this.#observe()
  }

  #frame(peer: NodeIdentity, type: number, body: Buffer): void {
    if (this.#failure !== undefined) return
    if (type === FrameType.info) {
      const info = parseMemberInfo(decodeJsonFrame(body))
      if (info === undefined) return
      this.#members.heard(peer.nodeId, info)
      this.#mesh?.heard(peer.nodeId, info.links)
    } else if (type === FrameType.formation) {
      this.#onFormation(peer, body)
    } else if (isTransfer(type)) {
      this.#transfers?.received(peer.nodeId, decodeTransfer(type, body))
    } else {
      this.#replica?.receive(peer.nodeId, decodeMessage(type, body))
    }
  }

  #tell(): void {
    const opened = this.#opened
    if (this.#mesh === undefined || opened === undefined) return
    this.#toldMs = this.#clock.monotonicMs()
    const core = this.#replica?.core
    const info: MemberInfo = {
      role: this.role,
      epoch: core?.epoch ?? 0,
      lastEpoch: opened.journal.lastEpoch,
      lastIndex: opened.journal.lastIndex,
      commitIndex: core?.commitIndex ?? 0,
      info: this.#host.memberInfo,
      electionReason: core?.electedBy,
      slaves: core === undefined ? [] : this.#members.slaves(core, this.#voters(), this.#toldMs),
      links: this.#mesh.known(),
    }
    this.#mesh.broadcast([encodeJsonFrame(FrameType.info, info)])
  }

  // Election and mastership.

  #electorHost() {
    return {
      stand: (reason: StandReason) => this.#replica?.stand(reason),
      stepDown: (reason: string) => this.#replica?.resign(reason),
      peers: (addresses: readonly { readonly address: string }[]) =>
        this.#mesh?.setPeers(addresses.map(({ address }) => address)),
      changed: () => {
        if (this.#failure !== undefined || this.#closing !== undefined) return
        this.#considerFounding()
        this.#tellChanged()
      },
      log: this.#host.log,
    }
  }

  #facts(): ElectionFacts {
    const identity = this.#known()
    const journal = this.#journal
    const core = this.#replica?.core
    return {
      nodeId: identity.nodeId,
      storeUuid: identity.storeUuid,
      clusterUuid: this.#cluster?.uuid,
      voter: core?.eligible ?? false,
      epoch: core?.epoch ?? 0,
      lastEpoch: journal?.lastEpoch ?? 0,
      lastIndex: journal?.lastIndex ?? 0,
      masterNodeId: core?.leader,
      serving: this.#mastership !== undefined,
      reachableVoters: core?.reachableVoters ?? 0,
      voters: core?.voters ?? [],
      quorum: core?.quorum ?? Math.floor(this.#settings.replicas / 2) + 1,
    }
  }

  #observe(): void {
    if (this.#opened !== undefined && this.#closing === undefined) this.#elector?.observe(this.#facts())
  }

  #roleChanged(): void {
    this.#observe()
    this.#observeHandover()
    this.#tell()
    this.#tellChanged()
  }

  #serving(epoch: number): void {
    this.#servingEpoch = epoch
    this.#promoteIfLevel()
  }

  /** Everything committed so far has to be in the index before the broker may look at it. */
  #promoteIfLevel(): void {
    const epoch = this.#servingEpoch
    const replica = this.#replica
    const opened = this.#opened
    if (epoch === undefined || replica === undefined || opened === undefined || !opened.applier.level) return
    this.#servingEpoch = undefined
    if (!replica.core.serving || replica.core.epoch !== epoch || this.#failure !== undefined) return
    const { maxRecordBytes, failoverProducersAuditDepth } = this.#settings
    this.#mastership = new Mastership(epoch, {
      builder: replica.builder,
      index: opened.index,
      host: replica,
      maxRecordBytes,
      directory: this.#settings.directory,
      newWindow: () => new GapWindow(failoverProducersAuditDepth),
    })
    this.#host.log('info', `master in epoch ${epoch}`, { elected: replica.core.electedBy })
    this.#space?.promoted(this.#cleanerHost(this.#mastership, replica))
    this.#listener?.promoted(this.#mastership)
    this.#roleChanged()
  }

  #deposed(reason: string): void {
    this.#servingEpoch = undefined
    this.#membership?.deposed()
    const mastership = this.#mastership
    if (mastership === undefined) return
    this.#mastership = undefined
    this.#space?.demoted()
    mastership.end()
    this.#host.log('warn', `no longer master: ${reason}`, { epoch: mastership.epoch })
    this.#listener?.demoted(reason)
  }

  #applied(index: number): void {
    this.#space?.applied(index)
    if (this.#mastership !== undefined) this.#listener?.committed(index)
    else this.#promoteIfLevel()
  }

  /** @returns Node id of the new master. */
  async #transfer(nodeId: string | undefined): Promise<string> {
    const refusal = this.#handover === undefined ? this.#replica?.transfer(nodeId) : 'it is under way already'
    if (refusal !== undefined) throw refusedTransfer(refusal)
    // Whatever came of it already, nobody else is master yet.
    this.#handover = new Handover(this.#clock.monotonicMs() + 3 * this.#settings.electionTimeoutMs)
    return await this.#handover.done
  }

  #observeHandover(): void {
    const leader = this.#replica?.core.leader
    const nodeId = this.#opened?.identity.nodeId
    if (nodeId === undefined) return
    if (this.#handover?.observe(leader, nodeId, this.#clock.monotonicMs()) === true)
      this.#handover = undefined
  }

  #handoverFailed(reason: string): void {
    this.#handover?.failed(reason)
    this.#handover = undefined
  }

  // Space and damage.

  #cleanerHost(mastership: Mastership, replica: Replica): CleanerHost {
    return {
      nextIndex: () => replica.nextIndex(),
      restate: () => mastership.restate(),
      restateConfiguration: () => replica.restateConfiguration(),
    }
  }

  /** Lowest record that another member still has to get from this node. */
  #pinnedFrom(): number {
    return Math.min(
      this.#transfers?.pinnedFrom() ?? Number.POSITIVE_INFINITY,
      this.#replica?.core.neededFrom ?? Number.POSITIVE_INFINITY,
    )
  }

  // Time, and the end.

  #tick(): void {
    if (this.#closing !== undefined || this.#failure !== undefined) return
    this.#ticker = this.#clock.setTimer(tickMs, () => this.#tick())
    this.#replica?.tick()
    const nowMs = this.#clock.monotonicMs()
    this.#membership?.tick(nowMs)
    this.#space?.tick(nowMs)
    this.#mesh?.tick(nowMs)
    this.#observeHandover()
    if (nowMs - this.#toldMs >= infoEveryMs) this.#tell()
  }

  /** Behind a failure nothing is reported but the failure. */
  #tellChanged(): void {
    if (this.#failure === undefined) this.#listener?.changed()
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined || this.#closing !== undefined) return
    this.#failure = error
    this.#handoverFailed('the store has failed')
    this.#replica?.stop()
    this.#mastership?.end()
    this.#mastership = undefined
    this.#ticker?.cancel()
    // The others see at once that this node is gone; what it cannot write it must not seem to take.
    void this.#mesh?.close()
    void this.#elector?.stop()
    this.#host.log('error', `the store has failed: ${error.message}`)
    this.#listener?.failed(error)
  }

  async #close(): Promise<void> {
    // Whoever opens is told of a failure there.
    await this.#opening?.catch(() => undefined)
    this.#ticker?.cancel()
    this.#handoverFailed('the store is closing')
    if (this.#failure === undefined) this.#replica?.resign('this broker is stopping')
    this.#replica?.stop()
    this.#mastership?.end()
    this.#mastership = undefined
    this.#space?.demoted()
    await this.#elector?.stop()
    await this.#mesh?.close()
    await this.#installing
    await this.#leave()
    if (this.#opened !== undefined) await closeStoreDirectory(this.#opened, this.#failure === undefined)
  }

  #readable(): StoreDirectory {
    if (this.#closing !== undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the store is closed')
    return this.#directory()
  }

  #known(): StoreIdentity {
    if (this.#identity === undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the store is not open')
    return this.#identity
  }

  #directory(): StoreDirectory {
    if (this.#opened === undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the store is not open')
    return this.#opened
  }
}

/** The voters as the recovered log has them: what is committed, or was founded, and what lies above. */
function configurationsOf(
  { voters }: Cluster,
  { configurations, commitIndex }: StoreDirectory,
): Configuration[] {
  const all = [
    { index: 0, voters },
    ...configurations.map(({ index, cluster }) => ({ index, voters: cluster.voters })),
  ]
  const first = all.findLastIndex(({ index }) => index <= commitIndex)
  return all.slice(first)
}

/** @throws FrameFault if it is no description of a cluster: the link to whoever sent it ends. */
function clusterIn(body: Buffer): Cluster {
  try {
    return parseCluster(decodeJsonFrame(body).cluster)
  } catch (error) {
    throw new FrameFault(`formation: ${error instanceof Error ? error.message : error}`)
  }
}

/** The time in front, since of two processes of one node the one that was started first is to stay. */
function newBootId({ clock, random }: StoreEnvironment): string {
  const startedAt = clock.wallMs().toString(36).padStart(10, '0')
  return `${startedAt}-${Buffer.from(random.bytes(6)).toString('hex')}`
}

import { writeBackup } from './backup/backup.ts'
import type { Consensus } from './consensus/consensus.ts'
import type { LogSource } from './copying/log-source.ts'
import { StoreError } from './errors.ts'
import type { Clock } from './io/clock.ts'
import { levelObstacle } from './level.ts'
import { type Membership, replaces } from './membership.ts'
import type { NodeIdentity } from './replication/handshake.ts'
import type {
  BackupReport,
  LevelRange,
  MemberReport,
  MembersReport,
  StoreAdministration,
} from './store-administration.ts'
import type { Cluster } from './store-identity.ts'
import type { MemberStatus, Position } from './store-status.ts'

export interface ClusterAdministrationParts {
  readonly clock: Clock
  readonly nodeId: string
  readonly core: Consensus
  readonly membership: Membership
  readonly cluster: () => Cluster
  readonly levels: LevelRange
  readonly connected: () => readonly NodeIdentity[]
  /** This node first. */
  readonly statuses: () => readonly MemberStatus[]
  readonly source: () => LogSource | undefined
  /** The last committed record, which ends a batch. */
  readonly committed: () => Position
  /** Begins to hand mastership over; resolves when the other is master. */
  readonly transfer: (nodeId: string | undefined) => Promise<string>
}

/** What an operator may ask of a store that belongs to a cluster. */
export class ClusterAdministration implements StoreAdministration {
  readonly #parts: ClusterAdministrationParts
  #backups = 0

  constructor(parts: ClusterAdministrationParts) {
    this.#parts = parts
  }

  members(): MembersReport {
    const { core, membership, cluster, connected } = this.#parts
    const { uuid, level } = cluster()
    const { voters } = core
    const statuses = this.#parts.statuses()
    const members: MemberReport[] = []
    for (const voter of voters) {
      const status = statuses.find(
        ({ nodeId, storeUuid }) => nodeId === voter.nodeId && storeUuid === voter.storeUuid,
      )
      const replaced = connected().some((peer) => replaces(peer, voter, connected()))
      members.push(this.#report(voter, status, replaced ? 'replaced' : 'voter'))
    }
    for (const status of statuses) {
      const { nodeId, storeUuid } = status
      if (nodeId === undefined || storeUuid === undefined) continue
      if (voters.some((voter) => voter.nodeId === nodeId && voter.storeUuid === storeUuid)) continue
      members.push(this.#report({ nodeId, storeUuid }, status, 'learner'))
    }
    return { clusterUuid: uuid, level, changeUnderWay: membership.changing, members }
  }

  async addMember(nodeId: string): Promise<void> {
    this.#checkMaster()
    await this.#parts.membership.add(nodeId, this.#parts.clock.monotonicMs())
  }

  async removeMember(nodeId: string): Promise<void> {
    this.#checkMaster()
    await this.#parts.membership.remove(nodeId, this.#parts.clock.monotonicMs())
  }

  async transfer(nodeId: string | undefined): Promise<{ readonly to: string }> {
    this.#checkMaster()
    return { to: await this.#parts.transfer(nodeId) }
  }

  async finaliseLevel(level: number): Promise<void> {
    this.#checkMaster()
    const { cluster, core, connected, levels, nodeId, membership, clock } = this.#parts
    const obstacle = levelObstacle(level, cluster().level, core.voters, (voter) =>
      voter.nodeId === nodeId ? levels : connected().find((peer) => peer.nodeId === voter.nodeId)?.levels,
    )
    if (obstacle !== undefined) {
      const change = `raising the level to ${level}`
      throw new StoreError({ code: 'STORE_CHANGE_REFUSED', change }, obstacle)
    }
    await membership.finalise(level, clock.monotonicMs())
  }

  async backup(write: (chunk: Uint8Array) => Promise<void>): Promise<BackupReport> {
    const { source, clock, cluster, committed } = this.#parts
    const log = source()
    if (log === undefined) throw new StoreError({ code: 'STORE_CLOSED' }, 'the store is not open')
    return await writeBackup(log, clock, `backup ${++this.#backups}`, cluster().uuid, committed(), write)
  }

  #report(
    {
      nodeId,
      storeUuid,
      name,
      address,
    }: { nodeId: string; storeUuid: string; name?: string; address?: string },
    status: MemberStatus | undefined,
    role: MemberReport['role'],
  ): MemberReport {
    const peer = this.#parts
      .connected()
      .find((each) => each.nodeId === nodeId && each.storeUuid === storeUuid)
    return {
      name: status?.name ?? name ?? nodeId,
      nodeId,
      storeUuid,
      address: status?.address ?? address,
      role,
      connected: status?.state === 'self' || peer !== undefined,
      position: status?.position,
      lag: status?.lag,
      levels: status?.state === 'self' ? this.#parts.levels : peer?.levels,
    }
  }

  #checkMaster(): void {
    if (!this.#parts.core.serving)
      throw new StoreError(
        { code: 'STORE_NOT_MASTER' },
        'this broker is not the master: only the master can do this',
      )
  }
}

import { MemoryIndex, VirtualClock } from '@levelmq/testkit'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { Applier } from '../../../src/applier.ts'
import { ClusterHistory } from '../../../src/cluster-history.ts'
import { syncPolicy } from '../../../src/consensus/sync-policy.ts'
import type { Log } from '../../../src/journal/log.ts'
import { Mastership } from '../../../src/mastership.ts'
import { GapWindow } from '../../../src/message-index/sequence-window.ts'
import { Replica } from '../../../src/replica.ts'

const cluster = { uuid: 'c', voters: [{ nodeId: 'a', storeUuid: 'a1' }], growing: false, level: 1 }

const megabyte = 2 ** 20

describe('group commit', () => {
  let rig: Rig

  beforeEach(async () => {
    rig = await Rig.leading()
  })

  test('one turn: its records are one batch, sealed at the end of the turn', () => {
    const sealed = rig.batches.length
    const queue = rig.session.addQueue('q')
    for (let count = 0; count < 10; count++) rig.add(queue, 10)
    expect(rig.batches).toHaveLength(sealed)
    rig.clock.advance(0)
    expect(rig.batches.slice(sealed)).toEqual([{ firstIndex: queue, lastIndex: queue + 10 }])
  })

  test('flush: seals at once while the disk is free', () => {
    const queue = rig.session.addQueue('q')
    rig.session.flush()
    expect(rig.batches.at(-1)?.lastIndex).toBe(queue)
  })

  test('busy disk: records gather, and are sealed when it is free', () => {
    const queue = rig.session.addQueue('q')
    rig.clock.advance(0)
    const last = rig.add(queue, 10)
    rig.clock.advance(0)
    expect(rig.batches.at(-1)?.lastIndex).toBe(queue)
    rig.sync()
    expect(rig.batches.at(-1)?.lastIndex).toBe(last)
  })

  test('size: messages of one turn that are too much for one batch make several, none too large to be read', async () => {
    const queue = rig.session.addQueue('q')
    const indices = Array.from({ length: 5 }, () => rig.add(queue, 15 * megabyte))
    rig.clock.advance(0)
    for (let count = 0; count < 5; count++) rig.sync()
    for (let turn = 0; turn < 20; turn++) await undefined
    expect(rig.largestBytes).toBeLessThan(33 * megabyte)
    expect(indices).toEqual([1, 2, 3, 4, 5].map((offset) => queue + offset))
    expect(rig.applied).toBe(indices.at(-1))
    expect(rig.failures).toEqual([])
  })

  test('room: ends at the bound, and is offered again when half of it is free', () => {
    const queue = rig.session.addQueue('q')
    rig.clock.advance(0)
    rig.add(queue, 2 * megabyte)
    expect(rig.session.hasRoom()).toBe(false)
    expect(rig.drained).toBe(0)
    rig.clock.advance(0)
    rig.sync()
    rig.sync()
    expect(rig.drained).toBe(1)
    expect(rig.session.hasRoom()).toBe(true)
  })

  test('room: ends while a checkpoint is written and the index is far behind, and is offered again after it', async () => {
    const pending = vi.spyOn(rig.index, 'pendingChanges', 'get').mockReturnValue(1_000_000)
    const checkpoint = Promise.withResolvers<void>()
    vi.spyOn(rig.index, 'checkpoint').mockReturnValue(checkpoint.promise)
    expect(rig.session.hasRoom()).toBe(true)
    rig.session.addQueue('q')
    rig.clock.advance(0)
    rig.sync()
    expect(rig.session.hasRoom()).toBe(false)
    rig.tick()
    expect(rig.drained).toBe(0)
    pending.mockReturnValue(0)
    checkpoint.resolve()
    await checkpoint.promise
    rig.tick()
    expect(rig.drained).toBe(1)
    expect(rig.session.hasRoom()).toBe(true)
  })
})

/** A replica that leads a cluster of one, on a log whose disk is synced by hand. */
class Rig {
  readonly clock = new VirtualClock()
  readonly index = new MemoryIndex({ maxProducers: 10, maxGaps: 10 })
  readonly batches: { firstIndex: number; lastIndex: number }[] = []
  readonly failures: Error[] = []
  largestBytes = 0
  drained = 0
  applied = 0
  readonly #bytes: Buffer[] = []
  #lastIndex = 0
  #durableIndex = 0
  #pendingBytes = 0
  #checksum = 0
  #replica!: Replica
  session!: Mastership

  static async leading(): Promise<Rig> {
    const rig = new Rig()
    rig.#start()
    rig.#replica.stand('startup')
    // The promise becomes durable.
    for (let turn = 0; turn < 5; turn++) await undefined
    rig.sync()
    return rig
  }

  add(queue: number, bytes: number): number {
    return this.session.addMessage(queue, 0, 0, Buffer.alloc(0), Buffer.alloc(bytes))
  }

  /** Everything that was handed to the disk is on it. */
  sync(): void {
    this.#durableIndex = this.#lastIndex
    this.#pendingBytes = 0
    this.#replica.durable(this.#durableIndex)
  }

  tick(): void {
    this.#replica.tick()
  }

  #start(): void {
    const rig = this
    const log = {
      space: 'enough',
      get lastIndex() {
        return rig.#lastIndex
      },
      get durableIndex() {
        return rig.#durableIndex
      },
      get pendingBytes() {
        return rig.#pendingBytes
      },
      get lastChecksum() {
        return rig.#checksum
      },
      lastTimeMs: 0,
      append(bytes: Buffer, firstIndex: number, lastIndex: number) {
        rig.batches.push({ firstIndex, lastIndex })
        rig.#bytes.push(bytes)
        rig.#lastIndex = lastIndex
        rig.#pendingBytes += bytes.length
        rig.#checksum = bytes.readUInt32LE(60)
        rig.largestBytes = Math.max(rig.largestBytes, bytes.length)
      },
      read: async (fromIndex: number) =>
        Buffer.concat(rig.#bytes.filter((_, place) => (rig.batches[place]?.lastIndex ?? 0) >= fromIndex)),
    } as unknown as Log
    const failed = (error: Error) => void this.failures.push(error)
    const applier = new Applier({
      log,
      index: this.index,
      clock: this.clock,
      flushDelayMs: 1000,
      checkpointed: () => undefined,
      applied: (index) => {
        this.applied = index
      },
      failed,
    })
    const nothing = () => undefined
    this.#replica = new Replica({
      log,
      applier,
      clusters: new ClusterHistory(cluster, []),
      clock: this.clock,
      roomBytes: megabyte,
      host: {
        send: nothing,
        writePromise: async () => undefined,
        configuration: () => JSON.stringify(cluster),
        roleChanged: nothing,
        serving: (epoch) => {
          this.session = new Mastership(epoch, {
            builder: this.#replica.builder,
            index: this.index,
            host: this.#replica,
            maxRecordBytes: 100 * megabyte,
            directory: 'store',
            newWindow: () => new GapWindow(10),
          })
        },
        deposed: nothing,
        confirmed: nothing,
        leaderLost: nothing,
        defeated: nothing,
        drained: () => {
          this.drained++
        },
        behind: nothing,
        handedOver: nothing,
        transferFailed: nothing,
        leaseRenewed: nothing,
        failed,
      },
      consensus: {
        nodeId: 'a',
        storeUuid: 'a1',
        configurations: [{ index: 0, voters: cluster.voters }],
        weight: 1,
        sync: syncPolicy('quorum_disk'),
        promise: { epoch: 0, votedFor: undefined },
        log: { firstIndex: 1, lastIndex: 0, commitIndex: 0, epochStarts: [] },
        electionTimeoutMs: 1000,
        leaseMs: 250,
        heartbeatMs: 50,
        maxFlyingBytes: megabyte,
      },
    })
  }
}

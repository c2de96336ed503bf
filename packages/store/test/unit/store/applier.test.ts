import { BatchChain, type BuiltBatch, MemoryIndex, VirtualClock } from '@levelmq/testkit'
import { beforeEach, describe, expect, test } from 'vitest'
import { Applier } from '../../../src/applier.ts'
import type { Log } from '../../../src/journal/log.ts'

const flushDelayMs = 1000

describe('applier', () => {
  let rig: Rig

  beforeEach(() => {
    rig = new Rig()
  })

  test('S15: what is kept is applied when it is committed, and not before', () => {
    rig.append(3)
    rig.append(2)
    expect(rig.index.appliedIndex).toBe(0)
    rig.applier.committed(3)
    expect([rig.index.appliedIndex, rig.applier.level]).toEqual([3, true])
    rig.applier.committed(5)
    expect(rig.applied).toEqual([3, 5])
    expect(rig.reads).toBe(0)
  })

  test('S15: with a commit in the middle of a piece nothing above it is applied', () => {
    rig.appendPiece(2, 2, 2)
    rig.applier.committed(4)
    expect(rig.index.appliedIndex).toBeLessThanOrEqual(4)
    rig.applier.committed(6)
    expect([rig.index.appliedIndex, rig.applier.level]).toEqual([6, true])
  })

  test('order: a commit index that is repeated or falls changes nothing', () => {
    rig.append(3)
    rig.applier.committed(3)
    rig.applier.committed(3)
    rig.applier.committed(1)
    expect(rig.applied).toEqual([3])
  })

  test('log: what was not kept is read back, in order, and only up to the commit index', async () => {
    rig.write(2)
    rig.write(2)
    rig.write(2)
    rig.applier.committed(4)
    expect(rig.applier.level).toBe(false)
    await rig.settled()
    expect([rig.index.appliedIndex, rig.applier.level]).toEqual([4, true])
    rig.applier.committed(6)
    await rig.settled()
    expect(rig.index.appliedIndex).toBe(6)
  })

  test('log: commits that come while it is read are applied as well, without a second reader', async () => {
    rig.write(1)
    rig.applier.committed(1)
    rig.append(1)
    rig.append(1)
    rig.applier.committed(2)
    rig.applier.committed(3)
    expect(rig.reads).toBe(1)
    await rig.settled()
    expect(rig.index.appliedIndex).toBe(3)
    expect(rig.applied.at(-1)).toBe(3)
  })

  test('memory: above its bound what is kept is dropped, and comes from the log', async () => {
    for (let count = 0; count < 9; count++) rig.append(1, 4 * 1024 * 1024)
    rig.append(1)
    rig.applier.committed(10)
    await rig.settled()
    expect(rig.index.appliedIndex).toBe(10)
    expect(rig.reads).toBeGreaterThan(0)
  })

  test('truncation: what was cut is not applied, what took its place is', async () => {
    rig.append(2)
    rig.append(2)
    rig.truncate(2)
    rig.append(3)
    rig.applier.committed(5)
    await rig.settled()
    expect(rig.index.appliedIndex).toBe(5)
    expect(rig.index.queues().map(({ id }) => id)).toEqual([1, 2, 3, 4, 5])
  })

  test('truncation: in the middle of a piece the part before it is read back', async () => {
    rig.appendPiece(2, 2)
    rig.applier.truncated(2)
    rig.applier.committed(2)
    await rig.settled()
    expect(rig.index.appliedIndex).toBe(2)
  })

  test('S7: a checkpoint waits until the own log has what is applied', () => {
    rig.append(2)
    rig.applier.committed(2)
    rig.clock.advance(flushDelayMs)
    expect(rig.index.statistics.checkpoints).toBe(0)
    rig.durable(1)
    expect(rig.index.statistics.checkpoints).toBe(0)
    rig.durable(2)
    expect(rig.index.statistics.checkpoints).toBe(1)
  })

  test('checkpoint: one after flushDelay, and none while nothing changes', async () => {
    rig.append(2)
    rig.durable(2)
    rig.applier.committed(2)
    await rig.clock.run(flushDelayMs - 1)
    expect(rig.index.statistics.checkpoints).toBe(0)
    await rig.clock.run(1)
    expect(rig.index.statistics.checkpoints).toBe(1)
    await rig.clock.run(10 * flushDelayMs)
    expect(rig.index.statistics.checkpoints).toBe(1)
    expect(rig.clock.pendingTimers).toBe(0)
  })

  test('S7: close writes a last checkpoint only if the log has it all', async () => {
    rig.append(2)
    rig.applier.committed(2)
    await rig.applier.close()
    expect(rig.index.statistics.checkpoints).toBe(0)

    const durable = new Rig()
    durable.append(2)
    durable.durable(2)
    durable.applier.committed(2)
    await durable.applier.close()
    expect(durable.index.statistics.checkpoints).toBe(1)
    expect(durable.clock.pendingTimers).toBe(0)
  })

  test('close: a read that ends behind it applies nothing and reports nothing', async () => {
    rig.write(2)
    rig.applier.committed(2)
    await rig.applier.close()
    await rig.settled()
    expect([rig.index.appliedIndex, rig.applied, rig.failures]).toEqual([0, [], []])
  })

  test('S29: a failure surfaces once, and nothing is applied or checkpointed behind it', async () => {
    rig.failReads = true
    rig.write(2)
    rig.applier.committed(2)
    await rig.settled()
    rig.append(1)
    rig.applier.committed(3)
    await rig.settled()
    await rig.clock.run(5 * flushDelayMs)
    expect(rig.failures).toEqual(['cannot read'])
    expect([rig.index.appliedIndex, rig.index.statistics.checkpoints]).toEqual([0, 0])
  })

  test('S36: a record that cannot be read fails once, and is never skipped', async () => {
    rig.append(1)
    // Of a queue that does not exist.
    rig.appendRecords({ kind: 'messageAdded', queue: 77, envelope: 1 })
    rig.append(1)
    rig.applier.committed(2)
    rig.applier.committed(3)
    await rig.settled()
    expect(rig.failures).toHaveLength(1)
    expect(rig.index.appliedIndex).toBe(1)
  })

  test('S29: a checkpoint that fails is reported once', async () => {
    rig.index.checkpoint = () => Promise.reject(new Error('disk full'))
    for (let count = 1; count <= 3; count++) {
      rig.append(1)
      rig.durable(count)
      rig.applier.committed(count)
      await rig.clock.run(flushDelayMs)
    }
    expect(rig.failures).toEqual(['disk full'])
  })
})

/** An applier over a memory index and a log in memory that answers a microtask later. */
class Rig {
  readonly index = new MemoryIndex({ maxProducers: 10, maxGaps: 10 })
  readonly clock = new VirtualClock()
  readonly applied: number[] = []
  readonly failures: string[] = []
  reads = 0
  failReads = false
  #durableIndex = 0
  #batches: BuiltBatch[] = []
  #chain = new BatchChain()
  readonly applier: Applier

  constructor() {
    const rig = this
    const log = {
      get durableIndex() {
        return rig.#durableIndex
      },
      read: async (fromIndex: number) => {
        rig.reads++
        await undefined
        if (rig.failReads) throw new Error('cannot read')
        return Buffer.concat(
          rig.#batches.filter(({ lastIndex }) => lastIndex >= fromIndex).map(({ bytes }) => bytes),
        )
      },
    }
    this.applier = new Applier({
      log: log as unknown as Log,
      index: this.index,
      clock: this.clock,
      flushDelayMs,
      applied: (index) => this.applied.push(index),
      checkpointed: () => undefined,
      failed: (error) => this.failures.push(error.message),
    })
  }

  /** A batch in the log that is not kept. */
  write(records: number, bytes = 1): BuiltBatch {
    const batch = this.#chain.next(
      ...Array.from({ length: records }, () => ({ kind: 'queueAdded' as const, name: 'x'.repeat(bytes) })),
    )
    this.#batches.push(batch)
    return batch
  }

  append(records: number, bytes?: number): void {
    const batch = this.write(records, bytes)
    this.applier.keep(batch.bytes, batch.firstIndex, batch.lastIndex)
  }

  appendRecords(...records: Parameters<BatchChain['next']>): void {
    const batch = this.#chain.next(...records)
    this.#batches.push(batch)
    this.applier.keep(batch.bytes, batch.firstIndex, batch.lastIndex)
  }

  /** Several batches that came at once, as from a master. */
  appendPiece(...records: number[]): void {
    const batches = records.map((count) => this.write(count))
    const [first, last] = [batches[0], batches.at(-1)] as [BuiltBatch, BuiltBatch]
    const bytes = Buffer.concat(batches.map((batch) => batch.bytes))
    this.applier.keep(bytes, first.firstIndex, last.lastIndex)
  }

  truncate(index: number): void {
    this.#batches = this.#batches.filter(({ lastIndex }) => lastIndex <= index)
    this.#chain = new BatchChain(index)
    this.applier.truncated(index)
  }

  durable(index: number): void {
    this.#durableIndex = index
    this.applier.durable()
  }

  async settled(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await undefined
  }
}

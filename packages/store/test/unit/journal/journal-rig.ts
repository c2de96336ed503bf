import { buildBatch, SeededRandom, VirtualDisk } from '@levelmq/testkit'
import { decodeBatchHeader, lastIndexOf } from '../../../src/journal/batch.ts'
import type { Damage } from '../../../src/journal/damage.ts'
import {
  type Journal,
  type JournalOptions,
  type OpenedJournal,
  openJournal,
} from '../../../src/journal/journal.ts'
import type { LogListener } from '../../../src/journal/log.ts'

export const directory = '/data/journal'

/** What a journal told its owner. */
export class Ear implements LogListener {
  readonly writtenIndices: number[] = []
  readonly durableIndices: number[] = []
  readonly failures: Error[] = []
  readonly spaces: string[] = []
  readonly damages: Damage[] = []
  #waiting: { readonly index: number; readonly done: () => void }[] = []
  #failureHeard: (() => void) | undefined

  written(index: number): void {
    this.writtenIndices.push(index)
  }

  durable(index: number): void {
    this.durableIndices.push(index)
    for (const one of this.#waiting) if (one.index <= index) one.done()
    this.#waiting = this.#waiting.filter((one) => one.index > index)
  }

  damaged(damage: Damage): void {
    this.damages.push(damage)
  }

  spaceChanged(space: 'enough' | 'low'): void {
    this.spaces.push(space)
  }

  failed(error: Error): void {
    this.failures.push(error)
    this.#failureHeard?.()
  }

  /** Settles once records up to `index` are reported durable. */
  hearsDurable(index: number): Promise<void> {
    if ((this.durableIndices.at(-1) ?? 0) >= index) return Promise.resolve()
    return new Promise((done) => this.#waiting.push({ index, done }))
  }

  hearsFailure(): Promise<void> {
    if (this.failures.length > 0) return Promise.resolve()
    return new Promise((heard) => {
      this.#failureHeard = heard
    })
  }
}

export interface Batch {
  readonly bytes: Buffer
  readonly firstIndex: number
  readonly lastIndex: number
}

export interface BatchShape {
  readonly bytes?: number
  readonly records?: number
  readonly epoch?: number
  readonly commitIndex?: number
}

/** The batch that goes on where `log` ends, with one message of `bytes` bytes in each record. */
export function nextBatch(
  log: Pick<Journal, 'lastIndex' | 'lastChecksum' | 'lastEpoch'>,
  shape: BatchShape = {},
): Batch {
  const { bytes = 100, records = 1, epoch = Math.max(1, log.lastEpoch), commitIndex = 0 } = shape
  const filler = Buffer.alloc(bytes, `${log.lastIndex + 1} `)
  return buildBatch(
    Array.from({ length: records }, () => ({ kind: 'messageAdded' as const, queue: 1, envelope: filler })),
    {
      epoch,
      firstIndex: log.lastIndex + 1,
      previousChecksum: log.lastChecksum,
      commitIndex,
      logTimeMs: 1000,
    },
  )
}

/** Appends a batch and returns it. */
export function appendTo(log: Journal, shape: BatchShape = {}): Batch {
  const batch = nextBatch(log, shape)
  log.append(batch.bytes, batch.firstIndex, batch.lastIndex)
  return batch
}

export function newDisk(seed = 1): VirtualDisk {
  return new VirtualDisk(new SeededRandom(seed))
}

export async function open(
  disk: JournalOptions['disk'],
  options: Partial<JournalOptions> = {},
): Promise<OpenedJournal & { readonly ear: Ear }> {
  const ear = new Ear()
  const defaults = { disk, directory, segmentBytes: 4096, verifiedTo: 0, epochStarts: [], listener: ear }
  const opened = await openJournal({ ...defaults, ...options })
  // The spare segment is made.
  await settle()
  return { ...opened, ear }
}

/** Appends batches one at a time, each made durable in a group of its own. */
export async function appendDurably(log: Journal, ear: Ear, count: number, bytes = 100): Promise<Batch[]> {
  const batches: Batch[] = []
  for (let made = 0; made < count; made++) {
    const batch = appendTo(log, { bytes })
    await ear.hearsDurable(batch.lastIndex)
    batches.push(batch)
  }
  return batches
}

/** The batches that a journal holds, read one by one. */
export async function everyBatch(log: Journal): Promise<Buffer[]> {
  const batches: Buffer[] = []
  for (let index = log.firstIndex; index <= log.lastIndex; ) {
    const batch = await log.batchWith(index)
    const header = decodeBatchHeader(batch, 0)
    if (typeof header === 'string') throw new Error(`read no batch at ${index}: ${header}`)
    batches.push(batch)
    index = lastIndexOf(header) + 1
  }
  return batches
}

/** Lets everything that can go on without an event from outside go on: the virtual disk needs no timers. */
export async function settle(): Promise<void> {
  await new Promise((done) => setImmediate(done))
}

import type { ClassicLevel } from 'classic-level'
import { readUint53 } from '../journal/integer.ts'
import type { EpochStart } from '../journal/log.ts'
import { chainIntact } from './checkpoint-chain.ts'
import type { FoldContent } from './fold.ts'
import {
  configurationKey,
  damagedKey,
  formatKey,
  indexFormatVersion,
  keyNumber,
  messagesStart,
  positionKey,
  RowFault,
  RowKind,
  rebuildingKey,
  strayKey,
} from './keys.ts'
import { LiveBytes } from './live-bytes.ts'

const rowsPerRead = 1000

/** What a database holds besides the messages, and the number of its last checkpoint. */
export interface StoredContent extends FoldContent {
  readonly checkpoint: number
  readonly live: LiveBytes
  /** Ids of removed queues that still have messages in the database. */
  readonly removedQueues: readonly number[]
}

/**
 * Reads and checks everything but the messages.
 *
 * @throws {@link RowFault} or RangeError if the database is not one that can be continued.
 */
export async function readContent(db: ClassicLevel<Buffer, Buffer>): Promise<StoredContent> {
  const reader = new ContentReader()
  const rows = db.iterator({ lt: messagesStart, highWaterMarkBytes: 1024 * 1024 })
  try {
    for (;;) {
      const some = await rows.nextv(rowsPerRead)
      if (some.length === 0) break
      for (const [key, value] of some) reader.row(key, value)
    }
  } finally {
    await rows.close()
  }
  if (reader.isBlank && (await db.keys({ gte: messagesStart, limit: 1 }).all()).length > 0) {
    throw new RowFault('messages without a position')
  }
  return reader.content()
}

/** Number of the last checkpoint; 0 for none. */
export async function lastCheckpointIn(db: ClassicLevel<Buffer, Buffer>): Promise<number> {
  const value = await db.get(positionKey)
  return value === undefined ? 0 : readUint53(value, 8)
}

class ContentReader {
  readonly #facts = new Map<number, Buffer>()
  readonly #epochStarts: EpochStart[] = []
  readonly #queues: { id: number; name: string; count: number; lowMark: number; statedAt: number }[] = []
  readonly #producers: { id: number; value: Buffer }[] = []
  readonly #stamps = new Map<number, number>()
  readonly #live = new LiveBytes()
  readonly #removedQueues: number[] = []
  #rows = 0

  get isBlank(): boolean {
    return this.#rows === 0
  }

  row(key: Buffer, value: Buffer): void {
    this.#rows++
    // Facts come first: what follows them is only understood if it is of this format.
    if (key[0] !== RowKind.fact) this.#checkFormat()
    switch (key[0]) {
      case RowKind.fact:
        this.#facts.set(key.readUInt8(1), value)
        return
      case RowKind.epochStart:
        this.#epochStarts.push({ index: keyNumber(key), epoch: readUint53(value, 0) })
        return
      case RowKind.queue:
        this.#queues.push({
          id: keyNumber(key),
          count: readUint53(value, 0),
          lowMark: readUint53(value, 8),
          statedAt: readUint53(value, 16),
          name: value.toString('utf8', 24),
        })
        return
      case RowKind.producer:
        this.#producers.push({ id: keyNumber(key), value })
        return
      case RowKind.stamp:
        this.#stamps.set(key.readUInt16BE(1), readUint53(value, 0))
        return
      case RowKind.liveBytes:
        this.#live.setBucket(keyNumber(key), readUint53(value, 0))
        return
      case RowKind.removedQueue:
        this.#removedQueues.push(keyNumber(key))
        return
      default:
        throw new RowFault(`unknown row of kind ${key[0]}`)
    }
  }

  content(): StoredContent {
    const position = this.isBlank ? { position: 0, checkpoint: 0 } : this.#checkedPosition()
    const configuration = this.#facts.get(configurationKey.readUInt8(1))
    const stray = this.#facts.get(strayKey.readUInt8(1))
    return {
      ...position,
      epochStarts: this.#epochStarts,
      configuration: configuration && {
        index: readUint53(configuration, 0),
        json: configuration.toString('utf8', 8),
      },
      queues: this.#queues,
      producers: this.#producers,
      strayAt: stray === undefined ? 0 : readUint53(stray, 0),
      live: this.#live,
      removedQueues: this.#removedQueues,
    }
  }

  #checkedPosition(): { position: number; checkpoint: number } {
    const damage = this.#facts.get(damagedKey.readUInt8(1))
    if (damage !== undefined) throw new RowFault(`found damaged before: ${damage.toString()}`)
    this.#checkFormat()
    if (this.#facts.has(rebuildingKey.readUInt8(1))) throw new RowFault('it was left before it was rebuilt')
    const value = this.#facts.get(positionKey.readUInt8(1))
    if (value === undefined) throw new RowFault('no position')
    const checkpoint = readUint53(value, 8)
    if (!chainIntact(checkpoint, this.#stamps)) {
      throw new RowFault(`a checkpoint before number ${checkpoint} is missing`)
    }
    return { position: readUint53(value, 0), checkpoint }
  }

  #checkFormat(): void {
    const format = this.#facts.get(formatKey.readUInt8(1))?.readUInt32LE(0)
    if (format !== indexFormatVersion)
      throw new RowFault(`format version ${format}, not ${indexFormatVersion}`)
  }
}

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
} from './keys.ts'

const rowsPerRead = 1000

/** What a database holds besides the messages, and the number of its last checkpoint. */
export interface StoredContent extends FoldContent {
  readonly checkpoint: number
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

class ContentReader {
  readonly #facts = new Map<number, Buffer>()
  readonly #epochStarts: EpochStart[] = []
  readonly #queues: { id: number; name: string; count: number; lowMark: number }[] = []
  readonly #producers: { id: number; value: Buffer }[] = []
  readonly #stamps = new Map<number, number>()
  #rows = 0

  get isBlank(): boolean {
    return this.#rows === 0
  }

  row(key: Buffer, value: Buffer): void {
    this.#rows++
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
          name: value.toString('utf8', 16),
        })
        return
      case RowKind.producer:
        this.#producers.push({ id: keyNumber(key), value })
        return
      case RowKind.stamp:
        this.#stamps.set(key.readUInt16BE(1), readUint53(value, 0))
        return
      default:
        throw new RowFault(`unknown row of kind ${key[0]}`)
    }
  }

  content(): StoredContent {
    const position = this.isBlank ? { position: 0, checkpoint: 0 } : this.#checkedPosition()
    const configuration = this.#facts.get(configurationKey.readUInt8(1))
    return {
      ...position,
      epochStarts: this.#epochStarts,
      configuration: configuration && {
        index: readUint53(configuration, 0),
        json: configuration.toString('utf8', 8),
      },
      queues: this.#queues,
      producers: this.#producers,
    }
  }

  #checkedPosition(): { position: number; checkpoint: number } {
    const damage = this.#facts.get(damagedKey.readUInt8(1))
    if (damage !== undefined) throw new RowFault(`found damaged before: ${damage.toString()}`)
    const format = this.#facts.get(formatKey.readUInt8(1))?.readUInt32LE(0)
    if (format !== indexFormatVersion)
      throw new RowFault(`format version ${format}, not ${indexFormatVersion}`)
    const value = this.#facts.get(positionKey.readUInt8(1))
    if (value === undefined) throw new RowFault('no position')
    const checkpoint = readUint53(value, 8)
    if (!chainIntact(checkpoint, this.#stamps)) {
      throw new RowFault(`a checkpoint before number ${checkpoint} is missing`)
    }
    return { position: readUint53(value, 0), checkpoint }
  }
}

import { StoreError } from './errors.ts'
import { batchHeaderBytes, decodeBatchHeader, lastIndexOf } from './journal/batch.ts'
import type { Log } from './journal/log.ts'
import {
  keptMessageHeaderBytes,
  messageHeaderBytes,
  RecordKind,
  recordHeaderBytes,
} from './journal/record.ts'
import type { MessageIndex } from './message-index/message-index.ts'

/** Bytes of batches kept from one call to the next, the newest in any case: pages of a deep queue end inside one. */
const maxKeptBytes: number = 16 * 1024 * 1024

/** A batch that is being read, with the place where the last reading of it stopped. */
interface OpenBatch {
  readonly bytes: Buffer
  readonly firstIndex: number
  readonly lastIndex: number
  nextIndex: number
  nextOffset: number
}

/**
 * Reads envelopes of messages back from the log. Rising indices walk each batch once.
 *
 * A message is read at the record that added it as long as the log has that. Below the beginning of the log are only
 * messages that were kept, by a later record: the index knows by which.
 */
export class MessageReader {
  readonly #log: Log
  readonly #index: MessageIndex
  #batches: OpenBatch[] = []

  constructor(log: Log, index: MessageIndex) {
    this.#log = log
    this.#index = index
  }

  /** @throws StoreError `STORE_CORRUPT`; `STORE_LOG_GONE` if a message lives no longer; as `MessageIndex.locate`. */
  async read(queue: number, indices: readonly number[]): Promise<Buffer[]> {
    const { firstIndex } = this.#log
    const below = indices.filter((index) => index < firstIndex)
    const locations = below.length === 0 ? [] : await this.#locate(queue, below)
    const envelopes: Buffer[] = []
    let next = 0
    for (const index of indices) {
      const location = index < firstIndex ? (locations[next++] as number) : index
      envelopes.push(await this.#readAt(queue, index, location))
    }
    return envelopes
  }

  async #readAt(queue: number, index: number, location: number): Promise<Buffer> {
    try {
      return envelopeIn(this.#opened(location) ?? (await this.#open(location)), index, location)
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'STORE_LOG_GONE')) throw error
      // What was there may have been deleted meanwhile, because the message was kept further on.
      const [newer] = await this.#locate(queue, [index])
      if (newer === undefined || newer <= location) throw error
      return await this.#readAt(queue, index, newer)
    }
  }

  async #locate(queue: number, indices: readonly number[]): Promise<number[]> {
    const located = await this.#index.locate(queue, indices)
    return located.map((message, place) => {
      if (message !== undefined) return message.location
      const index = indices[place] as number
      throw new StoreError(
        { code: 'STORE_LOG_GONE', index },
        `message ${index} of queue ${queue} no longer lives`,
      )
    })
  }

  #opened(index: number): OpenBatch | undefined {
    return this.#batches.find((batch) => batch.firstIndex <= index && index <= batch.lastIndex)
  }

  async #open(index: number): Promise<OpenBatch> {
    const bytes = await this.#log.batchWith(index)
    const header = decodeBatchHeader(bytes, 0)
    if (typeof header === 'string') throw new Error(`a verified batch has a wrong ${header}`)
    const { firstIndex } = header
    const batch = {
      bytes,
      firstIndex,
      lastIndex: lastIndexOf(header),
      nextIndex: firstIndex,
      nextOffset: batchHeaderBytes,
    }
    let room = maxKeptBytes - bytes.length
    const kept = this.#batches.filter((each) => {
      room -= each.bytes.length
      return room >= 0
    })
    this.#batches = [batch, ...kept]
    return batch
  }
}

/** @param location - The index itself, or the record that kept the message. */
function envelopeIn(batch: OpenBatch, index: number, location: number): Buffer {
  const { bytes } = batch
  if (location < batch.nextIndex) {
    batch.nextIndex = batch.firstIndex
    batch.nextOffset = batchHeaderBytes
  }
  while (batch.nextIndex < location) {
    batch.nextOffset += recordHeaderBytes + bytes.readUInt32LE(batch.nextOffset)
    batch.nextIndex++
  }
  const at = batch.nextOffset
  const body = at + recordHeaderBytes
  const isKept = location !== index
  if (bytes.readUInt8(at + 4) !== (isKept ? RecordKind.messageKept : RecordKind.messageAdded)) {
    throw new StoreError({ code: 'STORE_LOG_GONE', index }, `record ${location} is no message ${index}`)
  }
  const header = isKept ? keptMessageHeaderBytes : messageHeaderBytes
  return bytes.subarray(body + header, body + bytes.readUInt32LE(at))
}

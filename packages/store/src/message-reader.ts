import { StoreError } from './errors.ts'
import { batchHeaderBytes, decodeBatchHeader, lastIndexOf } from './journal/batch.ts'
import type { Log } from './journal/log.ts'
import { messageHeaderBytes, RecordKind, recordHeaderBytes } from './journal/record.ts'

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

/** Reads envelopes back from the log. Rising indices walk each batch once. */
export class MessageReader {
  readonly #log: Log
  #batches: OpenBatch[] = []

  constructor(log: Log) {
    this.#log = log
  }

  /** @throws StoreError `STORE_CORRUPT` or `STORE_LOG_GONE`. */
  async read(indices: readonly number[]): Promise<Buffer[]> {
    const envelopes: Buffer[] = []
    for (const index of indices) {
      const batch = this.#opened(index) ?? (await this.#open(index))
      envelopes.push(envelopeIn(batch, index))
    }
    return envelopes
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

function envelopeIn(batch: OpenBatch, index: number): Buffer {
  const { bytes } = batch
  if (index < batch.nextIndex) {
    batch.nextIndex = batch.firstIndex
    batch.nextOffset = batchHeaderBytes
  }
  while (batch.nextIndex < index) {
    batch.nextOffset += recordHeaderBytes + bytes.readUInt32LE(batch.nextOffset)
    batch.nextIndex++
  }
  const at = batch.nextOffset
  if (bytes.readUInt8(at + 4) !== RecordKind.messageAdded) {
    throw new StoreError({ code: 'STORE_LOG_GONE', index }, `record ${index} is no message`)
  }
  const body = at + recordHeaderBytes
  return bytes.subarray(body + messageHeaderBytes, body + bytes.readUInt32LE(at))
}

import { batchHeaderBytes, sealBatch } from './batch.ts'
import { writeUint53 } from './integer.ts'
import { keptMessageHeaderBytes, RecordKind, recordHeaderBytes } from './record.ts'

const initialBytes: number = 64 * 1024
/** The largest buffer that is kept for the next batch. */
const maxIdleBytes: number = 1024 * 1024

/**
 * The batch that is being filled: records are encoded straight into the bytes that will be written and sent.
 *
 * Nothing is allocated per record; the buffer grows by doubling. A sealed batch has its bytes to itself, since it is
 * still being written, sent and read: a large one takes the buffer with it, a small one is copied out of it.
 */
export class BatchBuilder {
  #buffer: Buffer = Buffer.allocUnsafeSlow(initialBytes)
  #end: number = batchHeaderBytes
  #count = 0
  #holdsConfiguration = false

  /** Records so far. */
  get count(): number {
    return this.#count
  }
  /** Bytes so far, header included. */
  get bytes(): number {
    return this.#end
  }

  message(queue: number, producer: number, sequence: number, head: Uint8Array, body: Uint8Array): void {
    const at = this.#record(RecordKind.messageAdded, 24 + head.length + body.length)
    writeUint53(this.#buffer, queue, at)
    writeUint53(this.#buffer, producer, at + 8)
    writeUint53(this.#buffer, sequence, at + 16)
    this.#buffer.set(head, at + 24)
    this.#buffer.set(body, at + 24 + head.length)
  }

  removals(queue: number, indices: readonly number[]): void {
    let at = this.#record(RecordKind.messagesRemoved, 8 + 8 * indices.length)
    writeUint53(this.#buffer, queue, at)
    for (const index of indices) {
      at += 8
      writeUint53(this.#buffer, index, at)
    }
  }

  redelivery(queue: number, indices: readonly number[], count: number): void {
    let at = this.#record(RecordKind.redeliveryCounted, 12 + 8 * indices.length)
    writeUint53(this.#buffer, queue, at)
    this.#buffer.writeUInt32LE(count, at + 8)
    at += 12
    for (const index of indices) {
      writeUint53(this.#buffer, index, at)
      at += 8
    }
  }

  queueKept(queue: number, name: string): void {
    const length = Buffer.byteLength(name)
    const at = this.#record(RecordKind.queueKept, 8 + length)
    writeUint53(this.#buffer, queue, at)
    this.#buffer.write(name, at + 8, length, 'utf8')
  }

  /** @param window - As `GapWindow.encode` writes it. */
  producerKept(producer: number, lastUsed: number, id: string, window: Uint8Array): void {
    const length = Buffer.byteLength(id)
    const at = this.#record(RecordKind.producerKept, 18 + length + window.length)
    writeUint53(this.#buffer, producer, at)
    writeUint53(this.#buffer, lastUsed, at + 8)
    this.#buffer.writeUInt16LE(length, at + 16)
    this.#buffer.write(id, at + 18, length, 'utf8')
    this.#buffer.set(window, at + 18 + length)
  }

  messageKept(queue: number, message: number, redeliveryCount: number, envelope: Uint8Array): void {
    const at = this.#record(RecordKind.messageKept, keptMessageHeaderBytes + envelope.length)
    writeUint53(this.#buffer, queue, at)
    writeUint53(this.#buffer, message, at + 8)
    this.#buffer.writeUInt32LE(redeliveryCount, at + 16)
    this.#buffer.set(envelope, at + keptMessageHeaderBytes)
  }

  queueRemoved(queue: number): void {
    const at = this.#record(RecordKind.queueRemoved, 8)
    writeUint53(this.#buffer, queue, at)
  }

  text(kind: RecordKind, text: string): void {
    const length = Buffer.byteLength(text)
    const at = this.#record(kind, length)
    this.#buffer.write(text, at, length, 'utf8')
  }

  /** Seals what was gathered and starts anew. At least one record must be there. */
  seal(header: {
    readonly epoch: number
    readonly firstIndex: number
    readonly logTimeMs: number
    readonly commitIndex: number
    readonly previousChecksum: number
  }): Buffer {
    const batch = this.#takeBytes()
    sealBatch(batch, { ...header, count: this.#count, holdsConfiguration: this.#holdsConfiguration })
    this.clear()
    return batch
  }

  /** Drops what was gathered: nobody has seen it. */
  clear(): void {
    this.#end = batchHeaderBytes
    this.#count = 0
    this.#holdsConfiguration = false
  }

  /** The bytes so far, in memory of their own that is little larger than they are: the log keeps them for a while. */
  #takeBytes(): Buffer {
    const filled = this.#buffer.subarray(0, this.#end)
    if (this.#end < this.#buffer.length / 2) {
      const copy = Buffer.allocUnsafeSlow(this.#end)
      filled.copy(copy)
      if (this.#buffer.length > maxIdleBytes) this.#buffer = Buffer.allocUnsafeSlow(initialBytes)
      return copy
    }
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(initialBytes, Math.min(this.#end, maxIdleBytes)))
    return filled
  }

  /** Makes room for a record and writes its header; returns where the body goes. */
  #record(kind: RecordKind, length: number): number {
    const at = this.#end + recordHeaderBytes
    const end = at + length
    if (end > this.#buffer.length) this.#grow(end)
    this.#buffer.writeUInt32LE(length, this.#end)
    this.#buffer.writeUInt8(kind, this.#end + 4)
    this.#end = end
    this.#count++
    this.#holdsConfiguration ||= kind === RecordKind.configuration
    return at
  }

  #grow(bytes: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#buffer.length))
    this.#buffer.copy(larger, 0, 0, this.#end)
    this.#buffer = larger
  }
}

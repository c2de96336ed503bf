import { readUint53, writeUint53 } from '../journal/integer.ts'

/**
 * Rows of the index's LevelDB database. The first byte of a key is its kind; numbers in keys are big-endian, so that
 * the order of the bytes is the order of the numbers. Numbers in values are little-endian.
 *
 * | kind | rest of the key | value |
 * |---|---|---|
 * | 0 fact | 0 format | format version (4) |
 * | 0 fact | 1 position | last record applied (8), number of this checkpoint (8) |
 * | 0 fact | 2 configuration | index of its record (8), JSON |
 * | 0 fact | 3 damaged | why the database must be rebuilt (UTF-8); not there in good times |
 * | 0 fact | 4 rebuilding | first record of the log that it is being rebuilt from (8); not there once that is done |
 * | 0 fact | 5 stray | last stray record (8): see `fold.ts`; not there if there was none |
 * | 1 epoch start | index (8) | epoch (8) |
 * | 2 queue | id (8) | messages (8), low mark (8), record that last stated it (8), name |
 * | 3 producer | id (8) | last record that used it (8), record that last stated it (8), window (`sequence-window.ts`), the producer's own id |
 * | 4 stamp | slot (2) | number of the checkpoint (8): see `checkpoint-chain.ts` |
 * | 5 live bytes | bucket of records (8) | bytes of live messages in it (8): see `live-bytes.ts`; none if there are none |
 * | 6 removed queue | id (8) | nothing: messages of this queue are still there, and are to be deleted |
 * | 7 message | queue (8), index (8) | index (8), envelope's bytes (4), redeliveries (4), location (8) if it is not the index, check (4) |
 *
 * A message's value repeats its index, so that a page is read from values alone: half the objects that cross from
 * LevelDB. The check ties value and queue together; LevelDB as bound here does not verify the checksums of its blocks.
 */
export const RowKind = {
  fact: 0,
  epochStart: 1,
  queue: 2,
  producer: 3,
  stamp: 4,
  liveBytes: 5,
  removedQueue: 6,
  message: 7,
} as const

/** Raised whenever older code would misread what newer code wrote: the index is then built anew from the log. */
export const indexFormatVersion = 2

export const formatKey: Buffer = Buffer.from([RowKind.fact, 0])
export const positionKey: Buffer = Buffer.from([RowKind.fact, 1])
export const configurationKey: Buffer = Buffer.from([RowKind.fact, 2])
export const damagedKey: Buffer = Buffer.from([RowKind.fact, 3])
export const rebuildingKey: Buffer = Buffer.from([RowKind.fact, 4])
export const strayKey: Buffer = Buffer.from([RowKind.fact, 5])
/** Every row that is read on opening lies below it: all but the messages. */
export const messagesStart: Buffer = Buffer.from([RowKind.message])

export const messageKeyBytes = 17
/** Of a message that is where its index says. */
export const messageValueBytes = 20
/** Of one that was kept, with its location. */
export const keptMessageValueBytes = 28

/** A row whose bytes do not follow the table above. */
export class RowFault extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'RowFault'
  }
}

function writeOrdered(into: Buffer, value: number, at: number): void {
  into.writeUInt32BE(Math.floor(value / 2 ** 32), at)
  into.writeUInt32BE(value % 2 ** 32, at + 4)
}

/** Key of an epoch start, queue, producer, bucket of live bytes or removed queue. */
export function numberedKey(kind: number, id: number): Buffer {
  const key = Buffer.allocUnsafe(9)
  key[0] = kind
  writeOrdered(key, id, 1)
  return key
}

/** The number in a key from {@link numberedKey}. */
export function keyNumber(key: Buffer): number {
  if (key.length !== 9) throw new RowFault(`key of ${key.length} bytes`)
  return key.readUInt32BE(1) * 2 ** 32 + key.readUInt32BE(5)
}

export function stampKey(slot: number): Buffer {
  return Buffer.from([RowKind.stamp, slot >>> 8, slot & 0xff])
}

/** Writes a message's key into `into`, which has room for `messageKeyBytes`, and returns it. */
export function writeMessageKey(into: Buffer, queue: number, index: number): Buffer {
  into[0] = RowKind.message
  writeOrdered(into, queue, 1)
  writeOrdered(into, index, 9)
  return into
}

export function messageKey(queue: number, index: number): Buffer {
  return writeMessageKey(Buffer.allocUnsafe(messageKeyBytes), queue, index)
}

/**
 * Writes a message's value into `into`, and returns it. `into` is as long as the value: `messageValueBytes`, or
 * `keptMessageValueBytes` if `location` is not `index`.
 */
export function writeMessageValue(
  into: Buffer,
  queue: number,
  index: number,
  bytes: number,
  redeliveries: number,
  location: number,
): Buffer {
  writeUint53(into, index, 0)
  into.writeUInt32LE(bytes, 8)
  into.writeUInt32LE(redeliveries, 12)
  if (location !== index) writeUint53(into, location, 16)
  into.writeUInt32LE(checkOf(queue, into), into.length - 4)
  return into
}

/** Index in a message's value. @throws {@link RowFault} if the value is not one that was written for `queue`. */
export function messageIndexIn(value: Buffer, queue: number): number {
  const isLength = value.length === messageValueBytes || value.length === keptMessageValueBytes
  if (!isLength || checkOf(queue, value) !== value.readUInt32LE(value.length - 4)) {
    throw new RowFault(`an entry of queue ${queue} fails its check`)
  }
  return readUint53(value, 0)
}

export function messageBytesIn(value: Buffer): number {
  return value.readUInt32LE(8)
}

export function redeliveriesIn(value: Buffer): number {
  return value.readUInt32LE(12)
}

export function locationIn(value: Buffer): number {
  return readUint53(value, value.length === keptMessageValueBytes ? 16 : 0)
}

/** 32 bits that depend on every bit of the queue's id and of the value before the check (the mixer of MurmurHash3). */
function checkOf(queue: number, value: Buffer): number {
  let check = mix(0x4c4d5149, queue % 2 ** 32)
  check = mix(check, Math.floor(queue / 2 ** 32))
  for (let at = 0; at < value.length - 4; at += 4) check = mix(check, value.readUInt32LE(at))
  check = Math.imul(check ^ (check >>> 16), 0x85ebca6b)
  check = Math.imul(check ^ (check >>> 13), 0xc2b2ae35)
  return (check ^ (check >>> 16)) >>> 0
}

function mix(check: number, word: number): number {
  const scrambled = Math.imul(word, 0xcc9e2d51)
  const mixed = check ^ Math.imul((scrambled << 15) | (scrambled >>> 17), 0x1b873593)
  return (Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0xe6546b64) | 0
}

export function positionValue(position: number, checkpoint: number): Buffer {
  const value = Buffer.allocUnsafe(16)
  writeUint53(value, position, 0)
  writeUint53(value, checkpoint, 8)
  return value
}

/** A single number as a value. */
export function numberValue(number: number): Buffer {
  const value = Buffer.allocUnsafe(8)
  writeUint53(value, number, 0)
  return value
}

export function configurationValue(configuration: { index: number; json: string }): Buffer {
  return Buffer.concat([numberValue(configuration.index), Buffer.from(configuration.json)])
}

export function queueValue(count: number, lowMark: number, statedAt: number, name: string): Buffer {
  return Buffer.concat([numberValue(count), numberValue(lowMark), numberValue(statedAt), Buffer.from(name)])
}

export function formatValue(): Buffer {
  const value = Buffer.alloc(4)
  value.writeUInt32LE(indexFormatVersion)
  return value
}

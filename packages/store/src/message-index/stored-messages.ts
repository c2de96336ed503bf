import type { ClassicLevel } from 'classic-level'
import { locationIn, messageBytesIn, messageIndexIn, messageKey, redeliveriesIn } from './keys.ts'
import type { Located } from './message-index.ts'

/** Entries asked of LevelDB at a time: more would only hold the event loop up while they are turned into objects. */
const entriesPerRead = 1000

/**
 * Reads the entries of one queue in the order of their indices, as of the call.
 *
 * @param from - First index; nothing below it is touched, deleted or not.
 * @param to - Last index.
 * @param expected - How many the caller will probably want.
 * @param visit - Gets each value; returns false to stop.
 */
export async function readMessageValues(
  db: ClassicLevel<Buffer, Buffer>,
  queue: number,
  from: number,
  to: number,
  expected: number,
  visit: (value: Buffer) => boolean,
): Promise<void> {
  // Made before the first await: an iterator sees the database as it is when it is made.
  const entries = db.iterator({
    keys: false,
    gte: messageKey(queue, from),
    lte: messageKey(queue, to),
    highWaterMarkBytes: 1024 * 1024,
  })
  try {
    for (;;) {
      const some = await entries.nextv(Math.min(Math.max(expected, 1), entriesPerRead))
      if (some.length === 0) return
      for (const [, value] of some) if (!visit(value)) return
    }
  } finally {
    await entries.close()
  }
}

/**
 * Reads single entries of one queue, as of the call, in the order of `indices`: undefined for one that is not there.
 *
 * @throws RowFault if one is not what was written.
 */
export async function lookUpMessages(
  db: ClassicLevel<Buffer, Buffer>,
  queue: number,
  indices: readonly number[],
): Promise<(Located | undefined)[]> {
  const values = await db.getMany(indices.map((index) => messageKey(queue, index)))
  return values.map((value) => value && storedMessage(value, queue))
}

/** @throws RowFault if the value is not one that was written for `queue`. */
function storedMessage(value: Buffer, queue: number): Located {
  messageIndexIn(value, queue)
  return {
    location: locationIn(value),
    bytes: messageBytesIn(value),
    redeliveryCount: redeliveriesIn(value),
  }
}

import { readUint53 } from '../journal/integer.ts'
import type { EpochStart } from '../journal/log.ts'
import type { FrozenChanges, FrozenQueue } from '../message-index/fold.ts'
import { locationIn, messageBytesIn, redeliveriesIn } from '../message-index/keys.ts'
import type { StoredContent } from '../message-index/stored-content.ts'
import type { Findings } from './finding.ts'
import { damageIn, type IndexCopy, type StoredEntry } from './index-copy.ts'

/** What the index should hold: the fold of the journal up to the position of the index, made from nothing. */
export interface ExpectedIndex {
  readonly fold: FrozenChanges
  readonly epochStarts: readonly EpochStart[]
  /** Names that were registered more than once: what was seen of them was forgotten in between. */
  readonly reregistered: ReadonlySet<string>
}

/**
 * Compares the index with the journal, entry by entry.
 *
 * @param file - Directory of the index, for findings.
 * @param expected - `undefined` if the journal is damaged before the index's position: then each entry is only checked
 *   by itself.
 * @returns Entries of messages in the index.
 */
export async function checkIndex(
  copy: IndexCopy,
  file: string,
  expected: ExpectedIndex | undefined,
  findings: Findings,
): Promise<number> {
  const wrong = (what: string, index?: number) => findings.add('index wrong', file, what, undefined, index)
  if (expected !== undefined) {
    checkEpochs(copy.content, expected, wrong)
    checkConfiguration(copy.content, expected, wrong)
    checkQueues(copy.content, expected, wrong)
    checkProducers(copy.content, expected, wrong)
  }
  const messages = new MessageCheck(expected?.fold.queues, copy.content.removedQueues, wrong)
  try {
    for await (const entries of copy.entries(wrong)) for (const entry of entries) messages.entry(entry)
  } catch (error) {
    const reason = damageIn(error)
    if (reason === undefined) throw error
    wrong(`cannot be read to its end: ${reason}`)
    return messages.count
  }
  messages.end()
  return messages.count
}

type Report = (what: string, index?: number) => void

function checkEpochs(content: StoredContent, expected: ExpectedIndex, wrong: Report): void {
  const starts = expected.epochStarts.filter(({ index }) => index <= content.position)
  // Of what lay before the beginning of the journal, only the index knows.
  const from = starts[0]?.index ?? 0
  const stored = content.epochStarts.filter(({ index }) => index >= from)
  const length = Math.max(starts.length, stored.length)
  for (let place = 0; place < length; place++) {
    const own = stored[place]
    const right = starts[place]
    if (own?.epoch === right?.epoch && own?.index === right?.index) continue
    wrong(`epoch start ${describeStart(own)}, in the journal ${describeStart(right)}`, (own ?? right)?.index)
    return // All that follow are shifted by this one.
  }
}

function describeStart(start: EpochStart | undefined): string {
  return start === undefined ? 'missing' : `${start.epoch} at ${start.index}`
}

function checkConfiguration(content: StoredContent, { fold }: ExpectedIndex, wrong: Report): void {
  const own = content.configuration
  const right = fold.configuration
  if (own?.index === right?.index && own?.json === right?.json) return
  wrong(`the configuration is not that of record ${right?.index ?? 'none'}`, own?.index ?? right?.index)
}

function checkQueues(content: StoredContent, { fold }: ExpectedIndex, wrong: Report): void {
  const stored = new Map(content.queues.map((queue) => [queue.id, queue]))
  for (const { id, name, count, messages } of fold.queues) {
    const own = stored.get(id)
    stored.delete(id)
    const lowMark = messages === undefined ? 0 : firstOf(messages)
    if (own === undefined) wrong(`queue "${name}" is missing`, id)
    else if (own.name !== name) wrong(`queue ${id} is named "${own.name}", in the journal "${name}"`, id)
    else if (own.count !== count)
      wrong(`queue "${name}" counts ${own.count} messages instead of ${count}`, id)
    else if (own.lowMark !== lowMark)
      wrong(`queue "${name}" begins with message ${own.lowMark} instead of ${lowMark}`, id)
  }
  for (const { id, name } of stored.values()) wrong(`queue "${name}" is not in the journal`, id)
}

/** First message; 0 for none. */
function firstOf({ carried, added }: NonNullable<FrozenQueue['messages']>): number {
  let first = added.first || Number.POSITIVE_INFINITY
  for (const index of carried.keys()) first = Math.min(first, index)
  return Number.isFinite(first) ? first : 0
}

interface ProducerRow {
  readonly name: string
  readonly usedAt: number
  readonly highest: number
}

/**
 * The settings bound how many producers, and how much of each, the index remembers, and are not known here. So: all
 * that it holds must be right as far as no bound explains the difference, and what it lacks must be the oldest.
 */
function checkProducers(content: StoredContent, { fold, reregistered }: ExpectedIndex, wrong: Report): void {
  const expected = new Map<number, ProducerRow>()
  for (const { id, value } of fold.producers) if (value !== undefined) expected.set(id, decodeProducer(value))
  let oldest = Number.POSITIVE_INFINITY
  for (const { id, value } of content.producers) {
    const own = decodeProducer(value)
    const right = expected.get(id)
    expected.delete(id)
    oldest = Math.min(oldest, own.usedAt)
    if (right?.name !== own.name) wrong(`producer "${own.name}" is not in the journal`, id)
    else if (right.usedAt !== own.usedAt)
      wrong(`producer "${own.name}": last used by record ${own.usedAt} instead of ${right.usedAt}`, id)
    else if (right.highest !== own.highest && !reregistered.has(own.name))
      wrong(`producer "${own.name}": highest sequence ${own.highest} instead of ${right.highest}`, id)
  }
  for (const [id, { name, usedAt }] of expected) {
    if (usedAt > oldest || content.producers.length === 0) wrong(`producer "${name}" is missing`, id)
  }
}

/** The table of `keys.ts`: last use, last statement, highest sequence, count of gaps, gaps, name. */
function decodeProducer(value: Buffer): ProducerRow {
  const nameAt = 28 + value.readUInt32LE(24) * 16
  return {
    usedAt: readUint53(value, 0),
    highest: readUint53(value, 16),
    name: value.toString('utf8', nameAt),
  }
}

interface ExpectedMessage {
  readonly index: number
  readonly bytes: number
  readonly redeliveries: number
  /** The record that holds it. */
  readonly location: number
}

const messagesPerLook = 1000

/** Walks the entries of the index and the live messages of the fold side by side: both are in the same order. */
class MessageCheck {
  count = 0
  readonly #expected: Iterator<{ queue: FrozenQueue; message: ExpectedMessage }> | undefined
  readonly #removedQueues: readonly number[]
  readonly #wrong: Report
  #next: { queue: FrozenQueue; message: ExpectedMessage } | undefined

  /** @param removedQueues - Those of which the index still has entries. */
  constructor(queues: readonly FrozenQueue[] | undefined, removedQueues: readonly number[], wrong: Report) {
    this.#removedQueues = removedQueues
    this.#expected = queues && liveMessages([...queues].sort((one, other) => one.id - other.id))
    this.#wrong = wrong
    this.#step()
  }

  entry({ queue, index, value }: StoredEntry): void {
    this.count++
    if (value === undefined)
      this.#wrong(`the entry of message ${index} in queue ${queue} fails its check`, index)
    if (this.#expected === undefined) return
    if (this.#removedQueues.includes(queue)) return // Is about to be deleted.
    while (this.#next !== undefined && isBefore(this.#next, queue, index)) this.#missing(this.#next)
    const next = this.#next
    if (next?.queue.id !== queue || next.message.index !== index) {
      this.#wrong(`message ${index} of queue ${queue} is not, or no longer, in the journal`, index)
      return
    }
    this.#step()
    if (value === undefined) return
    const { bytes, redeliveries, location } = next.message
    if (messageBytesIn(value) !== bytes)
      this.#wrong(`message ${index} has ${bytes} bytes, not ${messageBytesIn(value)}`, index)
    else if (redeliveriesIn(value) !== redeliveries)
      this.#wrong(
        `message ${index} was redelivered ${redeliveries} times, not ${redeliveriesIn(value)}`,
        index,
      )
    else if (locationIn(value) !== location)
      this.#wrong(`message ${index} is in record ${location}, not ${locationIn(value)}`, index)
  }

  end(): void {
    while (this.#next !== undefined) this.#missing(this.#next)
  }

  #missing({ queue, message }: { queue: FrozenQueue; message: ExpectedMessage }): void {
    this.#wrong(
      `message ${message.index} of queue "${queue.name}" is missing: nobody would get it`,
      message.index,
    )
    this.#step()
  }

  #step(): void {
    this.#next = this.#expected?.next().value
  }
}

function isBefore(
  { queue, message }: { queue: FrozenQueue; message: ExpectedMessage },
  otherQueue: number,
  otherIndex: number,
): boolean {
  return queue.id < otherQueue || (queue.id === otherQueue && message.index < otherIndex)
}

function* liveMessages(
  queues: readonly FrozenQueue[],
): Generator<{ queue: FrozenQueue; message: ExpectedMessage }, undefined> {
  for (const queue of queues) {
    const carried = [...(queue.messages?.carried ?? [])].sort(([one], [other]) => one - other)
    for (const [index, { bytes, redeliveryCount, location }] of carried)
      yield { queue, message: { index, bytes, redeliveries: redeliveryCount, location } }
    for (let after = 0; ; ) {
      const some: ExpectedMessage[] = []
      queue.messages?.added.each(after, (index, bytes, redeliveries) => {
        const location = queue.messages?.locationOf(index) ?? index
        return some.push({ index, bytes, redeliveries, location }) < messagesPerLook
      })
      for (const message of some) yield { queue, message }
      const last = some.at(-1)
      if (last === undefined) break
      after = last.index
    }
  }
  return undefined
}

import type { MasterSession, MessageEntry } from '@levelmq/store'
import { ConsumerRing } from '../subscription/consumer-ring.ts'
import type { MemoryBudget } from './memory-budget.ts'
import { Message } from './message.ts'
import { MessageWindow } from './message-window.ts'
import { ReturnedMessages } from './returned-messages.ts'

/** What a queue wants from the store: the entries after an index, or the envelopes of messages it knows. */
export type Fetch =
  | { readonly type: 'page'; readonly after: number; readonly limit: number; readonly asOf: number }
  | { readonly type: 'read'; readonly messages: readonly Message[] }

/**
 * One queue of the master: which message goes to which consumer next, and what of it is in memory.
 *
 * Pure: it appends only the records that `settle` is asked for, and says with `nextFetch` what it wants read.
 * Each live message that is not at a consumer is in exactly one of these places, in the order of the log:
 *
 *     returned  <  window  <  gap (only in the store)  <  ahead
 *
 * Invariants:
 * - `returned` were all delivered before, and delivery takes the lowest index first: so they are below the window.
 * - Everything at or below `#tail` has passed through the window; pages are read from there on, so that nothing comes
 *   into memory twice, however late the store forgets a removed message.
 * - A gap ends at `#gapEnd`, the highest index that was left to the store. Only when pages have reached it may what
 *   was kept `ahead` of it join the window.
 * - Once it is deleted, no record names it, and nothing of it is read or delivered.
 * - Memory is bounded by the limits, the consumers' credit, and one message if that alone is above the limits.
 */
export class Queue {
  readonly id: number
  readonly name: string
  /** Consumers that may have credit. */
  readonly ring: ConsumerRing = new ConsumerRing()
  /** All consumers. */
  consumerCount = 0
  readonly #budget: MemoryBudget
  readonly #returned = new ReturnedMessages()
  #window = new MessageWindow()
  #ahead = new MessageWindow()
  /** 0: no gap. */
  #gapEnd: number
  /** Messages in the gap: a guess that decides what is kept, never whether the gap is closed. */
  #gapCount: number
  #tail = 0
  /** The commit index of which a page showed the end of the queue. */
  #endSeenAt = -1
  /** The next message in the gap needs the window for itself. */
  #needsEmptyWindow = false
  #fetching = false
  #heldBytes = 0
  #lastAppended = 0
  #size: number
  #outstanding = 0
  #deleted = false
  /** Acknowledged, and to be removed by the next record. */
  #removed: number[] = []
  /** New redelivery counts that the next records have to tell, by count. */
  #counted: Map<number, number[]> | undefined

  /**
   * @param storedCount - Messages that the store holds of it already.
   * @param storedEnd - An index that none of those is above, and all new ones are.
   */
  constructor(id: number, name: string, budget: MemoryBudget, storedCount: number, storedEnd: number) {
    this.id = id
    this.name = name
    this.#budget = budget
    this.#size = storedCount
    this.#gapCount = storedCount
    this.#gapEnd = storedCount === 0 ? 0 : storedEnd
  }

  /** Messages that are not acknowledged. */
  get size(): number {
    return this.#size
  }

  /** Messages that consumers hold. */
  get outstanding(): number {
    return this.#outstanding
  }

  get deleted(): boolean {
    return this.#deleted
  }

  /** Index of the last message that this mastership appended here. */
  get lastAppended(): number {
    return this.#lastAppended
  }

  /** Waiting messages in memory, and the bytes of envelopes held: for the limits' tests and the management. */
  get memory(): { readonly messages: number; readonly bytes: number } {
    const messages = this.#returned.length + this.#window.length + this.#ahead.length
    return { messages, bytes: this.#heldBytes }
  }

  /** A message was appended under `index`; its envelope is kept if there is room, until it is committed and goes. */
  appended(index: number, head: Uint8Array, body: Uint8Array): void {
    this.#lastAppended = index
    this.#size += 1
    const bytes = head.length + body.length
    if (!this.#keeps(bytes)) {
      this.#leaveInStore(index)
      return
    }
    const envelope = Buffer.allocUnsafe(bytes)
    envelope.set(head, 0)
    envelope.set(body, head.length)
    const message = new Message(index, bytes, 0, envelope)
    this.#hold(bytes)
    if (this.#gapEnd === 0) this.#admit(message)
    else this.#ahead.push(message)
  }

  /** Delivers up to `limit` messages that are committed; returns how many. */
  dispatch(committed: number, limit: number): number {
    let delivered = 0
    while (delivered < limit) {
      const returned = this.#returned.first
      const message = returned ?? this.#window.first
      if (message === undefined || message.envelope === undefined || message.index > committed) break
      const consumer = this.ring.next()
      if (consumer === undefined) break
      if (returned === undefined) this.#window.shift()
      else this.#returned.shift()
      this.#release(message.bytes)
      this.#outstanding += 1
      delivered += 1
      consumer.deliver(message)
    }
    return delivered
  }

  /** It is gone, with everything in it; its consumers still have to be closed. To be settled before. */
  delete(): void {
    this.#deleted = true
    this.#window.clear()
    this.#ahead.clear()
    this.#returned.clear()
    this.#release(this.#heldBytes)
    this.#gapEnd = 0
    this.#gapCount = 0
    this.#size = 0
  }

  /** A consumer acknowledged this one of its messages. */
  acknowledge(message: Message): void {
    this.#outstanding -= 1
    if (this.#deleted) return
    this.#size -= 1
    this.#removed.push(message.index)
  }

  /** Messages come back from a consumer, to be redelivered in their original place with a higher count. */
  giveBack(messages: Message[]): void {
    if (messages.length === 0) return
    messages.sort((a, b) => a.index - b.index)
    this.#outstanding -= messages.length
    if (this.#deleted) return
    this.#counted ??= new Map()
    for (const message of messages) {
      message.redeliveryCount += 1
      const counted = this.#counted.get(message.redeliveryCount)
      if (counted === undefined) this.#counted.set(message.redeliveryCount, [message.index])
      else counted.push(message.index)
    }
    this.#returned.add(messages)
  }

  /** Appends what was gathered, as few records; returns the index of the last, or 0 if there was nothing. */
  settle(session: MasterSession): number {
    let index = 0
    // Counts first: a message that came back may have been delivered and acknowledged again in the same turn.
    if (this.#counted !== undefined) {
      for (const [count, indices] of this.#counted) index = session.countRedelivery(this.id, indices, count)
      this.#counted = undefined
    }
    if (this.#removed.length > 0) {
      index = session.removeMessages(this.id, this.#removed)
      if (this.#removed.length > 1024) this.#removed = []
      else this.#removed.length = 0
    }
    return index
  }

  /**
   * What to read next, if anything; one fetch at a time. `paged` (for a page) and `fetched` answer it.
   *
   * @param committed - The commit index.
   */
  nextFetch(committed: number): Fetch | undefined {
    if (this.#fetching || this.#deleted || this.consumerCount === 0) return undefined
    const first = this.#returned.first
    if (first !== undefined && first.envelope === undefined) {
      this.#fetching = true
      return { type: 'read', messages: this.#unreadReturned() }
    }
    if (!this.#wantsPage(committed)) return undefined
    this.#fetching = true
    return { type: 'page', after: this.#tail, limit: this.#pageLimit(), asOf: committed }
  }

  /**
   * The page asked for is there. What of it fits joins the window.
   *
   * @returns Messages to read, for `fetched`.
   */
  paged(fetch: Fetch & { type: 'page' }, entries: readonly MessageEntry[]): Message[] {
    const admitted: Message[] = []
    let all = true
    for (const entry of entries) {
      if (entry.index > this.#gapEnd) {
        // From here on the messages are in memory, ahead; so everything in the gap was seen.
        this.#tail = this.#gapEnd
        break
      }
      if (this.#window.length > 0 && !this.#fits(entry.bytes)) {
        this.#needsEmptyWindow = admitted.length === 0
        all = false
        break
      }
      const message = new Message(entry.index, entry.bytes, entry.redeliveryCount, undefined)
      this.#hold(entry.bytes)
      this.#admit(message)
      admitted.push(message)
    }
    this.#gapCount = Math.max(0, this.#gapCount - admitted.length)
    if (all && entries.length < fetch.limit) {
      this.#endSeenAt = fetch.asOf
      this.#tail = Math.max(this.#tail, Math.min(fetch.asOf, this.#gapEnd))
    }
    if (this.#tail >= this.#gapEnd) this.#closeGap()
    return admitted
  }

  /** The envelopes asked for are there. */
  fetched(messages: readonly Message[], envelopes: readonly Buffer[]): void {
    this.#fetching = false
    for (const [place, message] of messages.entries()) message.envelope = envelopes[place]
  }

  /** Leaves what waits to the store, if nobody consumes it, and so makes room for other queues. */
  evict(): void {
    if (this.consumerCount > 0 || this.#fetching) return
    for (const message of this.#returned) {
      if (message.envelope === undefined) continue
      message.envelope = undefined
      this.#release(message.bytes)
    }
    const last = this.#ahead.last ?? this.#window.last
    if (last === undefined) return
    const first = this.#window.first
    if (first !== undefined) {
      this.#tail = first.index - 1
      this.#endSeenAt = -1
    }
    this.#gapCount += this.#window.length + this.#ahead.length
    this.#gapEnd = Math.max(this.#gapEnd, last.index)
    this.#drop(this.#window)
    this.#drop(this.#ahead)
  }

  /** Puts a message at the end of the window. */
  #admit(message: Message): void {
    this.#window.push(message)
    this.#tail = message.index
    this.#needsEmptyWindow = false
  }

  #keeps(bytes: number): boolean {
    if (!this.#fits(bytes)) return false
    const waiting = this.#window.length + this.#gapCount + this.#ahead.length
    const most = this.#budget.limits.queueMessages
    // Behind a gap, keeping starts again only when the queue is far below the limit: else, at the limit, each
    // message that has no room would throw away what had just been kept.
    return this.#gapEnd === 0 || this.#ahead.length > 0 ? waiting < most : waiting < most / 2
  }

  #fits(bytes: number): boolean {
    return this.#heldBytes + bytes <= this.#budget.limits.queueBytes && this.#budget.fits(bytes)
  }

  #leaveInStore(index: number): void {
    // What is ahead of the gap is within it now.
    this.#gapCount += this.#ahead.length + 1
    this.#drop(this.#ahead)
    this.#gapEnd = index
  }

  #closeGap(): void {
    this.#gapEnd = 0
    this.#gapCount = 0
    this.#endSeenAt = -1
    this.#needsEmptyWindow = false
    const ahead = this.#ahead
    const last = ahead.last
    if (last === undefined) return
    if (this.#window.length === 0) {
      this.#ahead = this.#window
      this.#window = ahead
    } else {
      for (let message = ahead.shift(); message !== undefined; message = ahead.shift())
        this.#window.push(message)
    }
    this.#tail = last.index
  }

  #wantsPage(committed: number): boolean {
    if (this.#gapEnd === 0 || this.#endSeenAt >= committed) return false
    if (this.#window.length === 0) return true
    if (this.#needsEmptyWindow) return false
    const { queueMessages, queueBytes } = this.#budget.limits
    return this.#window.length <= queueMessages / 2 && this.#heldBytes <= queueBytes / 2
  }

  #pageLimit(): number {
    const { queueMessages, pageMessages } = this.#budget.limits
    return Math.max(1, Math.min(pageMessages, queueMessages - this.#window.length - this.#ahead.length))
  }

  /** The next returned messages whose envelopes have to be read again: at least one. */
  #unreadReturned(): Message[] {
    const unread: Message[] = []
    for (const message of this.#returned) {
      if (message.envelope !== undefined) break
      if (
        unread.length > 0 &&
        (unread.length === this.#budget.limits.pageMessages || !this.#fits(message.bytes))
      ) {
        break
      }
      this.#hold(message.bytes)
      unread.push(message)
    }
    return unread
  }

  #drop(messages: MessageWindow): void {
    for (let message = messages.shift(); message !== undefined; message = messages.shift()) {
      this.#release(message.bytes)
    }
  }

  #hold(bytes: number): void {
    this.#heldBytes += bytes
    this.#budget.take(bytes)
  }

  #release(bytes: number): void {
    this.#heldBytes -= bytes
    this.#budget.release(bytes)
  }
}

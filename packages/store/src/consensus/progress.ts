import type { Peer } from './electorate.ts'

/**
 * What a leader knows of one member's log, and how much it has sent on trust.
 *
 * `probe`: looking for the place where the logs part, one question at a time. `stream`: everything up to
 * `nextIndex - 1` was sent in order on this connection. `gone`: the member needs log that no longer exists; it is asked
 * all the same, since it may get it in another way.
 */
export class Progress {
  readonly nodeId: string
  /** The store that these acknowledgements are of. */
  readonly storeUuid: string
  /** Whether they count towards a majority. */
  voter: boolean
  connected = false
  mode: 'probe' | 'stream' | 'gone' = 'probe'
  nextIndex: number
  /** Last record known to be on its disk and the same as the leader's. Falls when the member turns out to have lost it. */
  durableIndex = 0
  /** Last record known to be the same as the leader's and handed to its operating system. */
  writtenIndex = 0
  /** Last record that it has ever acknowledged as durable in this epoch. */
  acknowledgedIndex = 0
  /** The leader's clock when it sent the latest message that this member has answered in this epoch. */
  answeredMs: number
  /** When it was last asked something that it answers at once. Batches are not: they wait for its disk. */
  askedMs = 0
  /** When its durable index last moved, or it had nothing outstanding. */
  movedMs: number
  fetching = false
  /** When it was last told that the log it needs is gone. */
  toldBehindMs: number = Number.NEGATIVE_INFINITY
  /** Last record of the leader's log when it connected. */
  levelFrom = 0
  #flying: { readonly lastIndex: number; readonly bytes: number }[] = []
  #flyingBytes = 0

  constructor(nodeId: string, { storeUuid, voter }: Peer, nextIndex: number, nowMs: number) {
    this.nodeId = nodeId
    this.storeUuid = storeUuid
    this.voter = voter
    this.nextIndex = nextIndex
    this.answeredMs = Number.NEGATIVE_INFINITY
    this.movedMs = nowMs
  }

  /** Bytes sent and not yet acknowledged as durable. */
  get flyingBytes(): number {
    return this.#flyingBytes
  }

  /** The lowest record that it may still need of the leader's log: none while a copy of the store is what it needs. */
  get neededFrom(): number {
    return this.mode === 'gone' ? Number.POSITIVE_INFINITY : this.durableIndex + 1
  }

  sent(lastIndex: number, bytes: number): void {
    this.#flying.push({ lastIndex, bytes })
    this.#flyingBytes += bytes
    this.nextIndex = lastIndex + 1
  }

  acknowledged(writtenIndex: number, durableIndex: number, nowMs: number): void {
    if (writtenIndex > this.writtenIndex) this.writtenIndex = writtenIndex
    if (durableIndex > this.durableIndex) {
      this.durableIndex = durableIndex
      this.movedMs = nowMs
    }
    if (durableIndex > this.acknowledgedIndex) this.acknowledgedIndex = durableIndex
    let done = 0
    for (const flight of this.#flying) {
      if (flight.lastIndex > durableIndex) break
      this.#flyingBytes -= flight.bytes
      done++
    }
    if (done > 0) this.#flying.splice(0, done)
    if (this.#flying.length === 0) this.movedMs = nowMs
  }

  /** What it acknowledged does not count any more: some of it is lost. */
  forget(): void {
    this.durableIndex = 0
    this.writtenIndex = 0
  }

  /** Starts over from `nextIndex`: what was sent and not acknowledged is taken for lost. */
  restart(mode: 'probe' | 'stream' | 'gone', nextIndex: number): void {
    this.mode = mode
    this.nextIndex = nextIndex
    this.#flying = []
    this.#flyingBytes = 0
    this.fetching = false
  }
}

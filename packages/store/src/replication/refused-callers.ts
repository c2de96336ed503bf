import type { NodeIdentity } from './handshake.ts'

/** A node that called, proved that it belongs here, and was refused. */
interface RefusedCaller {
  readonly identity: NodeIdentity
  readonly reason: string
  readonly atMs: number
}

/** Who is refused calls again much sooner than this: whoever does not is gone. */
const shownMs = 3000
const maxCallers = 8
const maxComplaints = 64

/** Callers without a link: who was refused lately, and what has been said of whom, so that it is said once. */
export class RefusedCallers {
  /** By boot id, the latest last. */
  readonly #callers = new Map<string, RefusedCaller>()
  /** What was last said, by whom it is about. */
  readonly #complaints = new Map<string, string>()

  note(identity: NodeIdentity, reason: string, atMs: number): void {
    this.#callers.delete(identity.bootId)
    this.#callers.set(identity.bootId, { identity, reason, atMs })
    for (const [bootId, caller] of this.#callers) {
      if (atMs - caller.atMs >= shownMs || this.#callers.size > maxCallers) this.#callers.delete(bootId)
    }
  }

  /** It has a link now. */
  admitted({ bootId, address }: NodeIdentity): void {
    this.#callers.delete(bootId)
    this.#complaints.delete(address)
  }

  shown(nowMs: number): RefusedCaller[] {
    return [...this.#callers.values()].filter(({ atMs }) => nowMs - atMs < shownMs)
  }

  /** False if the same was said of the same before: not each call is worth a line. */
  isNews(about: string, reason: string): boolean {
    if (this.#complaints.get(about) === reason) return false
    this.#complaints.delete(about)
    this.#complaints.set(about, reason)
    const [oldest] = this.#complaints.keys()
    if (this.#complaints.size > maxComplaints && oldest !== undefined) this.#complaints.delete(oldest)
    return true
  }
}

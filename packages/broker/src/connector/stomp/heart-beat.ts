/**
 * Heart-beats of one connection, both ways.
 *
 * Pure: time comes in as an argument. Invariant: while ticks come when asked for, the client sees something at least
 * every `sendMs`; a client counts as silent only after `receiveMs` times the grace factor without a byte.
 * Source: STOMP 1.2 specification, "Heart-beating".
 */
export interface HeartBeatIntervals {
  /** Longest pause between two writes of ours, in milliseconds; 0 is no limit. */
  readonly sendMs: number
  /** Longest pause that the client promises; 0 is no limit. */
  readonly receiveMs: number
}

/**
 * What follows from a client's `heart-beat` header and the server's own two numbers.
 *
 * @returns `undefined` if the header is malformed.
 */
export function negotiateHeartBeat(
  header: string | undefined,
  server: HeartBeatIntervals,
): HeartBeatIntervals | undefined {
  if (header === undefined) return { sendMs: 0, receiveMs: 0 }
  const match = /^ *(\d{1,9}) *, *(\d{1,9}) *$/.exec(header)
  if (match === null) return undefined
  const [canSend, wants] = [Number(match[1]), Number(match[2])]
  return {
    sendMs: wants === 0 || server.sendMs === 0 ? 0 : Math.max(wants, server.sendMs),
    receiveMs: canSend === 0 || server.receiveMs === 0 ? 0 : Math.max(canSend, server.receiveMs),
  }
}

export class HeartBeat {
  readonly #sendMs: number
  readonly #silenceMs: number
  #wrote = true
  #nextSendCheckMs: number
  #lastReadMs: number

  constructor(intervals: HeartBeatIntervals, graceFactor: number, nowMs: number) {
    this.#sendMs = intervals.sendMs
    this.#silenceMs = intervals.receiveMs * graceFactor
    this.#nextSendCheckMs = nowMs + this.#pauseMs
    this.#lastReadMs = nowMs
  }

  /** Checked more than twice per interval, so that one unlucky check does not stretch a pause beyond it. */
  get #pauseMs(): number {
    return this.#sendMs * 0.45
  }

  wrote(): void {
    this.#wrote = true
  }

  read(nowMs: number): void {
    this.#lastReadMs = nowMs
  }

  /** @returns Whether a heart-beat is to be sent now. */
  isSendDue(nowMs: number): boolean {
    if (this.#sendMs === 0 || nowMs < this.#nextSendCheckMs) return false
    this.#nextSendCheckMs = nowMs + this.#pauseMs
    const idle = !this.#wrote
    this.#wrote = false
    return idle
  }

  isSilent(nowMs: number): boolean {
    return this.#silenceMs > 0 && nowMs - this.#lastReadMs > this.#silenceMs
  }

  /** Milliseconds until the next tick is needed, or `undefined` if none is. */
  nextTickMs(nowMs: number): number | undefined {
    const send = this.#sendMs === 0 ? Number.POSITIVE_INFINITY : this.#nextSendCheckMs - nowMs
    const silence =
      this.#silenceMs === 0 ? Number.POSITIVE_INFINITY : this.#lastReadMs + this.#silenceMs + 1 - nowMs
    const next = Math.min(send, silence)
    return next === Number.POSITIVE_INFINITY ? undefined : Math.max(next, 1)
  }
}

/** What is known of one message; flags add up. */
export const Mark = {
  sent: 1,
  confirmed: 2,
  /** Sent, and the connection ended before the confirm. */
  doubtful: 4,
  delivered: 8,
  /** Its acknowledgement was confirmed. */
  acknowledged: 16,
} as const

export type Mark = (typeof Mark)[keyof typeof Mark]

/** One byte for each message of one producer, by its sequence from 1. */
export class Ledger {
  readonly producer: string
  #marks = new Uint8Array(4096)
  last = 0

  constructor(producer: string) {
    this.producer = producer
  }

  /** The next sequence, which counts as sent. */
  next(): number {
    const sequence = ++this.last
    if (sequence >= this.#marks.length) {
      const larger = new Uint8Array(this.#marks.length * 2)
      larger.set(this.#marks)
      this.#marks = larger
    }
    this.#marks[sequence] = Mark.sent
    return sequence
  }

  has(sequence: number, mark: Mark): boolean {
    return ((this.#marks[sequence] ?? 0) & mark) !== 0
  }

  /** @returns Whether the message had the mark already. */
  mark(sequence: number, mark: Mark): boolean {
    const before = this.has(sequence, mark)
    this.#marks[sequence] = (this.#marks[sequence] ?? 0) | mark
    return before
  }

  count(mark: Mark): number {
    let count = 0
    for (let i = 1; i <= this.last; i++) if (this.has(i, mark)) count++
    return count
  }

  /** Sequences with all of `wanted` and none of `unwanted`. */
  *select(wanted: readonly Mark[], unwanted: readonly Mark[]): Generator<number> {
    for (let i = 1; i <= this.last; i++) {
      if (wanted.every((mark) => this.has(i, mark)) && !unwanted.some((mark) => this.has(i, mark))) yield i
    }
  }
}

/** `producer sequence`, and padding behind. */
export function bodyOf(producer: string, sequence: number, padding: string): string {
  return `${producer} ${sequence} ${padding}`
}

export function readBody(body: string): { readonly producer: string; readonly sequence: number } {
  const [producer = '', sequence = ''] = body.split(' ', 2)
  return { producer, sequence: Number(sequence) }
}

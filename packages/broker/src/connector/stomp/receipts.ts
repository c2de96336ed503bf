/**
 * Receipts that a connection owes, in the order of the frames that asked for them.
 *
 * Pure. Invariant: a receipt stands for its own frame and all before it, so it waits for the highest index that the
 * connection has been given so far, and none overtakes another.
 */
export class PendingReceipts {
  #ids: string[] = []
  #indices: number[] = []
  #first = 0
  #lastIndex = 0
  #confirmed = 0

  get size(): number {
    return this.#ids.length - this.#first
  }

  /** A frame was stored under `index`; later receipts wait for it too. */
  stored(index: number): void {
    if (index > this.#lastIndex) this.#lastIndex = index
  }

  /** @returns Whether the receipt may go out at once; else it is kept. */
  add(rawId: string): boolean {
    if (this.size === 0 && this.#lastIndex <= this.#confirmed) return true
    this.#ids.push(rawId)
    this.#indices.push(this.#lastIndex)
    return false
  }

  confirmed(index: number): void {
    if (index > this.#confirmed) this.#confirmed = index
  }

  /** Takes out the next receipt that is due. */
  shift(): string | undefined {
    const first = this.#first
    if (first === this.#ids.length || (this.#indices[first] as number) > this.#confirmed) return undefined
    const id = this.#ids[first]
    this.#first = first + 1
    if (this.#first === this.#ids.length) {
      this.#ids = []
      this.#indices = []
      this.#first = 0
    } else if (this.#first >= 1024 && this.#first * 2 >= this.#ids.length) {
      this.#ids = this.#ids.slice(this.#first)
      this.#indices = this.#indices.slice(this.#first)
      this.#first = 0
    }
    return id
  }
}

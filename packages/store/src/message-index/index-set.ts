const indicesPerPage = 4096

/** A set of record indices, as bits: a few megabytes for millions of them, where a `Set` takes hundreds. */
export class IndexSet {
  readonly #pages = new Map<number, Uint32Array>()

  add(index: number): void {
    const number = Math.floor(index / indicesPerPage)
    let page = this.#pages.get(number)
    if (page === undefined) {
      page = new Uint32Array(indicesPerPage / 32)
      this.#pages.set(number, page)
    }
    page[wordOf(index)] = (page[wordOf(index)] as number) | bitOf(index)
  }

  has(index: number): boolean {
    const page = this.#pages.get(Math.floor(index / indicesPerPage))
    return page !== undefined && ((page[wordOf(index)] as number) & bitOf(index)) !== 0
  }

  /** @returns Whether it was there. */
  delete(index: number): boolean {
    const page = this.#pages.get(Math.floor(index / indicesPerPage))
    if (page === undefined || ((page[wordOf(index)] as number) & bitOf(index)) === 0) return false
    page[wordOf(index)] = (page[wordOf(index)] as number) & ~bitOf(index)
    return true
  }
}

function wordOf(index: number): number {
  return Math.floor((index % indicesPerPage) / 32)
}

function bitOf(index: number): number {
  return 1 << (index % 32)
}

/** Words that are looked for in a byte stream: finds which one a range of bytes is, without making a string of it. */
export class TokenTable {
  /** Index: length of the word. */
  readonly #byLength: { readonly id: number; readonly bytes: Buffer }[][] = []

  /** @param words - Their ids are their places, from 1 up. */
  constructor(words: readonly string[]) {
    for (const [place, word] of words.entries()) {
      const bytes = Buffer.from(word)
      while (this.#byLength.length <= bytes.length) this.#byLength.push([])
      this.#byLength[bytes.length]?.push({ id: place + 1, bytes })
    }
  }

  /** @returns Id of the word that `source[start, end)` is, or 0. */
  find(source: Buffer, start: number, end: number): number {
    const candidates = this.#byLength[end - start]
    if (candidates === undefined) return 0
    next: for (let place = 0; place < candidates.length; place++) {
      const candidate = candidates[place] as { readonly id: number; readonly bytes: Buffer }
      const bytes = candidate.bytes
      for (let at = 0; at < bytes.length; at++) {
        if (bytes[at] !== source[start + at]) continue next
      }
      return candidate.id
    }
    return 0
  }
}

const shownPerKind = 5

/** What should not have been, by kind, with the first few cases of each. */
export class Violations {
  readonly #kinds = new Map<string, { count: number; readonly shown: string[] }>()

  /** @param kind - What was promised and did not hold, with the workload that saw it. */
  add(kind: string, what: string): void {
    const known = this.#kinds.get(kind) ?? { count: 0, shown: [] }
    known.count++
    if (known.shown.length < shownPerKind) known.shown.push(what)
    this.#kinds.set(kind, known)
  }

  get count(): number {
    return [...this.#kinds.values()].reduce((sum, { count }) => sum + count, 0)
  }

  lines(): string[] {
    return [...this.#kinds].flatMap(([kind, { count, shown }]) => [
      `${kind}: ${count}`,
      ...shown.map((what) => `  ${what}`),
    ])
  }
}

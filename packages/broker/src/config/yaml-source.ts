import { type Document, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'

/** A place in a file, as editors show it: line and column from 1. */
interface Place {
  readonly line: number
  readonly column: number
}

/** The text of a configuration file that remembers where everything stood. Pure. */
export class YamlSource {
  readonly #document: Document
  readonly #lines = new LineCounter()

  constructor(text: string) {
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, version: '1.2' })
  }

  /** The first thing that keeps the text from being YAML. */
  get fault(): { readonly place: Place; readonly message: string } | undefined {
    const error = this.#document.errors[0] ?? this.#document.warnings[0]
    if (error === undefined) return undefined
    return { place: this.#placeOf(error.pos[0]), message: error.message }
  }

  /**
   * The content as plain data; an empty file is an empty section.
   * @throws Error for an alias that expands without end.
   */
  toData(): unknown {
    return this.#document.toJS({ maxAliasCount: 100 }) ?? {}
  }

  /** Where the value at `path` stands (its key, if `ofKey`), or the nearest section around it that exists. */
  placeOf(path: readonly (string | number)[], ofKey: boolean): Place {
    let node: unknown = this.#document.contents
    let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0
    for (const [depth, part] of path.entries()) {
      const isLast = depth === path.length - 1
      if (isMap(node)) {
        const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === part)
        if (pair === undefined) break
        if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset
        node = pair.value
        if (isLast && ofKey) break
      } else if (isSeq(node)) {
        node = node.items[Number(part)]
      } else break
      // An empty value has no place of its own worth showing: stay with its key.
      if (isNode(node) && !(isScalar(node) && node.value === null)) offset = node.range?.[0] ?? offset
    }
    return this.#placeOf(offset)
  }

  #placeOf(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
}

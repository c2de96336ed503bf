const lineFeed = 10
const empty = Buffer.alloc(0)

/**
 * Cuts a stream of bytes into lines. Pure.
 *
 * A line is everything up to a line feed, byte for byte: a carriage return before it belongs to the line, so that
 * consuming what was produced gives the same file again.
 */
export class LineSplitter {
  readonly #maxLineBytes: number
  #parts: Buffer[] = []
  #partsBytes = 0

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes
  }

  /**
   * Takes the next bytes and returns the lines that they complete.
   * @throws RangeError for a line over the limit.
   */
  push(chunk: Buffer): Buffer[] {
    const lines: Buffer[] = []
    let start = 0
    for (let end = chunk.indexOf(lineFeed); end >= 0; end = chunk.indexOf(lineFeed, start)) {
      lines.push(this.#join(chunk.subarray(start, end)))
      start = end + 1
    }
    if (start < chunk.length) {
      this.#parts.push(chunk.subarray(start))
      this.#partsBytes += chunk.length - start
      this.#check(this.#partsBytes)
    }
    return lines
  }

  /** The last line, if it has no line feed at its end. */
  end(): Buffer | undefined {
    return this.#partsBytes > 0 ? this.#join(empty) : undefined
  }

  #join(last: Buffer): Buffer {
    this.#check(this.#partsBytes + last.length)
    if (this.#partsBytes === 0) return last
    const line = Buffer.concat([...this.#parts, last])
    this.#parts = []
    this.#partsBytes = 0
    return line
  }

  #check(bytes: number): void {
    if (bytes > this.#maxLineBytes) throw new RangeError(`a line of more than ${this.#maxLineBytes} bytes`)
  }
}

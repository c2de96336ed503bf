import { createWriteStream, type WriteStream } from 'node:fs'

/** Everything that clients and faults did, as JSON lines with milliseconds since the start of the run. */
export class History {
  readonly file: string
  readonly #stream: WriteStream
  readonly #start = performance.now()

  constructor(file: string) {
    this.file = file
    this.#stream = createWriteStream(file, { highWaterMark: 2 ** 20 })
  }

  get nowMs(): number {
    return performance.now() - this.#start
  }

  add(type: string, facts: Readonly<Record<string, unknown>> = {}): void {
    this.#stream.write(`${JSON.stringify({ ms: Math.round(this.nowMs), type, ...facts })}\n`)
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#stream.end(() => resolve()))
  }
}

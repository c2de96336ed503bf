import type { Readable } from 'node:stream'
import { LineSplitter } from './line-splitter.ts'

/** Where the bodies of the messages come from. */
export interface MessageSource {
  /** The next body, or `undefined` if there is none now: then `ended` tells whether there will be. */
  take(): Buffer | undefined
  readonly ended: boolean
  /** Called whenever bodies may have come, or the end; with an error if the source cannot be read. */
  onChange: (error?: Error) => void
}

const maxBodyBytes = 100 * 2 ** 20
/** Lines read ahead of what is sent, above which reading pauses. */
const readAhead = 10_000

/** The lines of a file or of stdin. */
export class LineSource implements MessageSource {
  onChange: (error?: Error) => void = () => {}
  readonly #stream: Readable
  readonly #splitter = new LineSplitter(maxBodyBytes)
  #lines: Buffer[] = []
  #taken = 0
  #streamEnded = false

  constructor(stream: Readable) {
    this.#stream = stream
    stream.on('data', (chunk: Buffer | string) =>
      this.#read(typeof chunk === 'string' ? Buffer.from(chunk) : chunk),
    )
    stream.on('end', () => {
      this.#streamEnded = true
      const last = this.#splitter.end()
      if (last !== undefined) this.#lines.push(last)
      this.onChange()
    })
    stream.on('error', (error) => this.onChange(error))
  }

  get ended(): boolean {
    return this.#streamEnded && this.#taken === this.#lines.length
  }

  take(): Buffer | undefined {
    const line = this.#lines[this.#taken]
    if (line === undefined) return undefined
    this.#taken++
    if (this.#taken === this.#lines.length) {
      this.#lines = []
      this.#taken = 0
      this.#stream.resume()
    }
    return line
  }

  #read(chunk: Buffer): void {
    try {
      for (const line of this.#splitter.push(chunk)) this.#lines.push(line)
    } catch (error) {
      this.#stream.destroy()
      this.onChange(error instanceof Error ? error : new Error(String(error)))
      return
    }
    if (this.#lines.length - this.#taken > readAhead) this.#stream.pause()
    this.onChange()
  }
}

/** `count` numbered bodies of `size` bytes: the number, then padding. */
export class GeneratedSource implements MessageSource {
  onChange: (error?: Error) => void = () => {}
  readonly #count: number
  readonly #size: number
  #made = 0

  constructor(count: number, size: number) {
    this.#count = count
    this.#size = size
  }

  get ended(): boolean {
    return this.#made === this.#count
  }

  take(): Buffer | undefined {
    if (this.ended) return undefined
    this.#made++
    return Buffer.from(`message ${this.#made} `.padEnd(this.#size, 'x').slice(0, this.#size), 'latin1')
  }
}

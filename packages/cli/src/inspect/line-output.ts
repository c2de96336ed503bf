import { once } from 'node:events'

const chunkBytes = 64 * 1024

/** Writes text to a stream in large pieces, no faster than it is read. */
export class LineOutput {
  readonly #stream: NodeJS.WritableStream
  #text = ''
  #failure: Error | undefined

  constructor(stream: NodeJS.WritableStream) {
    this.#stream = stream
    stream.on('error', (error: Error) => {
      this.#failure ??= error
    })
  }

  /** Whether the reader is gone, as `head` goes when it has enough. */
  get isClosed(): boolean {
    const failure = this.#failure
    return failure !== undefined && 'code' in failure && failure.code === 'EPIPE'
  }

  /** @throws What went wrong with the stream, unless its reader is gone. */
  async write(text: string): Promise<void> {
    this.#text += text
    if (this.#text.length >= chunkBytes) await this.flush()
  }

  async flush(): Promise<void> {
    const text = this.#text
    this.#text = ''
    if (text !== '' && this.#failure === undefined && !this.#stream.write(text)) await this.#drained()
    if (this.#failure !== undefined && !this.isClosed) throw this.#failure
  }

  async #drained(): Promise<void> {
    try {
      await once(this.#stream, 'drain')
    } catch {
      return // The listener above has it.
    }
  }
}

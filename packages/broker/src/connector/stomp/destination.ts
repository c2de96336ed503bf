/** Destinations as STOMP clients of ActiveMQ write them: a prefix for the kind, then the name. */
import { type Destination, DestinationKind } from '../../message/destination.ts'
import type { StompFrame } from './frame.ts'
import { StompProtocolError } from './protocol-error.ts'
import { StompHeader } from './vocabulary.ts'

const prefixes: readonly (readonly [prefix: string, kind: DestinationKind])[] = [
  ['/queue/', DestinationKind.queue],
  ['/topic/', DestinationKind.topic],
  ['/temp-queue/', DestinationKind.temporaryQueue],
  ['/temp-topic/', DestinationKind.temporaryTopic],
]
const MAX_NAME_BYTES = 1024

export function destinationPrefix(kind: DestinationKind): string {
  return prefixes[kind]?.[0] ?? ''
}

/** @returns `undefined` for a text that names none. */
export function parseDestination(text: string): Destination | undefined {
  for (const [prefix, kind] of prefixes) {
    if (text.startsWith(prefix) && text.length > prefix.length)
      return { kind, name: text.slice(prefix.length) }
  }
  return undefined
}

/**
 * Queues that a connection has named, so that the same header is read and checked once.
 *
 * Invariant: bounded, since a client may go on naming new ones for ever.
 */
export class QueueNames {
  readonly #byHeader = new Map<string, Destination>()
  #lastHeader: Buffer = Buffer.alloc(0)
  #last: Destination | undefined

  /**
   * @returns The queue that the frame's destination header names.
   * @throws StompProtocolError if it names none, or something that is not supported yet.
   */
  of(frame: StompFrame): Destination {
    const place = frame.placeOf(StompHeader.destination)
    if (place < 0) throw new StompProtocolError('no destination header', 'destination:/queue/NAME')
    const start = frame.valueStart(place)
    const end = frame.valueEnd(place)
    if (this.#last !== undefined && this.#isLast(frame.bytes, start, end)) return this.#last
    const header = frame.bytes.toString('latin1', start, end)
    let queue = this.#byHeader.get(header)
    if (queue === undefined) {
      queue = checkedQueue(frame.textAt(place))
      if (this.#byHeader.size >= 1000) this.#byHeader.clear()
      this.#byHeader.set(header, queue)
    }
    this.#lastHeader = Buffer.from(header, 'latin1')
    this.#last = queue
    return queue
  }

  #isLast(bytes: Buffer, start: number, end: number): boolean {
    const last = this.#lastHeader
    if (end - start !== last.length) return false
    for (let at = 0; at < last.length; at++) if (bytes[start + at] !== last[at]) return false
    return true
  }
}

function checkedQueue(text: string): Destination {
  const destination = parseDestination(text)
  if (destination === undefined) {
    throw new StompProtocolError(
      'malformed destination',
      `destination:/queue/NAME, got ${JSON.stringify(text)}`,
    )
  }
  if (destination.kind !== DestinationKind.queue) {
    throw new StompProtocolError(
      'topics and temporary destinations are not supported yet',
      `destination:/queue/NAME, got ${JSON.stringify(text)}`,
    )
  }
  const { name } = destination
  if (Buffer.byteLength(name) > MAX_NAME_BYTES || /\p{Cc}/u.test(name)) {
    throw new StompProtocolError(
      'malformed destination',
      `The name of a queue has 1 to ${MAX_NAME_BYTES} bytes as UTF-8 and no control characters.`,
    )
  }
  // To ActiveMQ these are not part of a name; taken as one, they would change their meaning later.
  if (
    name.includes(',') ||
    name.includes('?') ||
    name.split('.').some((part) => part === '*' || part === '>')
  ) {
    throw new StompProtocolError(
      'composite destinations, wildcards and destination options are not supported yet',
      `destination:/queue/NAME with one name, got ${JSON.stringify(text)}`,
    )
  }
  return destination
}

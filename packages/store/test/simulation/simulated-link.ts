/** One end of a connection. */
export interface LinkEnd {
  /** The node's shell was told of the connection, and not yet of its end. */
  live: boolean
  /** The shell knows that it is over; it does not come up any more. */
  closed: boolean
  /** When the last message towards this end arrives: the next one comes after it. */
  lastArrivalMs: number
}

/** One connection between two nodes. A later one between them is another object. */
export class Connection {
  readonly ends: readonly [LinkEnd, LinkEnd]
  diedAtMs: number = Number.POSITIVE_INFINITY

  constructor(firstUpMs: number, secondUpMs: number) {
    this.ends = [
      { live: false, closed: false, lastArrivalMs: firstUpMs },
      { live: false, closed: false, lastArrivalMs: secondUpMs },
    ]
  }
}

/** What joins two nodes: at most one connection at a time, and the faults on the way. */
export class Link {
  readonly nodes: readonly [number, number]
  connection: Connection | undefined
  /** The ends that came up last: a new connection ends an older one that was not noticed to be dead. */
  readonly upEnds: [LinkEnd | undefined, LinkEnd | undefined] = [undefined, undefined]
  /** Until when nothing arrives at the first or second node. */
  readonly cutUntilMs: [number, number] = [0, 0]
  /** Until when no connection comes about. */
  blockedUntilMs = 0

  constructor(first: number, second: number) {
    this.nodes = [first, second]
  }

  side(node: number): 0 | 1 {
    return node === this.nodes[0] ? 0 : 1
  }
}

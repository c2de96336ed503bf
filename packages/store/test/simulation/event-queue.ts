/** Something that happens at a virtual time; equal times keep the order in which they were scheduled. */
export interface ScheduledEvent<T> {
  readonly atMs: number
  readonly order: number
  readonly what: T
}

/** Binary heap of events, earliest first. */
export class EventQueue<T> {
  readonly #heap: ScheduledEvent<T>[] = []
  #order = 0

  push(atMs: number, what: T): void {
    const heap = this.#heap
    const event = { atMs, order: this.#order++, what }
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above] as ScheduledEvent<T>
      if (!before(event, parent)) break
      heap[at] = parent
      at = above
    }
    heap[at] = event
  }

  pop(): ScheduledEvent<T> | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= heap.length) break
      if (
        below + 1 < heap.length &&
        before(heap[below + 1] as ScheduledEvent<T>, heap[below] as ScheduledEvent<T>)
      )
        below++
      const child = heap[below] as ScheduledEvent<T>
      if (!before(child, last)) break
      heap[at] = child
      at = below
    }
    heap[at] = last
    return first
  }
}

function before<T>(left: ScheduledEvent<T>, right: ScheduledEvent<T>): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order)
}

import { StoreError } from './errors.ts'

/**
 * A hand-over of mastership, as whoever asked for it sees it: from the question to the moment at which another member is
 * master, or it is clear that none will be.
 *
 * Invariant: settled once.
 */
export class Handover {
  readonly done: Promise<string>
  readonly #endMs: number
  #resolve: (nodeId: string) => void = () => undefined
  #reject: (error: Error) => void = () => undefined

  /** @param endMs - When it is given up to wait for a new master. */
  constructor(endMs: number) {
    this.#endMs = endMs
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /**
   * @param leader - Who is master now, as far as this node knows; itself as long as it has not given up.
   * @returns Whether it is over.
   */
  observe(leader: string | undefined, self: string, nowMs: number): boolean {
    if (leader !== undefined && leader !== self) this.#resolve(leader)
    else if (nowMs >= this.#endMs) this.failed('no other member became master in time')
    else return false
    return true
  }

  failed(reason: string): void {
    this.#reject(refusedTransfer(reason))
  }
}

export function refusedTransfer(reason: string): StoreError {
  return new StoreError(
    { code: 'STORE_CHANGE_REFUSED', change: 'transfer' },
    `mastership is not handed over: ${reason}`,
  )
}

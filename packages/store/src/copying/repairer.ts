import type { Clock, Timer } from '../io/clock.ts'
import type { Damage } from '../journal/damage.ts'
import type { Journal } from '../journal/journal.ts'
import type { StoreHost } from '../store-factory.ts'

/** Without an answer for so long the next member is asked. */
const answerMs = 5_000
/** When no member has what is needed, all are asked again after this. */
const againMs = 1_000

export interface RepairerParts {
  readonly journal: Pick<Journal, 'damage' | 'repair'>
  readonly clock: Clock
  /** The members that are connected, in any role. */
  readonly members: () => readonly string[]
  /** Asks a member for the batches that hold these records. */
  readonly ask: (nodeId: string, fromIndex: number, toIndex: number) => void
  /** No member that is connected has what is missing; they are asked again all the same. */
  readonly inVain: () => void
  readonly log: StoreHost['log']
}

/**
 * Fills damaged places of the journal with what other members hold there (rule S27).
 *
 * Whoever gives the batches, they are the right ones: the journal takes only what chains to the sound batches on both sides. So any
 * member will do, in any role, and no master is needed.
 *
 * Invariants: one request is open at a time; nothing is given up: as long as no member has what is missing, they are asked again.
 */
export class Repairer {
  readonly #parts: RepairerParts
  #damage: Damage | undefined
  /** Settles when everything is sound again. */
  #whole: PromiseWithResolvers<void> | undefined
  /** The member that was asked, and those that were asked in vain for this place. */
  #asked: string | undefined
  readonly #inVain = new Set<string>()
  #timer: Timer | undefined
  #writing = false
  #closed = false
  #repaired = 0

  constructor(parts: RepairerParts) {
    this.#parts = parts
  }

  /** What is being repaired. */
  get damage(): Damage | undefined {
    return this.#damage
  }
  /** Places repaired so far. */
  get repaired(): number {
    return this.#repaired
  }

  /** Sees to what is damaged, if anything is; resolves when the journal is sound, and never after `close`. */
  repair(): Promise<void> {
    if (this.#whole !== undefined) return this.#whole.promise
    const { damage } = this.#parts.journal
    if (damage === undefined) return Promise.resolve()
    this.#whole = Promise.withResolvers()
    this.#begin(damage)
    return this.#whole.promise
  }

  /** A member answered; `undefined` if it does not have them intact either. */
  received(nodeId: string, batches: Buffer | undefined): void {
    const damage = this.#damage
    if (damage === undefined || nodeId !== this.#asked || this.#closed) return
    this.#asked = undefined
    this.#stopWaiting()
    if (batches === undefined || batches.length === 0) {
      this.#inVain.add(nodeId)
      this.#ask()
    } else void this.#write(damage, nodeId, batches)
  }

  /** A member is there (again): it may have what the others have not. */
  connected(nodeId: string): void {
    this.#inVain.delete(nodeId)
    if (this.#asked === undefined) this.#ask()
  }

  lost(nodeId: string): void {
    if (nodeId !== this.#asked) return
    this.#asked = undefined
    this.#ask()
  }

  close(): void {
    this.#closed = true
    this.#stopWaiting()
  }

  #begin(damage: Damage): void {
    const { file, offset, fromIndex, toIndex } = damage
    if (damage.file !== this.#damage?.file || damage.toIndex !== this.#damage.toIndex)
      this.#parts.log(
        'error',
        `records ${fromIndex} to ${toIndex} are damaged: asking the other members for them`,
        {
          file,
          offset,
        },
      )
    this.#damage = damage
    this.#inVain.clear()
    this.#ask()
  }

  #ask(): void {
    this.#stopWaiting()
    const damage = this.#damage
    if (this.#closed || this.#writing || damage === undefined) return
    const nodeId = this.#parts.members().find((each) => !this.#inVain.has(each))
    if (nodeId === undefined) {
      if (this.#inVain.size > 0) this.#parts.inVain()
      this.#timer = this.#parts.clock.setTimer(againMs, () => {
        this.#inVain.clear()
        this.#ask()
      })
      return
    }
    this.#asked = nodeId
    this.#timer = this.#parts.clock.setTimer(answerMs, () => {
      this.#inVain.add(nodeId)
      this.#asked = undefined
      this.#ask()
    })
    this.#parts.ask(nodeId, damage.fromIndex, damage.toIndex)
  }

  async #write(damage: Damage, nodeId: string, batches: Buffer): Promise<void> {
    const { journal, log } = this.#parts
    this.#writing = true
    let next: Damage | undefined
    try {
      next = await journal.repair(damage, batches)
    } catch (error) {
      this.#writing = false
      // Whatever else fails ends the process through the journal's listener.
      if (!(error instanceof RangeError) || this.#closed) return
      log('error', `what was given for the damaged records does not belong there: ${error.message}`, {
        nodeId,
      })
      this.#inVain.add(nodeId)
      this.#ask()
      return
    }
    this.#writing = false
    if (next?.file !== damage.file || next.toIndex !== damage.toIndex) {
      this.#repaired++
      log('warn', `records up to ${damage.toIndex} are repaired`, { nodeId, file: damage.file })
    }
    if (this.#closed) return
    if (next !== undefined) {
      this.#begin(next)
      return
    }
    this.#damage = undefined
    const whole = this.#whole
    this.#whole = undefined
    whole?.resolve()
  }

  #stopWaiting(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }
}

import type { Effect } from './effect.ts'
import type { ConsensusMessage } from './message.ts'

/**
 * The effects of the event in hand, which the parts of the core add to.
 *
 * Invariant: they leave in the order in which they were added, each once.
 */
export class PendingEffects {
  #effects: Effect[] = []

  push(...effects: readonly Effect[]): void {
    this.#effects.push(...effects)
  }

  send(to: string, message: ConsensusMessage): void {
    this.#effects.push({ type: 'send', to, message })
  }

  take(): readonly Effect[] {
    if (this.#effects.length === 0) return nothing
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}

const nothing: readonly Effect[] = []

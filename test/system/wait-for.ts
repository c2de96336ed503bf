import { setTimeout as sleep } from 'node:timers/promises'

export interface WaitOptions {
  /** @defaultValue 10000 */
  readonly timeoutMs?: number
  /** @defaultValue 15 */
  readonly intervalMs?: number
}

/** Thrown by a probe: what is waited for cannot come any more. */
export class Hopeless extends Error {}

/**
 * Waits until `probe` gives something other than `undefined` or `false`, and returns it. The one place in these tests
 * that sleeps: everything waits for a condition, never for a duration.
 *
 * @param what - Completes the sentence "waited … for".
 * @param probe - May throw: that counts as "not yet", and is told if the time runs out; but {@link Hopeless} ends the wait.
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 10_000, intervalMs = 15 }: WaitOptions = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  let fault: unknown
  for (;;) {
    try {
      const result = await probe()
      if (result !== undefined && result !== false) return result
      fault = undefined
    } catch (error) {
      if (error instanceof Hopeless) throw error
      fault = error
    }
    if (performance.now() >= deadline) {
      throw new Error(`waited ${timeoutMs} ms for ${what}`, fault === undefined ? {} : { cause: fault })
    }
    await sleep(intervalMs)
  }
}

/**
 * Looks again and again whether something that must not happen does not, for as long as the product's own timeouts
 * would need to make it happen. `check` throws if it happened.
 */
export async function holdsFor(
  durationMs: number,
  check: () => void | Promise<void>,
  intervalMs = 15,
): Promise<void> {
  const end = performance.now() + durationMs
  while (performance.now() < end) {
    await check()
    await sleep(intervalMs)
  }
}

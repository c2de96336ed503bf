/** Randomness, as the store sees it: passed in, so that a simulation can draw all of it from one seed. */
export interface Random {
  /** A number in [0, 1). */
  fraction(): number
  /** A version 4 UUID in lower case. */
  uuid(): string
  /** `count` unpredictable bytes, for challenges. */
  bytes(count: number): Uint8Array
}

import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import type { Random } from '../random.ts'

/** The operating system's randomness. */
export class SystemRandom implements Random {
  fraction(): number {
    return randomInt(2 ** 47) / 2 ** 47
  }

  uuid(): string {
    return randomUUID()
  }

  bytes(count: number): Uint8Array {
    return randomBytes(count)
  }
}

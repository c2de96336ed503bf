import type { NetworkAbility } from '../hosts/host-network.ts'
import type { World } from '../world.ts'

/** What a fault needs that not every run has. */
export type Need =
  | NetworkAbility
  | 'raft'
  | 'zookeeper'
  | 'five brokers'
  | 'spare brokers'
  /** Disks of their own for brokers: root and loop devices. */
  | 'volumes'

/** A fault: breaks something, holds it for a while, and leaves what is left to {@link World.heal}. */
export interface Fault {
  /** Its number in the catalogue: `N1`. */
  readonly id: string
  readonly name: string
  /** For `--help`. */
  readonly summary: string
  /** Faults of different kinds may overlap, if they have the two kinds that may. */
  readonly kind: 'process' | 'network' | 'disk' | 'operation' | 'zookeeper'
  readonly needs?: readonly Need[]
  /** @returns Whom it hit and what came of it, for the line of the report. */
  strike(world: World): Promise<Struck>
}

export interface Struck {
  readonly target: string
  readonly outcome: string
}

export const list = (numbers: readonly number[]): string => numbers.map((n) => `b${n}`).join(' ')

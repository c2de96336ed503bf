import { damageFaults } from './faults/damage.ts'
import { diskFaults } from './faults/disk.ts'
import type { Fault, Need } from './faults/fault.ts'
import { networkFaults } from './faults/network.ts'
import { operationFaults } from './faults/operation.ts'
import { processFaults } from './faults/process.ts'
import { zooKeeperFaults } from './faults/zookeeper.ts'

export const allFaults: readonly Fault[] = [
  ...processFaults,
  ...networkFaults,
  ...diskFaults,
  ...damageFaults,
  ...operationFaults,
  ...zooKeeperFaults,
].sort((a, b) => Number.parseInt(a.id.slice(1), 10) - Number.parseInt(b.id.slice(1), 10))

/** What a fault lacks on a machine or in a run; empty if it can be. */
export function lacks(fault: Fault, abilities: ReadonlySet<Need>): Need[] {
  return (fault.needs ?? []).filter((need) => !abilities.has(need))
}

/** Numbers of the catalogue that are not here, and why. */
const missing: readonly (readonly [string, string])[] = [
  ['N7', 'kill at a failpoint: by the simulation of the store'],
  ['N21-N24', 'clocks: by the simulation'],
  ['N26, N27, N30, N31', 'torn, reordered, misplaced and lying writes: by the simulation'],
  ['N37, N38', 'old and copied directories: by the simulation of the store'],
  ['N40, N46, N47', 'upgrade, certificates, log removal during catch-up: not yet'],
]

export function describeFaults(): string {
  const width = Math.max(...allFaults.map(({ name }) => name.length))
  return [
    'Faults:',
    ...allFaults.map(({ id, name, summary, needs }) => {
      const condition = needs === undefined ? '' : ` [${needs.join(', ')}]`
      return `  ${id.padEnd(5)} ${name.padEnd(width)}  ${summary}${condition}`
    }),
    'Not covered:',
    ...missing.map(([ids, why]) => `  ${ids}: ${why}`),
  ].join('\n')
}

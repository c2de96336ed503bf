import type { LevelRange } from './store-administration.ts'
import type { Voter } from './store-identity.ts'

/**
 * The levels of the log's format that this release can work with (rule S36). A cluster uses one of them, which its
 * configuration says; a release that brings another keeps the old one, so that members can be upgraded one by one, and
 * go back until an operator finalises the level.
 */
export const supportedLevels: LevelRange = { lowest: 1, highest: 1 }

/**
 * Why a cluster cannot be raised to a level; `undefined` if all its voters are known to work with it.
 *
 * @param level - The one that is wanted.
 * @param current - The one that the cluster uses.
 * @param levelsOf - What the release of a voter can work with; `undefined` for one that is not connected.
 */
export function levelObstacle(
  level: number,
  current: number,
  voters: readonly Voter[],
  levelsOf: (voter: Voter) => LevelRange | undefined,
): string | undefined {
  if (level === current) return `the cluster uses level ${level} already`
  if (level < current) return `the cluster uses level ${current}, and there is no way back to ${level}`
  const problems = voters.flatMap((voter) => {
    const levels = levelsOf(voter)
    if (levels === undefined) return [`${voter.nodeId} is not connected`]
    if (level >= levels.lowest && level <= levels.highest) return []
    return [`${voter.nodeId} supports levels ${levels.lowest} to ${levels.highest}`]
  })
  return problems.length === 0
    ? undefined
    : `level ${level} has to be supported by all voters: ${problems.join(', ')}`
}

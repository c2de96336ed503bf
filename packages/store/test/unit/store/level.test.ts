import { describe, expect, test } from 'vitest'
import { levelObstacle } from '../../../src/level.ts'

const voters = ['a', 'b', 'c'].map((nodeId) => ({ nodeId, storeUuid: `store-${nodeId}` }))

describe('level (S36)', () => {
  test.each<[string, number, readonly (number | undefined)[], RegExp | undefined]>([
    ['all support it', 2, [2, 3, 2], undefined],
    ['one voter does not', 2, [2, 1, 2], /supported by all voters: b supports levels 1 to 1$/],
    ['one voter is away', 2, [2, 2, undefined], /c is not connected$/],
    ['several do not', 3, [2, undefined, 3], /a supports levels 1 to 2, b is not connected$/],
    ['it is used already', 1, [2, 2, 2], /uses level 1 already/],
    ['it is a lower one', 0, [2, 2, 2], /no way back to 0/],
  ])('%s', (_name, level, highest, reason) => {
    const obstacle = levelObstacle(level, 1, voters, ({ nodeId }) => {
      const most = highest['abc'.indexOf(nodeId)]
      return most === undefined ? undefined : { lowest: 1, highest: most }
    })
    if (reason === undefined) expect(obstacle).toBeUndefined()
    else expect(obstacle).toMatch(reason)
  })
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { IndexSet } from '../../../src/message-index/index-set.ts'

test('index set: agrees with a set of numbers', () => {
  const index = fc.oneof(fc.nat(300), fc.integer({ min: 2 ** 40, max: 2 ** 40 + 100 }))
  fc.assert(
    fc.property(fc.array(fc.record({ index, isAdded: fc.boolean() })), (steps) => {
      const set = new IndexSet()
      const model = new Set<number>()
      for (const { index, isAdded } of steps) {
        expect(set.has(index)).toBe(model.has(index))
        if (isAdded) {
          set.add(index)
          model.add(index)
        } else {
          expect(set.delete(index)).toBe(model.delete(index))
        }
      }
    }),
  )
})

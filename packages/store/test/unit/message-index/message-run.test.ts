import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MessageRun } from '../../../src/message-index/message-run.ts'

test('run: agrees with a map, whatever is added and removed', () => {
  const command = fc.record({
    kind: fc.constantFrom('add', 'add', 'remove', 'removeFirst', 'count'),
    pick: fc.nat(),
    step: fc.integer({ min: 1, max: 3 }),
  })
  fc.assert(
    fc.property(fc.array(command, { maxLength: 300 }), fc.nat(2 ** 40), (commands, base) => {
      const run = new MessageRun()
      const model = new Map<number, { index: number; bytes: number; redeliveryCount: number }>()
      let last = base
      for (const { kind, pick, step } of commands) {
        const index =
          kind === 'removeFirst' ? ([...model.keys()][0] ?? base) : base + (pick % (last - base + 2))
        if (kind === 'add') {
          last += step
          run.add(last, pick % 1000)
          model.set(last, { index: last, bytes: pick % 1000, redeliveryCount: 0 })
        } else if (kind === 'count') {
          const entry = model.get(index)
          expect(run.setRedeliveries(index, step)).toBe(entry !== undefined)
          if (entry !== undefined) entry.redeliveryCount = step
        } else {
          expect(run.has(index)).toBe(model.has(index))
          expect(run.remove(index)).toBe(model.delete(index))
        }
        expect(run.size).toBe(model.size)
        expect(run.first).toBe([...model.keys()][0])
      }
      expect(run.entries()).toEqual([...model.values()])
    }),
  )
})

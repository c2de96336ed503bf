import { expect, test } from 'vitest'
import { type PagePlan, QueueOverlay, type Reach } from '../../../src/message-index/overlay.ts'

/** An overlay with messages 1 to 10 in LevelDB, 11 to 13 in the flushing generation, 21 and 22 in the active one. */
function threePlaces(): { overlay: QueueOverlay; reach: Reach } {
  const reach: Reach = { storedTo: 10, frozenTo: 10 }
  const overlay = new QueueOverlay(reach, 3)
  for (const index of [11, 12, 13]) overlay.add(index, index)
  overlay.remove(5, 14)
  overlay.countRedelivery(6, 1, 15)
  overlay.freeze()
  reach.frozenTo = 20
  for (const index of [21, 22]) overlay.add(index, index)
  return { overlay, reach }
}

function inMemory(plan: PagePlan): number[] {
  return plan.inMemory.map((entry) => entry.index)
}

test('overlay: a page reads LevelDB only where neither generation has it', () => {
  const { overlay } = threePlaces()
  const plan = overlay.page(0, 10, 22)
  expect(plan).toMatchObject({ from: 3, to: 10 })
  expect(inMemory(plan)).toEqual([11, 12, 13, 21, 22])
  expect(overlay.page(7, 2, 22)).toMatchObject({ from: 8, to: 10 })
  expect(inMemory(overlay.page(11, 2, 22))).toEqual([12, 13])
  expect(inMemory(overlay.page(13, 9, 22))).toEqual([21, 22])
})

test('overlay: both generations filter what LevelDB still has', () => {
  const { overlay } = threePlaces()
  overlay.remove(7, 23)
  const plan = overlay.page(0, 10, 23)
  expect([3, 4, 5, 6, 7, 8].filter((index) => plan.survives(index))).toEqual([3, 4, 6, 8])
  overlay.remove(8, 24)
  expect(plan.survives(8), 'not what was removed after the call').toBe(true)
})

test('overlay: the active generation overrides the flushing one', () => {
  const { overlay } = threePlaces()
  expect(overlay.remove(11, 23)).toBe('recorded')
  overlay.countRedelivery(12, 4, 24)
  overlay.countRedelivery(6, 2, 25)
  const plan = overlay.page(0, 10, 25)
  expect(plan.inMemory).toEqual([
    { index: 12, bytes: 12, redeliveryCount: 4 },
    { index: 13, bytes: 13, redeliveryCount: 0 },
    { index: 21, bytes: 21, redeliveryCount: 0 },
    { index: 22, bytes: 22, redeliveryCount: 0 },
  ])
  overlay.countRedelivery(6, 9, 26)
  expect([5, 6, 7].map((index) => plan.redeliveries(index))).toEqual([undefined, 2, undefined])
})

test('overlay: a removal is taken once, wherever the message is', () => {
  const { overlay } = threePlaces()
  expect([4, 12, 21].map((index) => overlay.remove(index, 23))).toEqual(['recorded', 'recorded', 'cancelled'])
  expect([4, 12, 21].map((index) => overlay.remove(index, 24))).toEqual(['none', 'none', 'none'])
  expect(overlay.remove(5, 24), 'removed in the flushing generation').toBe('none')
  expect(overlay.remove(2, 24), 'below the low mark').toBe('none')
  expect(overlay.remove(15, 24), 'no message of this queue').toBe('none')
  expect(overlay.remove(99, 24), 'above the log').toBe('none')
})

test('overlay: what was flushed is LevelDB’s afterwards', () => {
  const { overlay, reach } = threePlaces()
  overlay.remove(12, 23)
  overlay.retire(3)
  reach.storedTo = reach.frozenTo
  const plan = overlay.page(0, 10, 23)
  expect(plan).toMatchObject({ from: 3, to: 20 })
  expect([11, 12, 13].filter((index) => plan.survives(index))).toEqual([11, 13])
  expect(inMemory(plan)).toEqual([21, 22])
})

test('overlay: nothing is read from LevelDB for a queue that has nothing there', () => {
  const overlay = new QueueOverlay({ storedTo: 10, frozenTo: 10 }, 0)
  const { from, to } = overlay.page(0, 10, 10)
  expect(from).toBeGreaterThan(to)
  expect(overlay.remove(5, 11)).toBe('none')
})

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { BatchChain } from '@levelmq/testkit'
import { expect, test, vi } from 'vitest'
import { Window } from '../../../src/journal/window.ts'

test('window: what is dropped is given back to the system, not only left out of the count', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const window = new Window(1)
  const chain = new BatchChain()
  const dropped = [1, 2, 3].map(() => {
    const { bytes, firstIndex, lastIndex } = chain.next({ kind: 'queueAdded', name: 'q' })
    window.push({ bytes, firstIndex, lastIndex })
    return new WeakRef(bytes)
  })
  window.drop(2)
  expect(window.firstIndex).toBe(3)
  await vi.waitFor(() => {
    collect()
    expect(dropped.map((bytes) => bytes.deref() === undefined)).toEqual([true, true, false])
  })
  window.truncate(0)
})

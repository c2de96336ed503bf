import fc from 'fast-check'
import { expect, test } from 'vitest'
import { GapWindow } from '../../../src/message-index/sequence-window.ts'

function windowWith(maxGaps: number, ...sequences: number[]): GapWindow {
  const window = new GapWindow(maxGaps)
  for (const sequence of sequences) window.add(sequence)
  return window
}

function seenUpTo(limit: number, window: GapWindow): number[] {
  return Array.from({ length: limit }, (_, place) => place + 1).filter((sequence) => window.has(sequence))
}

test('window: nothing is seen at first', () => {
  expect(seenUpTo(5, new GapWindow(4))).toEqual([])
})

test('window: the first number leaves no gap below it', () => {
  expect(seenUpTo(5, windowWith(4, 3))).toEqual([1, 2, 3])
})

test('window: a gap is filled by what comes later, from either end or in the middle', () => {
  expect(seenUpTo(9, windowWith(4, 1, 8))).toEqual([1, 8])
  expect(seenUpTo(9, windowWith(4, 1, 8, 2))).toEqual([1, 2, 8])
  expect(seenUpTo(9, windowWith(4, 1, 8, 7))).toEqual([1, 7, 8])
  expect(seenUpTo(9, windowWith(4, 1, 8, 4))).toEqual([1, 4, 8])
  expect(seenUpTo(9, windowWith(4, 1, 3, 2))).toEqual([1, 2, 3])
})

test('window: numbers in a forgotten gap count as seen', () => {
  expect(seenUpTo(9, windowWith(2, 1, 3, 5, 7))).toEqual([1, 2, 3, 5, 7])
  expect(seenUpTo(9, windowWith(1, 1, 8, 4)), 'a split forgets the lower part').toEqual([1, 2, 3, 4, 8])
  expect(seenUpTo(5, windowWith(0, 1, 5))).toEqual([1, 2, 3, 4, 5])
})

test('window: agrees with the set of numbers not seen, and survives encoding', () => {
  const sequences = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 80 })
  fc.assert(
    fc.property(sequences, fc.integer({ min: 0, max: 5 }), (added, maxGaps) => {
      let window = new GapWindow(maxGaps)
      const model = new SetWindow(maxGaps)
      for (const sequence of added) {
        window.add(sequence)
        model.add(sequence)
        const bytes = Buffer.alloc(window.encodedBytes + 3)
        expect(window.encode(bytes, 3)).toBe(bytes.length)
        window = GapWindow.decode(bytes, 3, maxGaps)
        for (let number = 1; number <= 62; number++) expect(window.has(number)).toBe(model.has(number))
      }
    }),
  )
})

/** The contract, number by number. */
class SetWindow {
  #highest = 0
  readonly #missing = new Set<number>()
  readonly #maxGaps: number

  constructor(maxGaps: number) {
    this.#maxGaps = maxGaps
  }

  has(sequence: number): boolean {
    return sequence <= this.#highest && !this.#missing.has(sequence)
  }

  add(sequence: number): void {
    if (this.#highest > 0)
      for (let number = this.#highest + 1; number < sequence; number++) this.#missing.add(number)
    this.#missing.delete(sequence)
    this.#highest = Math.max(this.#highest, sequence)
    while (this.#gapStarts().length > this.#maxGaps) {
      for (let number = Math.min(...this.#missing); this.#missing.has(number); number++)
        this.#missing.delete(number)
    }
  }

  #gapStarts(): number[] {
    return [...this.#missing].filter((number) => !this.#missing.has(number - 1))
  }
}

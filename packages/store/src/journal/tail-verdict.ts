import type { SegmentRest } from './segment-scan.ts'

/** A place in the log. */
export interface Position {
  readonly epoch: number
  readonly index: number
}

/**
 * What damage behind the last sound record of the log is (rule S27):
 *
 * - `torn`: the last group was never whole, so nobody was told that it is durable. It is cut.
 * - `proven`: records up to `durableTo` were durable once. They are damaged, and have to be repaired.
 * - `doubtful`: the last group was whole, or torn in an unlucky order. It may have been acknowledged up to `owed`.
 */
export type TailVerdict =
  | { readonly kind: 'torn' }
  | { readonly kind: 'proven'; readonly durableTo: number }
  | { readonly kind: 'doubtful'; readonly owed: Position }

/**
 * @param lastIndex - The last sound record.
 * @param rest - What lies behind it in the last segment.
 * @param durableTo - What is known from elsewhere to have been durable.
 */
export function judgeTail(lastIndex: number, rest: SegmentRest, durableTo: number): TailVerdict {
  const ends = rest.endMarks.filter((mark) => mark.lastIndex > lastIndex)
  // A group is begun only after the one before it was synced: with two ends behind, the first was durable.
  const groupBefore = ends.at(-2)?.lastIndex ?? 0
  const proven = Math.max(durableTo, rest.highestMark, groupBefore)
  if (proven > lastIndex || rest.highestMark === lastIndex) return { kind: 'proven', durableTo: proven }
  const end = ends.at(-1)
  if (end === undefined) return { kind: 'torn' }
  return { kind: 'doubtful', owed: { epoch: end.epoch, index: end.lastIndex } }
}

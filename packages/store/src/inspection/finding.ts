/**
 * What a finding means for whoever wants to start the store.
 *
 * - `corrupt`: what was durable once is damaged or gone. The store does not start, or fails when it comes to read it.
 * - `index rebuilt`: the index is damaged, and the next start builds it anew from the journal. Nothing is lost.
 * - `index wrong`: the index contradicts the journal or cannot be used, and the next start would not put that right.
 *   Delete the directory `index`; the next start builds it anew.
 * - `doubtful`: the last write is damaged, and nobody can tell whether it was durable. The next start cuts it; a member
 *   of a cluster gets it from the others, and does not stand for election before. Without others it may be lost.
 * - `mended`: an interrupted write left it so; the next start puts it right, and nothing that counted is lost.
 * - `note`: worth knowing.
 */
export type Meaning = 'corrupt' | 'index rebuilt' | 'index wrong' | 'doubtful' | 'mended' | 'note'

/** Something that is not as an orderly stop leaves it. */
export interface Finding {
  readonly meaning: Meaning
  readonly file: string
  /** In bytes within the file; `undefined` where it is about no single place. */
  readonly offset: number | undefined
  /** The first record that it concerns. */
  readonly index: number | undefined
  /** For people; may change. */
  readonly what: string
}

const mostOfOneKind = 100

/** Whether a store with this finding is damaged: what an interrupted write explains is no damage. */
export function isDamage({ meaning }: Pick<Finding, 'meaning'>): boolean {
  return meaning !== 'mended' && meaning !== 'note'
}

/** Gathers findings; of one meaning in one file only the first hundred are kept, the others are counted. */
export class Findings {
  readonly kept: Finding[] = []
  /** Those not kept. */
  omitted = 0
  readonly #counts = new Map<string, number>()
  #damaged = false

  get damaged(): boolean {
    return this.#damaged
  }

  add(meaning: Meaning, file: string, what: string, offset?: number, index?: number): void {
    const finding: Finding = { meaning, file, offset, index, what }
    this.#damaged ||= isDamage(finding)
    const kind = `${meaning} ${file}`
    const count = this.#counts.get(kind) ?? 0
    this.#counts.set(kind, count + 1)
    if (count < mostOfOneKind) this.kept.push(finding)
    else this.omitted++
  }
}

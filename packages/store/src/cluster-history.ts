import type { Cluster } from './store-identity.ts'

/**
 * What the configurations in the own log say, the last one being in force, committed or not.
 *
 * Invariant: it follows the log: what is appended is added, what is truncated is taken back. The first entry is what the cluster was
 * founded with, or what is committed, and stays.
 */
export class ClusterHistory {
  readonly #entries: { readonly index: number; readonly cluster: Cluster }[]
  readonly #founded: Cluster

  /** @param found - In the recovered log, in order. */
  constructor(founded: Cluster, found: readonly { readonly index: number; readonly cluster: Cluster }[]) {
    this.#founded = founded
    this.#entries = [...found]
  }

  get current(): Cluster {
    return this.#entries.at(-1)?.cluster ?? this.#founded
  }

  append(index: number, cluster: Cluster): void {
    // Configurations of an earlier cluster, which this one was restored or recovered from, count no more.
    if (cluster.uuid === this.#founded.uuid) this.#entries.push({ index, cluster })
  }

  truncate(index: number): void {
    while ((this.#entries.at(-1)?.index ?? 0) > index) this.#entries.pop()
  }
}

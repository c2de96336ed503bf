import { type FlavourName, flavoured } from './flavours.ts'
import { type Edit, plant } from './planting.ts'

/** A broken rule, planted into whole stores to see that their simulation finds it. */
export interface Mutant {
  readonly name: string
  /** The rule that it breaks; H1 to H8 are the habits of the design that this one follows. */
  readonly rule: string
  /** What the habit would be here, where that needs saying. */
  readonly note?: string
  readonly edits: readonly Edit[]
  /** Faults that are likely to show it. @defaultValue whatever a seed draws */
  readonly flavour?: FlavourName
  /** Seeds, from 1 on, within which it must be found. */
  readonly within: number
}

export const mutants: readonly Mutant[] = [
  {
    name: 'confirms what is in memory only',
    rule: 'H1',
    edits: [
      {
        file: 'journal/segment-set.ts',
        find: "    await orDiskFailed('sync', this.last.path, file.sync())\n",
        replace: '    void file\n',
      },
    ],
    within: 10,
  },
  {
    name: 'elects the longest log, whatever its epochs',
    rule: 'H2',
    edits: [
      {
        file: 'consensus/log-tail.ts',
        find: 'return covers({ epoch: lastEpoch, index: lastIndex }, this.end)',
        replace: 'return lastEpoch >= 0 && lastIndex >= this.#lastIndex',
      },
    ],
    flavour: 'coups',
    within: 40,
  },
  {
    name: 'elects only once every voter has answered',
    rule: 'H3',
    edits: [
      {
        file: 'consensus/campaign.ts',
        find: 'return this.#granted.size + more >= this.#electorate.quorum',
        replace: 'return this.#granted.size + more >= 2 * this.#electorate.quorum - 1',
      },
    ],
    within: 20,
  },
  {
    name: 'counts an empty directory as the voter it replaces',
    rule: 'H4',
    edits: [
      {
        file: 'consensus/electorate.ts',
        find: 'voter.nodeId === nodeId && voter.storeUuid === storeUuid',
        replace: 'voter.nodeId === nodeId',
      },
    ],
    flavour: 'wipes',
    within: 40,
  },
  {
    name: 'drops what it does not know to be committed when it attaches to a new master',
    rule: 'H5',
    note: 'nothing here deletes a store to copy it anew; the part of it that the new master may lack is the nearest',
    edits: [
      {
        file: 'consensus/consensus.ts',
        find: 'this.#follow(following)\n    }',
        replace:
          'this.#follow(following)\n      if (this.#tail.lastIndex > this.#tail.commitIndex) { const index = this.#tail.commitIndex; this.#tail.truncate(index); this.#effects.push({ type: "truncate", index }) }\n    }',
      },
    ],
    flavour: 'coups',
    within: 400,
  },
  {
    name: 'cuts the log at the first damage',
    rule: 'H6',
    edits: [
      {
        file: 'journal/survey.ts',
        find: "if (verdict.kind === 'proven')\n",
        replace: "if (verdict.kind === 'proven' && lastIndex < 0)\n",
      },
    ],
    flavour: 'rot',
    within: 60,
  },
  {
    name: 'acknowledges what it has received, not what it has synced',
    rule: 'H7',
    edits: [
      {
        file: 'consensus/following.ts',
        find: 'durableIndex: Math.min(this.#tail.durableIndex, this.#verifiedIndex)',
        replace: 'durableIndex: this.#verifiedIndex',
      },
    ],
    within: 20,
  },
  {
    name: 'waits for a majority for ever',
    rule: 'H8',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: 'return nowMs - Math.max(answered, this.#ledSinceMs) >= this.#options.electionTimeoutMs',
        replace: 'return answered > nowMs',
      },
    ],
    within: 20,
  },
  {
    name: 'cuts at the durable mark when it recovers',
    rule: 'S29',
    edits: [
      {
        file: 'journal/survey.ts',
        find: '    this.unprovenOffset = lastMark.offset\n',
        replace:
          '    this.unprovenOffset = lastMark.offset\n    Object.assign(this, { provenIndex: lastMark.durableIndex })\n',
      },
      {
        file: 'journal/recovery.ts',
        find: '  await survey.run()\n',
        replace:
          '  await survey.run()\n  const proven = (survey as unknown as { provenIndex?: number }).provenIndex\n  if (!("again" in options) && survey.damage === undefined && proven !== undefined && proven >= Math.max(1, verifiedTo) && proven < survey.tail.lastIndex) {\n    await noteTruncation(disk, directory, proven)\n    return recover(disk, directory, verifiedTo, epochStarts, { ...options, again: true } as never)\n  }\n',
      },
      {
        file: 'journal/recovery.ts',
        find: "from './truncation.ts'",
        replace: "from './truncation.ts'\nimport { noteTruncation } from './truncation.ts'",
      },
    ],
    within: 20,
  },
  {
    name: 'counts its own sync before it is done',
    rule: 'S6',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: '(progress) => progress.durableIndex, durableIndex, this.#electorate.quorum',
        replace: '(progress) => progress.durableIndex, this.#tail.lastIndex, this.#electorate.quorum',
      },
    ],
    within: 20,
  },
  {
    name: 'commits with one acknowledgement too few',
    rule: 'S6',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: '(progress) => progress.durableIndex, durableIndex, this.#electorate.quorum',
        replace:
          '(progress) => progress.durableIndex, durableIndex, Math.max(1, this.#electorate.quorum - 1)',
      },
    ],
    within: 20,
  },
  {
    name: 'stands without asking first whether it could win',
    rule: 'S4',
    edits: [
      {
        file: 'consensus/consensus.ts',
        find: 'else if (this.#electorate.alone) this.#promiseToSelf(campaign)',
        replace: 'else if (this.#electorate.nodeId.length > 0) this.#promiseToSelf(campaign)',
      },
    ],
    flavour: 'victim',
    within: 10,
  },
  {
    name: 'votes without a sync',
    rule: 'S2',
    edits: [
      {
        file: 'consensus/promise-file.ts',
        find: "      await orDiskFailed('sync', this.#path, this.#file.sync())\n",
        replace: '',
      },
    ],
    flavour: 'cache',
    within: 100,
  },
  {
    name: 'forgets its promise when it starts again',
    rule: 'S2',
    edits: [
      {
        file: 'consensus/promise-file.ts',
        find: 'const promise = { epoch: best?.epoch ?? 0, votedFor: best?.votedFor, owed: best?.owed }',
        replace: 'const promise = { epoch: 0, votedFor: undefined, owed: undefined }; void best',
      },
    ],
    flavour: 'cache',
    within: 200,
  },
  {
    name: 'accepts appends of an older epoch',
    rule: 'S3',
    edits: [
      {
        file: 'consensus/consensus.ts',
        find: 'if (message.epoch < this.#promise.epoch) {',
        replace: 'if (message.epoch < 0) {',
      },
    ],
    flavour: 'failovers',
    within: 30,
  },
  {
    name: 'commits records of an older epoch by count',
    rule: 'S5',
    note: 'needs a chain of short masterships; the simulation of the core finds it, within the seeds it states',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: 'if (held > commitIndex && held >= start.first) {',
        replace: 'if (held > commitIndex) {',
      },
    ],
    within: 0,
  },
  {
    name: 'serves before it committed a record of its epoch',
    rule: 'S5',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: 'if (held > commitIndex && held >= start.first) {',
        replace: 'if (held >= 0) {',
      },
      {
        file: 'consensus/leadership.ts',
        find: '!this.#serving && held >= start.last',
        replace: '!this.#serving',
      },
    ],
    within: 20,
  },
  {
    name: 'applies records before they are committed',
    rule: 'S7',
    edits: [
      {
        file: 'replica.ts',
        find: '    this.#applier.keep(bytes, first.firstIndex, last.lastIndex)\n',
        replace:
          '    this.#applier.keep(bytes, first.firstIndex, last.lastIndex)\n    this.#applier.committed(last.lastIndex)\n',
      },
    ],
    within: 20,
  },
  {
    name: 'applies whatever follows on a committed record',
    rule: 'S7',
    edits: [
      {
        file: 'applier.ts',
        find: 'batches.firstIndex > next || batches.lastIndex > this.#commitIndex',
        replace: 'batches.firstIndex > next',
      },
    ],
    flavour: 'coups',
    within: 40,
  },
  {
    name: 'checkpoints an index that is ahead of its own disk',
    rule: 'S7',
    edits: [
      {
        file: 'applier.ts',
        find: 'this.#checkpointDue = this.#log.durableIndex < this.#index.appliedIndex',
        replace: 'this.#checkpointDue = false',
      },
    ],
    within: 50,
  },
  {
    name: 'does not compare epochs where two logs meet',
    rule: 'S7',
    edits: [
      {
        file: 'consensus/following.ts',
        find: 'if (!this.#tail.holds(message.previousEpoch, message.previousIndex)) {',
        replace: 'if (message.previousIndex > this.#tail.lastIndex) {',
      },
    ],
    within: 50,
  },
  {
    name: 'dispatches without a lease',
    rule: 'S9',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: 'return this.#serving && nowMs >= this.#dispatchFromMs && nowMs < this.#leaseBaseMs + this.#options.leaseMs',
        replace: 'return this.#serving && nowMs > 0',
      },
    ],
    flavour: 'failovers',
    within: 10,
  },
  {
    name: 'dispatches before the lease of the master before has run out',
    rule: 'S9',
    edits: [
      {
        file: 'consensus/leadership.ts',
        find: 'this.#dispatchFromMs = campaign.leaseEndMs',
        replace: 'this.#dispatchFromMs = nowMs',
      },
    ],
    flavour: 'links',
    within: 60,
  },
  {
    name: 'takes changes after its mastership',
    rule: 'S10',
    edits: [{ file: 'mastership.ts', find: 'this.#over = true', replace: '' }],
    within: 10,
  },
  {
    name: 'is promoted before its index is level',
    rule: 'S4',
    edits: [
      {
        file: 'replicated-store.ts',
        find: 'opened === undefined || !opened.applier.level) return',
        replace: 'opened === undefined) return',
      },
    ],
    within: 20,
  },
  {
    name: 'forgets with each mastership what it saw of a producer',
    rule: 'S22',
    edits: [
      {
        file: 'mastership.ts',
        find: 'this.#index.producerWindow(producer) ?? this.#newWindow()',
        replace: 'this.#newWindow()',
      },
    ],
    within: 20,
  },
  {
    name: 'goes on after a sync that failed',
    rule: 'S29',
    edits: [
      {
        file: 'journal/segment-set.ts',
        find: "    await orDiskFailed('sync', this.last.path, file.sync())\n",
        replace: '    await file.sync().catch(() => undefined)\n',
      },
    ],
    flavour: 'cache',
    within: 300,
  },
  {
    name: 'trusts what it reads from the page cache after a restart',
    rule: 'S29',
    edits: [
      {
        file: 'journal/recovery.ts',
        find: 'if (!survey.clean || segment.endOffset > from) await file.sync()',
        replace: '',
      },
      {
        file: 'journal/recovery.ts',
        find: '      await file.write([piece], at)\n',
        replace: '',
      },
    ],
    flavour: 'cache',
    within: 200,
  },
  {
    name: 'cuts its log without a note of it',
    rule: 'S7',
    edits: [
      {
        file: 'journal/journal.ts',
        find: '    await this.#writeSmall(() => noteTruncation(this.#disk, this.#directory, index))\n',
        replace: '    void noteTruncation\n',
      },
      {
        file: 'journal/journal.ts',
        find: '    await clearTruncation(this.#disk, this.#directory)\n',
        replace: '    void clearTruncation\n',
      },
    ],
    flavour: 'truncations',
    within: 200,
  },
  {
    name: 'writes into a segment whose name may be lost',
    rule: 'S29',
    edits: [
      {
        file: 'journal/segment-set.ts',
        find: "    await orDiskFailed('sync', this.#directory, this.#disk.syncDirectory(this.#directory))\n    if (this.#segments.at(-1)",
        replace: '    if (this.#segments.at(-1)',
      },
    ],
    within: 50,
  },
  {
    name: 'founds a cluster on every node',
    rule: 'S26',
    edits: [
      {
        file: 'formation.ts',
        find: 'if (nodes[0] !== self) return undefined',
        replace: '',
      },
    ],
    within: 20,
  },
  {
    name: 'tells of the cluster that it founds before it has written that down',
    rule: 'S26',
    edits: [
      {
        file: 'store-identity.ts',
        find: '    await file.sync()\n',
        replace: '',
      },
      {
        file: 'store-identity.ts',
        find: '  await disk.rename(temporary, join(directory, fileName))\n  await disk.syncDirectory(directory)\n',
        replace: '  await disk.rename(temporary, join(directory, fileName))\n',
      },
    ],
    within: 20,
  },
]

export interface Hunt {
  /** Seeds that it took; `undefined` if none of them found it. */
  readonly seed: number | undefined
  readonly message: string
  readonly ms: number
}

/** Runs seeds from `from` on until one of them finds the fault. */
export async function huntMutant(mutant: Mutant, seeds: number = mutant.within, from = 1): Promise<Hunt> {
  const began = performance.now()
  const simulateStores = await plant(mutant.edits)
  for (let seed = from; seed < from + seeds; seed++) {
    try {
      await simulateStores({ seed, ...flavoured(mutant.flavour) })
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      return { seed, message, ms: performance.now() - began }
    }
  }
  return { seed: undefined, message: `not found in ${seeds} seeds`, ms: performance.now() - began }
}

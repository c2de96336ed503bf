import { readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import type { Consensus } from '../../src/consensus/consensus.ts'
import { simulate } from './consensus-simulation.ts'

/**
 * A fault planted into the core, to see that the simulation would have found it.
 *
 * It is planted into the text of the core's files as they are loaded, so that production code needs no switch; where
 * the text has changed and the fault no longer applies, loading it fails.
 */
export interface Mutant {
  readonly name: string
  /** The rule that it breaks. */
  readonly rule: string
  /** What is to be found, in one place of one file, types left out. */
  readonly edits: readonly (readonly [find: string, replace: string])[]
  /** The handshake lets a blank store go on as the voter it was. */
  readonly blankStoresVote?: boolean
  /** Seeds within which it must be found. */
  readonly within: number
}

export const mutants: readonly Mutant[] = [
  {
    name: 'votes before its promise is durable',
    rule: 'S2',
    edits: [['if (this.#promise.durable) this.#answerVote', 'if (true) this.#answerVote']],
    within: 100,
  },
  {
    name: 'asks for votes before its own promise is durable',
    rule: 'S2',
    edits: [
      [
        'this.#give(campaign.epoch, this.#options.nodeId)',
        'this.#give(campaign.epoch, this.#options.nodeId); this.#askForVotes(campaign, campaign.deadlineMs)',
      ],
    ],
    within: 100,
  },
  {
    name: 'votes twice in an epoch',
    rule: 'S2',
    edits: [
      ['!refused && this.#promise.votedFor === from', '!refused'],
      ['epoch === this.#promise.epoch && this.#promise.votedFor === to', 'epoch === this.#promise.epoch'],
    ],
    within: 100,
  },
  {
    name: 'acknowledges before its promise is durable',
    rule: 'S3',
    edits: [['if (!this.#promise.durable) {\n      this.#due', 'if (false) {\n      this.#due']],
    within: 100,
  },
  {
    name: 'accepts appends of an older epoch',
    rule: 'S3',
    edits: [['if (message.epoch < this.#promise.epoch) {', 'if (false) {']],
    within: 200,
  },
  {
    name: 'elects by index alone',
    rule: 'S4',
    edits: [
      [
        'return covers({ epoch: lastEpoch, index: lastIndex }, this.end)',
        'return lastIndex >= this.#lastIndex',
      ],
    ],
    within: 500,
  },
  {
    name: 'elects whatever its log is',
    rule: 'S4',
    edits: [['return covers({ epoch: lastEpoch, index: lastIndex }, this.end)', 'return true']],
    within: 500,
  },
  {
    name: 'commits records of an older epoch by count',
    rule: 'S5',
    edits: [
      ['if (start === undefined) return\n', ''],
      ['held >= start.first', 'true'],
      ['held >= start.last', 'start !== undefined && held >= start.last'],
    ],
    within: 40_000,
  },
  {
    name: 'serves before it committed a record of its epoch',
    rule: 'S5',
    edits: [
      ['held > commitIndex && held >= start.first', 'true'],
      ['!this.#serving && held >= start.last', '!this.#serving'],
    ],
    within: 100,
  },
  {
    name: 'counts its own sync before it is done',
    rule: 'S6',
    edits: [
      [
        '(progress) => progress.durableIndex, durableIndex, this.#electorate.quorum',
        '(progress) => progress.durableIndex, this.#tail.lastIndex, this.#electorate.quorum',
      ],
    ],
    within: 100,
  },
  {
    name: 'acknowledges before its log is durable',
    rule: 'S6',
    edits: [
      [
        'durableIndex: Math.min(this.#tail.durableIndex, this.#verifiedIndex)',
        'durableIndex: this.#verifiedIndex',
      ],
    ],
    within: 100,
  },
  {
    name: 'acknowledges a tail that was not compared',
    rule: 'S6',
    edits: [
      [
        'durableIndex: Math.min(this.#tail.durableIndex, this.#verifiedIndex)',
        'durableIndex: this.#tail.durableIndex',
      ],
    ],
    within: 1000,
  },
  {
    name: 'commits a tail that was not compared',
    rule: 'S6',
    edits: [
      [
        'Math.min(message.commitIndex, this.#verifiedIndex)',
        'Math.min(message.commitIndex, this.#tail.lastIndex)',
      ],
    ],
    within: 1000,
  },
  {
    name: 'commits with one acknowledgement too few',
    rule: 'S6',
    edits: [
      [
        '(progress) => progress.durableIndex, durableIndex, this.#electorate.quorum',
        '(progress) => progress.durableIndex, durableIndex, Math.max(1, this.#electorate.quorum - 1)',
      ],
    ],
    within: 100,
  },
  {
    name: 'counts learners',
    rule: 'S23',
    edits: [['if (progress.voter) values.push', 'values.push']],
    within: 1000,
  },
  {
    name: 'does not compare epochs where the logs meet',
    rule: 'S7',
    edits: [
      [
        '!this.#tail.holds(message.previousEpoch, message.previousIndex)',
        'message.previousIndex > this.#tail.lastIndex',
      ],
    ],
    within: 200,
  },
  {
    name: 'truncates below its commit index',
    rule: 'S7',
    edits: [
      [
        'this.#truncate(first.firstIndex - 1)',
        'this.#truncate(Math.min(first.firstIndex - 1, this.#tail.commitIndex - 1))',
      ],
    ],
    within: 100,
  },
  {
    name: 'truncates to its commit index when it follows a new leader, as Kafka did before KIP-101',
    rule: 'S7',
    edits: [
      [
        'this.#follow(following)\n',
        'this.#follow(following); if (this.#tail.lastIndex > this.#tail.commitIndex) { const index = this.#tail.commitIndex; this.#tail.truncate(index); this.#electorate.truncate(index); this.#effects.push({ type: "truncate", index }) }\n',
      ],
    ],
    within: 1000,
  },
  {
    name: 'votes while its leader is alive',
    rule: 'S9',
    edits: [
      ['const vacant = !this.#leaderAlive(nowMs)', 'const vacant = this.#leadership === undefined'],
      [
        'this.#promise.epoch || this.#leaderAlive(nowMs)',
        'this.#promise.epoch || this.#leadership !== undefined',
      ],
    ],
    within: 100,
  },
  {
    name: 'leads without waiting for the lease of the one before',
    rule: 'S9',
    edits: [['this.#dispatchFromMs = campaign.leaseEndMs', 'this.#dispatchFromMs = nowMs']],
    within: 1000,
  },
  {
    name: 'waits for no lease but those that it acknowledged itself',
    rule: 'S9',
    edits: [['campaign.grantedBy(from, nowMs + message.leaseMs)', 'campaign.grantedBy(from)']],
    within: 20_000,
  },
  {
    name: 'counts the lease from the answer',
    rule: 'S9',
    edits: [['progress.answeredMs = message.sentAtMs', 'progress.answeredMs = nowMs']],
    within: 3000,
  },
  {
    name: 'forgets the lease that its refusal renewed',
    rule: 'S9',
    edits: [
      [
        'this.#leases.renew(this.#promise.epoch, nowMs)\n        this.#effects.send(this.leader, refusal',
        'this.#effects.send(this.leader, refusal',
      ],
    ],
    within: 40_000,
  },
  {
    name: 'forgets all leases when a leader resigns',
    rule: 'S9',
    edits: [
      ['this.#answeredMs = this.#answeredEarlierMs', 'this.#answeredMs = Number.NEGATIVE_INFINITY'],
      [
        'this.#stopLeading(reason, to !== undefined)\n    if',
        'this.#stopLeading(reason, to !== undefined)\n    this.#leases = new LeaseMemory(this.#options.leaseMs, Number.NEGATIVE_INFINITY); if',
      ],
    ],
    within: 10_000,
  },
  {
    name: 'starts anew without minding what it acknowledged',
    rule: 'S9',
    edits: [
      ['this.#electorate.wasAlone ? Number.NEGATIVE_INFINITY : options.nowMs', 'Number.NEGATIVE_INFINITY'],
    ],
    within: 40_000,
  },
  {
    name: 'takes answers that are late for its own',
    rule: 'S6',
    edits: [
      [
        "if (campaign?.stage !== 'vote' || campaign.epoch !== message.epoch) return",
        'if (campaign === undefined) return',
      ],
    ],
    within: 2000,
  },
  {
    name: 'lets a blank store vote',
    rule: 'S23',
    edits: [],
    blankStoresVote: true,
    within: 2000,
  },
  {
    name: 'goes on where its log no longer is',
    rule: 'S33',
    edits: [['if (progress.nextIndex < this.#tail.firstIndex) this.#loseSight(progress, nowMs)\n    }', '}']],
    within: 1000,
  },
  {
    name: 'votes for a log that ends before what it owes',
    rule: 'S24',
    edits: [['(this.#owed === undefined || covers(end, this.#owed))', 'true']],
    within: 2000,
  },
  {
    name: 'forgets what it heard to be committed',
    rule: 'S24',
    edits: [['if (!covers(this.#heard, position)) this.#heard = position', '']],
    within: 2000,
  },
  {
    name: 'stands although it knows of records that it lacks',
    rule: 'S24',
    edits: [['const inDebt = !this.#debt.allows(this.#tail.end)', 'const inDebt = false']],
    within: 2000,
  },
  {
    name: 'goes on counting what a member has lost',
    rule: 'S24',
    edits: [['progress.forget()', '']],
    within: 20_000,
  },
  {
    name: 'takes itself to be quit of what is not on its disk yet',
    rule: 'S24',
    edits: [
      [
        'const index = Math.min(this.#tail.commitIndex, this.#tail.durableIndex)',
        'const index = this.#tail.commitIndex',
      ],
    ],
    within: 5000,
  },
  {
    name: 'does not keep what it owes with its promise',
    rule: 'S24',
    edits: [['votedFor, owed: this.#debt.owed }', 'votedFor, owed: undefined }']],
    within: 1000,
  },
  {
    name: 'takes some for all',
    rule: 'S24',
    edits: [['this.#owing.size + more >= voters.length', 'this.#owing.size + more >= voters.length - 1']],
    within: 5000,
  },
  {
    name: 'hands over to a member that is not level',
    rule: 'S38',
    edits: [['progress.durableIndex >= lastIndex && commitIndex >= lastIndex', 'commitIndex >= lastIndex']],
    within: 1000,
  },
  {
    name: 'goes on dispatching after it has handed over',
    rule: 'S9',
    edits: [
      [
        'this.#stopLeading(reason, to !== undefined)',
        'if (to === undefined) this.#stopLeading(reason, false)',
      ],
    ],
    within: 1000,
  },
  {
    name: 'says that all have answered when nobody was asked',
    rule: 'S24',
    edits: [['!this.#majority(0) && this.#unanimous(0)', '!this.#majority(0)']],
    within: 500,
  },
  {
    name: 'searches below the beginning of its log',
    rule: 'S33',
    edits: [['if (agreed < this.#tail.firstIndex - 1) {', 'if (false) {']],
    within: 1000,
  },
  {
    name: 'does not tell a member that it needs a copy',
    rule: 'S33',
    edits: [["this.#effects.send(progress.nodeId, { type: 'behind', epoch: this.epoch, firstIndex })", '']],
    within: 1000,
  },
  {
    name: 'counts a leader that is being removed',
    rule: 'S35',
    edits: [['const values = this.#electorate.voter ? [own] : []', 'const values = [own]']],
    within: 2000,
  },
  {
    name: 'counts its own vote although it is no voter',
    rule: 'S35',
    edits: [['new Set(voter ? [nodeId] : [])', 'new Set([nodeId])']],
    within: 5000,
  },
  {
    name: 'begins a second change before the first is committed',
    rule: 'S35',
    edits: [["if (this.changing) return 'another change is under way'", '']],
    within: 1000,
  },
  {
    name: 'changes the voters before it committed a record of its epoch',
    rule: 'S35',
    edits: [["if (!this.#serving) return 'no record of the own epoch is committed yet'", '']],
    within: 1000,
  },
  {
    name: 'changes two voters at once',
    rule: 'S35',
    edits: [['added.length + removed.length !== 1', 'added.length + removed.length === 0']],
    within: 1000,
  },
  {
    name: 'goes on with the voters of the founding',
    rule: 'S35',
    edits: [['if (voters === undefined) continue', 'continue']],
    within: 100,
  },
  {
    name: 'keeps a configuration that was truncated',
    rule: 'S35',
    edits: [['while (this.#history.length > 1 && this.configuration.index > index) this.#history.pop()', '']],
    within: 1000,
  },
  {
    name: 'goes on counting a member that was removed',
    rule: 'S35',
    edits: [['progress.voter = this.#electorate.counts(progress.nodeId, progress.storeUuid)', '']],
    within: 2000,
  },
  {
    name: 'leads on although its removal is committed',
    rule: 'S35',
    edits: [['if (leadership?.dismissed === true) {', 'if (false) {']],
    within: 500,
  },
]

/** The core with the fault in it. */
async function plant(mutant: Mutant): Promise<typeof Consensus> {
  const texts = new Map<string, string>()
  readCore('./consensus.ts', texts)
  for (const [find, replace] of mutant.edits) {
    let found = 0
    for (const [path, text] of texts) {
      found += text.split(find).length - 1
      texts.set(
        path,
        text.replace(find, () => replace),
      )
    }
    if (found !== 1) throw new Error(`"${mutant.name}" does not apply: ${found} times in the core: ${find}`)
  }
  const module: { Consensus: typeof Consensus } = await import(
    /* @vite-ignore */ moduleOf('./consensus.ts', texts)
  )
  return module.Consensus
}

const core = new URL('../../src/consensus/', import.meta.url)
const ownImport = /from '(\.\/[^']*)'/g

/** Reads a file of the core, without its types, and those of the core that it needs to run. */
function readCore(path: string, texts: Map<string, string>): void {
  if (texts.has(path)) return
  // Types first: what is imported for its type alone is gone then.
  const text = stripTypeScriptTypes(readFileSync(new URL(path, core), 'utf8'))
  texts.set(path, text)
  for (const [, own] of text.matchAll(ownImport)) readCore(own as string, texts)
}

/** A file of the core as a module that can be imported, with those it needs inside. */
function moduleOf(path: string, texts: ReadonlyMap<string, string>): string {
  const script = (texts.get(path) ?? '').replaceAll(ownImport, (_, own: string) => {
    return `from '${moduleOf(own, texts)}'`
  })
  return `data:text/javascript;base64,${Buffer.from(script).toString('base64')}`
}

/** How many seeds it takes, from 1 on, until the simulation fails; `undefined` if none of them does. */
export async function huntMutant(
  mutant: Mutant,
  seeds: number,
): Promise<{ readonly seed: number; readonly message: string } | undefined> {
  const core = await plant(mutant)
  const blankStoresVote = mutant.blankStoresVote === true
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      simulate({ seed, core, blankStoresVote })
    } catch (error) {
      return { seed, message: error instanceof Error ? error.message : String(error) }
    }
  }
  return undefined
}

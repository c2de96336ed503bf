import { StoreError } from './errors.ts'
import { StoppedStore } from './inspection/stopped-store.ts'
import { type VerifyReport, verifyStore } from './inspection/verify.ts'
import { NodeDisk } from './io/node/disk.ts'
import { SystemRandom } from './io/node/random.ts'
import type { RecoveryPlan } from './store-administration.ts'
import { type StoreIdentity, writeIdentity } from './store-identity.ts'

/**
 * Makes a cluster of its own of one store whose cluster has lost its majority for good (rule S25).
 *
 * The store becomes the only voter of a new cluster, with everything that is in its log. Other stores of the old cluster cannot come back
 * with what they have: emptied, they are taken in until there are as many voters as `replicas` says.
 *
 * @param directory - Of a store that is not running.
 * @param options - `confirm`: do it; else only what would be done is told.
 * @throws StoreError `STORE_DIRECTORY_IN_USE`; `STORE_CORRUPT` if the store is damaged or belongs to no cluster.
 */
export async function recoverStore(
  directory: string,
  options: { readonly confirm: boolean },
): Promise<RecoveryPlan> {
  const report = await verifyStore(directory)
  const { identity } = report
  const cluster = identity?.cluster
  if (identity === undefined || cluster === undefined)
    throw new StoreError(
      { code: 'STORE_CORRUPT', file: directory, offset: 0 },
      `${directory}: holds no store that belongs to a cluster`,
    )
  if (report.journal.foldedTo < report.journal.lastIndex)
    throw new StoreError(
      { code: 'STORE_CORRUPT', file: directory, offset: 0 },
      `${directory}: the journal is damaged behind record ${report.journal.foldedTo}; levelmq verify tells where`,
    )
  const newClusterUuid = options.confirm ? await refound(directory, identity) : undefined
  return { ...planOf(directory, identity, report), newClusterUuid }
}

async function refound(directory: string, identity: StoreIdentity): Promise<string> {
  const { nodeId, storeUuid } = identity
  const uuid = new SystemRandom().uuid()
  // Its lock keeps anyone from starting the store meanwhile.
  const store = await StoppedStore.take(directory)
  try {
    const cluster = {
      uuid,
      voters: [{ nodeId, storeUuid }],
      growing: true,
      level: identity.cluster?.level ?? 1,
    }
    await writeIdentity(new NodeDisk(), directory, { ...identity, cluster })
  } finally {
    await store.release()
  }
  return uuid
}

function planOf(
  directory: string,
  { nodeId, cluster }: StoreIdentity,
  { journal, queues }: VerifyReport,
): Omit<RecoveryPlan, 'newClusterUuid'> {
  const { lastIndex, epochs, lastTimeMs, commitIndex } = journal
  const voters = cluster?.voters ?? []
  const others = voters.filter((voter) => voter.nodeId !== nodeId).length
  const last =
    lastTimeMs === undefined
      ? 'nothing'
      : `record ${lastIndex}, written at ${new Date(lastTimeMs).toISOString()}`
  const losses = [
    `What was confirmed after ${last}, is lost if this store was not among those that had it.`,
    `Records above ${commitIndex} may never have been confirmed; they count from now on.`,
    'Messages whose acknowledgement is lost are delivered again.',
  ]
  if (others > 0)
    losses.push(
      `The stores of the ${others} other voters are given up: empty their directories before they start again.`,
    )
  return {
    directory,
    nodeId,
    clusterUuid: cluster?.uuid ?? '',
    voters: voters.map((voter) => voter.nodeId),
    position: { epoch: epochs.at(-1)?.epoch ?? 0, index: lastIndex },
    commitIndex,
    messages: queues.reduce((sum, queue) => sum + queue.messageCount, 0),
    losses,
  }
}

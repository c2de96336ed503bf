import { type BatchHeader, batchHeaderBytes } from './journal/batch.ts'
import { RecordKind, recordHeaderBytes } from './journal/record.ts'
import type { Voter } from './store-identity.ts'

const maxVoters = 9

/**
 * Who votes from a batch on, if its header says that it holds a configuration.
 *
 * @param at - Where the batch's header is; header and payload have been checked.
 * @throws Error that says what is wrong with it.
 */
export function votersIn(from: Buffer, at: number, header: BatchHeader): readonly Voter[] | undefined {
  if (!header.holdsConfiguration) return undefined
  let offset = at + batchHeaderBytes
  const end = offset + header.payloadBytes
  while (end - offset >= recordHeaderBytes) {
    const kind = from.readUInt8(offset + 4)
    const body = offset + recordHeaderBytes
    offset = body + from.readUInt32LE(offset)
    // A batch holds one at most.
    if (kind === RecordKind.configuration && offset <= end) return parse(from.toString('utf8', body, offset))
  }
  throw new Error('it is missing')
}

/** The voters keep whatever they carry besides their names. */
function parse(json: string): readonly Voter[] {
  const { voters } = JSON.parse(json) as { voters?: unknown }
  if (!Array.isArray(voters) || voters.length < 1 || voters.length > maxVoters || !voters.every(isVoter))
    throw new Error(`1 to ${maxVoters} voters are expected`)
  return voters
}

function isVoter(value: unknown): value is Voter {
  if (typeof value !== 'object' || value === null) return false
  const { nodeId, storeUuid } = value as Record<string, unknown>
  return isName(nodeId) && isName(storeUuid)
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && value.length <= 256
}

import { type BatchHeader, batchHeaderBytes } from './journal/batch.ts'
import { RecordKind, recordHeaderBytes } from './journal/record.ts'
import { type Cluster, parseCluster, type Voter } from './store-identity.ts'

/**
 * What a configuration record says.
 *
 * @throws Error that says what is wrong with it.
 */
export function readConfiguration(json: string): Cluster {
  return parseCluster(JSON.parse(json))
}

/**
 * Who votes from a batch on, if its header says that it holds a configuration.
 *
 * @param at - Where the batch's header is; header and payload have been checked.
 * @throws Error that says what is wrong with it.
 */
export function votersIn(from: Buffer, at: number, header: BatchHeader): readonly Voter[] | undefined {
  return configurationIn(from, at, header)?.voters
}

/** As {@link votersIn}, with all that the configuration says. */
export function configurationIn(from: Buffer, at: number, header: BatchHeader): Cluster | undefined {
  if (!header.holdsConfiguration) return undefined
  let offset = at + batchHeaderBytes
  const end = offset + header.payloadBytes
  while (end - offset >= recordHeaderBytes) {
    const kind = from.readUInt8(offset + 4)
    const body = offset + recordHeaderBytes
    offset = body + from.readUInt32LE(offset)
    // A batch holds one at most.
    if (kind === RecordKind.configuration && offset <= end)
      return readConfiguration(from.toString('utf8', body, offset))
  }
  throw new Error('it is missing')
}

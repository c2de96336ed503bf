import type { LevelDbOptions, ReplicatedLevelDbOptions } from '@levelmq/store'
import { z } from 'zod'
import type { BrokerOptions, TransportConnectorOptions } from '../broker-options.ts'
import { parseStompUri } from '../connector/stomp/connector-uri.ts'
import {
  address,
  duration,
  hostPortList,
  oneOf,
  size,
  someOf,
  text,
  token,
  wholeNumber,
  znodePath,
  zooKeeperAddress,
} from './setting.ts'

/**
 * What `levelmq.yaml` may hold, by ActiveMQ's names. Strict: what is not listed here is refused.
 *
 * Bounds are those that packages/store/src/options.ts states; defaults are the store's, so that they stand in one place.
 */
const syncLevels: readonly string[] = [
  'quorum_disk',
  'quorum_mem',
  'remote_disk',
  'remote_mem',
  'local_disk',
  'local_mem',
]

/** Protocols that a connector can speak; `+nio` is ActiveMQ's word for what is always so here. */
const connectorSchemes: readonly string[] = ['stomp', 'stomp+nio']

const mib = 2 ** 20
const gib = 2 ** 30

const levelDbShape = {
  directory: text(1, 4096, 'a path'),
  logSize: size(mib, gib),
  flushDelay: duration(10, 60_000),
  autoCompactionRatio: wholeNumber(0, 10_000),
  scrubInterval: duration(0, 2_592_000_000),
  asyncBufferSize: size(64 * 1024, gib),
  maxRecordBytes: size(1024, 128 * mib - 1024),
  indexMaxOpenFiles: wholeNumber(16, 100_000),
  indexBlockRestartInterval: wholeNumber(1, 1024),
  indexWriteBufferSize: size(64 * 1024, gib),
  indexBlockSize: size(512, 4 * mib),
  indexCacheSize: size(0, 4 * gib),
  indexCompression: oneOf(['snappy', 'none']),
  maxFailoverProducersToTrack: wholeNumber(1, 10_000_000),
  failoverProducersAuditDepth: wholeNumber(1, 1_000_000),
}

const replicatedShape = {
  ...levelDbShape,
  brokerName: text(1, 128, 'a name'),
  memberName: text(1, 128, 'a name'),
  nodeId: text(1, 128, 'a name'),
  replicas: wholeNumber(1, 9),
  sync: someOf(syncLevels),
  securityToken: text(0, 1024),
  bind: address('tcp', 1),
  hostname: text(1, 255, 'a host name or address'),
  connectUrl: address('tcp', 1),
  weight: wholeNumber(0, 1_000_000),
  container: text(0, 1024),
  elector: oneOf(['raft', 'zookeeper']),
  peers: hostPortList(),
  zkAddress: zooKeeperAddress(),
  zkPassword: text(1, 1024),
  zkPath: znodePath(),
  zkSessionTimeout: duration(500, 60_000),
  electionTimeout: duration(200, 60_000),
}

const connectorUri = z.unknown().transform((value, context): string => {
  const allowed = connectorSchemes.map((scheme) => `${scheme}://host:port`).join(' or ')
  const refuse = (message: string) => {
    context.issues.push({ code: 'custom', message, input: value })
    return z.NEVER
  }
  const scheme = typeof value === 'string' ? value.slice(0, Math.max(0, value.indexOf(':'))) : ''
  if (typeof value !== 'string' || !connectorSchemes.includes(scheme))
    return refuse(`${allowed}, with ?options behind`)
  try {
    parseStompUri('', value)
  } catch (error) {
    // It names connector and URI, which this message does too.
    const reason = error instanceof Error ? error.message.replace(/^.*?: | \(uri: .*\)$/g, '') : String(error)
    return refuse(`${allowed}, but: ${reason}`)
  }
  return value
})

const connectorShape = { name: text(1, 255, 'a name').pipe(z.string({ error: 'a name' })), uri: connectorUri }

const managementShape = {
  uri: address('http', 0),
  host: text(1, 255, 'a host name or address'),
  port: wholeNumber(0, 65535),
  adminToken: token(16, 1024),
}

const logShape = { level: oneOf(['debug', 'info', 'warn', 'error']), format: oneOf(['text', 'json']) }

const adapterShape = {
  levelDB: z.strictObject(levelDbShape).optional(),
  replicatedLevelDB: z.strictObject(replicatedShape).optional(),
}

const rootShape = {
  brokerName: text(1, 128, 'a name'),
  persistenceAdapter: z.strictObject(adapterShape).optional(),
  transportConnectors: z
    .array(z.strictObject(connectorShape), { error: 'a list of { name, uri }' })
    .max(64, 'at most 64 connectors')
    .optional(),
  managementContext: z.union([z.literal(false), z.strictObject(managementShape)]).optional(),
  log: z.strictObject(logShape).optional(),
}

const rootSchema = z.strictObject(rootShape)

type Optional<T> = { readonly [K in keyof T]?: T[K] | undefined }

/** Settings of the replicated store; durations lose their unit in the name, since the text brings its own. */
export type ReplicatedInput = Optional<
  Omit<ReplicatedLevelDbOptions, 'zkSessionTimeoutMs' | 'electionTimeoutMs'>
> & {
  readonly zkSessionTimeout?: number | undefined
  readonly electionTimeout?: number | undefined
}

/** The configuration after its values were checked and taken out of their text form, without defaults. */
export interface ConfigurationInput {
  readonly brokerName?: string | undefined
  readonly persistenceAdapter?:
    | {
        readonly levelDB?: Optional<LevelDbOptions> | undefined
        readonly replicatedLevelDB?: ReplicatedInput | undefined
      }
    | undefined
  readonly transportConnectors?: readonly TransportConnectorOptions[] | undefined
  readonly managementContext?:
    | false
    | {
        readonly uri?: string | undefined
        readonly host?: string | undefined
        readonly port?: number | undefined
        readonly adminToken?: string | undefined
      }
    | undefined
  readonly log?: Optional<BrokerOptions['log']> | undefined
}

/** One thing that is wrong with a configuration. */
export interface ConfigurationIssue {
  readonly path: readonly (string | number)[]
  /** Set if the key itself is unknown; `path` then ends with it. */
  readonly unknownKey: boolean
  /** What would have been right, in words. */
  readonly allowed: string
}

/** Checks a whole configuration. */
export function checkConfiguration(
  raw: unknown,
): { readonly value: ConfigurationInput } | { readonly issues: readonly ConfigurationIssue[] } {
  const result = rootSchema.safeParse(raw)
  if (result.success) return { value: result.data }
  return { issues: result.error.issues.flatMap((issue) => translate(issue, [])) }
}

/** Keys that are allowed in the section at `path`; empty if there is no such section. */
export function knownKeys(path: readonly (string | number)[]): readonly string[] {
  const name = path.map((part) => (typeof part === 'number' ? '#' : part)).join('.')
  return Object.keys(sections[name] ?? {})
}

const sections: Readonly<Record<string, object>> = {
  '': rootShape,
  persistenceAdapter: adapterShape,
  'persistenceAdapter.levelDB': levelDbShape,
  'persistenceAdapter.replicatedLevelDB': replicatedShape,
  'transportConnectors.#': connectorShape,
  managementContext: managementShape,
  log: logShape,
}

function translate(issue: z.core.$ZodIssue, prefix: readonly (string | number)[]): ConfigurationIssue[] {
  const path = [...prefix, ...issue.path.map((part) => (typeof part === 'number' ? part : String(part)))]
  if (issue.code === 'unrecognized_keys') {
    const allowed = knownKeys(path).join(', ')
    return issue.keys.map((key) => ({ path: [...path, key], unknownKey: true, allowed }))
  }
  if (issue.code === 'invalid_union') {
    const ofSection = issue.errors[1] ?? []
    const inside = ofSection.filter((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys')
    if (inside.length > 0) return inside.flatMap((inner) => translate(inner, path))
    return [{ path, unknownKey: false, allowed: `false, or a section with ${knownKeys(path).join(', ')}` }]
  }
  if (issue.code === 'invalid_type' && issue.expected === 'object') {
    return [{ path, unknownKey: false, allowed: `a section with ${knownKeys(path).join(', ')}` }]
  }
  return [{ path, unknownKey: false, allowed: issue.message }]
}

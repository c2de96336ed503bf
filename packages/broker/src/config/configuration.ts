import { existsSync, readFileSync, statSync } from 'node:fs'
import type { LevelDbOptions, ReplicatedLevelDbOptions } from '@levelmq/store'
import type { BrokerOptions, TransportConnectorOptions } from '../broker-options.ts'
import { BrokerError } from '../errors.ts'
import {
  type ConfigurationInput,
  type ConfigurationIssue,
  checkConfiguration,
  knownKeys,
} from './configuration-schema.ts'
import { isSecret, readEnvironment } from './environment.ts'
import { parseHostPort } from './setting.ts'
import { nearest } from './spelling.ts'
import { unsupportedSetting } from './unsupported.ts'
import { YamlSource } from './yaml-source.ts'

/** Where a configuration comes from. */
export interface ConfigurationSources {
  /** @defaultValue `LEVELMQ_CONFIG`, or `levelmq.yaml` in the working directory if there is one, or none */
  readonly file?: string | undefined
  /** @defaultValue none: no variable overrides anything */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  /** Told what is right and should nevertheless be changed. */
  readonly warn?: ((message: string) => void) | undefined
}

const defaultFile = 'levelmq.yaml'
const maxFileBytes = 1_048_576

const defaults = {
  brokerName: 'localhost',
  directory: 'LevelDB',
  connectors: [
    { name: 'stomp', uri: 'stomp://0.0.0.0:61613?maximumConnections=1000&wireFormat.maxFrameSize=104857600' },
  ] as readonly TransportConnectorOptions[],
  management: { host: '127.0.0.1', port: 8161 },
  log: { level: 'info', format: 'text' },
} as const

/**
 * Reads `levelmq.yaml` and the environment, checks both and fills in the broker's defaults. Without any of them it
 * describes one broker that is not replicated.
 *
 * @throws {@link BrokerError} `BROKER_INVALID_CONFIGURATION` that names the place, the key, what was found and what is
 *   allowed, for each thing that is wrong. Nothing unknown is ever skipped: a typing error must not lower durability.
 */
export function loadConfiguration(sources: ConfigurationSources = {}): BrokerOptions {
  const draft = new Draft(sources)
  draft.applyEnvironment(sources.env ?? {})
  const checked = checkConfiguration(draft.data)
  if ('issues' in checked) throw draft.errorFor(checked.issues)
  const issues = inconsistencies(checked.value)
  if (issues.length > 0) throw draft.errorFor(issues)
  return resolve(checked.value)
}

/** Plain data under construction, which knows where each part of it came from. */
class Draft {
  readonly data: Record<string, unknown>
  readonly #file: string | undefined
  readonly #source: YamlSource | undefined
  readonly #variables = new Map<string, string>()

  constructor({ file, env, warn }: ConfigurationSources) {
    this.#file =
      file ?? (env?.LEVELMQ_CONFIG || undefined) ?? (existsSync(defaultFile) ? defaultFile : undefined)
    if (this.#file === undefined) {
      this.data = {}
      return
    }
    this.#source = new YamlSource(readText(this.#file))
    const fault = this.#source.fault
    if (fault !== undefined) {
      const where = `${this.#file}:${fault.place.line}:${fault.place.column}`
      throw invalid(where, '', [`${where}: not YAML: ${fault.message}`])
    }
    this.data = this.#toSection(this.#source)
    this.#renameAlias(warn)
  }

  applyEnvironment(environment: Readonly<Record<string, string | undefined>>): void {
    const { settings, unknown } = readEnvironment(environment)
    const [stranger] = unknown
    if (stranger !== undefined) {
      const hint = stranger.suggestion === undefined ? '' : `; did you mean ${stranger.suggestion}?`
      const message = `${stranger.variable}: unknown variable${hint} See docs/configuration.md for all of them.`
      throw invalid(stranger.variable, stranger.variable, [message])
    }
    for (const { variable, path, value, fromFile } of settings) {
      const name = path.join('.')
      const other = this.#variables.get(name)
      if (other !== undefined)
        throw invalid(variable, name, [`${variable}: ${other} is set too; keep one of them`])
      this.#variables.set(name, variable)
      const text = fromFile ? readText(value, variable, name).replace(/\r?\n$/, '') : value
      this.#set(
        path,
        name === 'transportConnectors'
          ? connectorList(text)
          : name === 'managementContext'
            ? text !== 'false' && text
            : text,
      )
    }
  }

  errorFor(issues: readonly ConfigurationIssue[]): BrokerError {
    const lines = issues.map((issue) => `${this.#where(issue)}: ${this.#describe(issue)}`)
    const [first] = issues
    return invalid(
      first === undefined ? '' : this.#where(first),
      first === undefined ? '' : keyOf(first.path),
      lines,
    )
  }

  #describe(issue: ConfigurationIssue): string {
    const key = keyOf(issue.path)
    if (issue.unknownKey) {
      const name = String(issue.path.at(-1))
      const reason = unsupportedSetting(issue.path)
      if (reason !== undefined) return `${key}: ${reason}`
      const suggestion = nearest(name, knownKeys(issue.path.slice(0, -1)))
      const hint = suggestion === undefined ? '' : ` Did you mean ${suggestion}?`
      return `${key}: unknown key.${hint} Allowed here: ${issue.allowed}`
    }
    const found = this.#valueAt(issue.path)
    const shown =
      found === undefined || found === null
        ? 'nothing'
        : isSecret(issue.path)
          ? 'another value'
          : abbreviate(found)
    return `${key === '' ? 'the file' : key}: found ${shown}; allowed: ${issue.allowed}`
  }

  #where(issue: ConfigurationIssue): string {
    for (let length = issue.path.length; length > 0; length--) {
      const variable = this.#variables.get(issue.path.slice(0, length).join('.'))
      if (variable !== undefined) return variable
    }
    if (this.#source !== undefined && (this.#has(issue.path) || this.#variables.size === 0)) {
      const { line, column } = this.#source.placeOf(issue.path, issue.unknownKey)
      return `${this.#file}:${line}:${column}`
    }
    const variableBelow = [...this.#variables].find(([path]) => path.startsWith(`${issue.path.join('.')}.`))
    if (variableBelow !== undefined) return variableBelow[1]
    if (this.#source === undefined) return 'configuration'
    const { line, column } = this.#source.placeOf(issue.path, issue.unknownKey)
    return `${this.#file}:${line}:${column}`
  }

  #has(path: readonly (string | number)[]): boolean {
    return this.#valueAt(path) !== undefined
  }

  #valueAt(path: readonly (string | number)[]): unknown {
    let value: unknown = this.data
    for (const part of path)
      value = isSection(value) || Array.isArray(value) ? (value as never)[part] : undefined
    return value
  }

  #set(path: readonly string[], value: unknown): void {
    let section = this.data
    for (const part of path.slice(0, -1)) {
      const next = section[part]
      if (isSection(next)) section = next
      else {
        const created: Record<string, unknown> = {}
        section[part] = created
        section = created
      }
    }
    section[path.at(-1) ?? ''] = value
  }

  #toSection(source: YamlSource): Record<string, unknown> {
    const where = `${this.#file}:1:1`
    let data: unknown
    try {
      data = source.toData()
    } catch (cause) {
      throw invalid(where, '', [`${where}: ${cause instanceof Error ? cause.message : cause}`])
    }
    if (isSection(data)) return data
    const found = abbreviate(data)
    throw invalid(where, '', [
      `${where}: found ${found}; allowed: a section with ${knownKeys([]).join(', ')}`,
    ])
  }

  /** ActiveMQ before 5.11 spelt `zkSessionTimeout` without its i, and configurations still do. */
  #renameAlias(warn: ((message: string) => void) | undefined): void {
    const path = ['persistenceAdapter', 'replicatedLevelDB']
    const section = this.#valueAt(path)
    if (!isSection(section) || !('zkSessionTmeout' in section)) return
    const aliasPath = [...path, 'zkSessionTmeout']
    const place = this.#source?.placeOf(aliasPath, true)
    const where = `${this.#file}:${place?.line}:${place?.column}`
    if ('zkSessionTimeout' in section) {
      throw invalid(where, keyOf(aliasPath), [
        `${where}: ${keyOf(aliasPath)}: zkSessionTimeout is set too; keep that one`,
      ])
    }
    const { zkSessionTmeout, ...rest } = section
    this.#set(path, { ...rest, zkSessionTimeout: zkSessionTmeout })
    warn?.(`${where}: ${keyOf(aliasPath)}: taken for zkSessionTimeout; ActiveMQ misspelt it before 5.11`)
  }
}

/** What single values cannot show: settings that contradict each other. */
function inconsistencies(input: ConfigurationInput): ConfigurationIssue[] {
  const issues: ConfigurationIssue[] = []
  const problem = (path: (string | number)[], allowed: string) =>
    issues.push({ path, unknownKey: false, allowed })
  const { levelDB, replicatedLevelDB: replicated } = input.persistenceAdapter ?? {}
  if (input.persistenceAdapter !== undefined && (levelDB === undefined) === (replicated === undefined)) {
    problem(['persistenceAdapter'], 'either levelDB or replicatedLevelDB')
  }
  if (replicated !== undefined) {
    const path = ['persistenceAdapter', 'replicatedLevelDB']
    const replicas = replicated.replicas ?? 3
    const elector = replicated.elector ?? (replicated.zkAddress === undefined ? 'raft' : 'zookeeper')
    if (elector === 'raft' && replicated.zkAddress !== undefined) {
      problem([...path, 'zkAddress'], 'nothing with elector raft, which does not use ZooKeeper')
    }
    if (elector === 'raft' && replicas > 1 && replicated.peers === undefined) {
      problem(
        [...path, 'peers'],
        `with elector raft: host:port of all ${replicas} replicas (or set zkAddress for elector zookeeper)`,
      )
    }
    if (elector === 'raft' && replicated.peers !== undefined && replicated.peers.length !== replicas) {
      problem([...path, 'peers'], `as many addresses as replicas, which is ${replicas}`)
    }
  }
  const names = new Set<string>()
  for (const [index, connector] of (input.transportConnectors ?? []).entries()) {
    if (names.has(connector.name))
      problem(['transportConnectors', index, 'name'], 'a name that no other connector has')
    names.add(connector.name)
  }
  const management = input.managementContext
  if (management !== undefined && management !== false && management.uri !== undefined) {
    if (management.host !== undefined) problem(['managementContext', 'host'], 'either uri, or host and port')
    if (management.port !== undefined) problem(['managementContext', 'port'], 'either uri, or host and port')
  }
  return issues
}

function resolve(input: ConfigurationInput): BrokerOptions {
  const brokerName = input.brokerName ?? defaults.brokerName
  return {
    brokerName,
    persistenceAdapter: resolveStore(input, brokerName),
    transportConnectors:
      input.transportConnectors?.map(({ name, uri }) => ({ name, uri })) ?? defaults.connectors,
    management: resolveManagement(input.managementContext),
    log: { level: input.log?.level ?? defaults.log.level, format: input.log?.format ?? defaults.log.format },
  }
}

function resolveStore(input: ConfigurationInput, brokerName: string): BrokerOptions['persistenceAdapter'] {
  const replicated = input.persistenceAdapter?.replicatedLevelDB
  if (replicated === undefined) {
    const options = { directory: defaults.directory, ...given(input.persistenceAdapter?.levelDB ?? {}) }
    return { kind: 'levelDB', options: options as LevelDbOptions }
  }
  const { zkSessionTimeout, electionTimeout, ...rest } = replicated
  const options = {
    directory: defaults.directory,
    brokerName,
    memberName: brokerName,
    ...given({ ...rest, zkSessionTimeoutMs: zkSessionTimeout, electionTimeoutMs: electionTimeout }),
  }
  return { kind: 'replicatedLevelDB', options: options as ReplicatedLevelDbOptions }
}

function resolveManagement(input: ConfigurationInput['managementContext']): BrokerOptions['management'] {
  if (input === false) return undefined
  const { host = defaults.management.host, port = defaults.management.port, uri, adminToken } = input ?? {}
  const address = uri === undefined ? { host, port } : parseHostPort(uri.slice('http://'.length), 0)
  if (address === undefined || adminToken === undefined) return address
  return { ...address, adminToken }
}

/** Without the settings that were not given, so that the store's own defaults stand. */
function given(section: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(section).filter(([, value]) => value !== undefined))
}

/** `name=uri,…` or `uri,…`, where the scheme then is the name. */
function connectorList(text: string): unknown[] {
  return text.split(',').map((part) => {
    const named = /^\s*([A-Za-z0-9_.-]+)=(.*)$/.exec(part)
    const uri = (named?.[2] ?? part).trim()
    return { name: named?.[1] ?? uri.split(':', 1)[0], uri }
  })
}

function readText(file: string, variable?: string, key = ''): string {
  const where = variable ?? file
  try {
    if (statSync(file).size > maxFileBytes) throw new Error(`larger than ${maxFileBytes} bytes`)
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw invalid(where, key, [`${where}: cannot be read: ${reason}`], cause)
  }
}

function invalid(where: string, key: string, lines: readonly string[], cause?: unknown): BrokerError {
  return new BrokerError({ code: 'BROKER_INVALID_CONFIGURATION', where, key }, lines.join('\n'), { cause })
}

function keyOf(path: readonly (string | number)[]): string {
  return path.reduce<string>((key, part) => {
    if (typeof part === 'number') return `${key}[${part}]`
    return key === '' ? part : `${key}.${part}`
  }, '')
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function abbreviate(value: unknown): string {
  // A section's values may be secret.
  if (isSection(value)) return `a section with ${Object.keys(value).join(', ') || 'nothing in it'}`
  const shown = JSON.stringify(value) ?? String(value)
  return shown.length > 80 ? `${shown.slice(0, 77)}...` : shown
}

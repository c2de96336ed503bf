import { knownKeys } from './configuration-schema.ts'
import { nearest } from './spelling.ts'

/**
 * Environment variables that override the configuration file.
 *
 * The scheme: `LEVELMQ_` and the setting's path in upper snake case, without `persistenceAdapter`:
 * `persistenceAdapter.replicatedLevelDB.zkAddress` is `LEVELMQ_REPLICATED_LEVELDB_ZK_ADDRESS`. Secrets may be in a file
 * that `…_FILE` names. A variable without a value counts as not set, since container tools cannot leave one out.
 */

/** A setting as given by a variable. */
export interface EnvironmentSetting {
  readonly variable: string
  readonly path: readonly string[]
  /** The variable's value, or, with `fromFile`, the name of the file that has it. */
  readonly value: string
  readonly fromFile: boolean
}

/** A variable that starts with `LEVELMQ_` and means nothing. */
export interface UnknownVariable {
  readonly variable: string
  readonly suggestion: string | undefined
}

const prefix = 'LEVELMQ_'

/** Read by the command line itself: the configuration file, the brokers that clients connect to, the administrator's token. */
const otherVariables: readonly string[] = ['LEVELMQ_CONFIG', 'LEVELMQ_URL', 'LEVELMQ_ADMIN_TOKEN']

const secrets: readonly string[] = ['securityToken', 'zkPassword', 'adminToken']

/** Each variable with the path that it sets. */
const environmentVariables: ReadonlyMap<string, readonly string[]> = new Map(
  [
    ['brokerName'],
    ...under('persistenceAdapter', 'levelDB'),
    ...under('persistenceAdapter', 'replicatedLevelDB'),
    ['transportConnectors'],
    ['managementContext'],
    ...under('managementContext'),
    ...under('log'),
  ].map((path) => [variableOf(path), path]),
)

/** The variable that sets `path`. */
function variableOf(path: readonly string[]): string {
  const words = path.filter((part) => part !== 'persistenceAdapter').map(snakeCase)
  return prefix + words.join('_').toUpperCase()
}

/** Sorts out the variables that concern a broker's configuration. */
export function readEnvironment(environment: Readonly<Record<string, string | undefined>>): {
  readonly settings: readonly EnvironmentSetting[]
  readonly unknown: readonly UnknownVariable[]
} {
  const settings: EnvironmentSetting[] = []
  const unknown: UnknownVariable[] = []
  for (const [variable, value] of Object.entries(environment)) {
    if (!variable.startsWith(prefix) || otherVariables.includes(variable)) continue
    const path = environmentVariables.get(variable)
    const secretPath = variable.endsWith('_FILE')
      ? environmentVariables.get(variable.slice(0, -5))
      : undefined
    if (path !== undefined) {
      if (value) settings.push({ variable, path, value, fromFile: false })
    } else if (secretPath !== undefined && secrets.includes(secretPath.at(-1) ?? '')) {
      if (value) settings.push({ variable, path: secretPath, value, fromFile: true })
    } else {
      unknown.push({ variable, suggestion: nearest(variable, knownVariables()) })
    }
  }
  return { settings, unknown }
}

/** Whether the value at `path` must not be shown in a message or a log. */
export function isSecret(path: readonly (string | number)[]): boolean {
  return secrets.includes(String(path.at(-1)))
}

function knownVariables(): string[] {
  const ofSecrets = [...environmentVariables]
    .filter(([, path]) => isSecret(path))
    .map(([variable]) => `${variable}_FILE`)
  return [...environmentVariables.keys(), ...ofSecrets, ...otherVariables]
}

function under(...path: string[]): string[][] {
  return knownKeys(path).map((key) => [...path, key])
}

function snakeCase(name: string): string {
  return name
    .replace('LevelDB', 'Leveldb')
    .replace('levelDB', 'leveldb')
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
}

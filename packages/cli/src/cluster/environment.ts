/** Variables that would make the brokers of one machine alike where they have to differ, or undo a cluster's layout. */
const ofOneBroker =
  /^LEVELMQ_(BROKER_NAME|CONFIG|URL|TRANSPORT_CONNECTORS|MANAGEMENT_CONTEXT.*|LEVELDB_.*|REPLICATED_LEVELDB_(BROKER_NAME|MEMBER_NAME|NODE_ID|DIRECTORY|REPLICAS|BIND|HOSTNAME|CONNECT_URL|ELECTOR|PEERS|ZK_ADDRESS|ZK_PATH))$/

/** The environment for the brokers of a local cluster, and which variables were left out. Pure. */
export function clusterEnvironment(environment: NodeJS.ProcessEnv): {
  readonly environment: NodeJS.ProcessEnv
  readonly ignored: readonly string[]
} {
  const entries = Object.entries(environment)
  return {
    environment: Object.fromEntries(entries.filter(([name]) => !ofOneBroker.test(name))),
    ignored: entries.filter(([name, value]) => ofOneBroker.test(name) && value !== '').map(([name]) => name),
  }
}

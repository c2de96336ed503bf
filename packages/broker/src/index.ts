export { Broker, type BrokerDependencies } from './broker.ts'
export type { BrokerOptions, TransportConnectorOptions } from './broker-options.ts'
export type { BrokerMemberStatus, BrokerStatus, BrokerStorageStatus } from './broker-status.ts'
export { loadConfiguration } from './config/configuration.ts'
export type { Connector, ConnectorFactories, ConnectorFactory, ConnectorHost } from './connector/connector.ts'
export { createStompConnector } from './connector/stomp/connector.ts'
export type { QueueStatus } from './destination/queue-engine.ts'
export type {
  AcknowledgeMode,
  Client,
  Consumer,
  Engine,
  EngineConnection,
  Receiver,
  SubscribeOptions,
} from './engine.ts'
export { BrokerError, type BrokerErrorDetail } from './errors.ts'
export { ManagementServer } from './management/server.ts'

/** What a message can be sent to. The numbers are part of the stored envelope. */
export const DestinationKind = { queue: 0, topic: 1, temporaryQueue: 2, temporaryTopic: 3 } as const
export type DestinationKind = (typeof DestinationKind)[keyof typeof DestinationKind]

export interface Destination {
  readonly kind: DestinationKind
  /** Name without any protocol's prefix. */
  readonly name: string
}

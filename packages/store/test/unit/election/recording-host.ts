import type { ElectorHost, PeerAddress, StandReason } from '../../../src/election/elector.ts'

/** A node that only writes down what its elector asks for. */
export class RecordingHost implements ElectorHost {
  readonly stands: StandReason[] = []
  readonly stepDowns: string[] = []
  readonly peerLists: string[][] = []
  readonly warnings: string[] = []
  changes = 0
  /** Called on each `stand`, after it was written down. */
  onStand: (() => void) | undefined

  stand(reason: StandReason): void {
    this.stands.push(reason)
    this.onStand?.()
  }

  stepDown(reason: string): void {
    this.stepDowns.push(reason)
  }

  peers(addresses: readonly PeerAddress[]): void {
    this.peerLists.push(addresses.map(({ address }) => address))
  }

  changed(): void {
    this.changes += 1
  }

  log(level: 'info' | 'warn' | 'error', message: string): void {
    if (level !== 'info') this.warnings.push(message)
  }
}

import { type BatchHeader, lastIndexOf } from './batch.ts'

/** Why a batch, sound in itself, cannot stand behind the one before it. */
export type ChainFault = 'checksum of the batch before' | 'first index' | 'epoch' | 'log time'

/**
 * What makes batches a log: each names the checksum of the one before, indices are dense, epochs and times never fall.
 * A segment of another time or store put in between does not pass.
 */
export class Chain {
  /** Index that the next batch must begin with. */
  nextIndex: number
  /** Checksum of the last batch; `undefined` while it is unknown. */
  checksum: number | undefined
  epoch = 0
  timeMs = 0

  /** @param epoch - Of the record before `nextIndex`, as far as it is known. */
  constructor(nextIndex: number, epoch: number = 0) {
    this.nextIndex = nextIndex
    this.checksum = nextIndex === 1 ? 0 : undefined
    this.epoch = epoch
  }

  /** What comes before record `nextIndex` is damaged. */
  skipTo(nextIndex: number): void {
    this.nextIndex = nextIndex
    this.checksum = undefined
  }

  /** Why a batch cannot be the next; `undefined` if it can. */
  faultOf(header: BatchHeader): ChainFault | undefined {
    if (header.firstIndex !== this.nextIndex) return 'first index'
    if (this.checksum !== undefined && header.previousChecksum !== this.checksum)
      return 'checksum of the batch before'
    if (header.epoch < this.epoch) return 'epoch'
    return header.logTimeMs < this.timeMs ? 'log time' : undefined
  }

  /** Takes the next batch, or tells why it is not the next and stays as it was. */
  accept(header: BatchHeader): ChainFault | undefined {
    const fault = this.faultOf(header)
    if (fault !== undefined) return fault
    this.nextIndex = lastIndexOf(header) + 1
    this.checksum = header.checksum
    this.epoch = header.epoch
    this.timeMs = header.logTimeMs
    return undefined
  }
}

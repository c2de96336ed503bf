import type { DiskOperation, VirtualDisk } from '../../../../testkit/src/virtual-disk.ts'
import type { Disk, DiskFile } from '../../../src/io/disk.ts'
import type { Dice, Scheduler } from './scheduler.ts'
import { never, type SimulatedProcess } from './simulated-process.ts'

/** How a disk behaves at present; belongs to the machine and outlives its processes. */
export interface DiskFaults {
  /** Of one operation, on average. */
  meanMs: number
  slowUntilMs: number
  slowMs: number
  /** Operations that fail next, once each. */
  failNext: DiskOperation[]
  fullUntilMs: number
}

/** An operation that was given to the kernel and has not taken effect. */
interface PendingOperation {
  readonly whole: () => Promise<unknown>
  /** What may remain of it if the process is killed in between. */
  readonly part: (() => Promise<unknown>) | undefined
}

/** The disk as one process sees it: every operation takes its time on the virtual clock, and may fail. */
export class ProcessDisk implements Disk {
  readonly #process: SimulatedProcess
  readonly #scheduler: Scheduler
  readonly #dice: Dice
  readonly #disk: VirtualDisk
  readonly #faults: DiskFaults
  /** Called when a write or sync was made to fail: the store has to give up now. */
  readonly #mustGiveUp: () => void
  /** Called when bytes are about to be zeroed, or a segment removed: the log is cut. */
  readonly #cutting: () => void
  /** Called when a directory is gone. */
  readonly #removed: (directory: string) => void
  readonly #pending = new Set<PendingOperation>()

  constructor(
    process: SimulatedProcess,
    scheduler: Scheduler,
    dice: Dice,
    disk: VirtualDisk,
    faults: DiskFaults,
    mustGiveUp: () => void,
    cutting: () => void,
    removed: (directory: string) => void,
  ) {
    this.#process = process
    this.#scheduler = scheduler
    this.#dice = dice
    this.#disk = disk
    this.#faults = faults
    this.#mustGiveUp = mustGiveUp
    this.#cutting = cutting
    this.#removed = removed
  }

  /** The process is killed: what the kernel was about to do it does, does in part, or does not. */
  abandon(): void {
    for (const { whole, part } of this.#pending) {
      const fate = this.#dice.below(3)
      if (fate === 0) void whole().catch(() => undefined)
      else if (fate === 1) void part?.().catch(() => undefined)
    }
    this.#pending.clear()
  }

  async open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile> {
    const operation = mode === 'create' ? 'create' : 'open'
    const file = await this.perform(operation, () => this.#disk.open(path, mode))
    const run = <T>(
      each: DiskOperation,
      whole: () => Promise<T>,
      part?: () => Promise<unknown>,
    ): Promise<T> => this.perform(each, whole, part)
    return {
      // The caller's buffer is filled when the operation takes effect, as by a thread of the pool.
      read: (into, at, length, position) => run('read', () => file.read(into, at, length, position)),
      write: (chunks, position) => {
        // Whatever is written into a log begins with a name of its kind.
        if (chunks[0]?.[0] === 0) this.#cutting()
        return run(
          'write',
          () => file.write(chunks, position),
          () => {
            const bytes = Buffer.concat(chunks)
            return file.write([bytes.subarray(0, this.#dice.below(bytes.length))], position)
          },
        )
      },
      allocate: (bytes) =>
        run(
          'allocate',
          () => file.allocate(bytes),
          () => file.allocate(this.#dice.below(bytes)),
        ),
      sync: () => run('sync', () => file.sync()),
      size: () => run('read', () => file.size()),
      close: () => run('close', () => file.close()),
    }
  }

  list(directory: string): Promise<string[]> {
    return this.perform('read', () => this.#disk.list(directory), undefined, false)
  }

  makeDirectory(): Promise<void> {
    return this.perform('create', () => this.#disk.makeDirectory(), undefined, false)
  }

  readWhole(path: string, maxBytes: number): Promise<Buffer | undefined> {
    return this.perform('read', () => this.#disk.readWhole(path, maxBytes))
  }

  rename(from: string, to: string): Promise<void> {
    return this.perform('rename', () => this.#disk.rename(from, to))
  }

  remove(path: string): Promise<void> {
    if (path.endsWith('.log')) this.#cutting()
    return this.perform('remove', () => this.#disk.remove(path))
  }

  removeDirectory(directory: string): Promise<void> {
    return this.perform('remove', async () => {
      await this.#disk.removeDirectory(directory)
      this.#removed(directory)
    })
  }

  syncDirectory(directory: string): Promise<void> {
    return this.perform('syncDirectory', () => this.#disk.syncDirectory(directory))
  }

  /** @param mayFail - False for what the virtual disk cannot make fail. */
  perform<T>(
    operation: DiskOperation,
    whole: () => Promise<T>,
    part?: () => Promise<unknown>,
    mayFail = true,
  ): Promise<T> {
    const process = this.#process
    if (!process.acts()) return never()
    return new Promise((resolve, reject) => {
      const pending = { whole, part }
      this.#pending.add(pending)
      this.#scheduler.in(this.#latencyMs(operation), () => {
        // A stopped process has its operations carried out all the same; it only hears of them later.
        if (!this.#pending.delete(pending)) return
        if (mayFail) this.#injectFailure(operation)
        whole().then(
          (value) => process.enter(() => resolve(value)),
          (error) => process.enter(() => reject(error)),
        )
      })
    })
  }

  #injectFailure(operation: DiskOperation): void {
    const { failNext, fullUntilMs } = this.#faults
    const at = failNext.indexOf(operation)
    const full = this.#scheduler.nowMs < fullUntilMs && (operation === 'allocate' || operation === 'create')
    if (at < 0 && !full) return
    if (at >= 0) failNext.splice(at, 1)
    const code = at >= 0 ? 'EIO' : 'ENOSPC'
    this.#disk.failNext({ operation, code })
    this.#process.diskFailed = true
    if (operation === 'write' || operation === 'sync') this.#mustGiveUp()
    this.#scheduler.note(`${this.#process.name} ${operation} fails with ${code}`)
  }

  #latencyMs(operation: DiskOperation): number {
    const { meanMs, slowUntilMs, slowMs } = this.#faults
    if (this.#scheduler.nowMs < slowUntilMs) return this.#dice.range(0, slowMs)
    const light = operation === 'sync' || operation === 'syncDirectory' ? 1 : 0.1
    const usual = meanMs * light * this.#dice.range(0.3, 1.7)
    return this.#dice.chance(0.02) ? usual * 5 : usual
  }
}

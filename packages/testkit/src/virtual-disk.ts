import { basename, dirname } from 'node:path'
import type { Disk, DiskFile } from '../../store/src/io/disk.ts'
import type { Random } from '../../store/src/io/random.ts'

/** What a disk write is atomic in: a crash keeps or loses each whole. */
const sectorBytes = 512

/** What can be held, counted and made to fail. */
export type DiskOperation =
  | 'open'
  | 'create'
  | 'read'
  | 'write'
  | 'allocate'
  | 'sync'
  | 'close'
  | 'rename'
  | 'remove'
  | 'syncDirectory'

export interface DiskFailure {
  readonly operation: DiskOperation
  /** Only on files whose path ends with this. */
  readonly path?: string
  readonly code: 'EIO' | 'ENOSPC'
  /** Operations of this kind that still succeed before. @defaultValue 0 */
  readonly after?: number
}

/** Content of the sectors that one write touched, as it was right after. */
interface UnsyncedWrite {
  /** Rises with each write to the disk. */
  readonly order: number
  readonly offset: number
  readonly sectors: Buffer
}

interface Inode {
  synced: Buffer
  /** What readers see. */
  current: Buffer
  unsynced: UnsyncedWrite[]
}

interface NameChange {
  readonly directory: string
  readonly apply: (names: Map<string, Inode>) => void
}

/**
 * Files in memory that forget what was not synced: {@link VirtualDisk.crash} drops, tears or keeps every unsynced write
 * and every unsynced change of a directory, as the random numbers will have it. Sectors persist in any order.
 *
 * A sync that was made to fail behaves as on Linux: what it should have written stays readable and counts as clean, so
 * a later sync that succeeds does not write it either (fsyncgate).
 */
export class VirtualDisk implements Disk {
  readonly #random: Pick<Random, 'fraction'>
  readonly #pause: ((operation: DiskOperation, path: string) => Promise<void> | undefined) | undefined
  readonly #counts = new Map<DiskOperation, number>()
  readonly #holds = new Map<DiskOperation, { readonly until: Promise<void>; waiting: number }>()
  /** Syncs of files report success and do nothing, until a crash loses the end of what was written since (N31). */
  lies = false
  #order = 0
  #lied = false
  #names = new Map<string, Inode>()
  #syncedNames = new Map<string, Inode>()
  #nameChanges: NameChange[] = []
  #failures: { readonly failure: DiskFailure; left: number }[] = []
  /** Operations begun in an earlier life never settle. */
  #life = 0
  #stepsUntilStop = Number.POSITIVE_INFINITY
  #stopped: (() => void) | undefined

  /** @param pause - Delays an operation before it takes effect, for instance on a virtual clock. */
  constructor(
    random: Pick<Random, 'fraction'>,
    pause?: (operation: DiskOperation, path: string) => Promise<void> | undefined,
  ) {
    this.#random = random
    this.#pause = pause
  }

  /** Loses power. Everything under way never settles; files can then be opened anew. */
  crash(): void {
    // Some crashes lose nearly everything, some next to nothing.
    const kept = this.#random.fraction()
    for (const change of this.#nameChanges)
      if (this.#random.fraction() < kept) change.apply(this.#syncedNames)
    const inodes = new Set([...this.#syncedNames.values(), ...this.#names.values()])
    if (this.#lied) this.#loseEnd(inodes)
    else for (const inode of inodes) this.#crashFile(inode, kept)
    this.lies = false
    this.#lied = false
    this.#nameChanges = []
    this.#names = new Map(this.#syncedNames)
    this.#failures = []
    this.exit()
  }

  /** Ends the process but not the machine: what was written stays readable, synced or not. */
  exit(): void {
    this.#life++
    this.#stepsUntilStop = Number.POSITIVE_INFINITY
    this.#holds.clear()
  }

  /**
   * Lets `steps` more operations that change something take effect, and then none; the last one does not settle.
   *
   * @returns Settles when that point is reached; then is the time for `crash` or `exit`.
   */
  stopAfter(steps: number): Promise<void> {
    this.#stepsUntilStop = steps
    return new Promise((stopped) => {
      this.#stopped = stopped
    })
  }

  failNext(failure: DiskFailure): void {
    this.#failures.push({ failure, left: failure.after ?? 0 })
  }

  /** Keeps operations of one kind from taking effect until the function that is returned is called. */
  hold(operation: DiskOperation): () => void {
    let release = (): void => undefined
    const until = new Promise<void>((resolve) => {
      release = resolve
    })
    this.#holds.set(operation, { until, waiting: 0 })
    return () => {
      this.#holds.delete(operation)
      release()
    }
  }

  /** How many operations wait for a {@link VirtualDisk.hold} to be released. */
  waiting(operation: DiskOperation): number {
    return this.#holds.get(operation)?.waiting ?? 0
  }

  /** How many operations of this kind have been begun. */
  count(operation: DiskOperation): number {
    return this.#counts.get(operation) ?? 0
  }

  /** Paths of all files, sorted. */
  paths(): string[] {
    return [...this.#names.keys()].sort()
  }

  /** A copy of what a reader sees. */
  content(path: string): Buffer {
    return Buffer.from(this.#inode(path).current)
  }

  /** Puts a file in place, durable at once, without counting as an operation. */
  place(path: string, content: Uint8Array): void {
    const inode = { synced: Buffer.from(content), current: Buffer.from(content), unsynced: [] }
    this.#names.set(path, inode)
    this.#syncedNames.set(path, inode)
  }

  /** Takes a file away, durably at once, without counting as an operation. */
  lose(path: string): void {
    this.#names.delete(path)
    this.#syncedNames.delete(path)
  }

  /** Bit rot, durable at once. `bit` counts from the beginning of the file. */
  flipBit(path: string, bit: number): void {
    const inode = this.#inode(path)
    const at = bit >>> 3
    for (const content of new Set([inode.current, inode.synced]))
      if (at < content.length) content[at] = (content[at] ?? 0) ^ (1 << (bit & 7))
  }

  /** Other bytes in place of those at `offset`, durable at once: a misdirected write, or sectors that went blank. */
  overwrite(path: string, offset: number, bytes: Uint8Array): void {
    const inode = this.#inode(path)
    for (const content of new Set([inode.current, inode.synced]))
      if (offset < content.length) content.set(bytes.subarray(0, content.length - offset), offset)
  }

  /** A file is shorter than it was, durably at once. */
  cut(path: string, bytes: number): void {
    const inode = this.#inode(path)
    inode.current = Buffer.from(inode.current.subarray(0, bytes))
    inode.synced = Buffer.from(inode.synced.subarray(0, bytes))
    inode.unsynced = []
  }

  /** What would be left after a crash that loses all that was not synced. */
  copy(): Map<string, Buffer> {
    return new Map([...this.#syncedNames].map(([path, { synced }]) => [path, Buffer.from(synced)]))
  }

  /** Puts back a copy, in place of everything. */
  putBack(copy: ReadonlyMap<string, Uint8Array>): void {
    this.#nameChanges = []
    this.#names.clear()
    this.#syncedNames.clear()
    for (const [path, content] of copy) this.place(path, content)
  }

  async open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile> {
    const create = mode === 'create'
    const inode = await this.#perform(create ? 'create' : 'open', path, create, () => {
      if (!create) return this.#inode(path)
      if (this.#names.has(path)) throw failureOf('EEXIST', `create ${path}`)
      const made: Inode = { synced: Buffer.alloc(0), current: Buffer.alloc(0), unsynced: [] }
      this.#changeNames(path, (names) => names.set(path, made))
      return made
    })
    return new VirtualFile(
      inode,
      <T>(operation: DiskOperation, changes: boolean, effect: () => T) =>
        this.#perform(operation, path, changes, effect),
      () => this.#order++,
      () => {
        this.#lied ||= this.lies
        return this.#lied
      },
    )
  }

  async list(directory: string): Promise<string[]> {
    return [...this.#names.keys()].filter((path) => dirname(path) === directory).map((path) => basename(path))
  }

  async makeDirectory(): Promise<void> {
    // Directories are wherever a path says so.
  }

  async readWhole(path: string, maxBytes: number): Promise<Buffer | undefined> {
    const content = await this.#perform('read', path, false, () => this.#names.get(path)?.current)
    if (content !== undefined && content.length > maxBytes) throw new RangeError(`${path} is too large`)
    return content === undefined ? undefined : Buffer.from(content)
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#perform('rename', from, true, () => {
      const inode = this.#inode(from)
      this.#changeNames(to, (names) => {
        // After a crash that lost the creation of `from` there is nothing to rename.
        if (names.get(from) !== inode) return
        names.delete(from)
        names.set(to, inode)
      })
    })
  }

  async remove(path: string): Promise<void> {
    await this.#perform('remove', path, true, () => {
      const inode = this.#inode(path)
      this.#changeNames(path, (names) => {
        if (names.get(path) === inode) names.delete(path)
      })
    })
  }

  async removeDirectory(directory: string): Promise<void> {
    for (const path of [...this.#names.keys()]) if (dirname(path) === directory) await this.remove(path)
  }

  async syncDirectory(directory: string): Promise<void> {
    await this.#perform('syncDirectory', directory, true, () => {
      for (const change of this.#nameChanges)
        if (change.directory === directory) change.apply(this.#syncedNames)
      this.#nameChanges = this.#nameChanges.filter((change) => change.directory !== directory)
    })
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path)
    if (inode === undefined) throw failureOf('ENOENT', path)
    return inode
  }

  #changeNames(path: string, apply: (names: Map<string, Inode>) => void): void {
    apply(this.#names)
    this.#nameChanges.push({ directory: dirname(path), apply })
  }

  async #perform<T>(operation: DiskOperation, path: string, changes: boolean, effect: () => T): Promise<T> {
    const life = this.#life
    this.#counts.set(operation, this.count(operation) + 1)
    const hold = this.#holds.get(operation)
    if (hold !== undefined) hold.waiting++
    await hold?.until
    await this.#pause?.(operation, path)
    if (life !== this.#life || this.#stepsUntilStop <= 0) return await never()
    const code = this.#failureFor(operation, path)
    if (code !== undefined && operation !== 'sync') throw failureOf(code, `${operation} ${path}`)
    if (code !== undefined) {
      this.#forgetUnsynced(path)
      throw failureOf(code, `${operation} ${path}`)
    }
    const result = effect()
    if (changes && --this.#stepsUntilStop <= 0) {
      this.#stopped?.()
      return await never()
    }
    return result
  }

  #failureFor(operation: DiskOperation, path: string): string | undefined {
    for (const [place, entry] of this.#failures.entries()) {
      const { failure } = entry
      if (failure.operation !== operation || !path.endsWith(failure.path ?? '')) continue
      if (entry.left-- > 0) continue
      this.#failures.splice(place, 1)
      return failure.code
    }
    return undefined
  }

  #forgetUnsynced(path: string): void {
    const inode = this.#names.get(path)
    if (inode !== undefined) inode.unsynced = []
  }

  /** Everything that was written from some moment on is gone, synced or not. */
  #loseEnd(inodes: Iterable<Inode>): void {
    const writes = [...inodes].flatMap(({ unsynced }) => unsynced)
    const first = writes.reduce((least, { order }) => Math.min(least, order), this.#order)
    const end = first + this.#random.fraction() * (this.#order - first)
    for (const inode of inodes) {
      for (const write of inode.unsynced)
        if (write.order < end) inode.synced = patched(inode.synced, write, 0, write.sectors.length)
      inode.current = Buffer.from(inode.synced)
      inode.unsynced = []
    }
  }

  #crashFile(inode: Inode, kept: number): void {
    let result = inode.synced
    for (const write of inode.unsynced) {
      // Each write: lost, kept, or torn sector by sector.
      const torn = this.#random.fraction() < 0.5
      const chance = torn ? 0.5 : this.#random.fraction() < kept ? 1 : 0
      for (let at = 0; at < write.sectors.length; at += sectorBytes) {
        if (this.#random.fraction() >= chance) continue
        result = patched(result, write, at, Math.min(at + sectorBytes, write.sectors.length))
      }
    }
    inode.synced = result
    inode.current = Buffer.from(result)
    inode.unsynced = []
  }
}

class VirtualFile implements DiskFile {
  readonly #inode: Inode
  readonly #perform: <T>(operation: DiskOperation, changes: boolean, effect: () => T) => Promise<T>
  readonly #nextOrder: () => number
  readonly #lies: () => boolean
  #open = true

  constructor(
    inode: Inode,
    perform: <T>(operation: DiskOperation, changes: boolean, effect: () => T) => Promise<T>,
    nextOrder: () => number,
    lies: () => boolean,
  ) {
    this.#inode = inode
    this.#perform = perform
    this.#nextOrder = nextOrder
    this.#lies = lies
  }

  async read(into: Buffer, at: number, length: number, position: number): Promise<number> {
    return await this.#run('read', false, () => {
      const end = Math.min(this.#inode.current.length, position + length)
      return position >= end ? 0 : this.#inode.current.copy(into, at, position, end)
    })
  }

  async write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    await this.#run('write', true, () => this.#put(Buffer.concat(chunks), position))
  }

  async allocate(bytes: number): Promise<void> {
    await this.#run('allocate', true, () => {
      const { length } = this.#inode.current
      if (length < bytes) this.#put(Buffer.alloc(bytes - length), length)
    })
  }

  async sync(): Promise<void> {
    await this.#run('sync', true, () => {
      if (this.#lies()) return
      for (const write of this.#inode.unsynced)
        this.#inode.synced = patched(this.#inode.synced, write, 0, write.sectors.length)
      this.#inode.unsynced = []
    })
  }

  async size(): Promise<number> {
    return await this.#run('read', false, () => this.#inode.current.length)
  }

  async close(): Promise<void> {
    await this.#run('close', false, () => {
      this.#open = false
    })
  }

  #put(bytes: Buffer, position: number): void {
    const inode = this.#inode
    const end = position + bytes.length
    if (end > inode.current.length)
      inode.current = Buffer.concat([inode.current, Buffer.alloc(end - inode.current.length)])
    bytes.copy(inode.current, position)
    const offset = position - (position % sectorBytes)
    const sectors = Buffer.from(inode.current.subarray(offset, Math.ceil(end / sectorBytes) * sectorBytes))
    inode.unsynced.push({ order: this.#nextOrder(), offset, sectors })
  }

  #run<T>(operation: DiskOperation, changes: boolean, effect: () => T): Promise<T> {
    return this.#perform(operation, changes, () => {
      if (!this.#open) throw failureOf('EBADF', operation)
      return effect()
    })
  }
}

/** `content` with the bytes `from` to `to` of a write's sectors in place. */
function patched(content: Buffer, write: UnsyncedWrite, from: number, to: number): Buffer {
  const end = write.offset + to
  const result = end > content.length ? Buffer.concat([content, Buffer.alloc(end - content.length)]) : content
  write.sectors.copy(result, write.offset + from, from, to)
  return result
}

function failureOf(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code })
}

function never<T>(): Promise<T> {
  return new Promise(() => undefined)
}

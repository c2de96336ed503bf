/**
 * Files, as the store sees them. Paths are absolute or relative to the process; the store only ever joins names that
 * it made itself.
 *
 * What the store relies on: data is durable once `sync` has resolved on a file whose blocks were allocated before, and
 * a created, renamed or removed name is durable once `syncDirectory` has resolved. Nothing is durable before.
 */
export interface Disk {
  /** Opens a file: `create` fails if it exists, `write` and `read` fail if it does not. */
  open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile>
  /** Names in a directory, unsorted; empty if the directory does not exist. */
  list(directory: string): Promise<string[]>
  /** Creates a directory and its parents, mode 0700. Existing ones are left as they are. */
  makeDirectory(directory: string): Promise<void>
  /** Whole content, or `undefined` if there is no such file. For small files only. */
  readWhole(path: string, maxBytes: number): Promise<Buffer | undefined>
  rename(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  /** Removes a directory with all files in it; nothing happens if it does not exist. Not durable before its parent is synced. */
  removeDirectory(directory: string): Promise<void>
  syncDirectory(directory: string): Promise<void>
}

export interface DiskFile {
  /** Reads up to `length` bytes into `into` at `at`; resolves to the count, which is less only at the end of the file. */
  read(into: Buffer, at: number, length: number, position: number): Promise<number>
  /** Writes all chunks, one after the other, from `position` on; repeats short writes until everything is written. */
  write(chunks: readonly Uint8Array[], position: number): Promise<void>
  /** Fills the file with zeroes up to `bytes`, so that later writes below that change no metadata. */
  allocate(bytes: number): Promise<void>
  /** Makes what was written durable (`fdatasync`). Never retried: a failure leaves the content unknown. */
  sync(): Promise<void>
  size(): Promise<number>
  close(): Promise<void>
}

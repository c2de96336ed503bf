import { dirname } from 'node:path'
import { type EpochPromise, PromiseFile } from '../consensus/promise-file.ts'
import { StoreError } from '../errors.ts'
import type { Disk, DiskFile } from '../io/disk.ts'

/** Size of one of the two copies in the file. */
export const promiseCopyBytes = 512

/** What the file of the promise holds. */
export interface PromiseCopies {
  /** What a start would take for the promise; `undefined` if it would refuse, as `fault` says. */
  readonly promise: EpochPromise | undefined
  readonly fault: string | undefined
  /** Of each copy by itself: whether it is intact. */
  readonly intact: readonly [boolean, boolean]
  /** Nothing was ever written into it. */
  readonly blank: boolean
}

/**
 * Reads the two copies of the promise. Each is judged by the code that opens the file at a start, which is shown a file
 * in memory: opening writes.
 *
 * @param content - The file; `undefined` if there is none.
 */
export async function readPromiseCopies(
  path: string,
  content: Buffer | undefined,
  founded: boolean,
): Promise<PromiseCopies> {
  const whole = await promiseIn(path, content, founded)
  const blank = content?.every((byte) => byte === 0) ?? false
  const alone = async (copy: 0 | 1): Promise<boolean> => {
    if (content?.length !== 2 * promiseCopyBytes) return false
    const own = content.subarray(copy * promiseCopyBytes, (copy + 1) * promiseCopyBytes)
    if (own.every((byte) => byte === 0)) return false
    // In both places, the other cannot help or hinder it.
    return (await promiseIn(path, Buffer.concat([own, own]), true)).promise !== undefined
  }
  return { ...whole, blank, intact: [await alone(0), await alone(1)] }
}

async function promiseIn(
  path: string,
  content: Buffer | undefined,
  founded: boolean,
): Promise<Pick<PromiseCopies, 'promise' | 'fault'>> {
  try {
    const { promise } = await PromiseFile.open(new OneFileInMemory(content), dirname(path), founded)
    return { promise, fault: undefined }
  } catch (error) {
    if (!(error instanceof StoreError || error instanceof RangeError)) throw error
    return { promise: undefined, fault: error.message }
  }
}

/** A disk with a single file, whose writes go nowhere. */
class OneFileInMemory implements Disk {
  readonly #content: Buffer | undefined

  constructor(content: Buffer | undefined) {
    this.#content = content
  }

  async readWhole(): Promise<Buffer | undefined> {
    return this.#content
  }

  async open(): Promise<DiskFile> {
    const nothing = async (): Promise<void> => {}
    return {
      read: async () => 0,
      size: async () => this.#content?.length ?? 0,
      write: nothing,
      allocate: nothing,
      sync: nothing,
      close: nothing,
    }
  }

  async list(): Promise<string[]> {
    return []
  }

  async makeDirectory(): Promise<void> {}
  async rename(): Promise<void> {}
  async remove(): Promise<void> {}
  async removeDirectory(): Promise<void> {}
  async syncDirectory(): Promise<void> {}
}

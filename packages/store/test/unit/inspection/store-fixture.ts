import { createHash } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { createStore, type MasterSession, type MessageStore } from '../../../src/index.ts'
import type { JournalEvent } from '../../../src/inspection/journal-walk.ts'
import { listSegments, walkJournal } from '../../../src/inspection/journal-walk.ts'
import { NodeDisk } from '../../../src/io/node/disk.ts'

export const messagesPerQueue = 300
/** Messages of the first queue that are removed again. */
export const removed = 40

type Batch = JournalEvent & { type: 'batch' }
type Mark = JournalEvent & { type: 'mark' }

/** The directory of a store that really ran, over three segments, and was closed in order. */
export class StoreFixture {
  readonly #root: string
  #copies = 0
  readonly directory: string
  readonly batches: Batch[] = []
  readonly marks: Mark[] = []
  readonly segments: string[] = []

  private constructor(root: string) {
    this.#root = root
    this.directory = join(root, 'store')
  }

  static async create(): Promise<StoreFixture> {
    const fixture = new StoreFixture(await mkdtemp(join(tmpdir(), 'levelmq-inspection-')))
    await fillStore(fixture.directory)
    const disk = new NodeDisk()
    const segments = await listSegments(disk, join(fixture.directory, 'journal'))
    for await (const event of walkJournal(disk, segments)) {
      if (event.type === 'batch') fixture.batches.push(event)
      if (event.type === 'mark') fixture.marks.push(event)
    }
    fixture.segments.push(...segments.map(({ path }) => path.slice(fixture.directory.length + 1)))
    return fixture
  }

  /** A copy to damage. */
  async copy(): Promise<StoreCopy> {
    const directory = join(this.#root, `copy-${++this.#copies}`)
    await cp(this.directory, directory, { recursive: true })
    return new StoreCopy(directory)
  }

  /** The path of a file of the original within its directory. */
  nameOf(path: string): string {
    return path.slice(this.directory.length + 1)
  }

  async dispose(): Promise<void> {
    await rm(this.#root, { recursive: true, force: true })
  }
}

export class StoreCopy {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  path(name: string): string {
    return join(this.directory, name)
  }

  async change(name: string, change: (content: Buffer) => Buffer | undefined): Promise<void> {
    const content = await readFile(this.path(name))
    await writeFile(this.path(name), change(content) ?? content)
  }

  async flip(name: string, offset: number): Promise<void> {
    await this.change(name, (content) => {
      content[offset] = (content[offset] ?? 0) ^ 1
      return undefined
    })
  }

  async remove(name: string): Promise<void> {
    await rm(this.path(name), { recursive: true })
  }

  /** Lets `change` work on the database of the index. */
  async index(change: (db: ClassicLevel<Buffer, Buffer>) => Promise<unknown>): Promise<void> {
    const db = new ClassicLevel<Buffer, Buffer>(this.path('index'), {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
    })
    await change(db)
    await db.close()
  }

  /** One digest over the names and bytes of everything in the directory. */
  async digest(): Promise<string> {
    const hash = createHash('sha256')
    const names = await readdir(this.directory, { recursive: true, withFileTypes: true })
    const paths = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
    for (const path of paths.sort()) hash.update(path).update(await readFile(path))
    return hash.digest('hex')
  }
}

async function fillStore(directory: string): Promise<void> {
  const store = createStore(
    { kind: 'levelDB', options: { directory, logSize: 2 ** 20 } },
    { memberInfo: {}, log: () => {} },
  )
  const master = await Master.open(store)
  const { session } = master
  const orders = session.addQueue('orders')
  const other = session.addQueue('other')
  const producer = session.producer('producer-1')
  const body = Buffer.alloc(4000, 'x')
  const added: number[] = []
  for (let sequence = 1; sequence <= messagesPerQueue; sequence++) {
    added.push(session.addMessage(orders, producer, sequence, Buffer.from('head'), body))
    const last = session.addMessage(other, 0, 0, Buffer.from(`head ${sequence}`), body)
    if (sequence % 10 === 0) await master.confirmed(last)
  }
  session.removeMessages(orders, added.slice(0, removed))
  await master.confirmed(session.countRedelivery(orders, added.slice(removed, removed + 3), 2))
  await store.close()
}

/**
 * A store that ran until its log no longer began with record 1: one message was kept all the time, and thousands came
 * and went.
 */
export async function fillChurnedStore(directory: string): Promise<void> {
  const store = createStore(
    { kind: 'levelDB', options: { directory, logSize: 2 ** 20, flushDelay: 20 } },
    { memberInfo: {}, log: () => {} },
  )
  const master = await Master.open(store)
  const { session } = master
  const kept = session.addQueue('kept')
  await master.confirmed(
    session.addMessage(kept, session.producer('p'), 1, Buffer.from('head'), Buffer.from('body')),
  )
  const churned = session.addQueue('churned')
  const body = Buffer.alloc(8000, 'y')
  for (let round = 0; round < 200; round++) {
    const indices = Array.from({ length: 32 }, () => session.addMessage(churned, 0, 0, Buffer.alloc(0), body))
    await master.confirmed(session.removeMessages(churned, indices))
    if (round > 20 && (await readdir(join(directory, 'journal'))).includes('start')) break
    await new Promise((done) => setTimeout(done, 10))
  }
  await store.close()
}

class Master {
  readonly session: MasterSession
  readonly #confirmed: { index: number; wake: () => void }

  private constructor(session: MasterSession, confirmed: { index: number; wake: () => void }) {
    this.session = session
    this.#confirmed = confirmed
  }

  static async open(store: MessageStore): Promise<Master> {
    const promoted = Promise.withResolvers<MasterSession>()
    const confirmed = { index: 0, wake: () => {} }
    await store.open({
      promoted: promoted.resolve,
      demoted: () => {},
      confirmed: (index) => {
        confirmed.index = index
        confirmed.wake()
      },
      committed: () => {},
      drained: () => {},
      leaseRenewed: () => {},
      changed: () => {},
      failed: promoted.reject,
    })
    return new Master(await promoted.promise, confirmed)
  }

  async confirmed(index: number): Promise<void> {
    while (this.#confirmed.index < index) {
      await new Promise<void>((wake) => {
        this.#confirmed.wake = wake
      })
    }
  }
}

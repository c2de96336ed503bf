import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createStore,
  type MasterSession,
  type MessageStore,
  type ReplicatedLevelDbOptions,
  type StoreListener,
} from '../../src/index.ts'
import type { MemberStatus, StoreStatus } from '../../src/store-status.ts'

export const electionTimeoutMs = 300

/** What a member's release supports, if it is to be another one than this. */
type Release = NonNullable<Parameters<typeof createStore>[2]>

/** Waits until `condition` holds, and says what was waited for if it does not. */
export async function until(what: string, condition: () => boolean, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Free ports of the loopback interface, in rising order. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => new Promise((listening) => server.once('listening', listening))))
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))))
  return ports.sort((one, other) => one - other)
}

/** A store that runs, and what it reported. */
export class Member {
  readonly store: MessageStore
  readonly name: string
  readonly events: string[] = []
  readonly logged: string[] = []
  session: MasterSession | undefined
  confirmed = 0
  committed = 0
  demotedAtMs: number | undefined
  failure: Error | undefined

  constructor(name: string, make: (log: (level: string, message: string) => void) => MessageStore) {
    this.name = name
    this.store = make((level, message) => void this.logged.push(`${level} ${message}`))
  }

  async open(): Promise<this> {
    const listener: StoreListener = {
      promoted: (session) => {
        this.events.push('promoted')
        this.session = session
        this.confirmed = 0
      },
      demoted: () => {
        this.events.push('demoted')
        this.session = undefined
        this.demotedAtMs = performance.now()
      },
      confirmed: (index) => {
        this.confirmed = index
      },
      committed: (index) => {
        this.committed = index
      },
      drained: () => undefined,
      leaseRenewed: () => undefined,
      changed: () => undefined,
      failed: (error) => {
        this.failure = error
      },
    }
    await this.store.open(listener)
    return this
  }

  get master(): MasterSession {
    if (this.session === undefined) throw new Error(`${this.name} is not master`)
    return this.session
  }

  get status(): StoreStatus {
    return this.store.status()
  }

  /** How this member sees another. */
  sees(other: Member): MemberStatus | undefined {
    return this.status.members.find(({ name }) => name === other.name)
  }

  /** Appends a message and waits for its confirm. */
  async send(queue: number, text: string): Promise<number> {
    const index = this.master.addMessage(queue, 0, 0, Buffer.alloc(0), Buffer.from(text))
    await this.confirmation(index)
    return index
  }

  async confirmation(index: number, withinMs?: number): Promise<void> {
    await until(`${this.name} confirms ${index}`, () => this.confirmed >= index, withinMs)
  }

  /** Texts of all messages in a queue. */
  async texts(queue: number): Promise<string[]> {
    const page = await this.store.page(queue, 0, 100_000)
    const indices = page.map(({ index }) => index)
    return (await this.store.read(queue, indices)).map((envelope) => envelope.toString())
  }
}

/** Stores of one group in this process, on loopback sockets and temporary directories. */
export class StoreCluster {
  readonly directory: string
  readonly ports: readonly number[]
  readonly #open = new Set<Member>()

  private constructor(directory: string, ports: readonly number[]) {
    this.directory = directory
    this.ports = ports
  }

  static async create(count = 3): Promise<StoreCluster> {
    return new StoreCluster(await mkdtemp(join(tmpdir(), 'levelmq-cluster-')), await freePorts(count))
  }

  /** Members that are open. */
  get members(): Member[] {
    return [...this.#open]
  }

  directoryOf(place: number): string {
    return join(this.directory, String(place))
  }

  /** Makes the member at `place`, from 0 up, without opening it. */
  member(place: number, changes: Partial<ReplicatedLevelDbOptions> = {}, release: Release = {}): Member {
    const name = changes.memberName ?? `b${place}`
    const options: ReplicatedLevelDbOptions = {
      brokerName: 'group',
      memberName: name,
      directory: this.directoryOf(place),
      replicas: this.ports.length,
      bind: `tcp://127.0.0.1:${this.ports[place]}`,
      peers: this.ports.map((port) => `127.0.0.1:${port}`),
      securityToken: 'secret',
      logSize: 2 ** 20,
      electionTimeoutMs,
      ...changes,
    }
    return new Member(name, (log) =>
      createStore({ kind: 'replicatedLevelDB', options }, { memberInfo: { brokerName: name }, log }, release),
    )
  }

  async open(
    place: number,
    changes: Partial<ReplicatedLevelDbOptions> = {},
    release: Release = {},
  ): Promise<Member> {
    const member = this.member(place, changes, release)
    this.#open.add(member)
    return await member.open()
  }

  async openAll(changes: Partial<ReplicatedLevelDbOptions> = {}): Promise<Member[]> {
    return await Promise.all(this.ports.map((_, place) => this.open(place, changes)))
  }

  async close(member: Member): Promise<void> {
    this.#open.delete(member)
    await member.store.close()
  }

  /** Waits for the master among those open. */
  async master(withinMs?: number): Promise<Member> {
    let found: Member | undefined
    await until(
      'a master',
      () => {
        found = this.members.find((member) => member.session !== undefined)
        return found !== undefined
      },
      withinMs,
    )
    return found as Member
  }

  async dispose(): Promise<void> {
    await Promise.all(this.members.map((member) => this.close(member)))
    await rm(this.directory, { recursive: true, force: true })
  }
}

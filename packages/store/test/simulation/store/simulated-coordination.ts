import type { VirtualCoordinationSession } from '../../../../testkit/src/virtual-coordination.ts'
import type {
  CoordinationHandler,
  CoordinationMember,
  CoordinationSession,
} from '../../../src/io/coordination.ts'
import { never, type SimulatedProcess } from './simulated-process.ts'

/** A session with ZooKeeper as one process sees it: silent while that is stopped, and for ever once it is dead. */
export class ProcessSession implements CoordinationSession {
  readonly #session: VirtualCoordinationSession
  readonly #process: SimulatedProcess

  constructor(session: VirtualCoordinationSession, process: SimulatedProcess) {
    this.#session = session
    this.#process = process
  }

  get state(): CoordinationSession['state'] {
    return this.#session.state
  }

  get sessionTimeoutMs(): number | undefined {
    return this.#session.sessionTimeoutMs
  }

  get refusal(): string | undefined {
    return this.#session.refusal
  }

  open(handler: CoordinationHandler): void {
    const process = this.#process
    if (!process.acts()) return
    this.#session.open({
      connected: (fresh) => process.enter(() => handler.connected(fresh)),
      disconnected: () => process.enter(() => handler.disconnected()),
      expired: () => process.enter(() => handler.expired()),
      membersChanged: () => process.enter(() => handler.membersChanged()),
    })
  }

  makePath(path: string): Promise<void> {
    return this.#request(() => this.#session.makePath(path))
  }

  createMember(prefix: string, data: string): Promise<string> {
    return this.#request(() => this.#session.createMember(prefix, data))
  }

  setData(path: string, data: string): Promise<void> {
    return this.#request(() => this.#session.setData(path, data))
  }

  remove(path: string): Promise<void> {
    return this.#request(() => this.#session.remove(path))
  }

  members(path: string): Promise<CoordinationMember[]> {
    return this.#request(() => this.#session.members(path))
  }

  close(): Promise<void> {
    return this.#request(() => this.#session.close())
  }

  #request<T>(run: () => Promise<T>): Promise<T> {
    const process = this.#process
    if (!process.acts()) return never()
    return new Promise((resolve, reject) => {
      run().then(
        (value) => process.enter(() => resolve(value)),
        (error) => process.enter(() => reject(error)),
      )
    })
  }
}

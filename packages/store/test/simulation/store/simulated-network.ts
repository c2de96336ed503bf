import type { Address, Connection, ConnectionHandler, Listener, Network } from '../../../src/io/network.ts'
import type { Dice, Scheduler } from './scheduler.ts'
import { never, type SimulatedProcess } from './simulated-process.ts'

/** A machine on the network. */
interface Host {
  readonly name: string
  /** Without power: answers nothing. */
  down: boolean
}

/**
 * TCP between machines on the virtual clock: ordered bytes in each direction, cut anywhere into chunks. A direction
 * may be blocked for a while: what is sent then arrives later, as by retransmission, unless an end gives up first.
 */
export class SimulatedNetwork {
  readonly scheduler: Scheduler
  readonly dice: Dice
  readonly meanMs: number
  readonly #hosts = new Map<string, Host>()
  readonly #listeners = new Map<
    string,
    { process: SimulatedProcess; accept: (connection: Connection) => void }
  >()
  readonly #blockedUntilMs = new Map<string, number>()
  readonly #slowUntilMs = new Map<string, number>()
  readonly #ends = new Set<End>()
  /** Pieces of data delivered. */
  chunks = 0

  constructor(scheduler: Scheduler, dice: Dice, meanMs: number) {
    this.scheduler = scheduler
    this.dice = dice
    this.meanMs = meanMs
  }

  host(name: string): Host {
    let host = this.#hosts.get(name)
    if (host === undefined) {
      host = { name, down: false }
      this.#hosts.set(name, host)
    }
    return host
  }

  /** The network as `process`, on the machine `name`, sees it. */
  of(process: SimulatedProcess, name: string): Network {
    const host = this.host(name)
    return {
      listen: async (bind, accept) => (process.acts() ? this.#listen(process, bind, accept) : never()),
      connect: (to, timeoutMs) => this.#connect(process, host, to, timeoutMs),
    }
  }

  // ---- Faults

  block(from: string, to: string, untilMs: number): void {
    this.#blockedUntilMs.set(`${from}>${to}`, untilMs)
  }

  slow(from: string, to: string, untilMs: number): void {
    this.#slowUntilMs.set(`${from}>${to}`, untilMs)
  }

  heal(): void {
    this.#blockedUntilMs.clear()
    this.#slowUntilMs.clear()
  }

  /** Connections between two machines end: one end hears of it; the other as well, or only when it next sends. */
  reset(one: string, other: string): void {
    for (const end of [...this.#ends]) {
      if (end.host.name !== one || end.peer?.host.name !== other) continue
      const { peer } = end
      end.fail('read ECONNRESET')
      if (this.dice.chance(0.5)) this.scheduler.in(this.dice.range(0, 50), () => peer.fail('read ECONNRESET'))
    }
  }

  /** A process is gone. Its machine closes its connections, unless it is gone as well. */
  ended(process: SimulatedProcess, powerLost: boolean): void {
    for (const [address, listener] of this.#listeners)
      if (listener.process === process) this.#listeners.delete(address)
    for (const end of [...this.#ends]) if (end.process === process) end.abandon(powerLost)
  }

  /** Whether what two machines send each other arrives. */
  passes(one: string, other: string): boolean {
    const { nowMs } = this.scheduler
    const blocked = [`${one}>${other}`, `${other}>${one}`].some(
      (way) => (this.#blockedUntilMs.get(way) ?? 0) > nowMs,
    )
    return !blocked
  }

  // ---- For connections

  openedEnd(end: End): void {
    this.#ends.add(end)
  }

  closedEnd(end: End): void {
    this.#ends.delete(end)
  }

  blockedUntil(from: Host, to: Host): number {
    const untilMs = this.#blockedUntilMs.get(`${from.name}>${to.name}`) ?? 0
    return untilMs > this.scheduler.nowMs ? untilMs + this.dice.range(0, 100) : 0
  }

  delayMs(from: Host, to: Host): number {
    const slowUntilMs = this.#slowUntilMs.get(`${from.name}>${to.name}`) ?? 0
    const meanMs = this.scheduler.nowMs < slowUntilMs ? 100 : this.meanMs
    const usual = meanMs * this.dice.range(0.2, 1.8)
    return this.dice.chance(0.01) ? usual * this.dice.range(1, 10) : usual
  }

  #listen(process: SimulatedProcess, bind: Address, accept: (connection: Connection) => void): Listener {
    const address = `${bind.host}:${bind.port}`
    if (this.#listeners.has(address)) throw new Error(`listen EADDRINUSE: address already in use ${address}`)
    const listener = { process, accept }
    this.#listeners.set(address, listener)
    return {
      address: bind,
      close: async () => {
        if (this.#listeners.get(address) === listener) this.#listeners.delete(address)
      },
    }
  }

  #connect(process: SimulatedProcess, from: Host, to: Address, timeoutMs: number): Promise<Connection> {
    if (!process.acts()) return never()
    const { scheduler } = this
    const target = this.host(to.host)
    const address = `${to.host}:${to.port}`
    return new Promise((resolve, reject) => {
      let over = false
      const finish = (then: () => void): void => {
        process.enter(() => {
          if (over) return
          over = true
          then()
        })
      }
      scheduler.in(timeoutMs, () => finish(() => reject(new Error(`no connection within ${timeoutMs} ms`))))
      const answer = (then: () => void): void => {
        const atMs = Math.max(scheduler.nowMs + this.delayMs(target, from), this.blockedUntil(target, from))
        scheduler.at(atMs, then)
      }
      const ask = (): void => {
        const blockedMs = this.blockedUntil(from, target)
        if (blockedMs > 0) {
          scheduler.at(blockedMs, ask)
          return
        }
        if (target.down || over || !process.alive) return
        const listener = this.#listeners.get(address)
        if (listener === undefined) {
          answer(() => finish(() => reject(new Error(`connect ECONNREFUSED ${address}`))))
          return
        }
        const near = new End(this, process, from)
        const far = new End(this, listener.process, target)
        near.join(far)
        listener.process.enter(() => listener.accept(far))
        answer(() => {
          if (over || !process.alive) near.abandon(false)
          else finish(() => resolve(near))
        })
      }
      scheduler.in(this.delayMs(from, target), ask)
    })
  }
}

/** One end of a connection. */
class End implements Connection {
  readonly remoteAddress = 'simulated'
  readonly bufferedBytes = 0
  readonly process: SimulatedProcess
  readonly host: Host
  peer: End | undefined
  readonly #network: SimulatedNetwork
  #handler: ConnectionHandler | undefined
  /** Closed by its owner, its process's end or an error. */
  #closed = false
  #told = false
  #cause: Error | undefined
  #early: Buffer[] = []
  /** On the way to the other end; `undefined` says that no more comes. */
  #sent: (Buffer | undefined)[] = []
  #pumping = false

  constructor(network: SimulatedNetwork, process: SimulatedProcess, host: Host) {
    this.#network = network
    this.process = process
    this.host = host
    network.openedEnd(this)
  }

  join(other: End): void {
    this.peer = other
    other.peer = this
  }

  handle(handler: ConnectionHandler): void {
    this.#handler = handler
    for (const chunk of this.#early.splice(0)) this.#network.scheduler.in(0, () => this.#deliver(chunk))
    if (this.#closed) this.#tell()
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (!this.process.acts() || this.#closed) return true
    this.#send(Buffer.concat(chunks))
    return true
  }

  end(): void {
    if (this.#closed || !this.process.alive) return
    this.#send(undefined)
    this.#network.scheduler.in(this.#network.dice.range(0, 50), () => this.#close())
  }

  destroy(): void {
    if (this.#closed || !this.process.alive) return
    // What the operating system has may still arrive; or it says that it dropped everything.
    if (this.#network.dice.chance(0.5)) this.#sent = []
    this.#send(undefined)
    this.#close()
  }

  // ---- For the network

  /** The connection breaks at this end; the other does not hear of it. */
  fail(cause: string): void {
    if (this.#closed) return
    this.#cause = new Error(cause)
    this.#sent = []
    this.#close()
  }

  /** The process at this end is gone, and perhaps its machine. */
  abandon(powerLost: boolean): void {
    if (this.#closed) return
    this.#closed = true
    this.#network.closedEnd(this)
    if (powerLost) this.#sent = []
    else this.#send(undefined)
  }

  #send(item: Buffer | undefined): void {
    this.#sent.push(item)
    if (!this.#pumping) this.#pump()
  }

  #pump(): void {
    const network = this.#network
    const { peer } = this
    if (peer === undefined || this.#sent.length === 0) {
      this.#pumping = false
      return
    }
    this.#pumping = true
    // What lies behind in the same direction comes at once or a little later.
    network.scheduler.in(network.delayMs(this.host, peer.host), () => this.#arrive(peer))
  }

  #arrive(peer: End): void {
    const network = this.#network
    const blockedMs = network.blockedUntil(this.host, peer.host)
    if (blockedMs > 0) {
      network.scheduler.at(blockedMs, () => this.#arrive(peer))
      return
    }
    // Retransmitted until the machine is there again, which then knows of no such connection.
    if (peer.host.down) {
      network.scheduler.in(200, () => this.#arrive(peer))
      return
    }
    const items = this.#sent
    this.#sent = []
    this.#pumping = false
    for (const item of items) {
      if (peer.#closed) {
        if (item !== undefined) {
          network.scheduler.in(network.delayMs(peer.host, this.host), () => this.fail('read ECONNRESET'))
          return
        }
      } else if (item === undefined) {
        network.scheduler.in(0, () => peer.#closeOnce())
      } else {
        this.#hand(peer, item)
      }
    }
  }

  #hand(peer: End, item: Buffer): void {
    const { scheduler, dice } = this.#network
    this.#network.chunks++
    if (item.length > 1 && dice.chance(0.05)) {
      const at = 1 + dice.below(item.length - 1)
      scheduler.in(0, () => peer.#deliver(item.subarray(0, at)))
      scheduler.in(0, () => peer.#deliver(item.subarray(at)))
    } else scheduler.in(0, () => peer.#deliver(item))
  }

  #deliver(chunk: Buffer): void {
    this.process.enter(() => {
      if (this.#closed) return
      if (this.#handler === undefined) this.#early.push(chunk)
      else this.#handler.data(chunk)
    })
  }

  #closeOnce(): void {
    this.process.enter(() => {
      if (!this.#closed) this.destroy()
    })
  }

  #close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#network.closedEnd(this)
    if (this.#handler !== undefined) this.#tell()
  }

  #tell(): void {
    this.#network.scheduler.in(0, () =>
      this.process.enter(() => {
        if (this.#told) return
        this.#told = true
        this.#handler?.closed(this.#cause)
      }),
    )
  }
}

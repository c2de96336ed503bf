import type { BrokerPlace } from '../../system/cluster-fixture.ts'
import type { Address } from '../../system/stomp-client.ts'
import type { Host, HostNetwork, NetworkAbility } from './host-network.ts'
import { attempt, tool } from './tool.ts'

/** This machine, as the clients' host, and as the one who asks for status. */
const clientsNumber = 254
const askerNumber = 253

/** Why this machine cannot have hosts in namespaces of their own; `undefined` if it can. */
export function whyNoNamespaces(): string | undefined {
  if (process.platform !== 'linux') return 'not Linux'
  if (process.getuid?.() !== 0) return 'not root'
  for (const [command, ...args] of [
    ['nsenter', '-V'],
    ['ip', '-V'],
    ['iptables', '-V'],
    ['tc', '-V'],
  ] as const) {
    if (!attempt(command, args)) return `no ${command}`
  }
  return undefined
}

/**
 * Hosts as network namespaces on one switch. Packets are dropped where they arrive, so that both ends of a connection
 * see what they would see of a dead link: silence.
 */
export class Namespaces implements HostNetwork {
  readonly description = 'hosts in network namespaces'
  readonly abilities: ReadonlySet<NetworkAbility>
  readonly #prefix: string
  readonly #numbers: ReadonlyMap<Host, number>
  readonly #stompPort: (n: number) => number
  readonly #subnet: string

  /** @param prefix - Names everything that is made; at most 12 letters and digits. */
  constructor(prefix: string, hosts: readonly Host[], stompPort: (n: number) => number) {
    this.#prefix = prefix
    this.#numbers = new Map(hosts.map((host, i) => [host, i + 1]))
    this.#stompPort = stompPort
    this.#subnet = freeSubnet()
    this.#makeSwitch()
    for (const host of hosts) this.#makeHost(host)
    this.abilities = new Set(['cut', 'loss', 'rate', ...(this.#hasNetem() ? (['delay'] as const) : [])])
  }

  place(n: number): BrokerPlace {
    const host: Host = `b${n}`
    return {
      host: this.address(host),
      askedFrom: `${this.#subnet}.${askerNumber}`,
      wrap: this.wrap(host),
    }
  }

  clientAddress(n: number): Address {
    return { host: this.address(`b${n}`), port: this.#stompPort(n) }
  }

  address(host: Host): string {
    return `${this.#subnet}.${host === 'clients' ? clientsNumber : this.#number(host)}`
  }

  namespace(host: Host): string {
    return `${this.#prefix}-${host}`
  }

  /**
   * A command to be put before another, which then runs in a host. Unlike `ip netns exec` it gives that no mounts of
   * its own: an unmounted disk would live on in those.
   */
  wrap(host: string): string[] {
    return ['nsenter', `--net=/run/netns/${this.#prefix}-${host}`]
  }

  async cut(from: Host, to: Host): Promise<void> {
    // What the clients' host receives is not filtered: it is this machine. Cut at the sender instead.
    if (to === 'clients') this.#filter(from, ['OUTPUT', '-d', this.address(to), '-j', 'DROP'])
    else this.#filter(to, ['INPUT', '-s', this.address(from), '-j', 'DROP'])
  }

  async delay(a: Host, b: Host, ms: number): Promise<void> {
    for (const host of [a, b]) {
      if (host === 'clients') continue
      tool('tc', this.#qdisc(host, ['netem', 'delay', `${ms}ms`]))
    }
  }

  async lose(host: Host, share: number): Promise<void> {
    const random = ['-m', 'statistic', '--mode', 'random', '--probability', share.toFixed(4)]
    this.#filter(host, ['INPUT', '-i', 'eth0', ...random, '-j', 'DROP'])
  }

  async limit(host: Host, bytesPerSecond: number): Promise<void> {
    const rate = ['rate', `${bytesPerSecond * 8}bit`, 'burst', '16k', 'latency', '400ms']
    tool('tc', this.#qdisc(host, ['tbf', ...rate]))
  }

  async heal(): Promise<void> {
    for (const host of this.#numbers.keys()) {
      tool('ip', this.#in(host, ['iptables', '-w', '-F']))
      attempt('tc', ['-n', this.namespace(host), 'qdisc', 'del', 'dev', 'eth0', 'root'])
    }
  }

  async close(): Promise<void> {
    removeNamespaces((name) => name.startsWith(`${this.#prefix}-`))
  }

  #filter(host: Host, rule: readonly string[]): void {
    tool('ip', this.#in(host, ['iptables', '-w', '-A', ...rule]))
  }

  #in(host: Host, command: readonly string[]): string[] {
    return ['netns', 'exec', this.namespace(host), ...command]
  }

  #qdisc(host: Host, what: readonly string[]): string[] {
    return ['-n', this.namespace(host), 'qdisc', 'replace', 'dev', 'eth0', 'root', ...what]
  }

  #hasNetem(): boolean {
    const [host] = this.#numbers.keys()
    if (host === undefined || !attempt('tc', this.#qdisc(host, ['netem', 'delay', '1ms']))) return false
    attempt('tc', ['-n', this.namespace(host), 'qdisc', 'del', 'dev', 'eth0', 'root'])
    return true
  }

  #number(host: Host): number {
    const number = this.#numbers.get(host)
    if (number === undefined) throw new TypeError(`no host ${host}`)
    return number
  }

  /** The switch has a namespace of its own, out of reach of what else filters on this machine. */
  #makeSwitch(): void {
    const name = `${this.#prefix}-switch`
    const near = this.#prefix
    tool('ip', ['netns', 'add', name])
    batch(['-n', name], ['link add br0 type bridge', 'link set br0 up'])
    attempt('ip', ['netns', 'exec', name, 'sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=0'])
    tool('ip', ['link', 'add', near, 'type', 'veth', 'peer', 'name', 'root', 'netns', name])
    tool('ip', ['-n', name, 'link', 'set', 'root', 'master', 'br0', 'up'])
    batch(
      [],
      [
        // The first one is what clients connect from.
        `addr add ${this.#subnet}.${clientsNumber}/24 dev ${near}`,
        `addr add ${this.#subnet}.${askerNumber}/24 dev ${near}`,
        `link set ${near} up`,
      ],
    )
  }

  #makeHost(host: Host): void {
    const name = this.namespace(host)
    tool('ip', ['netns', 'add', name])
    batch(
      ['-n', `${this.#prefix}-switch`],
      [`link add ${host} type veth peer name eth0 netns ${name}`, `link set ${host} master br0 up`],
    )
    batch(['-n', name], ['link set lo up', `addr add ${this.address(host)}/24 dev eth0`, 'link set eth0 up'])
  }
}

/** Removes namespaces, what runs in them, and the link of their switch to this machine. */
export function removeNamespaces(ours: (name: string) => boolean): void {
  const names = list().filter(ours)
  for (const name of names) {
    for (const pid of tool('ip', ['netns', 'pids', name]).split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL')
      } catch {
        // It ended meanwhile.
      }
    }
  }
  // With the switch goes its end of the link to this machine, and with that the other.
  for (const name of names) attempt('ip', ['netns', 'del', name])
}

function list(): string[] {
  try {
    return tool('ip', ['netns', 'list'])
      .split('\n')
      .map((line) => line.split(' ')[0] ?? '')
  } catch {
    return []
  }
}

function batch(options: readonly string[], lines: readonly string[]): void {
  tool('ip', [...options, '-batch', '-'], `${lines.join('\n')}\n`)
}

function freeSubnet(): string {
  const taken = tool('ip', ['-o', '-4', 'addr'])
  const start = process.pid % 200
  for (let i = 0; i < 200; i++) {
    const subnet = `10.78.${(start + i) % 200}`
    if (!taken.includes(` ${subnet}.`)) return subnet
  }
  throw new Error('no free network below 10.78.0.0/16')
}

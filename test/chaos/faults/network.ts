import { addressOf, electionTimeoutMs } from '../../system/cluster-fixture.ts'
import { brokerHost, type Host, separate, zooKeeperHost } from '../hosts/host-network.ts'
import type { World } from '../world.ts'
import { type Fault, list } from './fault.ts'

const holdMs = (world: World): number =>
  world.oneOf([0.7, 2, 4, 8]) * electionTimeoutMs * world.between(0.8, 1.3)

export const networkFaults: readonly Fault[] = [
  {
    id: 'N8',
    name: 'isolate master',
    summary: 'the master cut from the other brokers and from ZooKeeper, with or without its clients',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const master = await world.master()
      const withClients = world.random() < 0.5
      const since = performance.now()
      const rest: Host[] = [
        ...world.hosts(),
        ...world.zooKeeperHosts(),
        ...(withClients ? [] : ['clients' as const]),
      ]
      await separate(world.network, [brokerHost(master)], rest)
      const outcome = await world.service(since, [master])
      await world.pass(holdMs(world))
      return { target: `b${master}${withClients ? ', clients reach it' : ''}`, outcome }
    },
  },
  {
    id: 'N9',
    name: 'halves',
    summary: 'a minority of the brokers cut from the majority; ZooKeeper and clients on any side',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const minority = world.shuffled(world.cluster.numbers()).slice(world.quorum)
      const here = minority.map(brokerHost)
      const servers = world.shuffled(world.ensemble?.numbers() ?? [])
      // A minority of ZooKeeper's servers with the minority, sometimes the other way round.
      const swap = world.random() < 0.3
      const near = servers.slice(0, swap ? 2 : 1).map(zooKeeperHost)
      const since = performance.now()
      const there = world.hosts().filter((host) => !here.includes(host))
      await separate(
        world.network,
        [...here, ...near],
        [...there, ...world.zooKeeperHosts().filter((host) => !near.includes(host))],
      )
      // With the majority of ZooKeeper away, no new master can be elected: nothing is promised.
      const promised = !swap || world.ensemble === undefined
      const outcome = promised ? await world.service(since, minority) : 'ZooKeeper is with the minority'
      await world.pass(holdMs(world))
      return { target: `${list(minority)} | others`, outcome }
    },
  },
  {
    id: 'N10',
    name: 'bridge',
    summary: 'two brokers cut from each other, the rest sees both',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const [a = 1, b = 2] = world.shuffled(world.cluster.numbers())
      const since = performance.now()
      await separate(world.network, [brokerHost(a)], [brokerHost(b)])
      const outcome = await world.service(since)
      await world.pass(holdMs(world))
      return { target: `b${a} | b${b}`, outcome }
    },
  },
  {
    id: 'N11',
    name: 'majorities ring',
    summary: 'of five brokers each sees two others, and none the same two (--brokers 5)',
    kind: 'network',
    needs: ['cut', 'five brokers'],
    async strike(world) {
      const ring = world.shuffled(world.cluster.numbers())
      for (const [i, n] of ring.entries()) {
        const far = [ring[(i + 2) % ring.length] ?? n, ring[(i + 3) % ring.length] ?? n]
        await separate(world.network, [brokerHost(n)], far.map(brokerHost))
      }
      const since = performance.now()
      await world.pass(holdMs(world))
      const ms = await world.nextConfirm(since, [], 100)
      return { target: `ring ${list(ring)}`, outcome: ms === undefined ? 'no service just then' : 'serves' }
    },
  },
  {
    id: 'N12',
    name: 'one way',
    summary: 'what one broker sends to the others is lost, or what the others send to it',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const [victim = 1] = await world.members(world.oneOf(['master', 'master', 'slave']))
      const deaf = world.random() < 0.5
      const since = performance.now()
      for (const other of world.hosts().filter((host) => host !== brokerHost(victim))) {
        if (deaf) await world.network.cut(other, brokerHost(victim))
        else await world.network.cut(brokerHost(victim), other)
      }
      const outcome = await world.service(since, [victim])
      await world.pass(holdMs(world))
      return { target: `b${victim} ${deaf ? 'hears nobody' : 'is not heard'}`, outcome }
    },
  },
  {
    id: 'N13',
    name: 'delay',
    summary: '20 to 1500 ms more between all brokers, or from and to one',
    kind: 'network',
    needs: ['delay'],
    async strike(world) {
      const hosts = world.hosts()
      const centre = world.random() < 0.5 ? [world.oneOf(hosts)] : hosts
      const ms = Math.round(world.oneOf([20, 100, 400, 1_500]))
      for (const a of centre) for (const b of hosts) if (a !== b) await world.network.delay(a, b, ms)
      await world.pass(holdMs(world))
      return { target: centre.length === 1 ? `${centre[0]}` : 'all', outcome: `${ms} ms each way` }
    },
  },
  {
    id: 'N14',
    name: 'loss',
    summary: '2 to 30 % of the packets lost and so out of order, at one broker or at all',
    kind: 'network',
    needs: ['loss'],
    async strike(world) {
      const hosts = world.random() < 0.5 ? [world.oneOf(world.hosts())] : world.hosts()
      const share = world.oneOf([0.02, 0.1, 0.3])
      for (const host of hosts) await world.network.lose(host, share)
      await world.pass(2 * holdMs(world))
      return { target: hosts.join(' '), outcome: `${share * 100} %` }
    },
  },
  {
    id: 'N15',
    name: 'slow link',
    summary: 'what one broker sends limited to 8 or 64 kB/s',
    kind: 'network',
    needs: ['rate'],
    async strike(world) {
      const host = world.oneOf(world.hosts())
      const kilobytes = world.oneOf([8, 64])
      await world.network.limit(host, kilobytes * 1000)
      await world.pass(2 * holdMs(world))
      return { target: host, outcome: `${kilobytes} kB/s` }
    },
  },
  {
    id: 'N16',
    name: 'black hole',
    summary: 'one link between master and slave silent for long, its connections half-open',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const master = await world.master()
      const slave = await world.slave()
      const since = performance.now()
      await separate(world.network, [brokerHost(master)], [brokerHost(slave)])
      const outcome = await world.service(since)
      await world.pass(12 * electionTimeoutMs)
      return { target: `b${master} | b${slave}`, outcome }
    },
  },
  {
    id: 'N17',
    name: 'swizzle-clog',
    summary: 'brokers cut off one after another, and back one after another in another order',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const hosts = world.hosts()
      const everybody = [...hosts, ...world.zooKeeperHosts()]
      const out = world.shuffled(hosts)
      for (const host of out) {
        await separate(world.network, [host], everybody)
        await world.pass(world.between(50, 2 * electionTimeoutMs))
      }
      const clogged = new Set(hosts)
      const back = world.shuffled(hosts)
      for (const host of back) {
        clogged.delete(host)
        await world.network.heal()
        for (const still of clogged) await separate(world.network, [still], everybody)
        await world.pass(world.between(50, 2 * electionTimeoutMs))
      }
      return { target: 'all', outcome: `${out.join(' ')} away, ${back.join(' ')} back` }
    },
  },
  {
    id: 'N18',
    name: 'no ZooKeeper',
    summary: 'one broker or all cut from ZooKeeper, and from nothing else',
    kind: 'network',
    needs: ['cut', 'zookeeper'],
    async strike(world) {
      const target = world.oneOf(['master', 'slave', 'all'] as const)
      const victims = await world.members(target)
      const since = performance.now()
      await separate(world.network, victims.map(brokerHost), world.zooKeeperHosts())
      // ZooKeeper is a hint: whoever is master stays it.
      const outcome = await world.service(since)
      await world.pass(holdMs(world))
      return { target: `${target}: ${list(victims)}`, outcome }
    },
  },
  {
    id: 'N19',
    name: 'clients cut',
    summary: 'clients cut from the master or from all brokers, which reach each other',
    kind: 'network',
    needs: ['cut'],
    async strike(world) {
      const target = world.oneOf(['master', 'all'] as const)
      const victims = await world.members(target)
      await separate(world.network, victims.map(brokerHost), ['clients'])
      await world.pass(holdMs(world))
      return { target: `${target}: ${list(victims)}`, outcome: 'the brokers keep their master' }
    },
  },
  {
    id: 'N20',
    name: 'wrong name',
    summary:
      'a broker restarted with an address among its settings that cannot be resolved, then with the right one',
    kind: 'operation',
    async strike(world) {
      const victim = await world.slave()
      const { cluster } = world
      const right = cluster.configuration(victim)
      const wrong = cluster.configuration(victim)
      const store = wrong.persistenceAdapter.replicatedLevelDB
      if (world.ensemble === undefined) {
        const own = addressOf(wrong)
        const others = (store.peers as string[]).filter((peer) => peer !== own)
        store.peers = [own, 'no-such-host.invalid:61619', ...others.slice(1)]
      } else {
        store.zkAddress = `no-such-host.invalid:2181,${store.zkAddress}`
      }
      await world.kill([victim])
      cluster.writeConfiguration(victim, wrong)
      world.start([victim])
      const since = performance.now()
      const outcome = await world.service(since, [victim])
      await world.pass(holdMs(world))
      await world.kill([victim])
      cluster.writeConfiguration(victim, right)
      return { target: `b${victim}`, outcome }
    },
  },
]

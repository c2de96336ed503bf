import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, readlink, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createStore, type MessageStore } from '../../src/index.ts'
import { Member, StoreCluster, until } from './store-cluster.ts'

const quiet = { memberInfo: {}, log: () => undefined }

// Above every deadline within, so that it is a deadline that tells what was waited for.
vi.setConfig({ testTimeout: 30_000 })

describe('opening and closing a store', () => {
  let alone: StoreCluster

  beforeEach(async () => {
    alone = await StoreCluster.create(1)
  })

  afterEach(async () => {
    await alone.dispose()
  })

  function levelDb(): MessageStore {
    const options = { directory: alone.directoryOf(0), logSize: 2 ** 20 }
    return createStore({ kind: 'levelDB', options }, quiet)
  }

  /** Files of the directory that this process has open. */
  async function openFiles(): Promise<string[]> {
    const links = (await readdir('/proc/self/fd')).map((fd) =>
      readlink(`/proc/self/fd/${fd}`).catch(() => ''),
    )
    return (await Promise.all(links)).filter((path) => path.startsWith(alone.directory))
  }

  test('replicas 1: a new replicated store is master at once, and again when it is reopened', async () => {
    const member = await alone.open(0)
    await alone.master()
    expect(member.status).toMatchObject({
      elector: 'raft',
      quorum: { needed: 1, present: 1 },
      role: 'master',
    })
    const queue = member.master.addQueue('q')
    await member.send(queue, 'a')
    await alone.close(member)
    const again = await alone.open(0)
    await alone.master()
    expect(await again.texts(queue)).toEqual(['a'])
  })

  test('replicas 1: levelDB and replicatedLevelDB open the same directory', async () => {
    const single = await new Member('single', levelDb).open()
    await until('it is master', () => single.session !== undefined)
    const queue = single.master.addQueue('q')
    await single.send(queue, 'written as levelDB')
    expect(single.status).toMatchObject({ elector: 'none', replicas: 1, members: [{ address: 'local' }] })
    await single.store.close()

    const replicated = await alone.open(0)
    await alone.master()
    expect(await replicated.texts(queue)).toEqual(['written as levelDB'])
    await replicated.send(queue, 'written as replicatedLevelDB')
    await alone.close(replicated)

    const back = await new Member('single', levelDb).open()
    await until('it is master', () => back.session !== undefined)
    expect(await back.texts(queue)).toEqual(['written as levelDB', 'written as replicatedLevelDB'])
    await back.store.close()
  })

  test('in use: a directory that this process has open is STORE_DIRECTORY_IN_USE, and the first goes on', async () => {
    const first = await alone.open(0)
    await alone.master()
    await expect(levelDb().open(noListener)).rejects.toMatchObject({
      code: 'STORE_DIRECTORY_IN_USE',
      message: expect.stringContaining(alone.directoryOf(0)),
    })
    await first.send(first.master.addQueue('q'), 'goes on')
  })

  test('in use: a directory that another process has open is STORE_DIRECTORY_IN_USE, until that is killed', async () => {
    const script = join(alone.directory, 'holder.ts')
    const index = new URL('../../src/index.ts', import.meta.url).href
    await writeFile(
      script,
      `import { createStore } from ${JSON.stringify(index)}
      const store = createStore({ kind: 'levelDB', options: { directory: ${JSON.stringify(alone.directoryOf(0))} } }, { memberInfo: {}, log() {} })
      await store.open(new Proxy({}, { get: () => () => {} }))
      process.send('open')`,
    )
    const holder = fork(script)
    await once(holder, 'message')
    await expect(levelDb().open(noListener)).rejects.toMatchObject({ code: 'STORE_DIRECTORY_IN_USE' })
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    const free = await new Member('free', levelDb).open()
    await until('it is master', () => free.session !== undefined)
    await free.store.close()
  })

  test('busy port: STORE_ADDRESS_IN_USE names it, and the directory is free again', async () => {
    const busy = createServer().listen(alone.ports[0], '127.0.0.1')
    await once(busy, 'listening')
    await expect(alone.open(0)).rejects.toMatchObject({
      code: 'STORE_ADDRESS_IN_USE',
      detail: { address: `127.0.0.1:${alone.ports[0]}` },
      message: expect.stringContaining(`127.0.0.1:${alone.ports[0]}`),
    })
    expect(await openFiles()).toEqual([])
    busy.close()
    await once(busy, 'close')
    await alone.open(0)
    await alone.master()
  })

  test('nodeId: a directory of another node is refused, by both names', async () => {
    await alone.close(await alone.open(0, { nodeId: 'node-1' }))
    await expect(alone.open(0, { nodeId: 'node-2' })).rejects.toMatchObject({
      code: 'STORE_FOREIGN_DIRECTORY',
      detail: { directory: alone.directoryOf(0) },
      message: expect.stringMatching(/"node-1".*"node-2"/),
    })
    expect(await openFiles()).toEqual([])
  })

  test.each<[string, (directory: string) => Promise<void>]>([
    ['the promise damaged', (directory) => writeFile(join(directory, 'promise'), Buffer.alloc(1024, 7))],
    ['the promise cut short', (directory) => truncate(join(directory, 'promise'), 700)],
    ['the promise gone', (directory) => rm(join(directory, 'promise'))],
    ['the identity damaged', (directory) => writeFile(join(directory, 'identity.json'), '{')],
    ['the identity gone', (directory) => rm(join(directory, 'identity.json'))],
  ])(
    'S2, S23: with %s it is STORE_CORRUPT, nothing is left open, both stay as they are',
    async (_name, damage) => {
      const member = await alone.open(0)
      await alone.master()
      await member.send(member.master.addQueue('q'), 'a')
      await alone.close(member)
      const directory = alone.directoryOf(0)
      await damage(directory)
      const before = await identityAndPromise(directory)
      await expect(levelDb().open(noListener)).rejects.toMatchObject({
        code: 'STORE_CORRUPT',
        message: expect.stringContaining(directory),
      })
      expect(await openFiles()).toEqual([])
      expect(await identityAndPromise(directory)).toEqual(before)
    },
  )

  test('close: while it opens, the opening ends with STORE_CLOSED, and nothing is left open', async () => {
    await alone.close(await alone.open(0))
    for (const turns of [0, 1, 5, 20]) {
      const member = alone.member(0)
      const opening = member.open().catch((error: unknown) => error)
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
      await member.store.close()
      const outcome = await opening
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'STORE_CLOSED' })
      expect(await openFiles()).toEqual([])
    }
    const again = await alone.open(0)
    await alone.master()
    expect(again.failure).toBeUndefined()
  })

  test('close: afterwards reading is STORE_CLOSED, and the status can still be asked', async () => {
    const member = await alone.open(0)
    await alone.master()
    const queue = member.master.addQueue('q')
    const index = await member.send(queue, 'a')
    await alone.close(member)
    await expect(member.store.page(queue, 0, 10)).rejects.toMatchObject({ code: 'STORE_CLOSED' })
    await expect(member.store.read(queue, [index])).rejects.toMatchObject({ code: 'STORE_CLOSED' })
    expect(member.status.role).not.toBe('master')
  })

  test('status: before and while it opens it can be asked', async () => {
    const store = levelDb()
    expect(store.status()).toMatchObject({
      role: 'electing',
      waitingFor: expect.stringContaining(alone.directoryOf(0)),
      quorum: { needed: 1, present: 0 },
    })
    expect(store.queues()).toEqual([])
    await expect(store.page(1, 0, 1)).rejects.toMatchObject({ code: 'STORE_CLOSED' })
    await store.close()
  })
})

const noListener = {
  promoted: () => undefined,
  demoted: () => undefined,
  confirmed: () => undefined,
  committed: () => undefined,
  drained: () => undefined,
  leaseRenewed: () => undefined,
  changed: () => undefined,
  failed: () => undefined,
}

/** Who the store is and what it promised, as bytes. */
async function identityAndPromise(directory: string): Promise<string[]> {
  const files = ['identity.json', 'promise'].map((name) =>
    readFile(join(directory, name), 'hex').catch(String),
  )
  return await Promise.all(files)
}

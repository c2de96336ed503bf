import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, cp, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dumpStore, type Finding, isDamage, type VerifyReport, verifyStore } from '../../../src/index.ts'
import { NodeDisk } from '../../../src/io/node/disk.ts'
import { batchHeaderBytes, decodeBatchHeader, lastIndexOf, sealBatch } from '../../../src/journal/batch.ts'
import { endMarkBytes } from '../../../src/journal/end-mark.ts'
import { noteTruncation } from '../../../src/journal/truncation.ts'
import {
  messageKey,
  numberedKey,
  numberValue,
  positionKey,
  queueValue,
  RowKind,
  writeMessageValue,
} from '../../../src/message-index/keys.ts'
import { fillChurnedStore, messagesPerQueue, removed, StoreCopy, StoreFixture } from './store-fixture.ts'

let fixture: StoreFixture
beforeAll(async () => {
  fixture = await StoreFixture.create()
})
afterAll(() => fixture.dispose())

/** A batch in the middle of the second segment, with sync marks and batches on both sides. */
function middle() {
  const inSecond = fixture.batches.filter((batch) => batch.segment.path.endsWith(fixture.segments[1] ?? ''))
  const batch = inSecond[Math.floor(inSecond.length / 2)]
  if (batch === undefined) throw new Error('the second segment holds no batch')
  return { ...batch, file: fixture.nameOf(batch.segment.path), lastIndex: lastIndexOf(batch.header) }
}

/** Verifies, and sees to it that nothing in the directory has changed. */
async function verified(copy: StoreCopy): Promise<VerifyReport> {
  const before = await copy.digest()
  const report = await verifyStore(copy.directory)
  expect(await copy.digest()).toBe(before)
  return report
}

async function afterDamage(damage: (copy: StoreCopy) => Promise<unknown>): Promise<{
  report: VerifyReport
  copy: StoreCopy
  of: (name: string) => Finding[]
}> {
  const copy = await fixture.copy()
  await damage(copy)
  const report = await verified(copy)
  return { report, copy, of: (name) => report.findings.filter(({ file }) => file === copy.path(name)) }
}

describe('verify: a sound store', () => {
  test('of a real run: nothing is found, everything is counted, no byte changes', async () => {
    const copy = await fixture.copy()
    const report = await verified(copy)
    expect(report.findings).toEqual([])
    expect(report.sound).toBe(true)
    const last = fixture.batches.at(-1)
    expect(report.journal).toMatchObject({
      segments: fixture.segments.length,
      batches: fixture.batches.length,
      firstIndex: 1,
      lastIndex: last && lastIndexOf(last.header),
      foldedTo: last && lastIndexOf(last.header),
      provenIndex: last && lastIndexOf(last.header),
      syncMarks: fixture.marks.length,
      epochs: [{ epoch: 1, index: 1 }],
    })
    expect(report.journal.recordsByKind).toEqual({
      epochStart: 1,
      configuration: 1,
      queueAdded: 2,
      producerAdded: 1,
      messageAdded: 2 * messagesPerQueue,
      messagesRemoved: 1,
      redeliveryCounted: 1,
      queueKept: 0,
      producerKept: 0,
      messageKept: 0,
      queueRemoved: 0,
    })
    expect(fixture.segments.length).toBeGreaterThanOrEqual(3)
    expect(report.queues.map(({ name, messageCount }) => [name, messageCount])).toEqual([
      ['orders', messagesPerQueue - removed],
      ['other', messagesPerQueue],
    ])
    expect(report.index).toMatchObject({
      appliedIndex: report.journal.lastIndex,
      messages: 2 * messagesPerQueue - removed,
      producers: 1,
      compared: true,
    })
    expect(report.identity?.cluster?.voters).toHaveLength(1)
    expect(report.promise?.epoch).toBe(1)
  })

  test('progress rises to the size of everything', async () => {
    const seen: [number, number][] = []
    await verifyStore(fixture.directory, { progress: (done, total) => seen.push([done, total]) })
    const done = seen.map(([each]) => each)
    expect(done).toEqual([...done].sort((a, b) => a - b))
    expect(done.at(-1)).toBe(seen[0]?.[1])
  })

  test('can be broken off', async () => {
    const reason = new Error('enough')
    await expect(verifyStore(fixture.directory, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  test('without an index, which may be deleted: a note', async () => {
    const { report, of } = await afterDamage((copy) => copy.remove('index'))
    expect(report).toMatchObject({ sound: true, index: undefined })
    expect(of('index')).toMatchObject([{ meaning: 'note' }])
  })

  test('files that are none of a store: a note for each', async () => {
    const { report, of } = await afterDamage(async (copy) => {
      await writeFile(copy.path('notes.txt'), '')
      await writeFile(copy.path('journal/1.log'), '')
      await writeFile(copy.path('journal/segment.new'), '')
    })
    expect(report.sound).toBe(true)
    expect(report.findings).toHaveLength(2)
    expect([...of('notes.txt'), ...of('journal/1.log')]).toMatchObject([
      { meaning: 'note' },
      { meaning: 'note' },
    ])
  })

  test('in use: STORE_DIRECTORY_IN_USE, nothing is touched, and free again once the other is gone', async () => {
    const copy = await fixture.copy()
    const script = `
      const { ClassicLevel } = await import('classic-level')
      const db = new ClassicLevel(process.argv[1])
      await db.open()
      console.log('open')
      process.stdin.resume().on('end', () => process.exit())`
    const other = spawn(process.execPath, ['--input-type=module', '-e', script, copy.path('index')], {
      cwd: new URL('../../..', import.meta.url),
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(other.stdout, 'data')
    const before = await copy.digest()
    await expect(verifyStore(copy.directory)).rejects.toMatchObject({ code: 'STORE_DIRECTORY_IN_USE' })
    expect(await copy.digest()).toBe(before)
    other.stdin.end()
    await once(other, 'exit')
    expect(await verifyStore(copy.directory)).toMatchObject({ sound: true })
  })
})

describe('verify: damage in the journal (W8, W11, S27)', () => {
  test.each([
    ['magic', 0],
    ['version', 4],
    ['epoch', 8],
    ['first index', 16],
    ['count', 24],
    ['length', 28],
    ['log time', 32],
    ['commit index', 40],
    ['checksum of the batch before', 48],
    ['CRC of the payload', 52],
    ['unused bytes', 56],
    ['CRC of the header', 60],
  ])('a flipped bit in the header field "%s" is found at the batch', async (_field, at) => {
    const { file, offset, header, lastIndex } = middle()
    const { report, of } = await afterDamage((copy) => copy.flip(file, offset + at))
    expect(report.sound).toBe(false)
    expect(of(file)).toMatchObject([{ meaning: 'corrupt', offset, index: header.firstIndex }])
    expect(of(file)[0]?.what).toContain(
      header.count === 1 ? `record ${lastIndex} is` : `records ${header.firstIndex} to ${lastIndex} are`,
    )
    // What lies behind is read all the same.
    expect(report.journal.batches).toBe(fixture.batches.length - 1)
    expect(report.journal.foldedTo).toBe(header.firstIndex - 1)
    expect(of('index')).toMatchObject([{ meaning: 'note' }])
  })

  test('a flipped bit in a payload is found at the batch, and the chain goes on behind it', async () => {
    const { file, offset, header } = middle()
    const { report, of } = await afterDamage((copy) => copy.flip(file, offset + batchHeaderBytes + 100))
    expect(of(file)).toMatchObject([{ meaning: 'corrupt', offset, index: header.firstIndex }])
    expect(of(file)[0]?.what).toContain('payload')
    expect(report.journal.batches).toBe(fixture.batches.length - 1)
  })

  test.each([0, 5, 9, 17, 25, 30])('a flipped bit in byte %i of a sync mark costs no record', async (at) => {
    const { offset: batchOffset, file } = middle()
    const mark = fixture.marks.find((each) => each.segment.path.endsWith(file) && each.offset > batchOffset)
    if (mark === undefined) throw new Error('no mark behind the batch')
    const { report, of } = await afterDamage((copy) => copy.flip(file, mark.offset + at))
    expect(report.findings).toMatchObject([
      { meaning: 'mended', offset: mark.offset, index: mark.lastIndex + 1 },
    ])
    expect(of(file)).toHaveLength(1)
    expect(report.journal.batches).toBe(fixture.batches.length)
    expect(report.index?.compared).toBe(true)
  })

  test('a segment of another store is found at its first batch, and where the own log goes on', async () => {
    const [, second, third] = fixture.segments
    const { report } = await afterDamage((copy) =>
      copy.change(second ?? '', (content) => resealed(content, 12345)),
    )
    expect(report.findings.filter(({ meaning }) => meaning === 'corrupt')).toMatchObject([
      { offset: 32, what: expect.stringContaining('of another log') },
      { offset: 32, what: expect.stringContaining('of another log') },
    ])
    expect(report.findings.map(({ file }) => file.slice(-28))).toEqual(
      expect.arrayContaining([second?.slice(-28), third?.slice(-28)]),
    )
  })

  test.each([
    ['first', 0],
    ['second', 1],
  ])('the %s segment is missing: the records that it held are named', async (_which, place) => {
    const { report } = await afterDamage((copy) => copy.remove(fixture.segments[place] ?? ''))
    const numbers = fixture.segments.map((name) => Number(name.slice('journal/'.length, -'.log'.length)))
    const [first, next] = [numbers[place], numbers[place + 1]]
    expect(report.findings[0]).toMatchObject({ meaning: 'corrupt', index: first })
    expect(report.findings[0]?.what).toContain(`records ${first} to ${(next ?? 0) - 1}`)
  })

  test('the last segment is missing: the log is shorter than the index', async () => {
    const { report, of } = await afterDamage((copy) => copy.remove(fixture.segments.at(-1) ?? ''))
    expect(report.sound).toBe(false)
    const what = expect.stringMatching(/^the log ends with record \d+, although \d+ was durable$/)
    expect(of(fixture.segments.at(-2) ?? '')).toMatchObject([{ meaning: 'corrupt', what }])
  })

  test('all segments are missing although the index has records', async () => {
    const { of } = await afterDamage((copy) => copy.remove('journal'))
    expect(of('journal')).toMatchObject([{ meaning: 'corrupt', index: 1 }])
  })

  test('a segment that is cut short names the records that are gone', async () => {
    const { file, offset, header } = middle()
    const { of } = await afterDamage((copy) =>
      copy.change(file, (content) => content.subarray(0, offset + 80)),
    )
    expect(of(file)).toMatchObject([
      { meaning: 'corrupt', offset, index: header.firstIndex, what: expect.stringContaining('file ends') },
    ])
  })

  test('zeroes in the middle of a segment are damage, not its end', async () => {
    const { file, offset, header } = middle()
    const { of, report } = await afterDamage((copy) =>
      copy.change(file, (content) => content.fill(0, offset, offset + 512)),
    )
    expect(of(file)).toMatchObject([{ meaning: 'corrupt', offset, index: header.firstIndex }])
    expect(report.journal.batches).toBe(fixture.batches.length - 1)
  })

  test('bytes behind the end of a segment that another follows', async () => {
    const [first = ''] = fixture.segments
    const { of } = await afterDamage((copy) =>
      copy.change(first, (content) => {
        content[content.length - 1] = 7
        return undefined
      }),
    )
    const end = Math.max(
      ...fixture.batches
        .filter(({ segment }) => segment.path.endsWith(first))
        .map(({ offset, bytes }) => offset + bytes.length),
    )
    expect(of(first)).toMatchObject([{ meaning: 'corrupt', offset: end + endMarkBytes }])
  })
})

describe('verify: what a crash leaves behind is no damage (S27)', () => {
  const endOfLast = () => {
    const mark = fixture.marks.at(-1)
    return { file: fixture.segments.at(-1) ?? '', offset: (mark?.offset ?? 0) + 32 }
  }

  test('garbage behind the end of the last segment is a torn tail, with its place and size', async () => {
    const { file, offset } = endOfLast()
    const { report, of } = await afterDamage((copy) =>
      copy.change(file, (content) => content.fill('garbage', offset, offset + 700)),
    )
    expect(report.sound).toBe(true)
    expect(of(file)).toMatchObject([
      {
        meaning: 'mended',
        offset,
        index: report.journal.lastIndex + 1,
        what: expect.stringContaining('700 bytes'),
      },
    ])
  })

  test('a torn last batch that the index has not reached is cut by the next start', async () => {
    const { file, offset } = endOfLast()
    const last = fixture.batches.at(-1)
    if (last === undefined) throw new Error('no batch')
    const next = Buffer.from(last.bytes)
    sealBatch(next, {
      ...last.header,
      firstIndex: lastIndexOf(last.header) + 1,
      previousChecksum: last.header.checksum,
    })
    const { report, of } = await afterDamage((copy) =>
      copy.change(file, (content) => {
        next.copy(content, offset, 0, next.length - 9)
        return undefined
      }),
    )
    expect(report).toMatchObject({ sound: true, index: { compared: true } })
    expect(of(file)).toMatchObject([{ meaning: 'mended', offset }])
  })

  test('a last batch that the index has applied is corrupt, not torn', async () => {
    const { file, offset } = endOfLast()
    const last = fixture.batches.at(-1)
    if (last === undefined) throw new Error('no batch')
    const { report, of } = await afterDamage((copy) =>
      copy.change(file, (content) => content.fill(0, last.offset + 70, offset)),
    )
    expect(report.sound).toBe(false)
    expect(of(file)).toMatchObject([
      { meaning: 'corrupt', offset: last.offset, index: last.header.firstIndex },
    ])
  })

  test('a truncation under way is finished by the next start', async () => {
    const to = fixture.batches.at(-2)
    const { report, of } = await afterDamage((copy) =>
      noteTruncation(new NodeDisk(), copy.path('journal'), (to && lastIndexOf(to.header)) ?? 0),
    )
    expect(of('journal/truncation')[0]).toMatchObject({ meaning: 'mended' })
    // The index of this store has more than that: nothing that is committed is ever cut.
    expect(report.sound).toBe(false)
  })

  test('a damaged note of a truncation is corrupt', async () => {
    const { of } = await afterDamage(async (copy) => {
      await noteTruncation(new NodeDisk(), copy.path('journal'), 9)
      await copy.flip('journal/truncation', 8)
    })
    expect(of('journal/truncation')).toMatchObject([{ meaning: 'corrupt', offset: 0 }])
  })
})

describe('verify: identity and promise (S2)', () => {
  test('a damaged identity', async () => {
    const { report, of } = await afterDamage((copy) => copy.flip('identity.json', 0))
    expect(report).toMatchObject({ sound: false, identity: undefined })
    expect(of('identity.json')).toMatchObject([{ meaning: 'corrupt', offset: 0 }])
  })

  test('a missing identity', async () => {
    const { of } = await afterDamage((copy) => copy.remove('identity.json'))
    expect(of('identity.json')).toMatchObject([{ meaning: 'corrupt', what: 'is missing' }])
  })

  test('the identity of another cluster than that of the journal', async () => {
    const { report, of } = await afterDamage((copy) =>
      copy.change('identity.json', (content) =>
        Buffer.from(content.toString().replace(/"uuid": "..../, '"uuid": "zzzz')),
      ),
    )
    expect(report.sound).toBe(false)
    expect(of('journal')).toMatchObject([{ meaning: 'corrupt', index: 2 }])
  })

  test.each([
    ['first', 0],
    ['second', 512],
  ])('the %s copy of the promise alone is mended', async (which, offset) => {
    const { report, of } = await afterDamage((copy) => copy.flip('promise', offset + 16))
    expect(report).toMatchObject({ sound: true, promise: { epoch: 1 } })
    expect(of('promise')).toMatchObject([{ meaning: 'mended', offset, what: expect.stringContaining(which) }])
  })

  test('both copies of the promise are corrupt', async () => {
    const { report, of } = await afterDamage(async (copy) => {
      await copy.flip('promise', 16)
      await copy.flip('promise', 512 + 16)
    })
    expect(report).toMatchObject({ sound: false, promise: undefined })
    expect(of('promise')).toMatchObject([{ meaning: 'corrupt', offset: 0 }])
  })

  test('a missing promise', async () => {
    const { of } = await afterDamage((copy) => copy.remove('promise'))
    expect(of('promise')).toMatchObject([{ meaning: 'corrupt' }])
  })
})

describe('verify: the index (S28)', () => {
  const inIndex = async (change: Parameters<StoreCopy['index']>[0]) => {
    const { report, of } = await afterDamage((copy) => copy.index(change))
    expect(report.sound).toBe(false)
    return of('index')
  }
  // Records 1 and 2 begin the epoch, 3 and 4 add the queues, 5 the producer.
  const orders = 3
  const live = 6 + 2 * removed

  test('an entry is missing', async () => {
    const found = await inIndex((db) => db.del(messageKey(orders, live + 10)))
    expect(found).toMatchObject([
      { meaning: 'index wrong', index: live + 10, what: expect.stringContaining('is missing') },
    ])
  })

  test('an entry of a message that was removed', async () => {
    const value = writeMessageValue(Buffer.alloc(20), orders, 8, 4004, 0, 8)
    const found = await inIndex((db) => db.put(messageKey(orders, 8), value))
    expect(found).toMatchObject([
      { meaning: 'index wrong', index: 8, what: expect.stringContaining('no longer') },
    ])
  })

  test('an entry that points to no message', async () => {
    const value = writeMessageValue(Buffer.alloc(20), orders, 999_999, 10, 0, 999_999)
    const found = await inIndex((db) => db.put(messageKey(orders, 999_999), value))
    expect(found).toMatchObject([{ meaning: 'index wrong', index: 999_999 }])
  })

  test('an entry that fails its check', async () => {
    const found = await inIndex((db) => db.put(messageKey(orders, live + 10), Buffer.alloc(20)))
    expect(found).toMatchObject([
      { meaning: 'index wrong', index: live + 10, what: expect.stringContaining('check') },
    ])
  })

  test.each([
    ['bytes', 4005, 0],
    ['redelivered', 4004, 1],
  ])('an entry with other %s than the journal', async (what, bytes, redeliveries) => {
    const value = writeMessageValue(Buffer.alloc(20), orders, live + 10, bytes, redeliveries, live + 10)
    const found = await inIndex((db) => db.put(messageKey(orders, live + 10), value))
    expect(found).toMatchObject([{ index: live + 10, what: expect.stringContaining(what) }])
  })

  test.each([
    ['counts', queueValue(1, live, orders, 'orders')],
    ['begins', queueValue(messagesPerQueue - removed, live + 2, orders, 'orders')],
    ['named', queueValue(messagesPerQueue - removed, live, orders, 'odours')],
  ])('a queue that %s otherwise', async (what, value) => {
    const found = await inIndex((db) => db.put(numberedKey(RowKind.queue, orders), value))
    expect(found).toMatchObject([
      { meaning: 'index wrong', index: orders, what: expect.stringContaining(what) },
    ])
  })

  test('an epoch that begins elsewhere', async () => {
    const found = await inIndex((db) => db.put(numberedKey(RowKind.epochStart, 4), numberValue(2)))
    expect(found).toMatchObject([{ meaning: 'index wrong', index: 4 }])
  })

  test('a producer is missing', async () => {
    const found = await inIndex((db) => db.del(numberedKey(RowKind.producer, 5)))
    expect(found).toMatchObject([{ meaning: 'index wrong', index: 5 }])
  })

  test('a position inside a batch', async () => {
    const batch = fixture.batches.find(({ header }) => header.count > 2)
    const found = await inIndex(async (db) => {
      const position = await db.get(positionKey)
      if (position === undefined) throw new Error('no position')
      position.writeUInt32LE((batch?.header.firstIndex ?? 0) + 1, 0)
      await db.put(positionKey, position)
    })
    expect(found).toMatchObject([{ meaning: 'index wrong', what: expect.stringContaining('inside a batch') }])
  })

  test('a row of an unknown kind: the next start rebuilds it', async () => {
    const { report, of } = await afterDamage((copy) =>
      copy.index((db) => db.put(Buffer.from([4, 0xff, 0xff]), numberValue(1))),
    )
    expect(report).toMatchObject({ sound: false, index: undefined })
    expect(of('index')).toMatchObject([{ meaning: 'index rebuilt' }])
  })

  test('a damaged file of LevelDB: the next start rebuilds it', async () => {
    const { of } = await afterDamage((copy) => writeFile(copy.path('index/CURRENT'), 'no line feed'))
    expect(of('index')).toMatchObject([{ meaning: 'index rebuilt' }])
  })

  test('a missing file of LevelDB that a start does not get over', async () => {
    const { of } = await afterDamage((copy) => writeFile(copy.path('index/CURRENT'), 'MANIFEST-none\n'))
    expect(of('index')).toMatchObject([{ meaning: 'index wrong', what: expect.stringContaining('refuse') }])
  })

  test('CURRENT is missing: the next start rebuilds it', async () => {
    const { of } = await afterDamage((copy) => copy.remove('index/CURRENT'))
    expect(of('index')).toMatchObject([{ meaning: 'index rebuilt' }])
  })

  test('of many findings of one kind the first hundred are kept and the rest counted', async () => {
    const { report } = await afterDamage((copy) =>
      copy.index((db) => db.clear({ gte: messageKey(4, 0), lte: messageKey(4, 2 ** 40) })),
    )
    expect(report.findings).toHaveLength(100)
    expect(report.findingsOmitted).toBe(messagesPerQueue - 100)
  })
})

/** The same batches, chained to another past: as another log would have them. */
function resealed(content: Buffer, previousChecksum: number): Buffer {
  let checksum = previousChecksum
  const batches = fixture.batches.filter(({ segment }) => segment.path.endsWith(fixture.segments[1] ?? ''))
  for (const { offset, bytes } of batches) {
    const batch = content.subarray(offset, offset + bytes.length)
    const header = decodeBatchHeader(batch, 0)
    if (typeof header === 'string') throw new Error(header)
    checksum = sealBatch(batch, { ...header, previousChecksum: checksum })
  }
  return content
}

test('verify: a copy of a segment under a later name is found at its first batch', async () => {
  const { report } = await afterDamage(async (copy) => {
    const last = fixture.batches.at(-1)
    const next = String((last ? lastIndexOf(last.header) : 0) + 1).padStart(20, '0')
    await copyFile(copy.path(fixture.segments[1] ?? ''), copy.path(`journal/${next}.log`))
  })
  // Its first sync mark contradicts what stands before, and its first batch does not follow.
  expect(report.findings.slice(0, 2)).toMatchObject([
    { meaning: 'corrupt', offset: 0, what: expect.stringContaining('sync mark') },
    { meaning: 'corrupt', offset: 32, what: expect.stringContaining('first index') },
  ])
})

describe('verify: a store whose log begins later (S34)', () => {
  let root: string
  let directory: string
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'levelmq-later-'))
    directory = join(root, 'store')
    await fillChurnedStore(directory)
  })
  afterAll(() => rm(root, { recursive: true, force: true }))

  test('is folded from its beginning on, and its index compared', async () => {
    const report = await verifyStore(directory)
    expect(report.journal.firstIndex).toBeGreaterThan(1)
    expect(report.findings.filter(isDamage)).toEqual([])
    expect(report.index).toMatchObject({ compared: true, appliedIndex: report.journal.lastIndex })
    expect(report.journal.foldedTo).toBe(report.journal.lastIndex)
    expect(report.queues.map(({ name, messageCount }) => [name, messageCount])).toEqual([
      ['kept', 1],
      ['churned', 0],
    ])
  })

  test('its first segment is missed, segments before it are left over', async () => {
    const copy = new StoreCopy(join(root, 'copy'))
    await cp(directory, copy.directory, { recursive: true })
    const names = await readdir(copy.path('journal'))
    const [first = ''] = names.filter((name) => name.endsWith('.log')).sort()
    await copyFile(copy.path(`journal/${first}`), copy.path('journal/00000000000000000001.log'))
    const leftover = await verifyStore(copy.directory)
    expect(leftover.findings.filter(({ meaning }) => meaning === 'mended')).toMatchObject([
      { file: copy.path('journal/00000000000000000001.log') },
    ])
    expect(leftover.sound).toBe(true)
    await copy.remove(`journal/${first}`)
    expect((await verifyStore(copy.directory)).sound).toBe(false)
  })

  test('any generation is found by the identity, and what lies beside it is told', async () => {
    const copy = new StoreCopy(join(root, 'generation'))
    await cp(directory, copy.directory, { recursive: true })
    await rename(copy.path('journal'), copy.path('journal.3'))
    await rename(copy.path('index'), copy.path('index.3'))
    await copy.change('identity.json', (content) =>
      Buffer.from(JSON.stringify({ ...JSON.parse(content.toString()), generation: 3 })),
    )
    await mkdir(copy.path('journal.4'))
    await mkdir(copy.path('index.2'))
    const report = await verifyStore(copy.directory)
    expect(report.sound).toBe(true)
    expect(report.index?.compared).toBe(true)
    expect(report.findings.map(({ meaning, file }) => [meaning, file])).toEqual(
      expect.arrayContaining([
        ['note', copy.path('journal.4')],
        ['note', copy.path('index.2')],
      ]),
    )
    let batches = 0
    for await (const event of dumpStore(copy.directory)) if (event.type === 'batch') batches++
    expect(batches).toBe(report.journal.batches)
  })
})

import { SeededRandom } from '@levelmq/testkit'
import { expect, test } from 'vitest'
import { type JournalEvent, listSegments, walkJournal } from '../../../src/inspection/journal-walk.ts'
import { ReadOnlyDisk } from '../../../src/inspection/read-only-disk.ts'
import { Survey } from '../../../src/journal/survey.ts'
import { appendDurably, appendTo, directory, newDisk, open } from '../journal/journal-rig.ts'

type Disk = ReturnType<typeof newDisk>

async function walked(disk: Disk): Promise<JournalEvent[]> {
  const readOnly = new ReadOnlyDisk(disk)
  const events: JournalEvent[] = []
  for await (const event of walkJournal(readOnly, await listSegments(readOnly, directory))) events.push(event)
  return events
}

/** Three segments; the last group is durable but no mark behind it says so. */
async function written(seed: number): Promise<Disk> {
  const disk = newDisk(seed)
  const { log, ear } = await open(disk, { segmentBytes: 2048 })
  await appendDurably(log, ear, 14, 200)
  const last = [appendTo(log, { bytes: 90 }), appendTo(log, { bytes: 90, records: 3 })]
  await ear.hearsDurable(last[1]?.lastIndex ?? 0)
  disk.exit()
  return disk
}

test('journal walk: a sound journal gives every batch, mark and segment', async () => {
  const events = await walked(await written(1))
  const count = (type: JournalEvent['type']) => events.filter((event) => event.type === type).length
  expect(count('batch')).toBe(16)
  expect(count('segment')).toBe(count('end'))
  expect(count('segment')).toBeGreaterThan(2)
  expect(count('damage') + count('torn') + count('stray')).toBe(0)
})

test('journal walk: a log that begins later is whole, and its first segment must be there (S34)', async () => {
  const disk = newDisk(1)
  const { log, ear } = await open(disk, { segmentBytes: 2048 })
  await appendDurably(log, ear, 20, 200)
  await log.discardBelow(12, 20)
  const { start } = log
  await log.close()
  const eventsFrom = async () => {
    const events: JournalEvent[] = []
    const segments = await listSegments(disk, directory)
    for await (const event of walkJournal(disk, segments, { start })) events.push(event)
    return events
  }
  const batches = (await eventsFrom()).filter((event) => event.type === 'batch')
  expect(batches).toHaveLength(21 - start.firstIndex)
  expect((await eventsFrom()).filter(({ type }) => type === 'damage')).toEqual([])
  disk.lose(batches[0]?.segment.path ?? '')
  const lastIndex = ((await eventsFrom())[0]?.segment.firstIndex ?? 0) - 1
  expect((await eventsFrom()).filter(({ type }) => type === 'damage')).toMatchObject([
    { fault: 'missing', firstIndex: start.firstIndex, lastIndex },
  ])
})

test('journal walk: judges any flipped bit as recovery does (S27)', async () => {
  const random = new SeededRandom(27)
  const seen = { corrupt: 0, torn: 0, sound: 0 }
  for (let round = 0; round < 250; round++) {
    const disk = await written(round)
    const paths = disk.paths().filter((path) => path.endsWith('.log'))
    const path = paths[Math.floor(random.fraction() * paths.length)] ?? ''
    const bit = Math.floor(random.fraction() * disk.content(path).length * 8)
    disk.flipBit(path, bit)
    const events = await walked(disk)
    const survey = new Survey(disk, directory, 0, [])
    const outcome = await survey.run().then(
      () => (survey.tornBytes > 0 ? 'torn' : 'sound'),
      (error) => error.code,
    )
    const torn = events.filter((event) => event.type === 'torn')
    const damage = events.filter((event) => event.type === 'damage')
    const costly = damage.filter((event) => event.lastIndex !== event.firstIndex - 1)
    const context = `round ${round}: ${path} bit ${bit}`
    if (outcome === 'STORE_CORRUPT' || outcome === 'STORE_UNKNOWN_FORMAT') {
      expect(damage, context).not.toEqual([])
      seen.corrupt++
    } else if (outcome === 'torn') {
      expect(damage, context).toEqual([])
      expect(torn, context).toMatchObject([
        {
          bytes: survey.tornBytes,
          offset: survey.segments.at(-1)?.endOffset,
          lastIndex: survey.tail.lastIndex,
        },
      ])
      seen.torn++
    } else {
      // Recovery does not look behind the end of segments that others follow.
      expect([...costly, ...torn], context).toEqual([])
      seen.sound++
    }
  }
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(0)
})

test('journal walk: goes on behind damage, and names every record that it costs', async () => {
  const random = new SeededRandom(8)
  for (let round = 0; round < 50; round++) {
    const disk = await written(round)
    const [first = ''] = disk.paths().filter((path) => path.endsWith('.log'))
    const before = await walked(disk)
    const batches = before.filter((event) => event.type === 'batch' && event.segment.path === first)
    const hit = batches[Math.floor(random.fraction() * batches.length)]
    if (hit?.type !== 'batch') throw new Error('no batch')
    disk.flipBit(first, (hit.offset + Math.floor(random.fraction() * hit.bytes.length)) * 8)
    const after = await walked(disk)
    expect(after.filter((event) => event.type === 'damage')).toMatchObject([
      { offset: hit.offset, firstIndex: hit.header.firstIndex, lastIndex: hit.header.firstIndex },
    ])
    expect(after.filter((event) => event.type === 'batch')).toHaveLength(15)
  }
})

test('journal walk: a segment that cannot be read is named, and the next one read', async () => {
  const disk = await written(1)
  const [, second = ''] = disk.paths().filter((path) => path.endsWith('.log'))
  // The first reading asks for the size.
  disk.failNext({ operation: 'read', path: second, code: 'EIO', after: 1 })
  const events = await walked(disk)
  const next = events.filter((event) => event.type === 'segment')[2]?.segment.firstIndex ?? 0
  expect(events.filter((event) => event.type === 'damage')).toMatchObject([
    { fault: 'unreadable', offset: 0, lastIndex: next - 1 },
  ])
  expect(events.at(-1)).toMatchObject({ type: 'end', lastIndex: 18 })
})

test('journal walk: nothing is changed, and could not be', async () => {
  const disk = await written(1)
  const operations = ['create', 'write', 'allocate', 'sync', 'rename', 'remove', 'syncDirectory'] as const
  const before = operations.map((operation) => disk.count(operation))
  await walked(disk)
  expect(operations.map((operation) => disk.count(operation))).toEqual(before)
  const readOnly = new ReadOnlyDisk(disk)
  const [path = ''] = disk.paths()
  await expect(readOnly.open(path, 'write')).rejects.toThrow(TypeError)
  await expect(readOnly.remove(path)).rejects.toThrow(TypeError)
  const file = await readOnly.open(path, 'read')
  await expect(file.write([Buffer.from('x')], 0)).rejects.toThrow(TypeError)
})

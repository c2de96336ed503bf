/**
 * How fast is the journal, and how does the size of a group matter?
 *
 * Appends batches of 1, 32 and 1000 records of 1 KiB, keeping a few batches under way as a busy master does, on the
 * disk under `LEVELMQ_BENCH_DIR` (default: the system's temporary directory, which may be memory). Prints the median
 * and the spread of several runs, and the bare disk (one write and one sync at a time) beside it.
 *
 * Run with `node packages/store/bench/journal.ts [runs]`.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NodeDisk } from '../src/io/node/disk.ts'
import { batchHeaderBytes, sealBatch } from '../src/journal/batch.ts'
import { openJournal } from '../src/journal/journal.ts'
import { RecordKind, recordHeaderBytes } from '../src/journal/record.ts'

const recordBytes = 1024
const segmentBytes = 64 * 1024 * 1024
const runMs = 2000
const runs = Number(process.argv[2] ?? 3)

interface Figures {
  readonly groups: number
  readonly records: number
  readonly bytes: number
}

/** A payload of `count` records, sealed anew for each batch. */
function template(count: number): Buffer {
  const batch = Buffer.alloc(batchHeaderBytes + count * recordBytes, 0x78)
  for (let at = batchHeaderBytes; at < batch.length; at += recordBytes) {
    batch.writeUInt32LE(recordBytes - recordHeaderBytes, at)
    batch.writeUInt8(RecordKind.messageAdded, at + 4)
  }
  return batch
}

/** Appends for a while with `depth` batches under way; groups are counted by their reports. */
async function journalRun(directory: string, count: number, depth: number): Promise<Figures> {
  const payload = template(count)
  let groups = 0
  let records = 0
  const until = performance.now() + runMs
  let finished = (): void => undefined
  const finish = new Promise<void>((resolve) => {
    finished = resolve
  })
  const { log } = await openJournal({
    disk: new NodeDisk(),
    directory,
    segmentBytes,
    verifiedTo: 0,
    epochStarts: [],
    listener: {
      written: () => undefined,
      durable: (index) => {
        groups++
        const done = (index - records) / count
        records = index
        if (performance.now() > until) finished()
        else for (let made = 0; made < done; made++) appendOne()
      },
      damaged: () => undefined,
      spaceChanged: () => undefined,
      failed: (error) => {
        throw error
      },
    },
  })
  const appendOne = (): void => {
    const bytes = Buffer.from(payload)
    const firstIndex = log.lastIndex + 1
    sealBatch(bytes, {
      holdsConfiguration: false,
      epoch: 1,
      firstIndex,
      count,
      logTimeMs: 0,
      commitIndex: log.durableIndex,
      previousChecksum: log.lastChecksum,
    })
    log.append(bytes, firstIndex, firstIndex + count - 1)
  }
  for (let made = 0; made < depth; made++) appendOne()
  await finish
  const figures = { groups, records, bytes: records * recordBytes }
  await log.close()
  return figures
}

/** The disk alone: the same bytes, one write and one sync after the other. */
async function diskRun(directory: string, count: number): Promise<Figures> {
  const disk = new NodeDisk()
  await disk.makeDirectory(directory)
  const file = await disk.open(join(directory, 'bare'), 'create')
  await file.allocate(segmentBytes)
  const payload = template(count)
  let groups = 0
  const until = performance.now() + runMs
  for (let at = 0; performance.now() < until; at += payload.length) {
    if (at + payload.length > segmentBytes) at = 0
    await file.write([payload], at)
    await file.sync()
    groups++
  }
  await file.close()
  return { groups, records: groups * count, bytes: groups * count * recordBytes }
}

function report(name: string, figures: readonly Figures[]): void {
  const seconds = runMs / 1000
  const column = (of: (figure: Figures) => number, digits: number): string => {
    const sorted = figures.map((figure) => of(figure) / seconds).sort((a, b) => a - b)
    const median = sorted[sorted.length >> 1] ?? 0
    const spread = (sorted.at(-1) ?? 0) - (sorted[0] ?? 0)
    return `${median.toFixed(digits).padStart(10)} ±${(spread / 2).toFixed(digits).padEnd(8)}`
  }
  const columns = [
    `${column((figure) => figure.groups, 0)} groups/s`,
    `${column((figure) => figure.records, 0)} records/s`,
    `${column((figure) => figure.bytes / 1e6, 1)} MB/s`,
  ]
  process.stdout.write(`${name.padEnd(44)}${columns.join('')}\n`)
}

const root = await mkdtemp(join(process.env.LEVELMQ_BENCH_DIR ?? tmpdir(), 'levelmq-bench-'))
try {
  process.stdout.write(
    `${process.version} ${process.platform} ${process.arch}, ${root}, ${runs} runs of ${runMs} ms\n`,
  )
  for (const count of [1, 32, 1000]) {
    const bare: Figures[] = []
    for (let run = 0; run < runs; run++) bare.push(await diskRun(join(root, `disk-${count}-${run}`), count))
    report(`disk alone, ${count} x 1 KiB`, bare)
    for (const depth of [1, 2, 32]) {
      if (count === 1000 && depth > 2) continue
      const figures: Figures[] = []
      for (let run = 0; run < runs; run++) {
        const directory = join(root, `journal-${count}-${depth}-${run}`)
        figures.push(await journalRun(directory, count, depth))
        await rm(directory, { recursive: true })
      }
      report(`journal, batches of ${count} x 1 KiB, ${depth} under way`, figures)
    }
  }
} finally {
  await rm(root, { recursive: true })
}

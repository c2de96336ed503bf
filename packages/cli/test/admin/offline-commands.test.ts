import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type RecoveryPlan, type RestoreOptions, type RestoreReport, StoreError } from '@levelmq/store'
import { Command } from 'commander'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { addRecoverCommand } from '../../src/commands/recover.ts'
import { addRestoreCommand } from '../../src/commands/restore.ts'
import { CommandError } from '../../src/exit-code.ts'

let directory = ''
let printed: string[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'levelmq-cli-'))
  // What makes a directory that of a store.
  writeFileSync(join(directory, 'identity.json'), '{}')
  printed = []
  vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line))
})

afterEach(() => {
  vi.restoreAllMocks()
  rmSync(directory, { recursive: true })
})

const restored: RestoreReport = {
  directory: 'new',
  records: 7,
  bytes: 700,
  position: { epoch: 2, index: 7 },
  clusterUuid: 'c-1',
}

test('S37: restore hands everything on, and tells what was restored', async () => {
  const given: RestoreOptions[] = []
  await restore(['orders.levelmq', '--directory', 'new', '--node-id', 'n1'], async (options) => {
    given.push(options)
    options.progress?.(1, 2)
    return restored
  })
  expect(given).toMatchObject([{ from: 'orders.levelmq', directory: 'new', nodeId: 'n1' }])
  expect(printed).toEqual(['new: 7 records restored, up to position 2/7 of cluster c-1'])
})

test.each<[StoreError, number]>([
  [new StoreError({ code: 'STORE_FOREIGN_DIRECTORY', directory: 'new' }, 'new: not empty'), 1],
  [new StoreError({ code: 'STORE_CORRUPT', file: 'x', offset: 3 }, 'x: damaged at 3'), 1],
  [new StoreError({ code: 'STORE_DISK_FAILED', file: 'x', operation: 'write' }, 'x: EIO'), 74],
])('S37: restore that fails with %s is exit code %i', async (fault, exitCode) => {
  const failing = restore(['orders.levelmq', '--directory', 'new'], () => Promise.reject(fault))
  await expect(failing).rejects.toMatchObject({ exitCode, message: `${fault.code}: ${fault.message}` })
})

test('S25: recover says what may be lost, and changes nothing unless that is confirmed', async () => {
  const asked: boolean[] = []
  const unconfirmed = recover([], asked)
  await expect(unconfirmed).rejects.toBeInstanceOf(CommandError)
  await expect(unconfirmed).rejects.toMatchObject({ exitCode: 1, message: expect.stringContaining('--yes') })
  expect(asked).toEqual([false])
  expect(printed.join('\n')).toContain('- Records above 10 that only n2 and n3 had are lost.')
})

test('S25: recover --yes does it', async () => {
  const asked: boolean[] = []
  await recover(['--yes'], asked)
  expect(asked).toEqual([false, true])
  expect(printed.at(-1)).toContain('c-2')
})

test('S25: recover --json prints the plan, and with --yes what was done', async () => {
  await expect(recover(['--json'], [])).rejects.toMatchObject({ exitCode: 1 })
  expect(JSON.parse(printed.join(''))).toMatchObject({ nodeId: 'n1', position: { index: 12 } })
  printed = []
  await recover(['--json', '--yes'], [])
  expect(JSON.parse(printed.join(''))).toMatchObject({ newClusterUuid: 'c-2' })
})

test('recover: a directory that is none of a store is wrong usage, a store in use exit code 3', async () => {
  rmSync(join(directory, 'identity.json'))
  await expect(recover([], [])).rejects.toMatchObject({ exitCode: 2 })
  writeFileSync(join(directory, 'identity.json'), '{}')
  const inUse = new StoreError({ code: 'STORE_DIRECTORY_IN_USE', directory }, 'in use')
  const failing = run(
    (program) => addRecoverCommand(program, () => Promise.reject(inUse)),
    ['recover', '--directory', directory],
  )
  await expect(failing).rejects.toMatchObject({ exitCode: 3 })
})

function restore(args: readonly string[], perform: (options: RestoreOptions) => Promise<RestoreReport>) {
  return run((program) => addRestoreCommand(program, perform), ['restore', ...args])
}

function recover(args: readonly string[], asked: boolean[]) {
  const plan: RecoveryPlan = {
    directory,
    nodeId: 'n1',
    clusterUuid: 'c-1',
    voters: ['n1', 'n2', 'n3'],
    position: { epoch: 2, index: 12 },
    commitIndex: 10,
    messages: 4,
    losses: ['Records above 10 that only n2 and n3 had are lost.'],
    newClusterUuid: undefined,
  }
  const perform = async (_directory: string, { confirm }: { readonly confirm: boolean }) => {
    asked.push(confirm)
    return confirm ? { ...plan, newClusterUuid: 'c-2' } : plan
  }
  return run((program) => addRecoverCommand(program, perform), ['recover', '--directory', directory, ...args])
}

async function run(add: (program: Command) => void, args: readonly string[]): Promise<void> {
  const program = new Command().exitOverride()
  add(program)
  await program.parseAsync(args, { from: 'user' })
}

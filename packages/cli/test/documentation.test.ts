import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const read = (path: string): string => readFileSync(`${root}${path}`, 'utf8')

/** Rows of the table that says how each promise is tested. */
function promises(): { promise: string; rules: string[]; paths: string[] }[] {
  const table = read('docs/durability.md').split('## How it is tested')[1] ?? ''
  return [...table.matchAll(/^\| (.+?) \| ([STWH\d ]+) \| (.+) \|$/gm)].map(([, promise, rules, tests]) => ({
    promise: promise ?? '',
    rules: (rules ?? '').trim().split(' '),
    paths: [...(tests ?? '').matchAll(/`([^`]+)`/g)].map(([, path]) => path ?? ''),
  }))
}

function placeOf(path: string): string {
  if (/^(system|chaos)\//.test(path)) return `test/${path}`
  if (/^(broker|cli)\//.test(path)) return `packages/${path.replace('/', '/test/')}`
  return `packages/store/test/${path}`
}

test('documentation: what is said to test a promise is there, and speaks of its rules', () => {
  expect(promises().length).toBeGreaterThan(20)
  const wrong = promises().flatMap(({ promise, rules, paths }) => {
    const missing = paths.filter((path) => !existsSync(`${root}${placeOf(path)}`))
    const texts = paths.filter((path) => !missing.includes(path)).map((path) => read(placeOf(path)))
    const untold = rules.filter((rule) => !texts.some((text) => new RegExp(`\\b${rule}\\b`).test(text)))
    return [...missing, ...untold].map((what) => `${promise}: ${what}`)
  })
  expect(wrong).toEqual([])
})

test.each(['packages/store/src/errors.ts', 'packages/broker/src/errors.ts'])(
  'documentation: docs/errors.md tells of every code in %s, and of no other',
  (path) => {
    const codes = [...read(path).matchAll(/readonly code: '([A-Z_]+)'/g)].map(([, code]) => code ?? '')
    const [prefix = ''] = codes[0]?.split('_') ?? []
    const told = [...read('docs/errors.md').matchAll(/^\| `([A-Z]+_[A-Z_]+)`/gm)]
      .map(([, code]) => code ?? '')
      .filter((code) => code.startsWith(`${prefix}_`))
    expect(told.sort()).toEqual([...new Set(codes)].sort())
  },
)

test('documentation: every command is named in a text', () => {
  const texts = ['README.md', 'docs/operations.md', 'docs/errors.md', 'docs/configuration.md']
    .map(read)
    .join('\n')
  const program = read('packages/cli/src/program.ts')
  const commands = [...program.matchAll(/from '\.\/commands\/([a-z-]+)\.ts'/g)].map(([, name]) => name ?? '')
  expect(commands.length).toBeGreaterThan(10)
  expect(commands.filter((name) => !texts.includes(`levelmq ${name}`))).toEqual([])
})

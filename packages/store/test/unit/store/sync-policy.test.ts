import { describe, expect, test } from 'vitest'
import { syncPolicy } from '../../../src/consensus/sync-policy.ts'

describe('sync policy (S14)', () => {
  test.each([
    ['quorum_disk', true, true, 'disk'],
    ['quorum_mem', false, false, 'memory'],
    ['remote_disk', false, false, 'disk'],
    ['remote_mem', false, false, 'memory'],
    ['local_disk', false, true, 'none'],
    ['local_mem', false, false, 'none'],
    // Joined, each demand holds.
    ['local_disk,remote_disk', true, true, 'disk'],
    ['local_disk, remote_mem', false, true, 'memory'],
    ['remote_mem,remote_disk', false, false, 'disk'],
    ['remote_disk,remote_mem', false, false, 'disk'],
    ['quorum_mem,quorum_disk', true, true, 'disk'],
    ['local_mem,local_disk', false, true, 'none'],
    [' Quorum_Disk ', true, true, 'disk'],
  ] as const)('%s: waits for what it says', (sync, committed, ownDisk, slaves) => {
    expect(syncPolicy(sync)).toMatchObject({ committed, ownDisk, slaves })
  })

  test('warning: everything below quorum_disk has one, each risk its own', () => {
    const warnings = ['quorum_mem', 'remote_disk', 'local_disk', 'local_mem'].map(
      (sync) => syncPolicy(sync).warning,
    )
    expect(new Set(warnings).size).toBe(4)
    for (const warning of warnings) expect(warning).toMatch(/confirmed messages/)
    expect(syncPolicy('quorum_disk').warning).toBeUndefined()
  })

  test('words: as configured, in lower case', () => {
    expect(syncPolicy('Remote_Disk, LOCAL_DISK').words).toBe('remote_disk,local_disk')
  })

  test.each(['', 'quorum', 'quorum_disk,', 'quorum_disk;local_disk', 'toString', '__proto__', 'quorum disk'])(
    'unknown: %j is refused with what is allowed',
    (sync) => {
      expect(() => syncPolicy(sync)).toThrow(
        expect.objectContaining({
          detail: { code: 'STORE_INVALID_OPTION', option: 'sync', value: sync },
          message: expect.stringContaining(
            'none of quorum_disk, quorum_mem, remote_disk, remote_mem, local_disk, local_mem',
          ),
        }),
      )
    },
  )
})

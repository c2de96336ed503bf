import { describe, expect, test } from 'vitest'
import { isVoter, parseMemberInfo } from '../../../src/members.ts'

const said = {
  role: 'master',
  epoch: 3,
  lastEpoch: 3,
  lastIndex: 10,
  commitIndex: 9,
  info: { brokerName: 'b1' },
  electionReason: 'timeout',
  slaves: [{ nodeId: 'n2', state: 'in sync', lag: 0 }],
  links: [{ nodeId: 'n2', bootId: 'boot', address: 'h:1', silentMs: 3 }],
}

describe('members', () => {
  test('info: what a member says of itself is taken as it is', () => {
    expect(parseMemberInfo(said)).toEqual(said)
    expect(parseMemberInfo({ ...said, electionReason: undefined })?.electionReason).toBeUndefined()
  })

  test.each([
    { role: 'king' },
    { epoch: -0.5 },
    { lastIndex: '10' },
    { commitIndex: 2 ** 53 },
    { info: null },
    { slaves: {} },
  ])('info: with %j it is passed over', (wrong) => {
    expect(parseMemberInfo({ ...said, ...wrong })).toBeUndefined()
  })

  test('info: of its slaves only those that are some are shown, and not without end', () => {
    const slaves = [null, 7, { nodeId: 'n2' }, { nodeId: 'n2', state: 'in sync', lag: 0 }, 'n3']
    expect(parseMemberInfo({ ...said, slaves })?.slaves).toEqual(said.slaves)
    const many = Array.from({ length: 100 }, () => said.slaves[0])
    expect(parseMemberInfo({ ...said, slaves: many })?.slaves).toHaveLength(16)
  })

  test('X2: of its links only those that are some are taken, and not without end', () => {
    const [link] = said.links
    const wrong = [
      null,
      { ...link, address: 'h' },
      { ...link, address: 'h:0' },
      { ...link, address: 'a b:1' },
      { ...link, address: `${'h'.repeat(600)}:1` },
      { ...link, bootId: '' },
      { ...link, silentMs: '3' },
    ]
    expect(parseMemberInfo({ ...said, links: [...wrong, link] })?.links).toEqual(said.links)
    const many = Array.from({ length: 100 }, () => link)
    expect(parseMemberInfo({ ...said, links: many })?.links).toHaveLength(24)
    expect(parseMemberInfo({ ...said, links: 'none' })?.links).toEqual([])
  })

  test('S23: a voter is a node together with its store', () => {
    const voters = [{ nodeId: 'a', storeUuid: '1' }]
    expect(isVoter(voters, { nodeId: 'a', storeUuid: '1' })).toBe(true)
    expect(isVoter(voters, { nodeId: 'a', storeUuid: '2' })).toBe(false)
    expect(isVoter(voters, { nodeId: 'b', storeUuid: '1' })).toBe(false)
  })
})

import { describe, expect, test } from 'vitest'
import { BatchBuilder } from '../../../src/journal/batch-builder.ts'
import { RecordKind } from '../../../src/journal/record.ts'
import { FrameFault, spansOf } from '../../../src/replication/frame.ts'

const voters = [{ nodeId: 'a', storeUuid: 'u-a', address: 'host:1' }]

function batchOf(fill: (builder: BatchBuilder) => void): Buffer {
  const builder = new BatchBuilder()
  fill(builder)
  return builder.seal({ epoch: 1, firstIndex: 1, logTimeMs: 0, commitIndex: 0, previousChecksum: 0 })
}

describe('S35: the configuration in a batch', () => {
  test('is read with all that its voters carry, alone, behind an epoch start, or among others', () => {
    const json = JSON.stringify({ uuid: 'u', voters })
    for (const before of [undefined, RecordKind.epochStart, RecordKind.queueAdded]) {
      const bytes = batchOf((builder) => {
        if (before !== undefined) builder.text(before, 'something')
        builder.text(RecordKind.configuration, json)
      })
      expect(spansOf(bytes, 1, true)[0]?.voters).toEqual(voters)
    }
  })

  test('is not looked for where the header names none, nor in what the own log holds', () => {
    const bytes = batchOf((builder) => builder.text(RecordKind.queueAdded, 'q'))
    expect(spansOf(bytes, 1, true)[0]?.voters).toBeUndefined()
    const own = batchOf((builder) => builder.text(RecordKind.configuration, 'no JSON'))
    expect(spansOf(own, 1, false)[0]?.voters).toBeUndefined()
  })

  test.each([
    'no JSON',
    '{}',
    '{"voters":[]}',
    '{"voters":[{"nodeId":"a"}]}',
    `{"voters":${JSON.stringify(Array.from({ length: 10 }, () => voters[0]))}}`,
  ])('is refused if it is %s', (json) => {
    const bytes = batchOf((builder) => builder.text(RecordKind.configuration, json))
    expect(() => spansOf(bytes, 1, true)).toThrow(FrameFault)
  })
})

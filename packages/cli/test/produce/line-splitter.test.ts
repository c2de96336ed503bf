import { expect, test } from 'vitest'
import { LineSplitter } from '../../src/produce/line-splitter.ts'

test('lines: byte for byte, empty ones too, however the stream is cut', () => {
  const bytes = Buffer.concat([
    Buffer.from('one\n\ntwo\r\nä€\n'),
    Buffer.from([0xff, 0, 0x0a]),
    Buffer.from('last'),
  ])
  const expected = ['one', '', 'two\r', Buffer.from('ä€').toString('latin1'), '\xff\0', 'last']
  for (let cut = 0; cut <= bytes.length; cut++) {
    const splitter = new LineSplitter(100)
    const lines = [
      ...splitter.push(bytes.subarray(0, cut)),
      ...splitter.push(bytes.subarray(cut)),
      splitter.end(),
    ]
    expect(lines.map((line) => line?.toString('latin1'))).toEqual(expected)
  }
})

test('lines: no message behind the last line feed', () => {
  const splitter = new LineSplitter(100)
  expect(splitter.push(Buffer.from('a\n')).length).toBe(1)
  expect(splitter.end()).toBeUndefined()
})

test('lines: one over the limit is refused before it is collected', () => {
  const splitter = new LineSplitter(10)
  splitter.push(Buffer.from('12345678'))
  expect(() => splitter.push(Buffer.from('9012345'))).toThrow(RangeError)
})

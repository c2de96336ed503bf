import { expect, test } from 'vitest'
import { encodeFrame, type Frame, FrameDecoder } from '../../src/stomp-client/frame.ts'

const plain = (frame: Frame) => ({
  command: frame.command,
  headers: Object.fromEntries(frame.headers),
  body: frame.body.toString('latin1'),
})

test('frame: the same frames however the bytes are cut', () => {
  const bytes = Buffer.concat([
    Buffer.from('\n\n'),
    encodeFrame('MESSAGE', { 'message-id': 'a:b\nc\\d', ack: '1' }, Buffer.from('with \0 inside')),
    Buffer.from('\r\nRECEIPT\r\nreceipt-id:7\r\n\r\n\0\n'),
    encodeFrame('ERROR', { message: 'ä€' }, Buffer.from('say why')),
  ])
  const whole = new FrameDecoder().push(bytes).map(plain)
  expect(whole).toEqual([
    {
      command: 'MESSAGE',
      headers: { 'message-id': 'a:b\nc\\d', ack: '1', 'content-length': '13' },
      body: 'with \0 inside',
    },
    { command: 'RECEIPT', headers: { 'receipt-id': '7' }, body: '' },
    { command: 'ERROR', headers: { message: 'ä€', 'content-length': '7' }, body: 'say why' },
  ])
  for (let cut = 1; cut < bytes.length; cut++) {
    const decoder = new FrameDecoder()
    const frames = [...decoder.push(bytes.subarray(0, cut)), ...decoder.push(bytes.subarray(cut))]
    expect(frames.map(plain)).toEqual(whole)
  }
  const byByte = new FrameDecoder()
  expect([...bytes].flatMap((byte) => byByte.push(Buffer.from([byte])).map(plain))).toEqual(whole)
})

test('frame: of a repeated header the first counts', () => {
  const [frame] = new FrameDecoder().push(Buffer.from('MESSAGE\na:1\na:2\n\n\0'))
  expect(frame?.headers.get('a')).toBe('1')
})

test.each([
  ['an endless head', Buffer.alloc(70_000, 'x')],
  ['a content-length over the limit', Buffer.from('MESSAGE\ncontent-length:999999999999\n\n')],
  ['a negative content-length', Buffer.from('MESSAGE\ncontent-length:-1\n\n')],
  ['a body that is longer than it says', Buffer.from('MESSAGE\ncontent-length:1\n\nab\0')],
  ['a header without colon', Buffer.from('MESSAGE\nnonsense\n\n\0')],
  ['an undefined escape', Buffer.from('MESSAGE\na:\\t\n\n\0')],
])('frame: %s is refused', (_name, bytes) => {
  expect(() => new FrameDecoder().push(bytes)).toThrow()
})

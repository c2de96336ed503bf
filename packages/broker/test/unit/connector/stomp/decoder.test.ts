import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  MAX_COMMAND_BYTES,
  MAX_CONNECT_FRAME_BYTES,
  MAX_HEADER_LINE_BYTES,
  MAX_HEADERS,
  StompDecoder,
} from '../../../../src/connector/stomp/decoder.ts'
import { StompProtocolError } from '../../../../src/connector/stomp/protocol-error.ts'
import type { StompVersion } from '../../../../src/connector/stomp/vocabulary.ts'
import { decodeAll, type PlainFrame } from './decoded.ts'

function decode(text: string | Buffer, version: StompVersion | 'none' = '1.2', limit?: number) {
  return decodeAll([Buffer.from(text as string)], version === 'none' ? undefined : version, limit)
}

function one(text: string, version: StompVersion = '1.2'): PlainFrame {
  const { frames, error } = decode(text, version)
  expect(error).toBeUndefined()
  expect(frames).toHaveLength(1)
  return frames[0] as PlainFrame
}

const conversation = Buffer.concat([
  Buffer.from('\n\r\n'),
  Buffer.from('SEND\ndestination:/queue/größe\ncontent-length:5\nx:a\\cb\\n\\r\\\\\n\na\0b\0c\0'),
  Buffer.from('\n\n'),
  Buffer.from('SEND\r\ndestination:/queue/b\r\nx:1\r\nx:2\r\n\r\nno length\0\r\n'),
  Buffer.from('ACK\nid:1-2\n\n\0ACK\nid:1-3\ncontent-length:0\n\n\0'),
  Buffer.from(`SEND\ndestination:/queue/c\nlong:${'v'.repeat(700)}\n\n${'body '.repeat(300)}\0`),
  Buffer.from('DISCONNECT\nreceipt:77\n\n\0\n'),
])

describe('stomp decoder', () => {
  test('the same frames come out however the bytes are cut', () => {
    const whole = decodeAll([conversation], '1.2')
    expect(whole.frames.map((frame) => frame.command)).toEqual([
      'SEND',
      'SEND',
      'ACK',
      'ACK',
      'SEND',
      'DISCONNECT',
    ])
    for (let cut = 0; cut <= conversation.length; cut++) {
      expect(decodeAll([conversation.subarray(0, cut), conversation.subarray(cut)], '1.2')).toEqual(whole)
    }
    expect(
      decodeAll(
        [...conversation].map((byte) => Buffer.from([byte])),
        '1.2',
      ),
    ).toEqual(whole)
    fc.assert(
      fc.property(fc.array(fc.nat({ max: conversation.length }), { maxLength: 12 }), (cuts) => {
        const edges = [0, ...cuts.sort((a, b) => a - b), conversation.length]
        const chunks = edges.slice(1).map((edge, place) => conversation.subarray(edges[place], edge))
        expect(decodeAll(chunks, '1.2')).toEqual(whole)
      }),
    )
  })

  test('the same error comes however the bytes are cut', () => {
    for (const bad of [
      'SEND\nx:\\t\n\n\0',
      'SEND\nno colon\n\n\0',
      'SEND\n:no name\n\n\0',
      'SEND\ncontent-length:3\n\nabcd\0',
      'SEND\ncontent-length:-1\n\n\0',
      'SEND\ndestination:/queue/a\n\0',
      'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
      `SEND\nlong:${'v'.repeat(MAX_HEADER_LINE_BYTES)}\n\n\0`,
      `${'S'.repeat(MAX_COMMAND_BYTES + 1)}\n\n\0`,
    ]) {
      const bytes = Buffer.from(`ACK\nid:1\n\n\0${bad}`)
      const whole = decodeAll([bytes], '1.2')
      expect(whole.frames).toHaveLength(1)
      expect(whole.error).toBeDefined()
      const step = Math.max(1, Math.floor(bytes.length / 200))
      for (let cut = 0; cut <= bytes.length; cut += step) {
        expect(decodeAll([bytes.subarray(0, cut), bytes.subarray(cut)], '1.2')).toEqual(whole)
      }
    }
  })

  test('NUL inside a content-length body is data', () => {
    expect(one('SEND\ncontent-length:3\n\n\0\0\0\0').body).toBe('\0\0\0')
  })

  test('a body without content-length ends at the first NUL', () => {
    expect(one('SEND\n\nhello\0').body).toBe('hello')
  })

  test('of a repeated header the first counts, also among many', () => {
    expect(one('SEND\na:1\na:2\ndestination:x\ndestination:y\n\n\0').headers).toEqual({
      a: '1',
      destination: 'x',
    })
    const many = Array.from({ length: 40 }, (_, number) => `h${number % 20}:${number}\n`).join('')
    expect(Object.keys(one(`SEND\n${many}\n\0`).headers)).toHaveLength(20)
    expect(one(`SEND\n${many}\n\0`).headers.h3).toBe('3')
  })

  test('escapes follow the version', () => {
    expect(one('SEND\na\\c:\\r\\n\\c\\\\\n\n\0').headers).toEqual({ 'a:': '\r\n:\\' })
    expect(one('SEND\na:\\n\\c\\\\\n\n\0', '1.1').headers).toEqual({ a: '\n:\\' })
    expect(one('SEND\na:\\n\\t\n\n\0', '1.0').headers).toEqual({ a: '\\n\\t' })
    expect(decode('SEND\na:\\r\n\n\0', '1.1').error).toContain('undefined escape')
    expect(decode('SEND\na:\\t\n\n\0').error).toContain('undefined escape')
    expect(decode('SEND\na:end\\\n\n\0').error).toContain('undefined escape')
  })

  test('CONNECT and CONNECTED are not unescaped', () => {
    expect(decode('CONNECT\npasscode:a\\tb\\n\n\n\0', 'none').frames[0]?.headers.passcode).toBe('a\\tb\\n')
    expect(one('CONNECTED\nsession:a\\cb\n\n\0').headers.session).toBe('a\\cb')
  })

  test('a colon in a value is part of it', () => {
    expect(one('SEND\nurl:http://x:1\n\n\0').headers.url).toBe('http://x:1')
  })

  test('headers that are not UTF-8 are refused', () => {
    expect(decode(Buffer.from('SEND\na:\xff\n\n\0', 'latin1')).error).toBe('headers are not UTF-8')
    expect(decode(Buffer.from('SEND\ncontent-length:1\n\n\xff\0', 'latin1')).error).toBeUndefined()
  })

  test('before CONNECT nothing else is read, and not much of it', () => {
    expect(decode('SEND\n\n\0', 'none').error).toBe('not connected')
    expect(decode('CONNECT\naccept-version:1.2\n\n\0', 'none').frames[0]?.command).toBe('CONNECT')
    expect(decode('STOMP\n\n\0', 'none').frames[0]?.command).toBe('STOMP')
    expect(decode(`CONNECT\ncontent-length:${MAX_CONNECT_FRAME_BYTES}\n\n`, 'none').error).toBe(
      'frame too large',
    )
    expect(decode(`CONNECT\n\n${'x'.repeat(MAX_CONNECT_FRAME_BYTES)}`, 'none').error).toBe('frame too large')
    const headers = `x:${'y'.repeat(8000)}\n`.repeat(9)
    expect(decode(`CONNECT\n${headers}`, 'none').error).toBe('frame too large')
  })

  test('content-length is digits and within the limit, and checked before the body comes', () => {
    for (const length of ['-1', '+1', '1.0', '0x10', '1e3', ' 1', '', 'abc', '9'.repeat(16), '٣']) {
      expect(decode(`SEND\ncontent-length:${length}\n\n`).error).toBe('malformed content-length')
    }
    expect(decode('SEND\ncontent-length:104857600\n\n').error).toBe('frame too large')
    expect(decode('SEND\ncontent-length:999999999999999\n\n').error).toBe('frame too large')
    expect(decode('SEND\ncontent-length:100\n\n', '1.2', 100).error).toBe('frame too large')
  })

  test('limits hold exactly', () => {
    const line = (length: number): string => `SEND\nn:${'v'.repeat(length - 2)}\n\n\0`
    expect(decode(line(MAX_HEADER_LINE_BYTES)).frames).toHaveLength(1)
    expect(decode(line(MAX_HEADER_LINE_BYTES + 1)).error).toContain('header line too long')
    const headers = (count: number): string => `SEND\n${'n:v\n'.repeat(count)}\n\0`
    expect(decode(headers(MAX_HEADERS)).frames).toHaveLength(1)
    expect(decode(headers(MAX_HEADERS + 1)).error).toBe('too many headers')
    expect(decode('x'.repeat(MAX_COMMAND_BYTES + 1)).error).toContain('command line too long')
    expect(decode(`SEND\n\n${'b'.repeat(94)}\0`, '1.2', 100).frames).toHaveLength(1)
    expect(decode(`SEND\n\n${'b'.repeat(95)}\0`, '1.2', 100).error).toBe('frame too large')
    expect(decode(`SEND\n\n${'b'.repeat(95)}`, '1.2', 100).error).toBe('frame too large')
  })

  test('a large body in small pieces is gathered, and let go afterwards', () => {
    const body = Buffer.alloc(4 * 1024 * 1024, 'b')
    const frame = Buffer.concat([
      Buffer.from(`SEND\ncontent-length:${body.length}\n\n`),
      body,
      Buffer.from('\0'),
    ])
    let bytes = 0
    const decoder = new StompDecoder(104_857_600, (decoded) => {
      bytes = decoded.bodyBytes
    })
    decoder.accept('1.2')
    for (let at = 0; at < frame.length; at += 1000) decoder.push(frame.subarray(at, at + 1000))
    expect(bytes).toBe(body.length)
    expect(decoder.heldCapacity).toBeLessThanOrEqual(64 * 1024)
  })

  test('a claimed length allocates nothing', () => {
    const decoder = new StompDecoder(104_857_600, () => {})
    decoder.accept('1.2')
    decoder.push(Buffer.from('SEND\ncontent-length:100000000\n\nabc'))
    expect(decoder.heldCapacity).toBeLessThan(100)
  })

  test('random bytes give protocol errors only, and hold at most twice what came', () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
      fc
        .constantFrom(
          'SEND\n',
          'ACK\n',
          'CONNECT\n',
          '\n',
          '\0',
          '\r\n',
          'a:b\n',
          'content-length:4\n',
          '\\',
          ':',
          'é',
        )
        .map((text) => Buffer.from(text)),
    )
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 30 }),
        fc.constantFrom('1.0', '1.1', '1.2', undefined),
        (chunks, version) => {
          const decoder = new StompDecoder(4096, () => {})
          if (version !== undefined) decoder.accept(version as StompVersion)
          let pushed = 0
          try {
            for (const chunk of chunks) {
              pushed += chunk.length
              decoder.push(chunk)
              expect(decoder.heldCapacity).toBeLessThanOrEqual(2 * pushed)
            }
          } catch (error) {
            expect(error).toBeInstanceOf(StompProtocolError)
          }
          const cut = decodeAll(chunks, version as StompVersion | undefined, 4096)
          expect(decodeAll([Buffer.concat(chunks)], version as StompVersion | undefined, 4096)).toEqual(cut)
        },
      ),
      { numRuns: 5000 },
    )
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })
})

import { MemoryIndex } from '@levelmq/testkit'
import { beforeEach, describe, expect, test } from 'vitest'
import { StoreError } from '../../../src/errors.ts'
import { batchHeaderBytes, decodeBatchHeader } from '../../../src/journal/batch.ts'
import { BatchBuilder } from '../../../src/journal/batch-builder.ts'
import { type RecordVisitor, readRecords } from '../../../src/journal/record.ts'
import { Mastership } from '../../../src/mastership.ts'
import { GapWindow } from '../../../src/message-index/sequence-window.ts'

const maxRecordBytes = 1000
const body = Buffer.from('body')

describe('mastership', () => {
  let rig: Rig
  let session: Mastership
  let queue: number

  beforeEach(() => {
    rig = new Rig()
    session = rig.master(1)
    queue = session.addQueue('orders')
  })

  test('records: each change is one, and its index is that of the record', () => {
    const producer = session.producer('client-1')
    const first = session.addMessage(queue, producer, 1, Buffer.from('head-'), body)
    const second = session.addMessage(queue, 0, 0, Buffer.alloc(0), body)
    const count = session.countRedelivery(queue, [first, second], 2)
    const removal = session.removeMessages(queue, [second, first])
    rig.seal()
    expect(rig.records).toEqual([
      `${queue} queue orders`,
      `${producer} producer client-1`,
      `${first} message of ${queue} by ${producer} as 1: head-body`,
      `${second} message of ${queue} by 0 as 0: body`,
      `${count} count 2 of ${first} in ${queue}`,
      `${count} count 2 of ${second} in ${queue}`,
      `${removal} removal of ${second} from ${queue}`,
      `${removal} removal of ${first} from ${queue}`,
    ])
    expect([queue, producer, first, second, count, removal]).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('flush: starts the group at once; everything else leaves it to the end of the turn', () => {
    session.addMessage(queue, 0, 0, body, body)
    session.flush()
    expect(rig.appended).toEqual([false, false, true])
  })

  test('S22: a sequence that is in flight is not appended again, and waits for the end of the log', () => {
    const producer = session.producer('p')
    const first = session.addMessage(queue, producer, 1, body, body)
    const other = session.addMessage(queue, 0, 0, body, body)
    const appended = rig.appended.length
    const again = session.addMessage(queue, producer, 1, body, body)
    expect(again).toBe(-other)
    expect(-again).toBeGreaterThanOrEqual(first)
    expect(rig.appended).toHaveLength(appended)
  })

  test('S22: a sequence that is committed is not appended again, here and in later masterships', () => {
    const producer = session.producer('p')
    session.addMessage(queue, producer, 1, body, body)
    session.addMessage(queue, producer, 3, body, body)
    rig.commit()
    expect(session.addMessage(queue, producer, 1, body, body)).toBeLessThan(0)
    const next = rig.master(2)
    expect(next.producer('p')).toBe(producer)
    expect(next.addMessage(queue, producer, 3, body, body)).toBeLessThan(0)
    // The gap is no duplicate.
    expect(next.addMessage(queue, producer, 2, body, body)).toBeGreaterThan(0)
  })

  test('S22: what a lost mastership appended and nobody committed is new to the next one', () => {
    const producer = session.producer('p')
    rig.commit()
    session.addMessage(queue, producer, 1, body, body)
    rig.builder.clear()
    expect(rig.master(2).addMessage(queue, producer, 1, body, body)).toBeGreaterThan(0)
  })

  test('S22: with very many producers none forgets what it has in flight', () => {
    const producers = Array.from({ length: 10_050 }, (_, place) => session.producer(`p${place}`))
    rig.commit()
    const later = rig.master(2)
    const sent = producers.map((producer) => later.addMessage(queue, producer, 1, body, body))
    expect(sent.every((index) => index > 0)).toBe(true)
    const repeated = producers.filter((producer) => later.addMessage(queue, producer, 1, body, body) > 0)
    expect(repeated).toEqual([])
    rig.commit()
    expect(producers.filter((producer) => later.addMessage(queue, producer, 1, body, body) > 0)).toEqual([])
  })

  test('S22: a producer that the index has forgotten is registered anew, so that failovers know it', () => {
    const first = session.producer('p')
    rig.commit()
    for (let count = 0; count < 20_000; count++) session.producer(`other-${count}`)
    rig.commit()
    const again = session.producer('p')
    expect(again).toBeGreaterThan(first)
    expect(session.producer('p')).toBe(again)
    rig.commit()
    expect(session.producer('p')).toBe(again)
  })

  test('S22: a message of a producer that the index has forgotten says so', () => {
    const forgotten = session.producer('p')
    rig.commit()
    for (let count = 0; count < 20_000; count++) session.producer(`other-${count}`)
    rig.commit()
    session.addMessage(queue, forgotten, 7, body, body)
    rig.commit()
    expect(rig.records.at(-1)).toMatch(/ message of 1 by 0 as 0: /)
    expect(rig.index.retained.strayAt).toBe(0)
  })

  test('producer: the same id gives the same one before and after its commit', () => {
    const producer = session.producer('p')
    expect(session.producer('p')).toBe(producer)
    rig.commit()
    expect(session.producer('p')).toBe(producer)
    expect(session.producer('q')).not.toBe(producer)
  })

  test.each(['', 'x'.repeat(513), 'ü'.repeat(257)])(
    'producer: an id out of 1 to 512 bytes is a TypeError',
    (id) => {
      expect(() => session.producer(id)).toThrow(TypeError)
      expect(rig.builder.count).toBe(1)
    },
  )

  test('size: a message at the limit is taken, one byte more is STORE_RECORD_TOO_LARGE and leaves no trace', () => {
    const room = maxRecordBytes - 24
    const producer = session.producer('p')
    const tooLarge = () => session.addMessage(queue, producer, 1, Buffer.alloc(10), Buffer.alloc(room - 9))
    expect(tooLarge).toThrow(StoreError)
    expect(tooLarge).toThrow(
      expect.objectContaining({
        detail: { code: 'STORE_RECORD_TOO_LARGE', bytes: maxRecordBytes + 1, limit: maxRecordBytes },
      }),
    )
    expect(rig.builder.count).toBe(2)
    // Not taken for a duplicate of itself.
    expect(session.addMessage(queue, producer, 1, Buffer.alloc(10), Buffer.alloc(room - 10))).toBeGreaterThan(
      0,
    )
  })

  test('size: names and lists are limited as well', () => {
    const indices = Array.from({ length: 200 }, (_, place) => place + 1)
    for (const change of [
      () => session.addQueue('x'.repeat(1001)),
      () => session.removeMessages(queue, indices),
      () => session.countRedelivery(queue, indices, 1),
    ]) {
      expect(change).toThrow(expect.objectContaining({ code: 'STORE_RECORD_TOO_LARGE' }))
    }
    expect(rig.builder.count).toBe(1)
  })

  test.each<[string, (session: Mastership, queue: number) => unknown]>([
    ['a removal of nothing', (each, id) => each.removeMessages(id, [])],
    ['a count of nothing', (each, id) => each.countRedelivery(id, [], 1)],
    ['a removal of index 0', (each, id) => each.removeMessages(id, [1, 0])],
    ['a removal of a negative index', (each, id) => each.removeMessages(id, [-4])],
    ['a removal of half an index', (each, id) => each.removeMessages(id, [1.5])],
    ['a removal of no number', (each, id) => each.removeMessages(id, [Number.NaN])],
    ['a count below 0', (each, id) => each.countRedelivery(id, [1], -1)],
    ['a count above 32 bits', (each, id) => each.countRedelivery(id, [1], 2 ** 32)],
    ['a message without queue', (each) => each.addMessage(0, 0, 0, body, body)],
    ['a producer without sequence', (each, id) => each.addMessage(id, 7, 0, body, body)],
    ['a sequence without producer', (each, id) => each.addMessage(id, 0, 7, body, body)],
  ])('mistake: %s is a TypeError and never reaches the log, where no node could read it', (_name, change) => {
    expect(() => change(session, queue)).toThrow(TypeError)
    rig.seal()
    expect(rig.records).toEqual([`${queue} queue orders`])
  })

  test('S3: after its end everything is refused with STORE_NOT_MASTER', () => {
    session.end()
    const before = rig.builder.count
    for (const call of [
      () => session.addQueue('r'),
      () => session.producer('p'),
      () => session.addMessage(queue, 0, 0, body, body),
      () => session.removeMessages(queue, [1]),
      () => session.removeMessages(queue, []),
      () => session.countRedelivery(queue, [1], 1),
      () => session.mayDispatch(),
      () => session.hasRoom(),
      () => session.flush(),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'STORE_NOT_MASTER' }))
    }
    expect(rig.builder.count).toBe(before)
  })

  test('input: buffers belong to the caller again when the call returns', () => {
    const [head, content] = [Buffer.from('head '), Buffer.from('content')]
    session.addMessage(queue, 0, 0, head, content)
    head.fill(0)
    content.fill(0)
    rig.seal()
    expect(rig.records.at(-1)).toMatch(/head content$/)
  })
})

/** What a mastership works on, with a log that is sealed and committed by hand. */
class Rig {
  readonly builder = new BatchBuilder()
  readonly index = new MemoryIndex({ maxProducers: 11_000, maxGaps: 100 })
  readonly appended: boolean[] = []
  readonly records: string[] = []
  #sealed: Buffer[] = []
  #lastIndex = 0

  master(epoch: number): Mastership {
    return new Mastership(epoch, {
      builder: this.builder,
      index: this.index,
      host: {
        nextIndex: () => this.#lastIndex + this.builder.count + 1,
        makeRoom: () => undefined,
        appended: (now) => void this.appended.push(now),
        mayDispatch: () => true,
        hasRoom: () => true,
        hasSpace: () => true,
      },
      maxRecordBytes,
      directory: 'store',
      newWindow: () => new GapWindow(100),
    })
  }

  seal(): void {
    const firstIndex = this.#lastIndex + 1
    this.#lastIndex += this.builder.count
    const bytes = this.builder.seal({
      epoch: 1,
      firstIndex,
      logTimeMs: 0,
      commitIndex: 0,
      previousChecksum: 0,
    })
    this.#sealed.push(bytes)
    const header = decodeBatchHeader(bytes, 0)
    if (typeof header === 'string') throw new Error(header)
    const say = (text: string) => void this.records.push(text)
    const visitor: RecordVisitor = {
      epochStart: () => undefined,
      configuration: () => undefined,
      queueAdded: (index, name) => say(`${index} queue ${name}`),
      producerAdded: (index, id) => say(`${index} producer ${id}`),
      messageAdded: (index, queue, producer, sequence, batch, at, length) =>
        say(
          `${index} message of ${queue} by ${producer} as ${sequence}: ${batch.toString('utf8', at, at + length)}`,
        ),
      messageRemoved: (index, queue, message) => say(`${index} removal of ${message} from ${queue}`),
      redeliveryCounted: (index, queue, message, count) =>
        say(`${index} count ${count} of ${message} in ${queue}`),
      queueKept: (index, queue) => say(`${index} keeps queue ${queue}`),
      producerKept: (index, producer) => say(`${index} keeps producer ${producer}`),
      messageKept: (index, queue, message) => say(`${index} keeps ${message} of ${queue}`),
      queueRemoved: (index, queue) => say(`${index} removal of queue ${queue}`),
    }
    readRecords(bytes, batchHeaderBytes, header.payloadBytes, firstIndex, header.count, visitor)
  }

  commit(): void {
    if (this.builder.count > 0) this.seal()
    for (const bytes of this.#sealed.splice(0)) this.index.apply(bytes)
  }
}

import { VirtualClock } from '@levelmq/testkit'
import { describe, expect, test } from 'vitest'
import type { Connection, ConnectionHandler } from '../../../src/io/network.ts'
import { encodeMessage, FrameDecoder, FrameType, maxFrameBytes } from '../../../src/replication/frame.ts'
import { Handshake } from '../../../src/replication/handshake.ts'
import { Link } from '../../../src/replication/link.ts'
import { encodeTransfer } from '../../../src/replication/transfer.ts'

describe('link', () => {
  test('bulk: what consensus says goes out between two pieces, whatever else is to be sent', () => {
    const { link, connection } = congested()
    const large = Buffer.alloc(2 ** 20, 1)
    link.sendBulk([head(FrameType.repairReply, large.length), large])
    expect(connection.taken).toEqual(['piece'])
    link.send(encodeMessage({ type: 'resign', epoch: 3, handedOver: false }))
    link.send(encodeMessage({ type: 'resign', epoch: 4, handedOver: false }))
    expect(connection.taken).toEqual(['piece', 'resign', 'resign'])
    connection.drain()
    expect(connection.taken.slice(3)).toEqual(['piece'])
    link.send(encodeMessage({ type: 'resign', epoch: 5, handedOver: false }))
    connection.drain()
    expect(connection.taken.slice(4)).toEqual(['resign', 'piece'])
    for (let count = 0; count < 20; count++) connection.drain()
    expect(connection.taken.filter((name) => name === 'piece')).toHaveLength(9)
    expect(connection.largest).toBeLessThanOrEqual(129 * 1024)
  })

  test('bulk: a small frame is sent as it is, in its turn', () => {
    const { link, connection } = congested()
    const large = Buffer.alloc(200_000)
    link.sendBulk([head(FrameType.repairReply, large.length), large])
    link.sendBulk(encodeTransfer({ type: 'repairReply', id: 1, fromIndex: 1, batches: 'unknown' }))
    for (let count = 0; count < 5; count++) connection.drain()
    expect(connection.taken).toEqual(['piece', 'piece', 'repairReply'])
  })

  test('W30: a peer that asks on without taking what it asked for loses its link, and nothing is kept for it', () => {
    const { link, connection } = congested()
    for (let count = 0; count < 9; count++) link.sendBulk([head(FrameType.repairReply, 10), Buffer.alloc(10)])
    expect(connection.closed).toBe(false)
    link.sendBulk([head(FrameType.repairReply, 10), Buffer.alloc(10)])
    expect(connection.closed).toBe(true)
    connection.drain()
    expect(connection.taken).toHaveLength(1)
  })
})

/** A link whose connection takes one write at a time. */
function congested(): { readonly link: Link; readonly connection: CongestedConnection } {
  const connection = new CongestedConnection()
  const identity = {
    brokerName: 'group',
    nodeId: 'n',
    storeUuid: 's',
    clusterUuid: undefined,
    name: 'b',
    address: 'h:1',
    bootId: 'boot-n',
    replicas: 3,
    levels: { lowest: 1, highest: 1 },
    level: undefined,
  }
  const link = new Link(
    connection,
    new Handshake('acceptor', identity, '', Buffer.alloc(32)),
    { established: () => undefined, frame: () => undefined, closed: () => undefined },
    new VirtualClock(),
    1000,
  )
  return { link, connection }
}

class CongestedConnection implements Connection {
  readonly remoteAddress = 'test'
  readonly bufferedBytes = 0
  /** Names of the frames written. */
  readonly taken: string[] = []
  largest = 0
  closed = false
  readonly #decoder = new FrameDecoder(maxFrameBytes)
  #handler: ConnectionHandler | undefined

  handle(handler: ConnectionHandler): void {
    this.#handler = handler
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const bytes = Buffer.concat(chunks)
    this.largest = Math.max(this.largest, bytes.length)
    this.#decoder.push(bytes, (type) => {
      this.taken.push(Object.entries(FrameType).find(([, each]) => each === type)?.[0] ?? `${type}`)
    })
    return false
  }

  drain(): void {
    this.#handler?.drained()
  }

  end(): void {
    this.closed = true
  }

  destroy(): void {
    this.closed = true
  }
}

function head(type: number, bodyBytes: number): Buffer {
  const buffer = Buffer.alloc(5)
  buffer.writeUInt32LE(1 + bodyBytes)
  buffer.writeUInt8(type, 4)
  return buffer
}

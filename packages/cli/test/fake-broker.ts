import { createServer, type Server, type Socket } from 'node:net'
import { encodeFrame, type Frame, FrameDecoder } from '../src/stomp-client/frame.ts'

/** What a fake broker does with a frame; the default is to do nothing. */
export type Behaviour = (frame: Frame, connection: FakeConnection, nth: number) => void

/** One client's connection to a fake broker. */
export interface FakeConnection {
  /** From 1 up. */
  readonly number: number
  send(command: string, headers: Record<string, string>, body?: Buffer | string): void
  drop(): void
}

/** A STOMP server for tests that answers CONNECT and leaves the rest to the test. */
export class FakeBroker {
  readonly received: { readonly connection: number; readonly frame: Frame }[] = []
  #behaviour: Behaviour
  #server: Server
  #sockets = new Set<Socket>()
  #connections = 0

  constructor(behaviour: Behaviour, heartBeat = '0,0') {
    this.#behaviour = behaviour
    this.#server = createServer((socket) => this.#accept(socket, heartBeat))
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return (this.#server.address() as { port: number }).port
  }

  close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }

  #accept(socket: Socket, heartBeat: string): void {
    this.#sockets.add(socket)
    const decoder = new FrameDecoder()
    const connection: FakeConnection = {
      number: ++this.#connections,
      send: (command, headers, body = '') => socket.write(encodeFrame(command, headers, Buffer.from(body))),
      drop: () => socket.destroy(),
    }
    let nth = 0
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('data', (chunk) => {
      for (const frame of decoder.push(chunk)) {
        // Bodies share the chunk's memory, which belongs to the test from here on.
        this.received.push({ connection: connection.number, frame })
        if (frame.command === 'CONNECT')
          connection.send('CONNECTED', { version: '1.2', 'heart-beat': heartBeat })
        else if (frame.command === 'DISCONNECT') {
          connection.send('RECEIPT', { 'receipt-id': frame.headers.get('receipt') ?? '' })
          socket.end()
        } else this.#behaviour(frame, connection, ++nth)
        if (socket.destroyed) return
      }
    })
  }
}

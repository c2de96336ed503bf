import { once } from 'node:events'
import { StompConnection } from '../test/system/stomp-client.ts'

/** A receipt stands for its own frame and all before it: so one per piece confirms all of the piece. */
const pieceBytes = 256 * 1024
/** Pieces sent and not confirmed yet. */
const windowPieces = 16

export interface Fill {
  readonly messages: number
  readonly elapsedMs: number
}

/** Sends `messages` bodies of `bytes` bytes to a queue, as fast as they are confirmed, and waits for the last confirm. */
export async function fillQueue(
  port: number,
  queue: string,
  messages: number,
  bytes: number,
  progress: (confirmed: number) => void,
): Promise<Fill> {
  const connection = await StompConnection.open(port)
  const frame = Buffer.from(
    `SEND\ndestination:/queue/${queue}\npersistent:true\ncontent-length:${bytes}\n\n${'x'.repeat(bytes)}\0`,
  )
  const perPiece = Math.max(1, Math.floor(pieceBytes / frame.length))
  const most = Buffer.concat(Array.from({ length: perPiece - 1 }, () => frame))
  const startedAt = performance.now()
  let sent = 0
  let confirmed = 0
  let wake: (() => void) | undefined
  const refusals: string[] = []
  connection.onFrame = ({ command, headers, body }) => {
    if (command === 'RECEIPT') confirmed = Number(headers.get('receipt-id'))
    else if (command === 'ERROR') refusals.push(`${headers.get('message')}: ${body}`)
    wake?.()
  }
  void connection.closed.then(() => wake?.())
  while (confirmed < messages) {
    if (connection.isClosed) throw new Error(`the broker closed the connection: ${refusals.join('; ')}`)
    if (sent < messages && sent - confirmed < windowPieces * perPiece) {
      const count = Math.min(perPiece, messages - sent)
      sent += count
      const head = `SEND\ndestination:/queue/${queue}\npersistent:true\nreceipt:${sent}\n`
      const last = Buffer.from(`${head}content-length:${bytes}\n\n${'x'.repeat(bytes)}\0`)
      connection.socket.write(most.subarray(0, (count - 1) * frame.length))
      if (!connection.socket.write(last)) await once(connection.socket, 'drain')
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
      progress(confirmed)
    }
  }
  const elapsedMs = performance.now() - startedAt
  connection.destroy()
  return { messages, elapsedMs }
}

import { once } from 'node:events'
import { StompConnection } from '../test/system/stomp-client.ts'

/** A receipt stands for its own frame and all before it: so one per piece confirms all of the piece. */
const pieceBytes = 256 * 1024
/** Pieces sent and not confirmed yet. */
const windowPieces = 16

/**
 * Sends `messages` bodies of `bytes` bytes to a queue, as fast as they are confirmed, and waits for the last confirm.
 *
 * @returns How many are confirmed: fewer if the broker ended the connection.
 */
export async function fillQueue(
  port: number,
  queue: string,
  messages: number,
  bytes: number,
  progress: (confirmed: number) => void,
): Promise<number> {
  const connection = await StompConnection.open(port)
  const frame = Buffer.from(
    `SEND\ndestination:/queue/${queue}\npersistent:true\ncontent-length:${bytes}\n\n${'x'.repeat(bytes)}\0`,
  )
  const perPiece = Math.max(1, Math.floor(pieceBytes / frame.length))
  const most = Buffer.concat(Array.from({ length: perPiece - 1 }, () => frame))
  let sent = 0
  let confirmed = 0
  let told = 'nothing'
  let wake: (() => void) | undefined
  connection.onFrame = ({ command, headers, body }) => {
    if (command === 'RECEIPT') confirmed = Number(headers.get('receipt-id'))
    else if (command === 'ERROR') told = `${headers.get('message')}: ${body}`
    wake?.()
  }
  void connection.closed.then(() => wake?.())
  while (confirmed < messages) {
    if (connection.isClosed) {
      process.stderr.write(`the broker ended the connection, saying ${told}\n`)
      break
    }
    if (sent < messages && sent - confirmed < windowPieces * perPiece) {
      const count = Math.min(perPiece, messages - sent)
      sent += count
      const head = `SEND\ndestination:/queue/${queue}\npersistent:true\nreceipt:${sent}\n`
      const last = Buffer.from(`${head}content-length:${bytes}\n\n${'x'.repeat(bytes)}\0`)
      connection.socket.write(most.subarray(0, (count - 1) * frame.length))
      if (!connection.socket.write(last))
        await Promise.race([once(connection.socket, 'drain'), connection.closed])
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
      progress(confirmed)
    }
  }
  connection.destroy()
  return confirmed
}

/**
 * How many frames per second does the STOMP codec handle, alone: SEND with 1 KiB of body and a receipt, parsed, and
 * its RECEIPT written; the same with the envelope's head encoded; MESSAGE with 1 KiB written.
 *
 * Run: `npx node packages/broker/bench/stomp-codec.ts`. Prints median and spread of several rounds. Single thread.
 */
// biome-ignore-all lint/suspicious/noConsole: a benchmark prints its result.
import { StompDecoder } from '../src/connector/stomp/decoder.ts'
import { QueueNames } from '../src/connector/stomp/destination.ts'
import { StompEncoder } from '../src/connector/stomp/encoder.ts'
import { envelopeHead, producerMark } from '../src/connector/stomp/send-frame.ts'
import { StompHeader } from '../src/connector/stomp/vocabulary.ts'
import { EnvelopeView } from '../src/message/envelope.ts'

const BODY_BYTES = 1024
const CHUNK_BYTES = 64 * 1024
const ROUNDS = 15
const FRAMES = 200_000

const body = Buffer.alloc(BODY_BYTES, 'x')
const send = (receipt: number): Buffer =>
  Buffer.concat([
    Buffer.from(
      `SEND\ndestination:/queue/bench.orders\npersistent:true\ncontent-length:${BODY_BYTES}\nreceipt:${receipt}\n\n`,
    ),
    body,
    Buffer.from('\0'),
  ])
const stream = Buffer.concat(Array.from({ length: 1000 }, (_, number) => send(number)))
/** As a busy socket cuts them: frames lie across the edges. */
const chunks: Buffer[] = []
for (let at = 0; at < stream.length; at += CHUNK_BYTES) chunks.push(stream.subarray(at, at + CHUNK_BYTES))

function rounds(name: string, once: (frames: number) => void): void {
  once(FRAMES)
  const rates: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now()
    once(FRAMES)
    rates.push(FRAMES / ((performance.now() - start) / 1000))
  }
  rates.sort((a, b) => a - b)
  const shown = (rate: number | undefined): string => Math.round(rate ?? 0).toLocaleString('en')
  console.log(`${name}: ${shown(rates[ROUNDS >> 1])} frames/s (${shown(rates[0])} to ${shown(rates.at(-1))})`)
}

function decode(frames: number, onFrame: ConstructorParameters<typeof StompDecoder>[1]): void {
  const decoder = new StompDecoder(104_857_600, onFrame)
  decoder.accept('1.2')
  for (let done = 0; done < frames; done += 1000) for (const chunk of chunks) decoder.push(chunk)
}

console.log(
  `node ${process.version}, body ${BODY_BYTES} bytes, chunks of ${CHUNK_BYTES}, ${FRAMES} frames a round`,
)

rounds('parse SEND', (frames) => {
  let bytes = 0
  decode(frames, (frame) => {
    bytes += frame.bodyBytes
  })
  if (bytes !== frames * BODY_BYTES) throw new Error('frames are missing')
})

rounds('parse SEND, write RECEIPT', (frames) => {
  const encoder = new StompEncoder()
  decode(frames, (frame) => {
    encoder.receipt(frame.raw(StompHeader.receipt) ?? '')
    if (encoder.pendingBytes > CHUNK_BYTES) encoder.take()
  })
})

rounds('parse SEND, encode the envelope, write RECEIPT', (frames) => {
  const encoder = new StompEncoder()
  const queues = new QueueNames()
  decode(frames, (frame) => {
    envelopeHead(frame, queues.of(frame), producerMark(frame), 1_700_000_000_000)
    encoder.receipt(frame.raw(StompHeader.receipt) ?? '')
    if (encoder.pendingBytes > CHUNK_BYTES) encoder.take()
  })
})

let envelope: Buffer = Buffer.alloc(0)
decode(1000, (frame) => {
  envelope = Buffer.concat([
    envelopeHead(frame, new QueueNames().of(frame), undefined, 1_700_000_000_000),
    body,
  ])
})
rounds('write MESSAGE', (frames) => {
  const encoder = new StompEncoder()
  const view = new EnvelopeView()
  const prefix = encoder.prefix('0', '/queue/bench.orders', 'bench.orders', 'ID:levelmq-', '1-')
  for (let index = 1; index <= frames; index++) {
    encoder.message(prefix, index, 0, view.open(envelope))
    if (encoder.pendingBytes > CHUNK_BYTES) encoder.take()
  }
})

import { StompDecoder } from '../../../../src/connector/stomp/decoder.ts'
import type { StompFrame } from '../../../../src/connector/stomp/frame.ts'
import { StompCommand, type StompVersion } from '../../../../src/connector/stomp/vocabulary.ts'

/** A frame as a test looks at it. */
export interface PlainFrame {
  readonly command: string
  readonly headers: Record<string, string>
  readonly body: string
}

const names = Object.keys(StompCommand)

function plain(frame: StompFrame): PlainFrame {
  const headers: Record<string, string> = Object.create(null)
  for (let place = 0; place < frame.headerCount; place++) {
    if (frame.isFirst(place)) headers[frame.nameAt(place)] = frame.textAt(place)
  }
  return { command: names[frame.command - 1] ?? '', headers, body: frame.body.toString('latin1') }
}

export interface Decoded {
  readonly frames: PlainFrame[]
  readonly error: string | undefined
}

/** Decodes chunks; with a version as if CONNECT had been accepted before. */
export function decodeAll(
  chunks: readonly Buffer[],
  version: StompVersion | undefined,
  maxFrameBytes = 104_857_600,
): Decoded {
  const frames: PlainFrame[] = []
  const decoder = new StompDecoder(maxFrameBytes, (frame) => frames.push(plain(frame)))
  if (version !== undefined) decoder.accept(version)
  try {
    for (const chunk of chunks) decoder.push(chunk)
  } catch (error) {
    return { frames, error: (error as Error).message }
  }
  return { frames, error: undefined }
}

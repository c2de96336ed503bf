import { Presets, SingleBar } from 'cli-progress'

/** Shows how far something is, on a terminal; elsewhere it shows nothing. */
export interface Progress {
  update(done: number, note: string): void
  stop(): void
}

const silent: Progress = { update: () => {}, stop: () => {} }

/** @param total - What counts as all, or `undefined` if nobody knows: then only the note is shown. */
export function startProgress(stream: NodeJS.WriteStream, total: number | undefined): Progress {
  if (!stream.isTTY) return silent
  if (total === undefined) return noteOnly(stream)
  const format = ' {bar} {percentage}%  {note}'
  const bar = new SingleBar(
    { format, stream, hideCursor: true, clearOnComplete: true },
    Presets.shades_classic,
  )
  bar.start(total, 0, { note: '' })
  return {
    update: (done, note) => bar.update(done, { note }),
    stop: () => bar.stop(),
  }
}

function noteOnly(stream: NodeJS.WriteStream): Progress {
  let shownAt = 0
  return {
    update: (_done, note) => {
      const now = performance.now()
      if (now - shownAt < 100) return
      shownAt = now
      stream.write(`\r\x1b[K ${note}`)
    },
    stop: () => stream.write('\r\x1b[K'),
  }
}

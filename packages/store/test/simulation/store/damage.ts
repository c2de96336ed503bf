import type { VirtualDisk } from '../../../../testkit/src/virtual-disk.ts'
import { decodeSyncMark, syncMarkBytes } from '../../../src/journal/sync-mark.ts'
import type { Dice } from './scheduler.ts'

/** How what was once durable goes bad: N28 to N30. */
const kinds = ['bit', 'bit', 'zeroed', 'misdirected', 'cut'] as const

/**
 * Damages a segment of a journal, in what is proven to have been durable: before the last sync mark of the last
 * segment, or anywhere in use in one before it. Behind that, damage cannot be told from a torn write.
 *
 * @returns What was done; `undefined` if there is nothing yet that could be damaged.
 */
export function damageJournal(disk: VirtualDisk, directory: string, dice: Dice): string | undefined {
  const segments = disk.paths().filter((path) => path.startsWith(directory) && /\/\d{20}\.log$/.test(path))
  const path = segments[dice.below(segments.length)]
  if (path === undefined) return undefined
  const content = disk.content(path)
  const last = path === segments.at(-1)
  const end = last ? lastMark(content) : usedBytes(content)
  if (end === 0) return undefined
  const at = dice.below(end)
  const kind = dice.pick(kinds)
  switch (kind) {
    case 'bit':
      disk.flipBit(path, at * 8 + dice.below(8))
      break
    case 'zeroed': {
      const page = at - (at % 4096)
      disk.overwrite(path, page, Buffer.alloc(Math.min(4096, end - page)))
      break
    }
    case 'misdirected': {
      // A sector of the same file, or of another one, written in the wrong place.
      const from = disk.content(dice.pick(disk.paths()))
      const sector = 512 * dice.below(Math.ceil(from.length / 512))
      const to = at - (at % 512)
      disk.overwrite(path, to, from.subarray(sector, sector + Math.min(512, end - to)))
      break
    }
    case 'cut':
      disk.cut(path, at)
      break
    default:
      kind satisfies never
  }
  return disk.content(path).equals(content) ? undefined : `${kind} at ${at} of ${path}`
}

/** Where the last sync mark begins: all before it was synced. */
function lastMark(content: Buffer): number {
  for (let at = content.lastIndexOf('LMQS', -1, 'latin1'); at >= 0; ) {
    if (at + syncMarkBytes <= content.length && typeof decodeSyncMark(content, at, at) === 'number') return at
    at = at === 0 ? -1 : content.lastIndexOf('LMQS', at - 1, 'latin1')
  }
  return 0
}

function usedBytes(content: Buffer): number {
  let length = content.length
  while (length > 0 && content[length - 1] === 0) length--
  return length
}

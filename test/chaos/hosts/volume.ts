import { mkdirSync, readFileSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { attempt, tool } from './tool.ts'

const imageBytes = 4 * 2 ** 30
/** Left free of a full disk: less than the smallest segment. */
const crumbBytes = 300_000
/** EXT4_IOC_SHUTDOWN, and its flag for "what is not on disk yet never will be". */
const shutdownRequest = 0x8004587d
const shutdownWithoutFlush = 2

/** Why this machine cannot have disks of their own for brokers; `undefined` if it can. */
export function whyNoVolumes(): string | undefined {
  if (process.platform !== 'linux') return 'not Linux'
  if (process.getuid?.() !== 0) return 'not root'
  for (const [command, ...args] of [
    ['mkfs.ext4', '-V'],
    ['losetup', '--version'],
    ['fsfreeze', '-V'],
    ['perl', '-v'],
  ] as const) {
    if (!attempt(command, args)) return `no ${command}`
  }
  return attempt('losetup', ['-f']) ? undefined : 'no loop device'
}

/** A disk of one broker: an ext4 file system in a file, mounted over a loop device, that can be made to fail. */
export class Volume {
  readonly directory: string
  readonly #image: string
  readonly #filler: string
  #frozen = false

  /** @param directory - Where it is mounted; the file that holds it lies beside. */
  constructor(directory: string) {
    this.directory = directory
    this.#image = `${directory}.img`
    this.#filler = join(directory, 'filler')
    mkdirSync(directory, { recursive: true })
    writeFileSync(this.#image, '')
    truncateSync(this.#image, imageBytes)
    tool('mkfs.ext4', ['-q', '-F', '-m', '0', '-E', 'lazy_itable_init=1,lazy_journal_init=1', this.#image])
    this.mount()
    rmSync(join(directory, 'lost+found'), { recursive: true })
  }

  mount(): void {
    tool('mount', ['-o', 'loop,errors=remount-ro', this.#image, this.directory])
  }

  unmount(): void {
    tool('umount', [this.directory])
  }

  /** Mends what a made-up error of the file system left behind; unmounted. */
  check(): void {
    // 1: something was mended.
    if (!attempt('e2fsck', ['-f', '-y', this.#image])) tool('e2fsck', ['-f', '-n', this.#image])
  }

  fill(): void {
    const { bavail, bsize } = statfsSync(this.directory)
    tool('fallocate', ['-l', `${Math.max(bavail * bsize - crumbBytes, 4096)}`, this.#filler])
  }

  free(): void {
    rmSync(this.#filler, { force: true })
  }

  /** Loses what is not on disk, and lets every access fail from now on, until it is mounted anew. */
  loseUnsynced(): void {
    const script = `open(my $d, '<', $ARGV[0]) or die $!; my $f = pack('L', ${shutdownWithoutFlush}); ioctl($d, ${shutdownRequest}, $f) or die $!`
    tool('perl', ['-e', script, this.directory])
  }

  /** An error of the file system, made up: as mounted here, that turns it read-only under its users. */
  turnReadOnly(): void {
    writeFileSync(join('/sys/fs/ext4', this.#device(), 'trigger_fs_error'), 'chaos')
  }

  /** Every write waits until {@link Volume.thaw}. */
  freeze(): void {
    this.#frozen = true
    tool('fsfreeze', ['-f', this.directory])
  }

  thaw(): void {
    if (this.#frozen) attempt('fsfreeze', ['-u', this.directory])
    this.#frozen = false
  }

  #device(): string {
    const line = tool('losetup', ['-j', this.#image]).split('\n')[0] ?? ''
    const device = /^\/dev\/(\w+):/.exec(line)?.[1]
    if (device === undefined) throw new Error(`${this.#image} is not mounted`)
    return device
  }
}

/** Unmounts everything below a directory, and lets go of the files behind it. */
export function removeMounts(below: (directory: string) => boolean): void {
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter(below)
  for (const mount of mounts) {
    attempt('fsfreeze', ['-u', mount]) // Most are not frozen, and one that is would hold up whoever writes to it.
    if (!attempt('umount', [mount])) attempt('umount', ['-l', mount])
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeNamespaces } from './namespaces.ts'
import { isAlive, removeMounts } from './volume.ts'

/** Begins the name of every directory of a run; its runner's process id follows. */
const directoryPrefix = join(tmpdir(), 'levelmq-chaos-')
/** Begins the name of every namespace of a run, before the process id: short, for it names network devices too. */
const namespacePrefix = 'lmqc'

export const runDirectory = (): string => `${directoryPrefix}${process.pid}-`
export const runPrefix = (): string => `${namespacePrefix}${process.pid}`

/**
 * Removes what runs made on this machine and did not remove: processes, namespaces, mounts and directories.
 *
 * @param whose - `own`: those of this process. `dead`: those of runners that are no more.
 */
export function removeLeftovers(whose: 'own' | 'dead'): void {
  if (process.platform !== 'linux') return
  const wanted = (pid: number): boolean => (whose === 'own' ? pid === process.pid : !isAlive(pid))
  const ofDirectory = (path: string): boolean => {
    const owner = path.startsWith(directoryPrefix) && /^\d+/.exec(path.slice(directoryPrefix.length))?.[0]
    return typeof owner === 'string' && wanted(Number(owner))
  }
  for (const pid of processes((argument) => argument.split(/[=,]/).some(ofDirectory))) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ended meanwhile.
    }
  }
  removeNamespaces((name) => {
    const owner = new RegExp(`^${namespacePrefix}(\\d+)-`).exec(name)?.[1]
    return owner !== undefined && wanted(Number(owner))
  })
  removeMounts(ofDirectory)
  for (const entry of readdirSync(tmpdir())) {
    const path = join(tmpdir(), entry)
    // A kept directory of a failed run has another name.
    if (ofDirectory(path)) rmSync(path, { recursive: true, force: true })
  }
}

/** Processes with an argument that names a directory of a run: brokers and ZooKeeper servers. */
function processes(matches: (argument: string) => boolean): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').some(matches)
      } catch {
        return false
      }
    })
}

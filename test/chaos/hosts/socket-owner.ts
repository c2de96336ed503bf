import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Which of some processes has the socket with this local port on 127.0.0.1; Linux only. */
export function ownerOf(port: number, pids: readonly number[]): number | undefined {
  const wanted = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const line = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((text) => text.trim().split(/\s+/))
    .find((fields) => fields[1] === wanted)
  const inode = line?.[9]
  if (inode === undefined) return undefined
  return pids.find((pid) => holds(pid, `socket:[${inode}]`))
}

function holds(pid: number, socket: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === socket
      } catch {
        return false // Closed meanwhile.
      }
    })
  } catch {
    return false
  }
}

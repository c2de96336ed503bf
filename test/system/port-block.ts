import { createServer, type Server } from 'node:net'

const portsPerBlock = 40
/** Below the range from which systems take the source ports of outgoing connections, so that none is taken that way. */
const firstPort = 20_000
const lastPort = 31_960

/** A run of neighbouring free ports on the loopback interface, for this process until `release`. */
export interface PortBlock {
  /** Port `offset`, from 0 up to 38. */
  port(offset: number): number
  release(): Promise<void>
}

/**
 * Finds a block of free ports. Its last port stays occupied as a sign for other test processes on this machine; the
 * others were free a moment ago.
 */
export async function reservePorts(): Promise<PortBlock> {
  const blocks = Math.floor((lastPort - firstPort) / portsPerBlock)
  const start = Math.floor(Math.random() * blocks)
  for (let i = 0; i < blocks; i++) {
    const base = firstPort + ((start + i) % blocks) * portsPerBlock
    const sign = await occupy(base + portsPerBlock - 1)
    if (sign === undefined) continue
    if (await allFree(base)) {
      sign.unref()
      return {
        port(offset) {
          if (offset >= portsPerBlock - 1) throw new TypeError(`a block has ${portsPerBlock - 1} ports`)
          return base + offset
        },
        release: () => free(sign),
      }
    }
    await free(sign)
  }
  throw new Error(`no ${portsPerBlock} neighbouring free ports between ${firstPort} and ${lastPort}`)
}

/** Listens on a port of 127.0.0.1; `undefined` if somebody else does. */
export function occupy(port: number): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error),
    )
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server))
  })
}

export function free(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}

async function allFree(base: number): Promise<boolean> {
  for (let port = base; port < base + portsPerBlock - 1; port++) {
    const server = await occupy(port)
    if (server === undefined) return false
    await free(server)
  }
  return true
}

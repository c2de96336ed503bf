import { StompProtocolError } from './protocol-error.ts'
import type { StompVersion } from './vocabulary.ts'

export const supportedVersions = '1.0,1.1,1.2'

/** The client speaks none of the versions that the ERROR frame names. */
export class UnsupportedVersion extends StompProtocolError {
  constructor() {
    super('unsupported protocol version', `accept-version names at least one of ${supportedVersions}.`)
  }
}

/** @param accepted - The `accept-version` header: absent, the client speaks 1.0. @throws UnsupportedVersion */
export function negotiateVersion(accepted: string | undefined): StompVersion {
  if (accepted === undefined) return '1.0'
  const versions = new Set(accepted.split(',').map((version) => version.trim()))
  for (const version of ['1.2', '1.1', '1.0'] as const) if (versions.has(version)) return version
  throw new UnsupportedVersion()
}

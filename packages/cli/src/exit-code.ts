/** What the command's exit code says; `levelmq --help` lists the same. */
export const ExitCode = {
  ok: 0,
  /** The command was understood and failed. */
  failed: 1,
  /** A wrong command line, URI or configuration. */
  usage: 2,
  /** No master serves, what was asked was not confirmed in time, or a store is in use: repeating it may help. */
  unavailable: 3,
  /** A mistake of ours; the log has a stack. */
  internal: 70,
  /** The store cannot go on: a failed write or sync, or damaged files. */
  storeFailed: 74,
} as const

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** A reason to end the command with a message for people and a code for scripts. */
export class CommandError extends Error {
  readonly exitCode: ExitCode

  constructor(exitCode: ExitCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CommandError'
    this.exitCode = exitCode
  }
}

/** Bytes that claim to be an envelope and are not: damage on the way, or a version from the future. */
export class MalformedEnvelopeError extends Error {
  constructor(message: string) {
    super(`malformed message envelope: ${message}`)
    this.name = 'MalformedEnvelopeError'
  }
}

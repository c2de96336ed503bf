import { styleText } from 'node:util'

export type Colour = Parameters<typeof styleText>[0]

/** Gives text a colour, or returns it as it is. */
export type Paint = (colour: Colour, text: string) => string

/** Colour only on a terminal, and not where NO_COLOR asks for none. */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  return (colour, text) => styleText(colour, text, { stream, validateStream: true })
}

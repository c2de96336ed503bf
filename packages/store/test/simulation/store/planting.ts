import { registerHooks } from 'node:module'
import type { simulateStores } from './store-simulation.ts'

/** A change of one place in one file of the product. */
export interface Edit {
  /** Below `packages/store/src/`. */
  readonly file: string
  readonly find: string
  readonly replace: string
}

/**
 * Faults planted into the text of the product as it is loaded, so that it needs no switches. Each planting loads the
 * product and the simulation anew, beside those that are loaded already.
 */
const plantings: (readonly Edit[])[] = []
const parameter = '?planting='
const product = new URL('../../../src/', import.meta.url).href
const packages = new URL('../../../../', import.meta.url).href
let hooked = false

/**
 * Loads the simulation of whole stores with a fault in the product.
 *
 * @throws Error if an edit does not apply in exactly one place: the product has changed there.
 */
export async function plant(edits: readonly Edit[]): Promise<typeof simulateStores> {
  if (!hooked) hook()
  hooked = true
  const number = plantings.push(edits) - 1
  applied.clear()
  const module: { simulateStores: typeof simulateStores } = await import(
    /* @vite-ignore */ `./store-simulation.ts${parameter}${number}`
  )
  for (const { file, find } of edits)
    if (!applied.has(file)) throw new Error(`${file} is not loaded, and was to be changed: ${find}`)
  return module.simulateStores
}

const applied = new Set<string>()

function hook(): void {
  registerHooks({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context)
      const planting = context.parentURL?.split(parameter)[1]
      if (planting === undefined || !isOwn(resolved.url) || resolved.url.includes(parameter)) return resolved
      return { ...resolved, url: `${resolved.url}${parameter}${planting}` }
    },
    load(url, context, next) {
      const loaded = next(url, context)
      const [path, planting] = url.split(parameter)
      if (path === undefined || planting === undefined || !path.startsWith(product)) return loaded
      const file = path.slice(product.length)
      const edits = plantings[Number(planting)]?.filter((edit) => edit.file === file) ?? []
      if (edits.length === 0) return loaded
      applied.add(file)
      return { ...loaded, source: edits.reduce(changed, String(loaded.source)) }
    },
  })
}

function isOwn(url: string): boolean {
  return url.startsWith(packages) && !url.includes('/node_modules/')
}

function changed(text: string, { file, find, replace }: Edit): string {
  const parts = text.split(find)
  if (parts.length !== 2) throw new Error(`${file} holds ${parts.length - 1} times, not once: ${find}`)
  return parts.join(replace)
}

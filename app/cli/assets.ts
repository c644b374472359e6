/** Where the bundled model and evaluation data lie, and which version this is, in a checkout and in a build. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The nearest `assets` folder above this file. */
export function assetsFolder(): string {
  let at = import.meta.dirname
  for (;;) {
    const candidate = join(at, 'assets', 'demo-eval')
    if (existsSync(candidate)) return dirname(candidate)
    const parent = dirname(at)
    if (parent === at) throw new Error('The assets folder is not there. Reinstall Lathe.')
    at = parent
  }
}

/** From the package.json beside the assets. */
export function latheVersion(): string {
  const { version } = JSON.parse(readFileSync(join(assetsFolder(), '..', 'package.json'), 'utf8')) as { readonly version: string }
  return version
}

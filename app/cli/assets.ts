/** Where the bundled model and evaluation data lie, in a checkout and in a build. */
import { existsSync } from 'node:fs'
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

/**
 * `npm run build`: everything that an application ships, in dist: engine/ with its packages, renderer/, app/ (the Electron shell), assets/, node/.
 * electron-builder.yml packs exactly these folders.
 */
import { join } from 'node:path'
import { buildEngine, shipNode } from './build/engine.ts'
import { buildRenderer } from './build/renderer.ts'
import { buildShell } from './build/shell.ts'
import { ROOT } from './tools.ts'

const parts: readonly (readonly [string, () => unknown])[] = [
  ['renderer', buildRenderer],
  ['app', () => buildShell()],
  ['engine', () => buildEngine()],
  ['node', () => shipNode()],
]
for (const [name, build] of parts) {
  const started = performance.now()
  await build()
  console.error(`built ${join('dist', name)} in ${((performance.now() - started) / 1000).toFixed(1)} s`)
}
console.error(`all in ${join(ROOT, 'dist')}`)

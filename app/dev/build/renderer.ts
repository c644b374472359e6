/** Builds the page with Vite into dist/renderer, and knows whether that is still needed: the hash of everything it is made of is kept beside it. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ROOT, runNode, toolPath } from '../tools.ts'

const STAMP = join(ROOT, '.build', 'renderer.sha256')
/** What the page is made of. The contract is the only part of the engine that it may import. */
const SOURCES = ['renderer', 'engine/contract', 'package-lock.json']

/** True when dist/renderer was built from the present sources. */
export function rendererIsCurrent(): boolean {
  return existsSync(join(ROOT, 'dist/renderer/index.html')) && existsSync(STAMP) && readFileSync(STAMP, 'utf8') === hashSources()
}

/** Throws when Vite fails; its output has been shown. */
export async function buildRenderer(): Promise<void> {
  const hash = hashSources()
  const code = await runNode(toolPath('vite'), ['build', '--config', 'renderer/vite.config.ts', '--logLevel', 'warn'])
  if (code !== 0) throw new Error('The page could not be built; the reason is above.')
  mkdirSync(dirname(STAMP), { recursive: true })
  writeFileSync(STAMP, hash)
}

/** Over names and contents of the sources, tests left out. A few hundred small files: about 10 ms. */
export function hashSources(root = ROOT, sources: readonly string[] = SOURCES): string {
  const hash = createHash('sha256')
  const visit = (path: string): void => {
    const entries = readdirSync(path, { withFileTypes: true }).toSorted((a, b) => (a.name < b.name ? -1 : 1))
    for (const entry of entries) {
      if (entry.isDirectory()) visit(join(path, entry.name))
      else if (!/\.test\.tsx?$/.test(entry.name)) add(join(path, entry.name))
    }
  }
  const add = (path: string): void => {
    hash
      .update(`${path.slice(root.length)}\0`)
      .update(readFileSync(path))
      .update('\0')
  }
  for (const source of sources) {
    if (/\.\w+$/.test(source)) add(join(root, source))
    else visit(join(root, source))
  }
  return hash.digest('hex')
}

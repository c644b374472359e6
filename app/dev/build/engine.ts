/**
 * Makes the engine that an application ships: JavaScript emitted by tsc file by file (so `new URL('./kernel.wgsl', import.meta.url)` keeps working),
 * its kernels and other data beside it, the packages it imports, and the demo data. The result runs under plain Node from any folder.
 */
import { cpSync, existsSync, linkSync, mkdirSync, copyFileSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, extname, join, relative, sep } from 'node:path'
import { ROOT, runNode, toolPath } from '../tools.ts'
import { closure, readLockfile } from './lockfile.ts'

/** Not part of the product, although it lies beside it. */
const NOT_SHIPPED = /(^|\/)(test|testing|bench|fixtures)(\/|$)|\.(test|bench)\.|(^|\/)tsconfig\.json$|\.md$/
/** Demo data that the studio offers; how they were made stays in the repository. */
const ASSETS = ['demo-model', 'demo-eval', 'calibration']

/** Writes engine/, assets/ and package.json into `outFolder`, replacing what was there. */
export async function buildEngine(outFolder = join(ROOT, 'dist')): Promise<{ readonly packages: readonly string[] }> {
  const engineFolder = join(outFolder, 'engine')
  rmSync(engineFolder, { recursive: true, force: true })
  const emitted = await runNode(toolPath('typescript', 'tsc'), ['-p', 'app/dev/build/tsconfig.engine.json', '--outDir', engineFolder])
  if (emitted !== 0) throw new Error('The engine could not be emitted; the reason is above.')
  copyData(join(ROOT, 'engine'), engineFolder)
  rewriteUrls(engineFolder)
  const packages = closure(readLockfile(), importedPackages(engineFolder))
  for (const folder of packages) copyPackage(join(ROOT, folder), join(engineFolder, folder))
  for (const name of ASSETS) {
    cpSync(join(ROOT, 'assets', name), join(outFolder, 'assets', name), { recursive: true })
  }
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  writeFileSync(join(outFolder, 'package.json'), `${JSON.stringify({ name: 'lathe-engine', version, type: 'module' }, null, 2)}\n`)
  return { packages }
}

/**
 * Puts the Node that runs this into `outFolder`/node, as a hard link where the file system can: it is 120 MB. Says so when it is not the pinned one:
 * a Node from a package manager may need libraries that another machine lacks.
 */
export function shipNode(outFolder = join(ROOT, 'dist')): void {
  if (!process.execPath.startsWith(join(ROOT, 'node_modules'))) {
    console.error(`shipping ${process.execPath} (${process.version}); for a release it must be the official, self-contained build`)
  }
  const target = join(outFolder, 'node', process.platform === 'win32' ? 'node.exe' : 'node')
  mkdirSync(dirname(target), { recursive: true })
  rmSync(target, { force: true })
  try {
    linkSync(process.execPath, target)
  } catch {
    copyFileSync(process.execPath, target) // another file system
  }
}

/** Kernels, migrations, tables: every file that tsc does not emit. */
function copyData(from: string, to: string): void {
  for (const path of filesIn(from)) {
    const name = relative(from, path).split(sep).join('/')
    if (/\.[cm]?tsx?$/.test(name) || NOT_SHIPPED.test(name)) continue
    mkdirSync(dirname(join(to, name)), { recursive: true })
    copyFileSync(path, join(to, name))
  }
}

/** tsc rewrites `.ts` in imports but not in `new URL('./worker.ts', import.meta.url)`. */
function rewriteUrls(folder: string): void {
  for (const path of filesIn(folder)) {
    if (extname(path) !== '.js') continue
    const text = readFileSync(path, 'utf8')
    const rewritten = text.replaceAll(/(new URL\(\s*['"]\.{1,2}\/[^'"]+)\.ts(['"]\s*,\s*import\.meta\.url)/g, '$1.js$2')
    if (rewritten !== text) writeFileSync(path, rewritten)
  }
}

/** Names of the packages that the emitted modules import, or find with `resolve('…')` to read themselves. */
export function importedPackages(folder: string): ReadonlySet<string> {
  const names = new Set<string>()
  for (const path of filesIn(folder)) {
    if (extname(path) !== '.js') continue
    for (const [, specifier = ''] of readFileSync(path, 'utf8').matchAll(
      /(?:^|[\s;}.])(?:from|import|import\(|resolve\()\s*['"]([^'"./][^'"]*)['"]/gm,
    )) {
      const name = specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/')
      if (!specifier.startsWith('node:') && !builtinModules.includes(name)) names.add(name)
    }
  }
  return names
}

/** Copies a package without what is only for development. Of the GPU binding only this platform's binary: there are five, of 20 MB each. */
function copyPackage(from: string, to: string): void {
  if (!existsSync(from)) return // for another platform
  const binary = `${process.platform}-${process.platform === 'darwin' ? 'universal' : process.arch}`
  cpSync(from, to, {
    recursive: true,
    filter: (path) => {
      const name = relative(from, path).split(sep).join('/')
      if (/\.(map|[cm]?ts|tsbuildinfo)$/.test(name) || name.startsWith('node_modules')) return false
      const platform = /^dist\/((?:linux|win32|darwin)-\w+)/.exec(name)?.[1]
      return platform === undefined || !from.endsWith('/webgpu') || platform === binary
    },
  })
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => !path.includes(`${sep}node_modules${sep}`) && statSync(path).isFile())
}

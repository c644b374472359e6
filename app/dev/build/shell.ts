/**
 * Bundles the Electron shell with esbuild: one module for the main process, one CommonJS file for the sandboxed preload, which can load nothing else.
 * Only `electron` and Node's own modules stay outside.
 */
import { join } from 'node:path'
import { build, type BuildOptions, type Metafile } from 'esbuild'
import { ROOT } from '../tools.ts'

/** Writes main.mjs and preload.cjs into `outFolder` and resolves with what went into them. */
export async function buildShell(outFolder = join(ROOT, 'dist', 'app')): Promise<{ readonly main: Metafile; readonly preload: Metafile }> {
  const common: BuildOptions = {
    bundle: true,
    platform: 'node',
    external: ['electron'],
    target: 'node24',
    legalComments: 'none',
    logLevel: 'error',
  }
  const [main, preload] = await Promise.all([
    build({ ...common, entryPoints: [source('main.ts')], format: 'esm', outfile: join(outFolder, 'main.mjs'), metafile: true }),
    build({ ...common, entryPoints: [source('preload.ts')], format: 'cjs', outfile: join(outFolder, 'preload.cjs'), metafile: true }),
  ])
  return { main: main.metafile, preload: preload.metafile }
}

function source(name: string): string {
  return join(ROOT, 'app/desktop', name)
}

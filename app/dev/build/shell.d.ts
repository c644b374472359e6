import { type Metafile } from 'esbuild'
/** Writes main.mjs and preload.cjs into `outFolder` and resolves with what went into them. */
export declare function buildShell(outFolder?: string): Promise<{
  readonly main: Metafile
  readonly preload: Metafile
}>

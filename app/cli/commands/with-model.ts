/** Loading a model for one command: the lease is released when the command ends, however it ends. */
import type { KvWish } from '../../../engine/gpu/kv-format.ts'
import { resolve } from 'node:path'
import type { LoadProgress, ModelLease, Speculation } from '../../../engine/runtime/types.ts'
import { resolveModelFolder } from '../../../engine/studio/model-folder.ts'
import type { ModelRef } from '../../../engine/studio/ports.ts'
import type { CommandContext } from '../command.ts'
import { formatBytes } from '../format.ts'

export interface LoadOptions {
  readonly contextTokens: number
  readonly kvDtype?: KvWish
  readonly kvTokens?: number | undefined
  readonly maxSequences?: number | undefined
  readonly speculation?: Speculation | undefined
  readonly disaggregation?: { readonly prefillEngines: number; readonly prefillAdapter: string | null } | undefined
  readonly maxQueued?: number | undefined
  readonly matrixUnits?: boolean | undefined
  /** Default: that of the command. */
  readonly signal?: AbortSignal | undefined
  /** Besides the line on stderr. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

/** `--matrix-units`, of the commands whose results are answers and speeds. */
export const MATRIX_UNITS_OPTION = {
  'matrix-units': {
    type: 'boolean',
    help: 'read prompts on tensor cores, in 16-bit floats: faster, but results then depend on what shares a step (off)',
  },
} as const

/** The folder behind a path on the command line, as the studio would import it. */
export async function modelAt(path: string): Promise<ModelRef> {
  const folder = await resolveModelFolder(resolve(path))
  return { modelId: folder, name: path, folder }
}

/** Shows loading on stderr. Throws what loading throws. */
export async function acquire(context: CommandContext, model: ModelRef, options: LoadOptions): Promise<ModelLease> {
  const { models } = await context.engine()
  const lease = await models.acquire({
    ...model,
    contextTokens: options.contextTokens,
    kvDtype: options.kvDtype ?? 'f16',
    kvTokens: options.kvTokens,
    maxSequences: options.maxSequences,
    speculation: options.speculation,
    disaggregation: options.disaggregation,
    maxQueued: options.maxQueued,
    matrixUnits: options.matrixUnits,
    signal: options.signal ?? context.signal,
    onProgress: (progress) => {
      context.progress(loadingLine(model.name, progress))
      options.onProgress?.(progress)
    },
  })
  context.progress(null)
  return lease
}

/** The total is not known before the headers have been read. */
export function loadingLine(
  name: string,
  progress: { readonly phase: string; readonly doneBytes: number; readonly totalBytes: number },
): string {
  const bytes = progress.totalBytes === 0 ? '' : ` ${formatBytes(progress.doneBytes)} of ${formatBytes(progress.totalBytes)}`
  return `loading ${name}: ${progress.phase}${bytes}`
}

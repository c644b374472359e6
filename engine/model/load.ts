/**
 * From an open checkpoint to a model that can run steps: spec, program, KV cache, compiled executable. Whatever goes wrong on the way (a missing
 * tensor, no memory, an abort), everything taken so far is released before the error leaves.
 */
import type { Checkpoint } from '../checkpoint/types.ts'
import type { Backend, Capacity, Executable, KvCache, Program } from '../gpu/program.ts'
import { activationBytes, DEFAULT_BLOCK_SIZE, kvLayout, type KvSetting, programWeightBytes } from './memory.ts'
import { readKeyValueScales } from './key-value-scales.ts'
import { buildProgram } from './program-builder.ts'
import { describeModel, type ModelSpec } from './spec.ts'

export interface LoadModelOptions {
  readonly checkpoint: Checkpoint
  readonly backend: Backend
  /** Wanted context of one sequence; never more than the checkpoint's own limit. */
  readonly contextTokens: number
  readonly kvDtype: KvSetting
  /** Tokens that the KV cache holds over all sequences; default and least: one full context. */
  readonly kvTokens?: number | undefined
  /** Tokens per KV block, a power of two. */
  readonly blockSize?: number | undefined
  /** Bounds of one step. */
  readonly capacity?: Partial<Pick<Capacity, 'tokens' | 'rows' | 'sequences'>> | undefined
  /** Matrix units for steps of many tokens; default off. Throws `gpu.unsupported` where the backend has none. */
  readonly matrixUnits?: boolean | undefined
  /** Ledger owner of all memory. */
  readonly owner: string
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Disposing releases weights, activations and KV cache. */
export interface LoadedModel extends Disposable {
  readonly spec: ModelSpec
  readonly program: Program
  readonly executable: Executable
  readonly kv: KvCache
  readonly capacity: Capacity
  /** Effective context of one sequence. */
  readonly contextTokens: number
  readonly weightBytes: number
  readonly kvBytes: number
  readonly activationBytes: number
  dispose(): void
}

/**
 * 256 tokens of prefill keep a step short enough to cancel promptly on slow adapters; 64 logit rows bound the logits at 64 × vocabulary × 4
 * bytes (39 MB for 152 k tokens), well inside the smallest binding limit that adapters have.
 */
export const DEFAULT_CAPACITY = { tokens: 256, rows: 64, sequences: 8 } as const

/**
 * Throws `model.unsupported-architecture`, `checkpoint.*` for a damaged or mismatched checkpoint, `gpu.out-of-memory`, and the signal's reason
 * when aborted. The checkpoint stays the caller's and may be closed once this resolves.
 */
export async function loadModel(options: LoadModelOptions): Promise<LoadedModel> {
  const { checkpoint, backend, owner, signal } = options
  signal?.throwIfAborted()
  const spec = describeModel(checkpoint.config, checkpoint.generationConfig)
  const contextTokens = Math.min(options.contextTokens, spec.contextLimit)
  const blockSize = options.blockSize ?? DEFAULT_BLOCK_SIZE
  const capacity: Capacity = { ...DEFAULT_CAPACITY, ...options.capacity, blocksPerSequence: Math.ceil(contextTokens / blockSize) }
  const program = buildProgram(spec, checkpoint, contextTokens)
  const tokens = Math.max(options.kvTokens ?? contextTokens, contextTokens)
  const layout = kvLayout(spec, { tokens, dtype: options.kvDtype, blockSize })
  const usesScales = layout.dtype === 'fp8' || layout.valueDtype === 'fp8'
  const staticScales = usesScales ? await readKeyValueScales(checkpoint, spec.layers, spec.kvHeads) : null
  const kv = await backend.createKvCache(staticScales === null ? layout : { ...layout, staticScales }, owner)
  try {
    const executable = await backend.compile(program, {
      capacity,
      kv,
      owner,
      ...(options.matrixUnits === true ? { matrixUnits: true } : {}),
      ...(signal === undefined ? {} : { signal }),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    })
    const dispose = (): void => {
      executable[Symbol.dispose]()
      kv[Symbol.dispose]()
    }
    return {
      spec,
      program,
      executable,
      kv,
      capacity,
      contextTokens,
      weightBytes: programWeightBytes(program),
      kvBytes: kv.bytes,
      activationBytes: activationBytes(spec, capacity),
      dispose,
      [Symbol.dispose]: dispose,
    }
  } catch (error) {
    kv[Symbol.dispose]()
    throw error
  }
}

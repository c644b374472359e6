/**
 * Exact bytes that a model takes on a device, as pure functions of the spec: weights, KV cache, activations. What a backend adds (pipelines,
 * staging, alignment) is its own to report.
 */
import { weightBytes } from '../gpu/check-program.ts'
import { kvDtypesOf, type KvSetting, kvTokenBytes } from '../gpu/kv-format.ts'
import type { Capacity, Extent, KvLayout, Program } from '../gpu/program.ts'
import type { ModelSpec } from './spec.ts'

/**
 * Tokens per KV block. At most 31 slots of a sequence's last block stay unused, and one table lookup serves a whole 32-key attention tile
 * (specs/webgpu-kernels.md §c).
 */
export const DEFAULT_BLOCK_SIZE = 32

export type { KvSetting } from '../gpu/kv-format.ts'

const ACTIVATION_BYTES = 4

/** K and V of all layers for one token. */
export function kvBytesPerToken(spec: ModelSpec, setting: KvSetting): number {
  const { key, value } = kvDtypesOf(setting)
  const { layers, kvHeads, headDim } = spec
  return kvTokenBytes({ layers, kvHeads, headDim, dtype: key, valueDtype: value })
}

/** The cache that holds `tokens` tokens: whole blocks, and the null block that is never handed out. */
export function kvLayout(
  spec: ModelSpec,
  options: { readonly tokens: number; readonly dtype: KvSetting; readonly blockSize?: number },
): KvLayout {
  const { tokens, dtype, blockSize = DEFAULT_BLOCK_SIZE } = options
  const { layers, kvHeads, headDim } = spec
  const { key, value } = kvDtypesOf(dtype)
  const blocks = Math.ceil(tokens / blockSize) + 1
  return { layers, kvHeads, headDim, blockSize, blocks, dtype: key, ...(value === key ? {} : { valueDtype: value }) }
}

/** Bytes of a whole cache, its null block included. */
export function kvBytes(layout: KvLayout): number {
  return kvTokenBytes(layout) * layout.blocks * layout.blockSize
}

/** Stored bytes of all weights, each once even if used twice (tied embeddings). */
export function programWeightBytes(program: Program): number {
  return program.weights.reduce((sum, weight) => sum + weightBytes(weight), 0)
}

/** The buffers of a forward pass. The program builder makes exactly these values, so the two cannot disagree. */
export interface ActivationShape {
  readonly name: string
  readonly extent: Extent
  readonly width: number
}

export function activationShapes(spec: ModelSpec) {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, vocabulary } = spec
  return {
    hidden: { name: 'hidden', extent: 'tokens', width: hiddenSize },
    normed: { name: 'normed', extent: 'tokens', width: hiddenSize },
    qkv: { name: 'qkv', extent: 'tokens', width: (heads + 2 * kvHeads) * headDim },
    q: { name: 'q', extent: 'tokens', width: heads * headDim },
    context: { name: 'context', extent: 'tokens', width: heads * headDim },
    gateUp: { name: 'gateUp', extent: 'tokens', width: 2 * intermediateSize },
    activated: { name: 'activated', extent: 'tokens', width: intermediateSize },
    lastHidden: { name: 'lastHidden', extent: 'rows', width: hiddenSize },
    lastNormed: { name: 'lastNormed', extent: 'rows', width: hiddenSize },
    logits: { name: 'logits', extent: 'rows', width: vocabulary },
  } as const satisfies Record<string, ActivationShape>
}

/** f32 buffers of a forward pass at capacity. */
export function activationBytes(spec: ModelSpec, capacity: Pick<Capacity, 'tokens' | 'rows'>): number {
  return Object.values(activationShapes(spec)).reduce((sum, { extent, width }) => sum + capacity[extent] * width * ACTIVATION_BYTES, 0)
}

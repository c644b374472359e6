/**
 * Exact bytes that a model takes on a device, as pure functions of the spec: weights, KV cache, activations. What a backend adds (pipelines,
 * staging, alignment) is its own to report.
 */
import { weightBytes } from '../gpu/check-program.ts'
import type { ArenaStep } from '../gpu/webgpu/arena.ts'
import { kvDtypesOf, type KvSetting, kvTokenBytes } from '../gpu/kv-format.ts'
import type { Capacity, Extent, KvLayout, Program, Value } from '../gpu/program.ts'
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

/** What the widths of a forward pass follow from. */
export type DecoderWidths = Pick<ModelSpec, 'hiddenSize' | 'intermediateSize' | 'heads' | 'kvHeads' | 'headDim' | 'vocabulary'>

export function activationShapes(spec: DecoderWidths) {
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

/**
 * What each operation of a forward pass reads and writes, from its widths alone: program-builder's operations. `joinsGates`: the gates' product and
 * its SwiGLU are one operation on the device. Two layers stand for any greater number: the lives of values no longer change.
 */
export function decoderSteps(
  widths: DecoderWidths,
  layers: number,
  joinsGates: boolean,
): { readonly steps: readonly ArenaStep[]; readonly logits: Value } {
  const { hidden, normed, qkv, q, context, gateUp, activated, lastHidden, lastNormed, logits } = makeValues(widths)
  const layer = [
    step(normed, hidden),
    step(qkv, normed),
    step(q, qkv),
    step(context, q),
    step(hidden, context, hidden),
    step(normed, hidden),
    ...(joinsGates ? [step(activated, normed)] : [step(gateUp, normed), step(activated, gateUp)]),
    step(hidden, activated, hidden),
  ]
  const body = Array.from({ length: Math.min(layers, 2) }, () => layer).flat()
  return { steps: [step(hidden), ...body, step(lastHidden, hidden), step(lastNormed, lastHidden), step(logits, lastNormed)], logits }
}

function step(writes: Value, ...reads: readonly Value[]): ArenaStep {
  return { reads, writes }
}

export type Values = Readonly<Record<keyof ReturnType<typeof activationShapes>, Value>>

export function makeValues(widths: DecoderWidths): Values {
  const shapes = Object.entries(activationShapes(widths))
  return Object.fromEntries(shapes.map(([name, shape], id) => [name, { id, ...shape }])) as Values
}

/** f32 buffers of a forward pass at capacity, if none shared memory. */
export function activationBytes(spec: ModelSpec, capacity: Pick<Capacity, 'tokens' | 'rows'>): number {
  return Object.values(activationShapes(spec)).reduce((sum, { extent, width }) => sum + capacity[extent] * width * ACTIVATION_BYTES, 0)
}

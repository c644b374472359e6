/**
 * What is left for the cache: the device's memory less what an engine, a driver and a desktop take (specs/benchmark.md §7.3). Weights and cache
 * are exact; everything here is a reserve, stated with where it is from, generous where it is not known.
 */
import { UPLOAD_STAGING_BYTES } from '../gpu/upload-staging.ts'
import type { ModelShape } from './model-shape.ts'
import type { ServingEngine } from './machine.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30

/** Beside a desktop: the compositor and other programs. */
export const DESKTOP_RESERVE_BYTES = 1.5 * GIB

/** vLLM outside its tensor allocator: 0.15 GiB alone, 2.1 GiB per GPU with communication (llm-d-planner PR 205, vLLM 0.19). */
const VLLM_NON_TORCH_BYTES = { alone: 0.15 * GIB, together: 2.1 * GIB } as const
/** The least that vLLM ≥ 0.17 was seen to take for activations with its defaults. */
const VLLM_LEAST_ACTIVATION_BYTES = GIB
/** Sequences whose sampling vLLM rehearses when it measures its peak. */
const VLLM_SEQUENCES = 256
const LARGE_GPU_BYTES = 70 * GIB

/** Tokens of KV per block. */
export const BLOCK_TOKENS: Readonly<Record<ServingEngine, number>> = { lathe: 32, vllm: 16 }

/** Sequences at once that the engine takes unless told otherwise. */
export const DEFAULT_SEQUENCES: Readonly<Record<ServingEngine, number>> = { lathe: 8, vllm: VLLM_SEQUENCES }

export function reserveBytes(engine: ServingEngine, options: { readonly tensorParallel: number; readonly software: boolean }): number {
  if (engine === 'lathe') return options.software ? 0 : DESKTOP_RESERVE_BYTES
  return options.tensorParallel > 1 ? VLLM_NON_TORCH_BYTES.together : VLLM_NON_TORCH_BYTES.alone
}

/** Of a reserve, what an upload holds at a time. vLLM's is given back before it measures what is left for the cache. */
export function stagingBytesOf(engine: ServingEngine, reserve: number): number {
  return engine === 'lathe' ? Math.min(UPLOAD_STAGING_BYTES, reserve) : 0
}

/** Rows of logits in a step, as engine/runtime opens models. */
function latheLogitRows(vocabulary: number): number {
  return Math.max(DEFAULT_SEQUENCES.lathe, Math.min(256, Math.max(32, Math.floor((32 * MIB) / (4 * vocabulary)))))
}

/** f32 buffers of Lathe's forward pass: widths as engine/model's activationShapes, capacity as engine/runtime opens models. */
function latheActivationBytes(shape: ModelShape, software: boolean): number {
  const { hiddenSize, attentionHeads, kvHeads, headDim, intermediateSize, vocabulary } = shape
  const tokens = software ? 256 : 512
  const perToken = 2 * hiddenSize + (3 * attentionHeads + 2 * kvHeads) * headDim + 3 * intermediateSize
  return 4 * (tokens * perToken + latheLogitRows(vocabulary) * (2 * hiddenSize + vocabulary))
}

/** Of the activations, the logits and what sampling reads of them. */
export function logitBytesOf(engine: ServingEngine, { vocabulary }: ModelShape): number {
  return engine === 'lathe' ? 4 * latheLogitRows(vocabulary) * vocabulary : vllmLogitBytes(vocabulary)
}

/**
 * vLLM profiles its peak at start-up: a full batch of prefill tokens through one layer, 16-bit, and f32 logits with their probabilities for every
 * sequence. Order of magnitude only: 2.23 GiB were measured for Qwen3-14B with 8192 tokens; the start-up log of the real server is better.
 */
function vllmActivationBytes(shape: ModelShape, memoryBytes: number | null, tensorParallel: number): number {
  const batchedTokens = memoryBytes !== null && memoryBytes >= LARGE_GPU_BYTES ? 8192 : 2048
  const perToken = 2 * (4 * shape.hiddenSize + (3 * shape.intermediateSize) / tensorParallel)
  return Math.max(VLLM_LEAST_ACTIVATION_BYTES, batchedTokens * perToken + vllmLogitBytes(shape.vocabulary))
}

function vllmLogitBytes(vocabulary: number): number {
  return VLLM_SEQUENCES * vocabulary * 4 * 2
}

export function activationBytesOf(
  engine: ServingEngine,
  shape: ModelShape,
  options: { readonly memoryBytes: number | null; readonly tensorParallel: number; readonly software: boolean },
): number {
  return engine === 'lathe'
    ? latheActivationBytes(shape, options.software)
    : vllmActivationBytes(shape, options.memoryBytes, options.tensorParallel)
}

/**
 * What is left for the cache: the device's memory less what an engine, a driver and a desktop take (specs/benchmark.md §7.3). Weights and cache
 * are exact; everything here is a reserve, stated with where it is from, generous where it is not known.
 */
import type { InputElement } from '../contract/index.ts'
import type { KvDtype } from '../gpu/program.ts'
import { UPLOAD_STAGING_BYTES } from '../gpu/upload-staging.ts'
import { type StepMemory, stepMemory } from '../gpu/webgpu/step-memory.ts'
import { decoderSteps } from '../model/memory.ts'
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

/** Most tokens of a step, as engine/runtime opens models. */
const STEP_TOKENS = { hardware: 512, software: 256 } as const

/** Rows of logits in a step, as engine/runtime opens models. */
function latheLogitRows(vocabulary: number, sequences: number): number {
  return Math.max(sequences, Math.min(256, Math.max(32, Math.floor((32 * MIB) / (4 * vocabulary)))))
}

export interface LatheLoad {
  /** Longest sequence. */
  readonly contextTokens: number
  /** Requests at once that it is opened for. */
  readonly sequences: number
  /** Of cached keys. */
  readonly keyDtype: KvDtype
  readonly software: boolean
  /** What inputs of products are rounded to; none where they are used as they are. */
  readonly inputs: readonly InputElement[]
}

/** Buffers of Lathe's forward pass, by the rules that engine/gpu allocates by, for capacities as engine/runtime opens models. */
export function latheStepMemory(shape: ModelShape, { contextTokens, sequences, keyDtype, software, inputs }: LatheLoad): StepMemory {
  const { attentionHeads: heads, headDim, vocabulary, layers } = shape
  // products of integers have no gated form
  const { steps, logits } = decoderSteps({ ...shape, heads }, layers, !inputs.includes('int8'))
  const preparedWidth = inputs.length === 0 ? 0 : Math.max(shape.hiddenSize, heads * headDim, shape.intermediateSize)
  const capacity = {
    tokens: Math.max(software ? STEP_TOKENS.software : STEP_TOKENS.hardware, sequences),
    rows: latheLogitRows(vocabulary, sequences),
    sequences,
    blocksPerSequence: Math.ceil(contextTokens / BLOCK_TOKENS.lathe),
  }
  const { activationBytes, logitBytes } = stepMemory({ steps, logits, heads, headDim, keyDtype, capacity, software, preparedWidth })
  return { activationBytes: activationBytes + contextTokens * rotationBytes(shape), logitBytes }
}

/** Sine and cosine of half of a head's dimensions, for each position. */
function rotationBytes({ headDim }: ModelShape): number {
  return headDim * Float32Array.BYTES_PER_ELEMENT
}

/** What a longer context costs beside its cache, for each token of it: rotations, and places in the tables of blocks. */
export function latheBytesPerPosition(shape: ModelShape, sequences: number): number {
  return rotationBytes(shape) + (sequences * Uint32Array.BYTES_PER_ELEMENT) / BLOCK_TOKENS.lathe
}

/**
 * vLLM profiles its peak at start-up: a full batch of prefill tokens through one layer, 16-bit, and f32 logits with their probabilities for every
 * sequence. Order of magnitude only: 2.23 GiB were measured for Qwen3-14B with 8192 tokens; the start-up log of the real server is better.
 */
export function vllmStepMemory(
  shape: ModelShape,
  { memoryBytes, tensorParallel }: { readonly memoryBytes: number | null; readonly tensorParallel: number },
): StepMemory {
  const batchedTokens = memoryBytes !== null && memoryBytes >= LARGE_GPU_BYTES ? 8192 : 2048
  const perToken = 2 * (4 * shape.hiddenSize + (3 * shape.intermediateSize) / tensorParallel)
  const logitBytes = VLLM_SEQUENCES * shape.vocabulary * 4 * 2
  return { activationBytes: Math.max(VLLM_LEAST_ACTIVATION_BYTES - logitBytes, batchedTokens * perToken), logitBytes }
}

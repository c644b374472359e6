/** What a calibrated run will take, from shapes alone: shown and checked before anything is read. */
import type { ModelSpec } from '../../model/spec.ts'
import { LAYER_INPUTS, inputWidths } from '../../model/layer-program.ts'
import { stepTokens } from './layer-runner.ts'

export interface CalibrationNeeds {
  /** Main memory beyond the program itself. */
  readonly hostBytes: number
  readonly deviceBytes: number
  /** Activations that do not fit into memory, on the output's disk while the run lasts. */
  readonly spilledBytes: number
}

export interface CalibrationSize {
  readonly tokens: number
  /** Tokens of the longest sample. */
  readonly longest: number
  /** Activations held in memory at most. */
  readonly activationBytes: number
  readonly software: boolean
}

const F32 = 4

/** Estimates, good to some tens of percent: garbage and staging buffers come on top. */
export function calibrationNeeds(spec: ModelSpec, size: CalibrationSize): CalibrationNeeds {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim } = spec
  const query = heads * headDim
  const qkv = (heads + 2 * kvHeads) * headDim
  const largest = hiddenSize * 2 * intermediateSize
  const layer = hiddenSize * (qkv + query + 3 * intermediateSize)
  const activations = size.tokens * hiddenSize * F32
  const inMemory = Math.min(activations, size.activationBytes)
  const step = Math.min(stepTokens(spec, size.software), Math.max(size.longest, size.tokens))
  const widths = inputWidths(spec)
  const grams = LAYER_INPUTS.reduce((sum, input) => sum + widths[input] ** 2, 0)
  const factor = Math.max(...LAYER_INPUTS.map((input) => widths[input] ** 2))
  const perToken = 3 * hiddenSize + qkv + 2 * query + 3 * intermediateSize
  return {
    // The layer as read and as stored, one matrix for the threads and in pieces, and two groups of activations under way.
    hostBytes: F32 * (2 * layer + 2 * largest + 2 * step * hiddenSize) + inMemory,
    deviceBytes: F32 * (layer + grams + factor + step * perToken),
    spilledBytes: activations - inMemory,
  }
}

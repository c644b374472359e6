/**
 * Speed from bytes and arithmetic: decode is bound by reading weights and cache, prefill by multiplications (specs/benchmark.md §7.4).
 * Everything here is an estimate and must be shown as one, as a range, until a measurement replaces it.
 */
import type { StepCosts } from '../contract/hardware.ts'
import { type ProductFormat, type StepParts, layerSeconds, productSeconds, restSeconds } from '../gpu/step-costs.ts'
import { kvBytesOf } from './kv-memory.ts'
import type { ModelShape } from './model-shape.ts'
import { stepPartsOfShape } from './step-parts.ts'
import type { WeightParts } from './storage-schemes.ts'

/** What one GPU reaches, at one end of an estimate. */
export interface MachineLimits {
  /** Reading linear weights as they are stored. */
  readonly weightBytesPerSecond: number
  /** Reading the head, which stays at 16 bits. */
  readonly headBytesPerSecond: number
  readonly kvBytesPerSecond: number
  /** Products of many tokens. */
  readonly operationsPerSecond: number
  /** Per step: launches, sampling, host; and per layer. */
  readonly stepSeconds: number
  readonly layerSeconds: number
  /** Where the parts of a step were measured on the device itself, they replace bytes and rates for decoding. `share` as of the rates above. */
  readonly calibrated?:
    | { readonly costs: StepCosts; readonly format: ProductFormat; readonly share: number; readonly hostSeconds: number }
    | undefined
}

/** A model as one GPU of a tensor-parallel group holds it. */
export interface Placement {
  readonly shape: ModelShape
  /** Of the whole model. */
  readonly weights: WeightParts
  readonly kvBytesPerElement: number
  readonly tensorParallel: number
  /** Of the stored program; absent or null = made of the shape. */
  readonly parts?: StepParts | null | undefined
}

/** Share of the experts of a layer that a batch touches, routing taken as uniform: 1 − (1 − k/E)^B. */
export function touchedExpertShare(experts: { readonly total: number; readonly perToken: number }, batch: number): number {
  return 1 - (1 - experts.perToken / experts.total) ** batch
}

/** Multiply and add counted as two. Attention grows with the mean context; the head is counted. */
export function operationsPerToken(shape: ModelShape, contextTokens: number): number {
  const head = shape.headParameters === 0 ? shape.embeddingParameters : shape.headParameters
  return 2 * (shape.activeLinearParameters + head) + attentionOperations(shape, contextTokens)
}

/** A window looks back no further than it is wide. */
function attentionOperations(shape: ModelShape, contextTokens: number): number {
  const attended = shape.caches.reduce((sum, cache) => {
    if (cache.kind === 'constant') return sum
    return sum + (cache.kind === 'window' ? Math.min(contextTokens, cache.window) : contextTokens)
  }, 0)
  return 4 * attended * shape.attentionHeads * shape.headDim
}

/** Two sums over all ranks in each layer, over NVLink-class connections; of the order of small all-reduces in vLLM and NCCL. */
const ALL_REDUCE_SECONDS = 15e-6

function overheadSeconds({ shape, tensorParallel }: Placement, limits: MachineLimits): number {
  const reduce = tensorParallel > 1 ? 2 * ALL_REDUCE_SECONDS : 0
  return limits.stepSeconds + shape.layers * (limits.layerSeconds + reduce)
}

/** Seconds of one step that gives each of `batch` sequences its next token, each with `contextTokens` behind it. */
export function decodeStepSeconds(placement: Placement, batch: number, contextTokens: number, limits: MachineLimits): number {
  if (limits.calibrated !== undefined) return calibratedStepSeconds(placement, batch, contextTokens, limits)
  const { shape, weights, kvBytesPerElement, tensorParallel } = placement
  const routed = shape.experts === null ? weights.routed : weights.routed * touchedExpertShare(shape.experts, batch)
  const headBytes = weights.head === 0 ? weights.embedding : weights.head
  const kvBytes = batch * kvBytesOf(shape, contextTokens, { bytesPerElement: kvBytesPerElement, tensorParallel, blockSize: 1 })
  const memory =
    (weights.dense + routed) / tensorParallel / limits.weightBytesPerSecond +
    headBytes / tensorParallel / limits.headBytesPerSecond +
    kvBytes / limits.kvBytesPerSecond
  const arithmetic = (batch * operationsPerToken(shape, contextTokens)) / tensorParallel / limits.operationsPerSecond
  return Math.max(memory, arithmetic) + overheadSeconds(placement, limits)
}

/**
 * The same from measured parts. A batch reads every weight once, until its arithmetic takes longer; attention looks back for each of its sequences.
 */
function calibratedStepSeconds(placement: Placement, batch: number, contextTokens: number, limits: MachineLimits): number {
  if (limits.calibrated === undefined) throw new RangeError('The device is not calibrated')
  const { costs, format, share, hostSeconds } = limits.calibrated
  const parts = placement.parts ?? stepPartsOfShape(placement.shape, format)
  const reading = parts.products.reduce((sum, product) => sum + product.count * productSeconds(costs, product.format, product.weights), 0)
  const weights = parts.products.reduce((sum, product) => sum + product.count * product.weights, 0)
  const arithmetic = batch === 1 ? 0 : (batch * 2 * weights) / limits.operationsPerSecond
  const rest = parts.layers * layerSeconds(costs, parts, batch * contextTokens) + restSeconds(costs, parts.vocabulary) + hostSeconds
  return Math.max(reading / share, arithmetic) + rest / share
}

/** Decode tokens per second over the whole batch. */
export function decodeTokensPerSecond(placement: Placement, batch: number, contextTokens: number, limits: MachineLimits): number {
  return batch / decodeStepSeconds(placement, batch, contextTokens, limits)
}

/** Seconds until a prompt is read; the head runs once, not per token, and no chunk is faster than reading the weights once. */
export function prefillSeconds(placement: Placement, promptTokens: number, limits: MachineLimits): number {
  const { shape, weights, tensorParallel } = placement
  const operations = promptTokens * (2 * shape.activeLinearParameters + attentionOperations(shape, promptTokens / 2))
  const arithmetic = operations / tensorParallel / limits.operationsPerSecond
  const reading = (weights.dense + weights.routed) / tensorParallel / limits.weightBytesPerSecond
  return Math.max(arithmetic, reading) + overheadSeconds(placement, limits)
}

/** Money per million output tokens. `utilization` is the share of the hour that serves traffic (0…1). */
export function costPerMillionTokens(hourlyCost: number, tokensPerSecond: number, utilization: number): number {
  return (hourlyCost / (tokensPerSecond * 3600 * utilization)) * 1e6
}

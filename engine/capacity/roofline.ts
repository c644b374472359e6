/**
 * Speed from bytes and arithmetic: decode is bound by reading weights and cache, prefill by multiplications (specs/benchmark.md §7.4).
 * Everything here is an estimate and must be shown as one, as a range, until a measurement replaces it.
 */
import { kvBytesPerToken } from './kv-memory.ts'
import type { ModelShape } from './model-shape.ts'

/** Bytes per weight of a stored linear, scales included (specs/benchmark.md §7.1). `columns` = in features, for channel scales. */
export function bytesPerWeight(
  scheme: { readonly bits: number; readonly groupSize: number | null; readonly asymmetric: boolean },
  columns: number,
): number {
  const group = scheme.groupSize ?? columns
  return scheme.bits / 8 + 2 / group + (scheme.asymmetric ? scheme.bits / 8 / group : 0)
}

export interface MachineLimits {
  /** Bytes per second that a streaming read reaches; measured where possible. */
  readonly bytesPerSecond: number
  /** Operations per second of the units the engine can use. */
  readonly operationsPerSecond: number
  /** Seconds per step that are neither (launches, sampling, host). */
  readonly overheadSeconds: number
}

export interface DecodeStep {
  readonly linearBytes: number
  readonly headBytes: number
  readonly contextTokens: number
  readonly batch: number
  readonly kvBytesPerElement: number
}

/** Share of the experts of a layer that a batch touches, routing taken as uniform: 1 − (1 − k/E)^B. */
export function touchedExpertShare(experts: { readonly total: number; readonly perToken: number }, batch: number): number {
  return 1 - (1 - experts.perToken / experts.total) ** batch
}

/** Decode tokens per second over the whole batch: batch / max(arithmetic, memory) + overhead. */
export function predictDecodeTokensPerSecond(shape: ModelShape, step: DecodeStep, limits: MachineLimits): number {
  let weightBytes = step.linearBytes
  if (shape.experts !== null) {
    const denseShare =
      (shape.activeLinearParameters - (shape.linearParameters - shape.activeLinearParameters) * expertRatio(shape)) / shape.linearParameters
    const dense = Math.max(0, denseShare) * step.linearBytes
    weightBytes = dense + (step.linearBytes - dense) * touchedExpertShare(shape.experts, step.batch)
  }
  const kvBytes = step.batch * step.contextTokens * kvBytesPerToken(shape, { bytesPerElement: step.kvBytesPerElement, tensorParallel: 1 })
  const memorySeconds = (weightBytes + step.headBytes + kvBytes) / limits.bytesPerSecond
  const arithmeticSeconds = (step.batch * operationsPerToken(shape, step.contextTokens)) / limits.operationsPerSecond
  return step.batch / (Math.max(memorySeconds, arithmeticSeconds) + limits.overheadSeconds)
}

/** k/(E−k): active expert weights as a multiple of the inactive ones, from which the dense rest follows. */
function expertRatio(shape: ModelShape): number {
  return shape.experts === null ? 0 : shape.experts.perToken / (shape.experts.total - shape.experts.perToken)
}

/** Multiply and add counted as two. Attention grows with the mean context. */
export function operationsPerToken(shape: ModelShape, contextTokens: number): number {
  const head = shape.headParameters === 0 ? shape.embeddingParameters : shape.headParameters
  const attention =
    4 * shape.caches.filter((cache) => cache.kind !== 'constant').length * shape.attentionHeads * shape.headDim * contextTokens
  return 2 * (shape.activeLinearParameters + head) + attention
}

/** Prefill tokens per second of a prompt; the head runs once, not per token. */
export function predictPrefillTokensPerSecond(shape: ModelShape, promptTokens: number, limits: MachineLimits): number {
  const attention = operationsPerToken(shape, promptTokens / 2) - operationsPerToken(shape, 0)
  const operations = promptTokens * (2 * shape.activeLinearParameters + attention)
  return promptTokens / (operations / limits.operationsPerSecond + limits.overheadSeconds)
}

/** Money per million output tokens. `utilization` is the share of the hour that serves traffic (0…1). */
export function costPerMillionTokens(hourlyCost: number, tokensPerSecond: number, utilization: number): number {
  return (hourlyCost / (tokensPerSecond * 3600 * utilization)) * 1e6
}

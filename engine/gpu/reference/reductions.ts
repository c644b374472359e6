/**
 * What a step reports about its logits, and drift between two models, in f64: log-softmax, argmax, top list, the sampler exactly as
 * `RowSampler` in program.ts defines it. Ties always go to the lower id.
 */
import { NO_TOKEN } from '../check-step.ts'
import type { DriftRows, RowAdjustment, RowSampler, StepInput, StepOutput } from '../program.ts'
import { gumbelNoise } from '../random.ts'
import { row } from './operations.ts'

/** `logits` is [R, vocabulary]. */
export function reduceStep(logits: Float64Array, vocabulary: number, input: StepInput): StepOutput {
  const rows = input.logitRows.length
  const { topCount } = input
  const output: StepOutput = {
    sampled: new Uint32Array(rows).fill(NO_TOKEN),
    sampledLogprob: new Float32Array(rows).fill(NaN),
    argmax: new Uint32Array(rows),
    targetLogprob: new Float32Array(rows).fill(NaN),
    topIds: new Uint32Array(rows * topCount),
    topLogprobs: new Float32Array(rows * topCount),
    nonFinite: !logits.every(Number.isFinite),
  }
  for (let r = 0; r < rows; r++) {
    const logitRow = row(logits, r, vocabulary)
    const logprobs = logSoftmax(logitRow)
    const sampler = input.samplers[r] ?? null
    const target = input.targets[r] ?? NO_TOKEN
    output.argmax[r] = argmax(logitRow)
    if (target !== NO_TOKEN) output.targetLogprob[r] = logprobs[target] ?? NaN
    if (sampler !== null) {
      const token = sample(logitRow, sampler)
      output.sampled[r] = token
      output.sampledLogprob[r] = logprobs[token] ?? NaN
    }
    for (const [i, id] of topIds(logprobs, topCount).entries()) {
      output.topIds[r * topCount + i] = id
      output.topLogprobs[r * topCount + i] = logprobs[id] ?? NaN
    }
  }
  return output
}

/** log softmax(x)_i = x_i − max − log Σ e^(x_j − max) */
export function logSoftmax(logits: Float64Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity)
  const logSum = Math.log(logits.reduce((sum, value) => sum + Math.exp(value - max), 0))
  return logits.map((value) => value - max - logSum)
}

export function argmax(values: Float64Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if ((values[i] ?? NaN) > (values[best] ?? NaN)) best = i
  return best
}

function topIds(values: Float64Array, count: number): readonly number[] {
  const ids = Array.from(values.keys())
  ids.sort((a, b) => (values[b] ?? NaN) - (values[a] ?? NaN) || a - b)
  return ids.slice(0, count)
}

/** One token by the rules of `RowSampler`; NO_TOKEN where its adjustment leaves none. */
export function sample(logits: Float64Array, sampler: RowSampler): number {
  const { x, ids } = sampler.adjust === undefined ? { x: logits, ids: Array.from(logits.keys()) } : adjusted(logits, sampler.adjust)
  if (ids.length === 0) return NO_TOKEN
  if (sampler.temperature === 0) return ids.reduce((best, id) => ((x[id] ?? NaN) > (x[best] ?? NaN) ? id : best))
  const z = x.map((logit) => logit / sampler.temperature)
  const kept = minP(z, topP(z, topK(z, ids, sampler.topK), sampler.topP), sampler.minP)
  const noisy = new Float64Array(z.length).fill(-Infinity)
  for (const id of kept) noisy[id] = (z[id] ?? NaN) + gumbelNoise(sampler.seedLow, sampler.seedHigh, sampler.outputIndex, id)
  return argmax(noisy)
}

/** The changed logits, and the tokens that are left, ascending. */
function adjusted(logits: Float64Array, adjust: RowAdjustment): { readonly x: Float64Array; readonly ids: readonly number[] } {
  const { allowed, presence, frequency, repetition } = adjust
  const x = Float64Array.from(logits)
  for (const [i, id] of adjust.ids.entries()) {
    const generated = adjust.generated[i] ?? 0
    let value = (x[id] ?? NaN) + (adjust.bias[i] ?? NaN)
    if (adjust.seen[i] === 1) value = value > 0 ? value / repetition : value * repetition
    x[id] = value - frequency * generated - (generated > 0 ? presence : 0)
  }
  const isAllowed = (id: number): boolean => allowed === null || (((allowed[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1
  return { x, ids: Array.from(x.keys()).filter((id) => x[id] !== -Infinity && isAllowed(id)) }
}

function topK(z: Float64Array, ids: readonly number[], k: number): readonly number[] {
  if (k === 0 || k >= ids.length) return ids
  const threshold = ids.map((id) => z[id] ?? NaN).sort((a, b) => b - a)[k - 1] ?? NaN
  return ids.filter((id) => (z[id] ?? NaN) >= threshold)
}

function topP(z: Float64Array, ids: readonly number[], p: number): readonly number[] {
  if (p === 1) return ids
  const probabilities = logSoftmax(Float64Array.from(ids, (id) => z[id] ?? NaN)).map(Math.exp)
  const order = Array.from(ids.keys()).sort((a, b) => (z[ids[b] ?? 0] ?? NaN) - (z[ids[a] ?? 0] ?? NaN))
  let sumAbove = 0
  let threshold = -Infinity
  for (let i = 0; i < order.length && sumAbove < p; i++) {
    const index = order[i] ?? 0
    threshold = z[ids[index] ?? 0] ?? NaN
    sumAbove += probabilities[index] ?? NaN
  }
  return ids.filter((id) => (z[id] ?? NaN) >= threshold)
}

function minP(z: Float64Array, ids: readonly number[], p: number): readonly number[] {
  if (p === 0) return ids
  const threshold = ids.reduce((max, id) => Math.max(max, z[id] ?? NaN), -Infinity) + Math.log(p)
  return ids.filter((id) => (z[id] ?? NaN) >= threshold)
}

/** Row by row, KL(b ‖ c) = Σ p_b (log p_b − log p_c). Both are [rows, vocabulary]. */
export function reduceDrift(baseline: Float64Array, candidate: Float64Array, vocabulary: number, targets: Uint32Array): DriftRows {
  const rows = targets.length
  const drift: DriftRows = {
    kld: new Float32Array(rows),
    baselineArgmax: new Uint32Array(rows),
    candidateArgmax: new Uint32Array(rows),
    baselineTargetLogprob: new Float32Array(rows).fill(NaN),
    candidateTargetLogprob: new Float32Array(rows).fill(NaN),
  }
  for (const [r, target] of targets.entries()) {
    const b = logSoftmax(row(baseline, r, vocabulary))
    const c = logSoftmax(row(candidate, r, vocabulary))
    drift.kld[r] = b.reduce((sum, logprob, id) => sum + Math.exp(logprob) * (logprob - (c[id] ?? NaN)), 0)
    drift.baselineArgmax[r] = argmax(b)
    drift.candidateArgmax[r] = argmax(c)
    if (target === NO_TOKEN) continue
    drift.baselineTargetLogprob[r] = b[target] ?? NaN
    drift.candidateTargetLogprob[r] = c[target] ?? NaN
  }
  return drift
}

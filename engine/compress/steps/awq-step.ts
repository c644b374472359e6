/**
 * AWQ as a step of a recipe. Factors of the inputs behind norms are judged by the output of the attention and of the MLP, run on part of the
 * calibration data with those candidates that the Gram matrix finds best; those of o and down by their own output, for which the Gram
 * matrix gives the same number without running anything.
 */
import { awqCandidates, searchAwqFactors } from '../algorithms/awq.ts'
import type { AwqCandidate, AwqTrial } from '../algorithms/awq.ts'
import type { LayerContext, LayerInput, LayerLinear, LayerTransform } from '../calibration/layer-context.ts'
import type { AwqStep } from '../recipe.ts'
import { columnsPerScale } from '../scheme.ts'
import { smoothInput, smoothedTensors } from './smooth-layer.ts'
import { checkMappings, inputsToSmooth, readersOf } from './smoothing-mappings.ts'

/** Tokens that candidates are run on: a choice between a handful of neighbouring ratios needs no more. */
const PROBE_TOKENS = 2048
/** Candidates that are run. The Gram matrix ignores only the softmax and the gate, so its favourites are the right neighbourhood. */
const FINALISTS = 3

export const awqTransform: LayerTransform<AwqStep> = {
  kind: 'awq',
  check(step, spec) {
    checkMappings('awq', step.mappings, spec)
  },
  rewrites(step, spec, layer) {
    return smoothedTensors(inputsToSmooth('awq', step.mappings, spec, layer), spec, layer)
  },
  async apply(step, context) {
    for (const input of inputsToSmooth('awq', step.mappings, context.spec, context.layer)) {
      const readers = readersOf(context, input)
      if (readers.every(({ module }) => context.storage(module) === null)) continue
      const choice = await searchInput(step, context, input, readers)
      // Nothing was better than plain rounding: a factor of 1 everywhere changes nothing.
      if (choice.every((factor) => factor === 1)) continue
      smoothInput(context, input, choice)
    }
    if (step.clip !== null) await clipLayer(step.clip, context)
  },
}

async function searchInput(
  step: AwqStep,
  context: LayerContext,
  input: LayerInput,
  readers: readonly LayerLinear[],
): Promise<Float64Array> {
  const { meanAbsolute } = await context.columnStatistics(input)
  const balance = readers.map(({ rows, cols, weight }) => ({ rows, cols, values: weight }))
  const groups = readers.map(({ module, cols }) => {
    const storage = context.storage(module)
    return storage === null ? cols : columnsPerScale(storage.scheme, cols)
  })
  const candidates = awqCandidates(balance, groups, meanAbsolute, { gridPoints: step.nGrid, duoScaling: step.duoScaling })
  using errors = await context.outputErrors(input)
  const losses = (all: readonly AwqCandidate[]): Promise<readonly number[]> => {
    context.note(`AWQ ${input}: ${all.length} candidates`)
    return errors.of(all.map(factorsOf))
  }
  const choose = async (judge: AwqTrial['judge']): Promise<Float64Array> => {
    const { factors, plainLoss } = await searchAwqFactors(candidates, { losses, judge })
    if (!Number.isFinite(plainLoss))
      context.warn(`AWQ: the output of ${input} of layer ${context.layer} is not finite; it is left as it is`)
    return factors
  }
  if (input === 'context' || input === 'activated') return choose(null)
  await using probe = await context.probe({ part: input === 'attention' ? 'attention' : 'mlp', tokens: PROBE_TOKENS })
  let judged = 0
  const loss = async (candidate: AwqCandidate): Promise<number> => {
    context.throwIfCancelled()
    context.note(`AWQ ${input}: running candidate ${++judged} of ${FINALISTS + 1}`)
    const rounded = await Promise.all(
      readers.map(async (linear) => [linear.module, await context.rounded(linear, factorsOf(candidate))] as const),
    )
    return probe.meanSquaredError({ weights: new Map(rounded) })
  }
  return await choose({ finalists: FINALISTS, loss })
}

function factorsOf({ factors }: AwqCandidate): Float64Array | null {
  return factors.every((factor) => factor === 1) ? null : factors
}

/** From the layer's end to its start, so that no linear is clipped for inputs that a clipped one before it no longer gives. */
const CLIP_ORDER: readonly { readonly input: LayerInput; readonly stale: readonly LayerInput[] }[] = [
  { input: 'activated', stale: [] },
  { input: 'mlp', stale: ['activated'] },
  { input: 'context', stale: ['mlp', 'activated'] },
  { input: 'attention', stale: ['context', 'mlp', 'activated'] },
]

/** q and k keep their ranges: attention scores are products of the two, which no error of one alone stands for (AutoAWQ leaves them too). */
const UNCLIPPED: readonly string[] = ['q', 'k', 'qkv']

async function clipLayer(clip: { readonly nGrid: number; readonly maxShrink: number }, context: LayerContext): Promise<void> {
  for (const { input, stale } of CLIP_ORDER) {
    const weights = new Map<string, Float32Array>()
    for (const linear of readersOf(context, input)) {
      const { module, role } = linear
      const storage = context.storage(module)
      // Clipping is for grids that a range stretches; floats have their range in the exponent.
      if (storage === null || storage.scheme.kind !== 'packed-int' || UNCLIPPED.includes(role)) continue
      context.throwIfCancelled()
      context.note(`AWQ clips ${role}`)
      const steps = Math.max(1, Math.round(clip.maxShrink * clip.nGrid))
      weights.set(module, await context.clipped(linear, { steps, smallest: 1 - clip.maxShrink }))
    }
    if (weights.size > 0) context.replace({ weights, stale })
  }
}

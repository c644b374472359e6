/** SmoothQuant as a step of a recipe: the inputs behind both norms of every layer, or those that the recipe maps. */
import { smoothQuantFactors } from '../algorithms/smooth-quant.ts'
import type { LayerTransform } from '../calibration/layer-context.ts'
import type { SmoothQuantStep } from '../recipe.ts'
import { smoothInput, smoothedTensors } from './smooth-layer.ts'
import { checkMappings, inputsToSmooth, readersOf } from './smoothing-mappings.ts'

export const smoothQuantTransform: LayerTransform<SmoothQuantStep> = {
  kind: 'smoothquant',
  check(step, spec) {
    checkMappings('smoothquant', step.mappings, spec)
  },
  rewrites(step, spec, layer) {
    return smoothedTensors(inputsToSmooth('smoothquant', step.mappings, spec, layer), spec, layer)
  },
  async apply(step, context) {
    for (const input of inputsToSmooth('smoothquant', step.mappings, context.spec, context.layer)) {
      context.throwIfCancelled()
      const { minimum, maximum } = await context.statistics(input)
      const maxAbs = Float64Array.from(maximum, (high, c) => Math.max(Math.abs(high), Math.abs(minimum[c] as number)))
      const readers = readersOf(context, input).map(({ rows, cols, weight }) => ({ rows, cols, values: weight }))
      smoothInput(context, input, smoothQuantFactors(maxAbs, readers, { strength: step.smoothingStrength, algorithm: step.algorithm }))
    }
  },
}
